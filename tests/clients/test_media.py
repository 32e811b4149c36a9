"""Images and videos by the official OpenAI SDK for Python, against the proxy on the emulator.

PROXY_BASE_URL and PROXY_API_KEY say where; tests/clients.rs sets them. The words `emulate:…` in a
prompt tell the emulator how to fail.
"""

import base64
import os
import unittest

import openai
from openai import OpenAI

BASE_URL = os.environ["PROXY_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
MODEL = "qwen3-max"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


class Media(unittest.TestCase):
    def setUp(self):
        # Without retries every error is seen once.
        self.client = OpenAI(api_key=API_KEY, base_url=BASE_URL, max_retries=0, timeout=120)
        self.addCleanup(self.client.close)

    def test_images_are_generated(self):
        images = self.client.images.generate(model=MODEL, prompt="A fox", n=2, size="1024x1024")
        self.assertGreater(images.created, 0)
        self.assertEqual(len(images.data), 2)
        for image in images.data:
            self.assertIn(".png?", image.url)

    def test_an_image_in_base64(self):
        images = self.client.images.generate(
            model=MODEL, prompt="A fox", response_format="b64_json"
        )
        self.assertTrue(base64.b64decode(images.data[0].b64_json).startswith(b"\x89PNG"))

    def test_images_as_a_stream(self):
        events = list(
            self.client.images.generate(
                model=MODEL, prompt="A fox", n=2, stream=True, partial_images=1
            )
        )
        self.assertEqual([event.type for event in events], ["image_generation.completed"] * 2)
        for event in events:
            self.assertTrue(base64.b64decode(event.b64_json).startswith(b"\x89PNG"))

    def test_an_image_is_edited(self):
        images = self.client.images.edit(
            model=MODEL, prompt="Now blue", image=("a.png", PNG, "image/png")
        )
        self.assertIn(".png?", images.data[0].url)
        several = self.client.images.edit(
            model=MODEL, prompt="Both", image=[("a.png", PNG), ("b.png", PNG)]
        )
        self.assertEqual(len(several.data), 1)

    def test_a_mask_is_refused(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.images.edit(
                model=MODEL, prompt="Now blue", image=("a.png", PNG), mask=("m.png", PNG)
            )
        self.assertEqual(raised.exception.param, "mask")

    def test_refusals_keep_their_meaning(self):
        for prompt, kind, code in [
            ("emulate:content_filter", openai.BadRequestError, "content_filter"),
            ("emulate:rate_limited=2", openai.RateLimitError, "insufficient_quota"),
        ]:
            for stream in [False, True]:
                with self.subTest(prompt=prompt, stream=stream), self.assertRaises(kind) as raised:
                    self.client.images.generate(model=MODEL, prompt=prompt, stream=stream)
                self.assertEqual(raised.exception.code, code)
        self.assertEqual(raised.exception.response.headers["retry-after"], str(2 * 3600))

    def test_a_video_is_made(self):
        seen = []
        video = self.client.videos.create(model=MODEL, prompt="emulate:task=2500 A fox", seconds="4")
        while video.status in ("queued", "in_progress"):
            seen.append(video.progress)
            raw = self.client.videos.with_raw_response.retrieve(video.id)
            video = raw.parse()
        self.assertEqual(video.status, "completed")
        self.assertEqual(seen, sorted(seen))
        content = self.client.videos.download_content(video.id).read()
        self.assertEqual(content[4:8], b"ftyp")
        self.assertIn(video.id, [one.id for one in self.client.videos.list()])
        self.assertTrue(self.client.videos.delete(video.id).deleted)
        with self.assertRaises(openai.NotFoundError):
            self.client.videos.retrieve(video.id)

    def test_a_video_from_a_picture(self):
        video = self.client.videos.create_and_poll(
            model=MODEL,
            prompt="A fox",
            input_reference=("a.png", PNG, "image/png"),
            poll_interval_ms=200,
        )
        self.assertEqual(video.status, "completed")

    def test_a_video_that_fails(self):
        video = self.client.videos.create_and_poll(
            model=MODEL, prompt="emulate:task_failed", poll_interval_ms=200
        )
        self.assertEqual(video.status, "failed")
        self.assertEqual(video.error.code, "video_generation_failed")

    def test_a_video_in_a_chat(self):
        stream = self.client.chat.completions.create(
            model=f"{MODEL}-video", messages=[{"role": "user", "content": "A fox"}], stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        self.assertRegex(text, r"^\[video\]\(https://.*\.mp4\?.*\)")


if __name__ == "__main__":
    unittest.main()
