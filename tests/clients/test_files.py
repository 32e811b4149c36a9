"""Images, documents and URLs, as the official SDKs send them.

The proxy answers for an emulated chat.qwen.ai, which says what it was shown: the name, the type, the size and
the SHA-256 of each file. At FILES_ORIGIN stands a server that the proxy may fetch from, and at CLOSED_ORIGIN
one that it may not.
"""

import base64
import hashlib
import os
import unittest
import urllib.request

import anthropic
import openai

BASE = os.environ["PROXY_BASE_URL"]
KEY = os.environ["PROXY_API_KEY"]
MODEL = "qwen3-max"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
NOTES = b"The first line.\nThe second one."


def told(name, kind, data):
    return f"{name} is {kind}, {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def data_url(kind, data):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(origin):
    """How often the server there was asked for its picture."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{origin}/asked") as answer:
        return int(answer.read())


class OpenAi(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)

    def ask(self, *parts, **options):
        content = [{"type": "text", "text": "What is this?"}, *parts]
        messages = [{"role": "user", "content": content}]
        return self.client.chat.completions.create(model=MODEL, messages=messages, **options)

    def image(self, url):
        return {"type": "image_url", "image_url": {"url": url}}

    def test_an_image_is_seen(self):
        answer = self.ask(self.image(data_url("image/png", PNG)))
        self.assertIn(told("image.png", "image/png", PNG), answer.choices[0].message.content)

    def test_an_image_is_seen_in_a_stream(self):
        stream = self.ask(self.image(data_url("image/png", PNG)), stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        self.assertIn(told("image.png", "image/png", PNG), text)

    def test_a_document_is_read(self):
        file = {"filename": "notes.txt", "file_data": data_url("text/plain", NOTES)}
        answer = self.ask({"type": "file", "file": file}).choices[0].message.content
        self.assertIn(told("notes.txt", "text/plain", NOTES), answer)
        self.assertIn("It begins: The first line.", answer)

    def test_sound_is_heard(self):
        wav = b"RIFF\x24\0\0\0WAVEfmt "
        audio = {"data": base64.b64encode(wav).decode(), "format": "wav"}
        answer = self.ask({"type": "input_audio", "input_audio": audio})
        self.assertIn(told("audio.wav", "audio/wav", wav), answer.choices[0].message.content)

    def test_responses_show_images_and_files(self):
        for part, line in [
            ({"type": "input_image", "image_url": data_url("image/png", PNG), "detail": "auto"},
             told("image.png", "image/png", PNG)),
            ({"type": "input_file", "filename": "notes.txt", "file_data": data_url("text/plain", NOTES)},
             told("notes.txt", "text/plain", NOTES)),
        ]:
            content = [{"type": "input_text", "text": "What is this?"}, part]
            answer = self.client.responses.create(
                model=MODEL, input=[{"role": "user", "content": content}]
            )
            self.assertIn(line, answer.output_text)

    def test_what_upstream_refuses_says_why(self):
        file = {"filename": "a.txt", "file_data": data_url("text/plain", b"emulate:parse_failed")}
        with self.assertRaises(openai.BadRequestError) as raised:
            self.ask({"type": "file", "file": file})
        self.assertEqual(raised.exception.code, "file_parse_failed")
        self.assertEqual(raised.exception.param, "messages[0].content[1]")
        self.assertIn("no text that can be read", str(raised.exception))

    def test_data_that_is_none_is_named(self):
        for url in ["data:image/png;base64,aa*a", "data:image/png", "data:image/png;base64,"]:
            with self.assertRaises(openai.BadRequestError) as raised:
                self.ask(self.image(url))
            self.assertEqual(raised.exception.param, "messages[0].content[1]")

    def test_a_data_url_of_any_size_is_refused_in_words(self):
        large = data_url("image/png", PNG + bytes(21 * 1024 * 1024))
        with self.assertRaises(openai.APIStatusError) as raised:
            self.ask(self.image(large))
        self.assertEqual(raised.exception.status_code, 413)
        self.assertIn("20 MiB", str(raised.exception))

    def test_what_is_allowed_is_fetched(self):
        answer = self.ask(self.image(os.environ["FILES_ORIGIN"] + "/a.png"))
        self.assertIn("image.png is image/png, 16 bytes", answer.choices[0].message.content)

    def test_what_is_not_public_is_refused(self):
        closed, allowed = os.environ["CLOSED_ORIGIN"], os.environ["FILES_ORIGIN"]
        port = closed.rsplit(":", 1)[1]
        before = asked(closed)
        for url in [
            f"{closed}/a.png",
            f"http://localhost:{port}/a.png",
            f"http://2130706433:{port}/a.png",
            f"http://0x7f000001:{port}/a.png",
            f"http://0177.0.0.1:{port}/a.png",
            f"http://127.1:{port}/a.png",
            f"http://[::ffff:127.0.0.1]:{port}/a.png",
            f"http://user:secret@127.0.0.1:{port}/a.png",
            "http://127.0.0.1/a.png",
            "http://2130706433/a.png",
            "http://localhost/a.png",
            "http://[::1]/a.png",
            "http://169.254.169.254/latest/meta-data/",
            # By way of a server that may be asked.
            f"{allowed}/to-closed",
            f"{allowed}/to-meta",
            f"{allowed}/loop",
            # What ends too late, or is no image.
            f"{allowed}/endless",
            f"{allowed}/page",
        ]:
            with self.subTest(url), self.assertRaises(openai.APIStatusError) as raised:
                self.ask(self.image(url))
            told = (raised.exception.status_code, raised.exception.code)
            self.assertIn(told, [(400, "url_not_fetched"), (413, "request_too_large")], url)
            self.assertEqual(raised.exception.param, "messages[0].content[1]", url)
            self.assertNotIn("secret", str(raised.exception))
        self.assertEqual(asked(closed), before)


class Anthropic(unittest.TestCase):
    def setUp(self):
        base = BASE.removesuffix("/v1")
        self.client = anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0)

    def ask(self, *blocks):
        content = [{"type": "text", "text": "What is this?"}, *blocks]
        messages = [{"role": "user", "content": content}]
        return self.client.messages.create(model=MODEL, max_tokens=1000, messages=messages)

    def source(self, kind, data):
        return {"type": "base64", "media_type": kind, "data": base64.b64encode(data).decode()}

    def test_an_image_is_seen(self):
        answer = self.ask({"type": "image", "source": self.source("image/png", PNG)})
        self.assertIn(told("image.png", "image/png", PNG), answer.content[0].text)

    def test_a_document_is_read(self):
        pdf = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj"
        block = {"type": "document", "title": "r.pdf", "source": self.source("application/pdf", pdf)}
        self.assertIn(told("r.pdf", "application/pdf", pdf), self.ask(block).content[0].text)

    def test_what_a_tool_shows_is_seen(self):
        shot = {"type": "image", "source": self.source("image/png", PNG)}
        answer = self.client.messages.create(
            model=MODEL,
            max_tokens=1000,
            messages=[
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c", "name": "shot", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": [shot]},
                    {"type": "text", "text": "What is this?"}]},
            ],
        )
        self.assertIn(told("image.png", "image/png", PNG), answer.content[0].text)

    def test_what_is_not_public_is_refused(self):
        for url in [os.environ["CLOSED_ORIGIN"] + "/a.png", "http://2130706433/a.png"]:
            with self.assertRaises(anthropic.BadRequestError) as raised:
                self.ask({"type": "image", "source": {"type": "url", "url": url}})
            self.assertIn("not fetched", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
