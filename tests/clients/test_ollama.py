"""Ollama's own client for Python against the proxy on the emulator, and against the edge alone.

PROXY_BASE_URL, OTHER_BASE_URL, ANSWERS_BASE_URL and OLLAMA_API_KEY say where; tests/ollama_clients.rs
sets them, and says what answers there. The words `emulate:…` in a message tell the emulator how to
answer.
"""

import asyncio
import base64
import json
import os
import unittest
import urllib.request

import ollama

WEB = os.environ["PROXY_BASE_URL"]
OTHER = os.environ["OTHER_BASE_URL"]
ANSWERS = os.environ["ANSWERS_BASE_URL"]
MODEL = "qwen3-max"
THINKER = "qwen3:32b"
EMBEDDER = "qwen3-embedding:0.6b"
# The smallest that an upstream takes.
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x0b\0\0\0\x0b\x08\0\0\0\0").decode()


def user(text):
    return {"role": "user", "content": text}


def get_weather(city: str, days: int = 1) -> str:
    """The weather of a city.

    Args:
        city: Which one.
        days: How many days ahead.
    """
    return f"sun in {city}"


class Case(unittest.TestCase):
    maxDiff = 2_000

    def client(self, host):
        client = ollama.Client(host=host, timeout=60)
        self.addCleanup(client.close)
        return client

    def setUp(self):
        self.web, self.other = self.client(WEB), self.client(OTHER)


class Models(Case):
    def test_models_are_listed_and_shown(self):
        for client, model in ((self.web, MODEL), (self.other, THINKER)):
            names = [model.model for model in client.list().models]
            self.assertIn(model, names)
            for name in (model, *(() if ":" in model else (f"{model}:latest",))):
                shown = client.show(name)
                self.assertIn("completion", shown.capabilities)
                self.assertIn("tools", shown.capabilities)
                self.assertEqual(shown.details.family, "qwen")
        self.assertGreater(self.web.show(MODEL).modelinfo["qwen.context_length"], 100_000)
        self.assertEqual(self.other.show(EMBEDDER).capabilities, ["embedding"])

    def test_nothing_is_loaded_and_what_is_there_is_pulled(self):
        self.assertEqual(list(self.web.ps().models), [])
        self.assertEqual(self.web.pull(MODEL).status, "success")
        states = [progress.status for progress in self.web.pull(MODEL, stream=True)]
        self.assertEqual(states[-1], "success")
        self.assertEqual(self.web.chat(MODEL, messages=[]).done_reason, "load")
        self.assertEqual(self.web.generate(MODEL, keep_alive=0).done_reason, "unload")

    def test_the_models_are_the_upstreams(self):
        for change in (
            lambda: self.web.delete(MODEL),
            lambda: self.web.copy(MODEL, "mine"),
            lambda: self.web.create("mine", from_=MODEL),
            lambda: self.web.push(MODEL),
        ):
            with self.assertRaises(ollama.ResponseError) as raised:
                change()
            self.assertEqual(raised.exception.status_code, 501)
            self.assertIn("the upstream's", raised.exception.error)


class Chats(Case):
    def test_an_answer_comes_whole(self):
        for client, model in ((self.web, MODEL), (self.other, THINKER)):
            answer = client.chat(model, messages=[user("emulate:say=Whole — 千问 🌍 words.")])
            self.assertEqual(answer.model, model)
            self.assertEqual(answer.message.role, "assistant")
            self.assertEqual(answer.message.content, "Whole — 千问 🌍 words.")
            self.assertEqual((answer.done, answer.done_reason), (True, "stop"))
            self.assertGreater(answer.prompt_eval_count, 0)
            self.assertGreater(answer.eval_count, 0)
            self.assertGreater(answer.total_duration, 0)

    def test_a_stream_has_the_same_words(self):
        words = "One two three four five — 千问 🌍 six."
        parts = list(self.web.chat(MODEL, messages=[user(f"emulate:say={words}")], stream=True))
        texts = [part.message.content for part in parts]
        self.assertGreater(len(texts), 5)
        self.assertEqual("".join(texts), words)
        self.assertEqual([part.done for part in parts[:-1]], [False] * (len(parts) - 1))
        self.assertEqual((parts[-1].done, parts[-1].done_reason), (True, "stop"))

    def test_lines_come_before_the_answer_is_there(self):
        # After three pieces the upstream falls silent for good: whoever waits for the end of the
        # answer, or for more of it, gets none of them.
        texts = []
        for part in self.web.chat(MODEL, messages=[user("emulate:stall=3")], stream=True):
            texts.append(part.message.content)
            if len(texts) == 3:
                break
        self.assertTrue(all(texts))

    def test_a_conversation_goes_on(self):
        history = [{"role": "system", "content": "Be brief."}, user("emulate:say=One.")]
        for words in ("One.", "Two.", "Three."):
            answer = self.web.chat(MODEL, messages=history)
            self.assertEqual(answer.message.content, words)
            history += [answer.message, user("emulate:say=Two." if words == "One." else "emulate:say=Three.")]

    def test_a_call_goes_there_and_back(self):
        for client, model in ((self.web, MODEL), (self.other, THINKER)):
            for streamed in (False, True):
                with self.subTest(model=model, streamed=streamed):
                    history = [user('Use get_weather {"city":"Zürich \\"}{ <b>","days":3}')]
                    message = self.message(client, model, history, streamed)
                    (call,) = message.tool_calls
                    self.assertEqual(call.function.name, "get_weather")
                    self.assertEqual(
                        call.function.arguments, {"city": 'Zürich "}{ <b>', "days": 3}
                    )
                    result = get_weather(**call.function.arguments)
                    # The client keeps no ids: the tool's name is all that a result has.
                    history += [
                        message,
                        {"role": "tool", "tool_name": "get_weather", "content": result},
                    ]
                    answer = self.message(client, model, history, streamed)
                    self.assertIn("sun in Zürich", answer.content)
                    self.assertIsNone(answer.tool_calls)

    def message(self, client, model, history, streamed):
        options = {"messages": history, "tools": [get_weather], "think": False}
        if not streamed:
            return client.chat(model, **options).message
        message = ollama.Message(role="assistant", content="")
        for part in client.chat(model, stream=True, **options):
            message.content += part.message.content
            if part.message.tool_calls:
                message.tool_calls = [*(message.tool_calls or []), *part.message.tool_calls]
        return message

    def test_thinking_is_apart(self):
        for client, model, words in (
            (self.web, "qwen3.7-plus", "emulate:think emulate:say=Done."),
            (self.other, THINKER, "emulate:think emulate:say=Done."),
        ):
            with self.subTest(model=model):
                for think in (True, "high"):
                    answer = client.chat(model, messages=[user(words)], think=think)
                    self.assertEqual(answer.message.content, "Done.")
                    self.assertTrue(answer.message.thinking)
                parts = list(client.chat(model, messages=[user(words)], think=True, stream=True))
                thinking = "".join(part.message.thinking or "" for part in parts)
                self.assertTrue(thinking)
                self.assertEqual("".join(part.message.content for part in parts), "Done.")
                answer = client.chat(model, messages=[user(words)], think=False)
                self.assertIsNone(answer.message.thinking)

    def test_an_answer_has_the_form_that_was_asked_for(self):
        schema = {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        }
        for form in (schema, "json"):
            for client, model in ((self.web, MODEL), (self.other, THINKER)):
                with self.subTest(model=model, form=form):
                    messages = [user('emulate:say={"city": "Zürich"}')]
                    answer = client.chat(model, messages=messages, format=form, think=False)
                    self.assertEqual(json.loads(answer.message.content), {"city": "Zürich"})

    def test_options_and_images_are_passed_on(self):
        options = {"temperature": 0.1, "num_predict": 100, "num_ctx": 4096, "stop": ["END"]}
        answer = self.other.chat(
            THINKER,
            messages=[{**user("emulate:say=before END behind"), "images": [PNG]}],
            options=options,
            think=False,
        )
        self.assertTrue(answer.message.content.startswith("before"))

    def test_the_asynchronous_client(self):
        async def chat():
            client = ollama.AsyncClient(host=WEB, timeout=60)
            stream = await client.chat(MODEL, messages=[user("emulate:say=Hi there")], stream=True)
            return [part.message.content async for part in stream]

        self.assertEqual("".join(asyncio.run(chat())), "Hi there")


class Prompts(Case):
    def test_a_prompt_is_answered(self):
        for client, model in ((self.web, MODEL), (self.other, THINKER)):
            options = {"prompt": "emulate:say=Once upon a time", "system": "Tell.", "think": False}
            answer = client.generate(model, **options)
            self.assertEqual(answer.response, "Once upon a time")
            self.assertEqual((answer.done, answer.done_reason), (True, "stop"))
            parts = list(client.generate(model, stream=True, **options))
            self.assertEqual("".join(part.response for part in parts), "Once upon a time")
            self.assertGreater(parts[-1].eval_count, 0)

    def test_texts_are_embedded(self):
        answer = self.other.embed(EMBEDDER, input=["a", "b", "c"])
        self.assertEqual(len(answer.embeddings), 3)
        self.assertEqual(answer.embeddings[0], self.other.embed(EMBEDDER, input="a").embeddings[0])
        self.assertEqual(
            list(answer.embeddings[0]), list(self.other.embeddings(EMBEDDER, prompt="a").embedding)
        )
        self.assertGreater(answer.prompt_eval_count, 0)


class Errors(Case):
    def refused(self, status, ask):
        with self.assertRaises(ollama.ResponseError) as raised:
            ask()
        self.assertEqual(raised.exception.status_code, status, raised.exception.error)
        self.assertNotIn("{", raised.exception.error)
        return raised.exception.error

    def test_errors_have_a_status_and_words(self):
        for words, status in (
            ("emulate:rate_limited", 429),
            ("emulate:challenge_html", 503),
            ("emulate:too_long", 400),
        ):
            for stream in (False, True):
                with self.subTest(words=words, stream=stream):
                    ask = lambda: self.chat(words, stream)
                    self.refused(status, ask)
        self.assertIn("none", self.refused(404, lambda: self.web.show("none")))
        self.assertIn("none", self.refused(404, lambda: self.web.pull("none")))
        self.refused(404, lambda: self.other.chat("none", messages=[user("x")]))
        self.assertIn("suffix", self.refused(400, lambda: self.web.generate(MODEL, "a", suffix="b")))
        self.assertIn("raw", self.refused(400, lambda: self.web.generate(MODEL, "a", raw=True)))
        self.assertIn("embeddings", self.refused(501, lambda: self.web.embed(MODEL, "a")))

    def chat(self, words, stream):
        answer = self.web.chat(MODEL, messages=[user(words)], stream=stream)
        return list(answer) if stream else answer

    def test_an_error_behind_the_start_ends_the_stream(self):
        texts = []
        with self.assertRaises(ollama.ResponseError) as raised:
            for part in self.web.chat(MODEL, messages=[user("emulate:cut=3")], stream=True):
                texts.append(part.message.content)
        self.assertTrue("".join(texts))
        self.assertTrue(raised.exception.error)

    def test_a_key_that_is_wrong(self):
        client = ollama.Client(host=WEB, headers={"Authorization": "Bearer sk-wrong"})
        self.addCleanup(client.close)
        for ask in (client.list, lambda: client.chat(MODEL, messages=[user("x")])):
            self.refused(401, ask)


class EveryAnswer(unittest.TestCase):
    maxDiff = 2_000

    def test_answers_are_read(self):
        with urllib.request.urlopen(ANSWERS + "/answers", timeout=60) as response:
            answers = json.load(response)
        client = ollama.Client(host=ANSWERS, timeout=60)
        self.addCleanup(client.close)
        for number, answer in enumerate(answers):
            for streamed in (False, True):
                with self.subTest(number=number, streamed=streamed):
                    messages = [user(f"answer {number}")]
                    if answer["reason"] == "error":
                        with self.assertRaises(ollama.ResponseError) as raised:
                            asked = client.chat("m", messages=messages, stream=streamed)
                            list(asked if streamed else [])
                        self.assertIn("what went wrong", raised.exception.error)
                        continue
                    asked = client.chat("m", messages=messages, stream=streamed)
                    parts = list(asked) if streamed else [asked]
                    calls = [c for part in parts for c in part.message.tool_calls or []]
                    said = {
                        "text": "".join(part.message.content for part in parts),
                        "thinking": "".join(part.message.thinking or "" for part in parts),
                        "calls": [[c.function.name, c.function.arguments] for c in calls],
                        "reason": parts[-1].done_reason,
                        "tokens": parts[-1].eval_count,
                    }
                    self.assertEqual(said, answer)


if __name__ == "__main__":
    unittest.main()
