"""Anthropic's official SDK for Python against the Messages edge.

PROXY_BASE_URL and PROXY_API_KEY say where; tests/anthropic_clients.rs sets them, and says what the
words of a message do.
"""

import json
import os
import unittest
import urllib.request

import anthropic
from anthropic import Anthropic

ORIGIN = os.environ["PROXY_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
CITY = {"city": 'Zürich "}{" <b>', "days": 3}


# Without retries every error is seen once.
CLIENT = Anthropic(api_key=API_KEY, base_url=ORIGIN, max_retries=0, timeout=60)
unittest.addModuleCleanup(CLIENT.close)


def known(path):
    with urllib.request.urlopen(ORIGIN + path, timeout=60) as response:
        return json.load(response)


def asked(words, **options):
    return {
        "model": "qwen3-max",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": words}],
        **options,
    }


def tool(name, properties):
    return {"name": name, "input_schema": {"type": "object", "properties": properties}}


TOOLS = [
    tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}),
    tool("get_time", {}),
]


def is_said(text):
    """Whether it is no list of sources, which stands in a block of its own."""
    return not text.startswith("\n\nSources:\n")


def said(message, is_cut):
    """What a message says, without a last call that is cut."""
    calls = [
        {"name": block.name, "input": block.input}
        for block in message.content
        if block.type == "tool_use"
    ]
    return {
        "text": "".join(b.text for b in message.content if b.type == "text" and is_said(b.text)),
        "thinking": "".join(b.thinking for b in message.content if b.type == "thinking"),
        "calls": calls[:-1] if is_cut else calls,
    }


class Messages(unittest.TestCase):
    maxDiff = 2_000

    def test_a_thousand_answers_streamed(self):
        answers = known("/answers")
        self.assertEqual(len(answers), 1_000)
        ids = set()
        failed = 0
        for number, answer in enumerate(answers):
            with self.subTest(number=number):
                texts = []
                try:
                    with CLIENT.messages.stream(**asked(f"answer {number}")) as stream:
                        for event in stream:
                            if event.type == "text" and is_said(event.text):
                                texts.append(event.text)
                        message = stream.get_final_message()
                except anthropic.APIError as error:
                    self.assertTrue(answer["fails"], error)
                    self.assertTrue(answer["text"].startswith("".join(texts)))
                    failed += 1
                    continue
                self.assertTrue(answer["refuses"] or not answer["fails"])
                expected = {name: answer[name] for name in ("text", "thinking", "calls")}
                self.assertEqual(said(message, answer["is_cut"]), expected)
                self.assertEqual("".join(texts), answer["text"])
                for block in message.content:
                    if block.type == "thinking":
                        self.assertTrue(block.signature)
                    if block.type == "tool_use":
                        self.assertNotIn(block.id, ids)
                        ids.add(block.id)
                if answer["calls"] and not answer["is_cut"] and not answer["refuses"]:
                    reasons = ("max_tokens",) if answer["limited"] else ("tool_use", "refusal")
                    self.assertIn(message.stop_reason, reasons)
                self.assertNotIn(message.id, ids)
                ids.add(message.id)
        self.assertGreater(failed, 50)
        self.assertLess(failed, 400)

    def test_answers_come_whole(self):
        for number, answer in enumerate(known("/answers")[::7]):
            with self.subTest(number=7 * number):
                try:
                    message = CLIENT.messages.create(**asked(f"answer {7 * number}"))
                except anthropic.APIStatusError as error:
                    self.assertTrue(answer["fails"], error)
                    continue
                self.assertFalse(answer["fails"])
                expected = {name: answer[name] for name in ("text", "thinking", "calls")}
                # What is cut is no call of a whole answer.
                self.assertEqual(said(message, False), expected)
                self.assertGreaterEqual(message.usage.output_tokens, 0)

    def test_tools_are_called_and_answered(self):
        for streamed in (False, True):
            with self.subTest(streamed=streamed):
                first = asked("What is the weather?", tools=TOOLS)
                if streamed:
                    with CLIENT.messages.stream(**first) as stream:
                        message = stream.get_final_message()
                else:
                    message = CLIENT.messages.create(**first)
                self.assertEqual(message.stop_reason, "tool_use")
                self.assertEqual((message.usage.input_tokens, message.usage.output_tokens), (20, 10))
                calls = [block for block in message.content if block.type == "tool_use"]
                self.assertEqual([call.name for call in calls], ["get_weather", "get_time"])
                self.assertEqual([call.input for call in calls], [CITY, {}])
                results = [
                    {"type": "tool_result", "tool_use_id": call.id, "content": word}
                    for call, word in zip(calls, ("sunny", "noon"))
                ]
                messages = first["messages"] + [
                    {"role": "assistant", "content": message.content},
                    {"role": "user", "content": results},
                ]
                message = CLIENT.messages.create(**{**first, "messages": messages})
                (block,) = message.content
                self.assertEqual(block.text, "get_weather, get_time: noon and sunny; thought Both.")
                self.assertEqual(message.stop_reason, "end_turn")

    def test_errors_have_their_classes(self):
        classes = {
            400: anthropic.BadRequestError,
            401: anthropic.AuthenticationError,
            403: anthropic.PermissionDeniedError,
            404: anthropic.NotFoundError,
            413: anthropic.ContentTooLargeError,
            429: anthropic.RateLimitError,
        }
        for error in known("/errors"):
            name, status = error["name"], error["status"]
            with self.subTest(name=name):
                for ask in (CLIENT.messages.create, self.stream):
                    kind = classes.get(status, anthropic.InternalServerError)
                    with self.assertRaises(kind) as raised:
                        ask(**asked(f"error {name}"))
                    self.assertEqual(raised.exception.status_code, status)
                    body = raised.exception.body
                    self.assertEqual(body["type"], "error")
                    self.assertIn("asked", body["error"]["message"])

    def stream(self, **request):
        with CLIENT.messages.stream(**request) as stream:
            stream.get_final_message()

    def test_what_cannot_help_is_not_repeated(self):
        client = CLIENT.with_options(max_retries=2)
        for name, times in {"auth": 1, "quota": 1, "invalid": 1, "overloaded": 3}.items():
            with self.subTest(name=name):
                with self.assertRaises(anthropic.APIStatusError) as raised:
                    client.messages.create(**asked(f"error {name} python"))
                self.assertIn(f"asked {times} times", str(raised.exception))

    def test_malformed_requests(self):
        for wrong in ({"messages": []}, {"max_tokens": -1}, {"tools": [{"input_schema": {}}]}):
            with self.subTest(wrong=wrong), self.assertRaises(anthropic.BadRequestError) as raised:
                CLIENT.messages.create(**asked("answer 0", **wrong))
            body = raised.exception.body
            self.assertEqual(body["error"]["type"], "invalid_request_error")


if __name__ == "__main__":
    unittest.main()
