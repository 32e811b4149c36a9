"""Tool calls through the official OpenAI SDK for Python.

PROXY_BASE_URL, SHORT_BASE_URL, PROXY_API_KEY and TOOL_CASES say where, and what the model does;
tests/tool_clients.rs sets them.
"""

import json
import os
import unittest

import openai
from openai import OpenAI

BASE_URL = os.environ["PROXY_BASE_URL"]
SHORT_BASE_URL = os.environ["SHORT_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
with open(os.environ["TOOL_CASES"], encoding="utf-8") as file:
    TOLD = json.load(file)
TOOLS, FORMS, CASES = TOLD["tools"], TOLD["forms"], TOLD["cases"]
MODEL = "qwen3-coder-plus"
# Each is asked for calls in another format.
MODELS = ("qwen3-coder-plus", "qwen3-max", "qwen3.7-plus")


def user(text):
    return {"role": "user", "content": text}


def parsed(answer):
    """The answer with its arguments read; they must be JSON."""
    content, calls, reason = answer
    calls = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in calls]
    return content, calls, reason


def expected(step):
    return step["text"], step["calls"], "tool_calls" if step["calls"] else "stop"


class Tools(unittest.TestCase):
    maxDiff = 2_000

    def setUp(self):
        self.client = self.connect(BASE_URL)

    def connect(self, base_url):
        # Without retries every error is seen once.
        client = OpenAI(api_key=API_KEY, base_url=base_url, max_retries=0, timeout=60)
        self.addCleanup(client.close)
        return client

    def whole(self, client, messages, **options):
        """The message of an answer, and why it ended."""
        options = {"model": MODEL, "tools": TOOLS, **options}
        (choice,) = client.chat.completions.create(messages=messages, **options).choices
        return choice.message.to_dict(), choice.finish_reason

    def streamed(self, client, messages, message=None, reasons=None, **options):
        """The same from a stream, whose deltas must be as the API has them.

        What came of a stream that fails is in `message` and `reasons`.
        """
        message = {} if message is None else message
        reasons = [] if reasons is None else reasons
        message.update(role="assistant", content=None)
        options = {"model": MODEL, "tools": TOOLS, **options}
        self.deltas = 0
        for chunk in client.chat.completions.create(messages=messages, stream=True, **options):
            for choice in chunk.choices:
                delta = choice.delta
                if delta.content or delta.tool_calls:
                    self.assertEqual(reasons, [], "nothing after the end")
                if delta.content:
                    message["content"] = (message["content"] or "") + delta.content
                for piece in delta.tool_calls or []:
                    calls = message.setdefault("tool_calls", [])
                    if piece.index == len(calls):
                        self.assertEqual(piece.type, "function")
                        self.assertTrue(piece.id)
                        self.assertTrue(piece.function.name)
                        function = {"name": piece.function.name, "arguments": ""}
                        calls.append({"id": piece.id, "type": "function", "function": function})
                    else:
                        self.assertEqual(piece.index, len(calls) - 1, "calls come one by one")
                        self.assertIsNone(piece.id)
                        self.assertIsNone(piece.type)
                        self.assertIsNone(piece.function.name)
                    calls[-1]["function"]["arguments"] += piece.function.arguments or ""
                    self.deltas += 1
                if choice.finish_reason:
                    reasons.append(choice.finish_reason)
        (reason,) = reasons
        return message, reason

    def answer(self, message, reason):
        """What of an answer does not change from one to the next."""
        calls = message.get("tool_calls") or []
        functions = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
        return message.get("content"), functions, reason

    def converse(self, ask, text):
        """Sends results back until there are no calls; every answer."""
        messages, answers, ids = [user(text)], [], set()
        self.deltas = self.most_deltas = 0
        while True:
            message, reason = ask(self.client, messages)
            answers.append(self.answer(message, reason))
            calls = message.get("tool_calls") or []
            if not calls:
                return answers
            self.most_deltas = max(self.most_deltas, self.deltas)
            self.assertLess(len(answers), 10)
            messages.append(message)
            for at, call in enumerate(calls):
                self.assertNotIn(call["id"], ids)
                ids.add(call["id"])
                result = f"result {len(answers)}.{at} is <ok> & \"fine\""
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    def test_every_case_in_every_form(self):
        for name, steps in CASES.items():
            for form in FORMS:
                with self.subTest(name=name, form=form):
                    text = f"Do it: case:{name}:{form}"
                    whole = self.converse(self.whole, text)
                    streamed = self.converse(self.streamed, text)
                    self.assertTrue(whole == streamed, f"{whole!s:.999} {streamed!s:.999}")
                    wanted = [expected(step) for step in steps]
                    got = [parsed(answer) for answer in whole[: len(steps)]]
                    self.assertTrue(got == wanted, f"{got!s:.999}\n{wanted!s:.999}")
                    if name == "large":
                        content = wanted[0][1][0]["arguments"]["content"]
                        self.assertGreaterEqual(len(content.encode()), 200 * 1024)
                        self.assertGreater(self.most_deltas, 1_000)
                    if wanted[-1][2] == "stop":
                        continue
                    (told, calls, reason) = whole[-1]
                    self.assertEqual((len(whole), calls, reason), (len(steps) + 1, [], "stop"))
                    results = [
                        told.count(f"result {len(steps)}.{at} is <ok> & \"fine\"")
                        for at in range(len(steps[-1]["calls"]))
                    ]
                    self.assertEqual(results, [1] * len(results), told)
                    order = [told.index(f"result {len(steps)}.{at} ") for at in range(len(results))]
                    self.assertEqual(order, sorted(order))

    def both(self, text, **options):
        """The answer, streamed as whole."""
        whole = self.answer(*self.whole(self.client, [user(text)], **options))
        streamed = self.answer(*self.streamed(self.client, [user(text)], **options))
        self.assertEqual(whole, streamed)
        return parsed(whole)

    def test_the_choice_of_tools(self):
        named = {"type": "function", "function": {"name": "get_time"}}
        weather = "What does get_weather say about \"Oslo\"?"
        for model in MODELS:
            with self.subTest(model=model):
                calls = [{"name": "get_weather", "arguments": {"city": "Oslo"}}]
                for options in ({}, {"tool_choice": "auto"}, {"tool_choice": "required"}):
                    self.assertEqual(
                        self.both(weather, model=model, **options), (None, calls, "tool_calls")
                    )
                _, calls, reason = self.both("Hello", model=model, tool_choice="required")
                self.assertTrue(calls)
                self.assertEqual(reason, "tool_calls")
                answer = self.both(weather, model=model, tool_choice=named)
                calls = [{"name": "get_time", "arguments": {}}]
                self.assertEqual(answer, (None, calls, "tool_calls"))
                for text, choice in (("Hello", "auto"), (weather, "none")):
                    content, calls, reason = self.both(text, model=model, tool_choice=choice)
                    self.assertTrue(content)
                    self.assertEqual((calls, reason), ([], "stop"))
                both = "get_weather {\"city\": \"Oslo\"} and get_time {}"
                for parallel, count in ((True, 2), (False, 1)):
                    _, calls, _ = self.both(both, model=model, parallel_tool_calls=parallel)
                    self.assertEqual(len(calls), count)

    def test_a_call_in_spite_of_none_is_text(self):
        for form in FORMS:
            with self.subTest(form=form):
                content, calls, reason = self.both(f"case:one:{form}", tool_choice="none")
                self.assertIn("get_weather", content)
                self.assertIn("Oslo", content)
                self.assertEqual((calls, reason), ([], "stop"))

    def test_an_unknown_choice(self):
        unknown = {"type": "function", "function": {"name": "unknown"}}
        for ask in (self.whole, self.streamed):
            with self.assertRaises(openai.BadRequestError) as raised:
                ask(self.client, [user("Hello")], tool_choice=unknown)
            self.assertEqual(raised.exception.param, "tool_choice")

    def test_a_stream_that_is_cut_in_a_call(self):
        for form in FORMS:
            opened = 0
            for fault in ("cut", "reset"):
                for after in (1, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48):
                    with self.subTest(form=form, fault=fault, after=after):
                        messages = [user(f"case:unicode:{form} emulate:{fault}={after}")]
                        message, reasons = {}, []
                        with self.assertRaises(openai.APIError):
                            self.streamed(self.client, messages, message, reasons)
                        self.assertEqual(reasons, [])
                        for call in message.get("tool_calls") or []:
                            self.assertIsInstance(json.loads(call["function"]["arguments"]), dict)
                            opened += len(call["function"]["arguments"]) > 2
                        with self.assertRaises(openai.InternalServerError):
                            self.whole(self.client, messages)
            self.assertGreater(opened, 4, form)

    def test_an_answer_that_is_cut_and_called_finished(self):
        for form in FORMS:
            with self.subTest(form=form):
                content, (call,), reason = self.both(f"case:half:{form}")
                self.assertEqual((content, call["name"], reason), (None, "write_file", "length"))
                whole = CASES["unicode"][0]["calls"][0]["arguments"]
                self.assertEqual(call["arguments"]["file_path"], whole["file_path"])
                half = call["arguments"]["content"]
                self.assertGreater(len(half), 20)
                self.assertTrue(whole["content"].startswith(half), half)

    def test_an_answer_that_is_cut_by_its_limit(self):
        client = self.connect(SHORT_BASE_URL)
        for name in ("two", "nested", "unicode"):
            for form in FORMS:
                opened = 0
                for size in range(1, 150, 5):
                    with self.subTest(name=name, form=form, size=size):
                        messages = [user(f"case:{name}:{form} bytes:{size}")]
                        whole = self.answer(*self.whole(client, messages))
                        self.assertEqual(whole, self.answer(*self.streamed(client, messages)))
                        _, calls, reason = parsed(whole)
                        self.assertEqual(reason, "length")
                        self.assertTrue(all(type(call["arguments"]) is dict for call in calls))
                        opened += bool(calls)
                self.assertGreater(opened, 4, form)


if __name__ == "__main__":
    unittest.main()
