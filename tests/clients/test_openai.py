"""The official OpenAI SDK for Python against the proxy on the emulator.

PROXY_BASE_URL and PROXY_API_KEY say where; tests/clients.rs sets them. The words `emulate:…` in a
message tell the emulator how to fail.
"""

import asyncio
import os
import unittest

import openai
from openai import AsyncOpenAI, OpenAI

BASE_URL = os.environ["PROXY_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
MODEL = "qwen3-max"


def client(**options):
    # Without retries every error is seen once.
    options = {"api_key": API_KEY, "base_url": BASE_URL, "max_retries": 0, "timeout": 60, **options}
    return OpenAI(**options)


def user(text):
    return [{"role": "user", "content": text}]


def pieces(stream):
    """The texts of a stream's deltas, and its finish reasons."""
    texts, reasons = [], []
    for chunk in stream:
        for choice in chunk.choices:
            if choice.delta.content:
                texts.append(choice.delta.content)
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    return texts, reasons


class Answers(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def stream(self, text, **options):
        return self.client.chat.completions.create(
            model=MODEL, messages=user(text), stream=True, **options
        )

    def test_models_are_listed(self):
        models = list(self.client.models.list())
        self.assertIn(MODEL, [model.id for model in models])
        for model in models:
            self.assertEqual(model.object, "model")
            self.assertGreater(model.created, 0)
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")

    def test_an_answer_comes_whole(self):
        answer = self.client.chat.completions.create(
            model=MODEL, messages=user("emulate:say=Whole words.")
        )
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, MODEL)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertEqual(answer.choices[0].message.content, "Whole words.")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        usage = answer.usage
        self.assertGreater(usage.prompt_tokens, 0)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_content_may_be_parts_and_roles_are_many(self):
        answer = self.client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "First."}]},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": [{"type": "text", "text": "emulate:say=Parts"}]},
            ],
            temperature=0.2,
            max_completion_tokens=100,
            user="someone",
            metadata={"kept": "apart"},
        )
        self.assertEqual(answer.choices[0].message.content, "Parts")

    def test_a_stream_has_the_same_words(self):
        words = "One two three four five — 千问 🌍 six."
        chunks = list(self.stream(f"emulate:say={words}"))
        self.assertEqual(len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}), 1)
        roles = [c.choices[0].delta.role for c in chunks if c.choices and c.choices[0].delta.role]
        self.assertEqual(roles, ["assistant"])
        texts, reasons = pieces(chunks)
        self.assertGreater(len(texts), 5)
        self.assertEqual("".join(texts), words)
        self.assertEqual(reasons, ["stop"])
        self.assertTrue(all(chunk.usage is None for chunk in chunks))
        self.assertTrue(all(chunk.choices for chunk in chunks))

    def test_pieces_come_before_the_answer_is_there(self):
        # After three pieces the upstream falls silent for good: whoever waits for the end of the
        # answer, or for more of it, gets none of them.
        with self.stream("emulate:stall=3") as stream:
            texts = []
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    texts.append(chunk.choices[0].delta.content)
                if len(texts) == 3:
                    break
        self.assertEqual(len(texts), 3)

    def test_usage_comes_when_it_is_asked_for(self):
        chunks = list(self.stream("Hello", stream_options={"include_usage": True}))
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        last = chunks[-1]
        self.assertEqual(last.choices, [])
        self.assertGreater(last.usage.completion_tokens, 0)
        total = last.usage.prompt_tokens + last.usage.completion_tokens
        self.assertEqual(last.usage.total_tokens, total)

    def test_a_stream_can_be_left(self):
        # The chat is free again only if leaving reached the upstream; the emulator keeps it busy
        # for 10 s otherwise, longer than the retries last.
        with self.stream("emulate:stall=2") as stream:
            chunk = next(iter(stream))
            chat = chunk.to_dict()["qwen_chat_id"]
        answer = client(max_retries=3).chat.completions.create(
            model=MODEL, messages=user("emulate:say=Free."), extra_body={"qwen_chat_id": chat}
        )
        self.assertEqual(answer.choices[0].message.content, "Free.")
        self.assertEqual(answer.to_dict()["qwen_chat_id"], chat)

    def test_fifty_streams_at_once(self):
        async def one(client, n):
            words = f"This is answer number {n} of fifty."
            stream = await client.chat.completions.create(
                model=MODEL, messages=user(f"emulate:say={words}"), stream=True
            )
            texts, reasons = [], []
            async for chunk in stream:
                texts += [c.delta.content for c in chunk.choices if c.delta.content]
                reasons += [c.finish_reason for c in chunk.choices if c.finish_reason]
            self.assertEqual(("".join(texts), reasons), (words, ["stop"]))

        async def all_of_them():
            options = {"api_key": API_KEY, "base_url": BASE_URL, "max_retries": 0}
            async with AsyncOpenAI(**options) as client:
                await asyncio.gather(*(one(client, n) for n in range(50)))

        asyncio.run(all_of_them())


class Errors(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def raises(self, kind, code, ask, param=None):
        with self.assertRaises(kind) as raised:
            ask()
        error = raised.exception
        self.assertIs(type(error), kind)
        self.assertEqual((error.code, error.param), (code, param))
        self.assertTrue(error.request_id)
        return error

    def post(self, **options):
        return self.client.post("/chat/completions", cast_to=object, **options)

    def ask(self, text, model=MODEL, stream=False):
        return self.client.chat.completions.create(
            model=model, messages=user(text), stream=stream
        )

    def both(self, kind, code, text, param=None, model=MODEL):
        """Before the first content a stream fails as the whole answer does."""
        for stream in (False, True):
            with self.subTest(text=text, stream=stream):
                error = self.raises(kind, code, lambda: self.ask(text, model, stream), param)
        return error

    def test_malformed_json(self):
        options = {"headers": {"content-type": "application/json"}}
        for content in (b'{"model":', b"", b"[]", b'{"model":"m","messages":[}', b"\xff{}"):
            with self.subTest(content=content):
                with self.assertRaises(openai.BadRequestError):
                    self.post(content=content, options=options)

    def test_missing_messages(self):
        for body in ({"model": MODEL}, {"model": MODEL, "messages": []}):
            with self.subTest(body=body):
                with self.assertRaises(openai.BadRequestError) as raised:
                    self.post(body=body)
                self.assertEqual(raised.exception.param, "messages")

    def test_wrong_types(self):
        hello = user("Hello")
        for field, body in {
            "messages": {"messages": "Hello"},
            "model": {"model": 7, "messages": hello},
            "temperature": {"messages": hello, "temperature": "hot"},
            "stream": {"messages": hello, "stream": "yes"},
            "messages[0].role": {"messages": [{"role": 1, "content": "Hello"}]},
        }.items():
            with self.subTest(field=field):
                with self.assertRaises(openai.BadRequestError) as raised:
                    self.post(body={"model": MODEL, **body})
                self.assertEqual(raised.exception.param, field)

    def test_an_unknown_model(self):
        kind, code = openai.NotFoundError, "model_not_found"
        for stream in (False, True):
            with self.assertRaises(kind) as raised:
                self.ask("Hello", "no-such-model", stream)
            self.assertEqual(raised.exception.code, code)

    def test_a_wrong_key(self):
        for wrong in ("sk-wrong", API_KEY + "x"):
            self.client = client(api_key=wrong)
            self.both(openai.AuthenticationError, "invalid_api_key", "Hello")
            with self.assertRaises(openai.AuthenticationError):
                self.client.models.list()

    def test_a_rate_limit_inside_a_200(self):
        kind = openai.RateLimitError
        self.both(kind, "rate_limit_exceeded", "emulate:parallel_limited")
        error = self.both(kind, "insufficient_quota", "emulate:rate_limited=2")
        self.assertEqual(error.response.headers["retry-after"], "7200")
        self.assertEqual(error.response.headers["x-should-retry"], "false")

    def test_an_anti_bot_page(self):
        for form in ("challenge_html", "challenge_redirect", "challenge_json"):
            error = self.both(openai.InternalServerError, "upstream_challenge", f"emulate:{form}")
            self.assertEqual(error.status_code, 503)
            self.assertEqual(error.response.headers["x-should-retry"], "false")

    def test_other_failures_of_the_upstream(self):
        error = self.both(openai.AuthenticationError, "invalid_api_key", "emulate:unauthorized")
        self.assertEqual(error.status_code, 401)
        error = self.both(openai.InternalServerError, "upstream_timeout", "emulate:timeout")
        self.assertEqual(error.status_code, 504)
        error = self.both(openai.InternalServerError, "upstream_error", "emulate:internal")
        self.assertEqual(error.status_code, 502)

    def test_an_answer_that_is_cut(self):
        for fault in ("cut=3", "reset=3"):
            with self.subTest(fault=fault):
                texts = []
                with self.assertRaises(openai.APIError) as raised:
                    for chunk in self.ask(f"emulate:{fault}", stream=True):
                        self.assertIsNone(chunk.choices[0].finish_reason)
                        texts.append(chunk.choices[0].delta.content or "")
                self.assertNotIsInstance(raised.exception, openai.APIStatusError)
                self.assertTrue("".join(texts))
                with self.assertRaises(openai.InternalServerError) as raised:
                    self.ask(f"emulate:{fault}")
                self.assertEqual(raised.exception.status_code, 502)

    def test_unknown_paths_and_methods(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            self.client.post("/no/such/path", cast_to=object, body={})
        self.assertEqual(raised.exception.code, "unknown_url")
        with self.assertRaises(openai.APIStatusError) as raised:
            self.client.get("/chat/completions", cast_to=object)
        self.assertEqual(raised.exception.status_code, 405)


if __name__ == "__main__":
    unittest.main()
