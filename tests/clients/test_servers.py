"""Every OpenAI-compatible server through the official OpenAI SDK for Python: server × feature.

PROXY_BASE_URL, PROXY_API_KEY and SERVERS say where, and which; tests/compatible_clients.rs sets
them. There is one test a cell, named after it, and the same is expected of every server.
"""

import json
import os
import unittest

import openai
from openai import OpenAI

ORIGIN = os.environ["PROXY_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
SERVERS = json.loads(os.environ["SERVERS"])
THOUGHT = "The user wrote something. I will say what it was."
SAID = "千问 says: 1 < 2 & <b>\"three\"</b> 🌍."
ARGUMENTS = {"city": "Zürich \"}{\" <b>", "days": 3}


# Without retries every error is seen once.
CLIENT = OpenAI(api_key=API_KEY, base_url=ORIGIN, max_retries=0, timeout=60)
unittest.addModuleCleanup(CLIENT.close)


def function(name, properties):
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    function("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}),
    function("get_time", {}),
]


def user(text):
    return {"role": "user", "content": text}


class Cell(unittest.TestCase):
    """What the features have in common; each is given a server."""

    maxDiff = 2_000

    def client(self, server, mode="native"):
        url = f"{ORIGIN}/{server['name']}/{mode}/v1"
        return CLIENT.with_options(base_url=url)

    def whole(self, server, text, mode="native", **options):
        messages = options.pop("messages", None) or [user(text)]
        client = self.client(server, mode)
        answer = client.chat.completions.create(model=server["model"], messages=messages, **options)
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, server["model"], "as the client calls it")
        (choice,) = answer.choices
        return choice.message.to_dict(), choice.finish_reason, answer.usage

    def streamed(self, server, text, mode="native", message=None, **options):
        """The same from a stream, whose chunks must be as the API has them.

        What came of a stream that fails is in `message`.
        """
        messages = options.pop("messages", None) or [user(text)]
        message = {} if message is None else message
        message.update(role=None, content=None)
        reasons, usages, ids = [], [], set()
        client = self.client(server, mode)
        stream = client.chat.completions.create(
            model=server["model"], messages=messages, stream=True, **options
        )
        for chunk in stream:
            ids.add(chunk.id)
            self.assertEqual(chunk.object, "chat.completion.chunk")
            self.assertEqual(chunk.model, server["model"])
            self.assertEqual(usages, [], "usage comes last")
            if chunk.usage:
                usages.append(chunk.usage)
                self.assertEqual(chunk.choices, [])
            for choice in chunk.choices:
                self.assertEqual(choice.index, 0)
                self.assertEqual(reasons, [], "nothing behind the end")
                delta = choice.delta.to_dict()
                if delta.get("role"):
                    self.assertIsNone(message["role"], "the role comes once")
                    message["role"] = delta["role"]
                for field in ("content", "reasoning_content"):
                    if delta.get(field):
                        message[field] = (message.get(field) or "") + delta[field]
                for piece in delta.get("tool_calls") or []:
                    calls = message.setdefault("tool_calls", [])
                    if piece["index"] == len(calls):
                        self.assertEqual(piece["type"], "function")
                        self.assertTrue(piece["id"] and piece["function"]["name"])
                        calls.append({"id": piece["id"], "type": "function",
                                      "function": {"name": piece["function"]["name"], "arguments": ""}})
                    else:
                        self.assertEqual(piece["index"], len(calls) - 1, "calls come one by one")
                        self.assertFalse(piece.get("id") or piece["function"].get("name"))
                    arguments = piece["function"].get("arguments") or ""
                    calls[-1]["function"]["arguments"] += arguments
                if choice.finish_reason:
                    reasons.append(choice.finish_reason)
        self.assertEqual(len(ids), 1, "one id for the whole stream")
        self.assertEqual(message["role"], "assistant")
        (reason,) = reasons
        return message, reason, usages[0] if usages else None

    def called(self, message):
        return [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or []
        ]

    def check_calls(self, server, mode, text):
        """One call, whole and streamed, and the answer to its result."""
        for ask in (self.whole, self.streamed):
            message, reason, _ = ask(server, text, mode, tools=TOOLS)
            self.assertEqual(self.called(message), [("get_weather", ARGUMENTS)])
            self.assertEqual((message.get("content"), reason), (None, "tool_calls"))
            result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"],
                      "content": "result: <ok> & \"fine\""}
            message = {key: message[key] for key in ("role", "content", "tool_calls")}
            told, reason, _ = ask(server, None, mode, tools=TOOLS,
                                  messages=[user(text), message, result])
            self.assertIn("result: <ok> & \"fine\"", told["content"])
            self.assertEqual((self.called(told), reason), ([], "stop"))

    # ---- The features

    def feature_chat(self, server):
        messages = [{"role": "system", "content": "Be brief."}, user("one"),
                    {"role": "assistant", "content": "two"}, user("emulate:path")]
        message, reason, _ = self.whole(server, None, messages=messages)
        self.assertEqual(message["content"], "1. one\n2. two\n3. emulate:path\n")
        self.assertEqual(reason, "stop")
        message, reason, _ = self.whole(server, f"emulate:say={SAID}")
        self.assertEqual((message["content"], reason), (SAID, "stop"))
        message, reason, _ = self.whole(server, "emulate:say=one two three", max_tokens=2)
        self.assertEqual((message["content"], reason), ("one two", "length"))

    def feature_stream(self, server):
        message, reason, _ = self.streamed(server, f"emulate:say={SAID}")
        self.assertEqual((message["content"], reason), (SAID, "stop"))
        message, reason, _ = self.streamed(server, "emulate:say=one two three", max_tokens=2)
        self.assertEqual((message["content"], reason), ("one two", "length"))

    def feature_reasoning(self, server):
        for place in ("", "reasoning", "reasoning_content", "both", "tags"):
            directive = f" emulate:reasoning={place}" if place else ""
            for ask in (self.whole, self.streamed):
                message, reason, _ = ask(server, f"emulate:think{directive} emulate:say=Hi")
                self.assertEqual(message["reasoning_content"].strip(), THOUGHT)
                self.assertEqual((message["content"], reason), ("Hi", "stop"))

    def feature_tools_native(self, server):
        self.check_calls(server, "native", f"get_weather {json.dumps(ARGUMENTS)}")
        both = "get_weather {\"city\": \"Oslo\"} and get_time {}"
        for ask in (self.whole, self.streamed):
            message, reason, _ = ask(server, both, tools=TOOLS, parallel_tool_calls=True)
            calls = [("get_weather", {"city": "Oslo"}), ("get_time", {})]
            self.assertEqual((self.called(message), reason), (calls, "tool_calls"))
            message, reason, _ = ask(server, both, tools=TOOLS, parallel_tool_calls=False)
            self.assertEqual((self.called(message), reason), (calls[:1], "tool_calls"))
            named = {"type": "function", "function": {"name": "get_time"}}
            message, reason, _ = ask(server, "Hello", tools=TOOLS, tool_choice=named)
            self.assertEqual((self.called(message), reason), (calls[1:], "tool_calls"))
            message, reason, _ = ask(server, both, tools=TOOLS, tool_choice="none")
            self.assertEqual((self.called(message), reason), ([], "stop"))

    def feature_tools_in_the_prompt(self, server):
        self.check_calls(server, "prompt", f"get_weather {json.dumps(ARGUMENTS)}")
        for ask in (self.whole, self.streamed):
            message, reason, _ = ask(server, "Hello", "prompt", tools=TOOLS, tool_choice="required")
            self.assertEqual((len(self.called(message)), reason), (1, "tool_calls"))

    def feature_rescue(self, server):
        for form in ("bare", "coder", "hermes", "tags", "reasoning"):
            text = f"get_weather {json.dumps(ARGUMENTS)} emulate:unparsed={form}"
            self.check_calls(server, "rescue", text)
            # Where nobody looks for them they stay where they are.
            message, reason, _ = self.streamed(server, text, "native", tools=TOOLS)
            self.assertEqual((self.called(message), reason), ([], "stop"))
        self.check_calls(server, "rescue", f"get_weather {json.dumps(ARGUMENTS)}")

    def feature_usage(self, server):
        text = "emulate:say=one two three"
        usages = [self.whole(server, text)[2],
                  self.streamed(server, text, stream_options={"include_usage": True})[2]]
        for usage in usages:
            self.assertEqual(usage.completion_tokens, 3)
            self.assertGreater(usage.prompt_tokens, 24)
            self.assertEqual(usage.total_tokens, usage.prompt_tokens + 3)
        self.assertIsNone(self.streamed(server, text)[2], "nobody asked for it")

    def feature_errors_before_the_stream(self, server):
        cases = [
            ("unauthorized", openai.AuthenticationError),
            ("rate_limited=7", openai.RateLimitError),
            ("quota", openai.RateLimitError),
            ("model_not_found", openai.NotFoundError),
            ("content_filter", openai.BadRequestError),
            ("internal", openai.InternalServerError),
            ("timeout", openai.InternalServerError),
            ("status=502", openai.InternalServerError),
        ]
        if server["name"] != "ollama-2025":
            # That one cuts the prompt.
            cases.append(("too_long", openai.BadRequestError))
        for directive, error in cases:
            for ask in (self.whole, self.streamed):
                with self.subTest(directive), self.assertRaises(error) as raised:
                    ask(server, f"emulate:{directive}")
                body = raised.exception.body
                self.assertTrue(body["message"] and body["type"])
                self.assertIn(type(body["code"]), (str, type(None)), "never a number")
                if directive == "too_long":
                    self.assertEqual(body["code"], "context_length_exceeded")
                if directive == "rate_limited=7":
                    self.assertEqual(raised.exception.response.headers["retry-after"], "7")
                if directive == "timeout":
                    self.assertEqual(raised.exception.status_code, 504)

    def feature_errors_in_the_stream(self, server):
        for directive in ("error_event", "error_string", "rate_event"):
            text = f"emulate:{directive}=2 emulate:say=one two three"
            message = {}
            with self.subTest(directive), self.assertRaises(openai.APIError) as raised:
                self.streamed(server, text, message=message)
            self.assertEqual(message["content"], "one two")
            self.assertNotIsInstance(raised.exception, openai.APIStatusError)
            self.assertTrue(raised.exception.body["message"])
            with self.assertRaises(openai.APIStatusError):
                self.whole(server, text)

    def feature_cut(self, server):
        for directive in ("cut", "reset"):
            text = f"emulate:{directive}=2 emulate:say=one two three"
            message = {}
            with self.subTest(directive), self.assertRaises(openai.APIError):
                self.streamed(server, text, message=message)
            # What a connection has not given when it is reset is lost.
            self.assertIn(message["content"], ("one two", "one", None) if directive == "reset" else ("one two",))
            with self.assertRaises(openai.InternalServerError):
                self.whole(server, text)
            # In a call its arguments are closed, and the error is seen all the same.
            text = f"get_weather {json.dumps(ARGUMENTS)} emulate:{directive}=4"
            if server["name"].startswith("ollama"):
                continue  # Its calls are whole.
            message = {}
            with self.assertRaises(openai.APIError):
                self.streamed(server, text, message=message, tools=TOOLS)
            for name, arguments in self.called(message):
                self.assertEqual((name, type(arguments)), ("get_weather", dict))

    def feature_completions(self, server):
        client = self.client(server)
        options = {"model": server["model"], "prompt": "emulate:say=one two"}
        answer = client.completions.create(**options)
        self.assertEqual((answer.choices[0].text, answer.choices[0].finish_reason), ("one two", "stop"))
        chunks = list(client.completions.create(stream=True, **options))
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), "one two")
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")

    def feature_embeddings(self, server):
        client = self.client(server)
        texts = [f"text {n}" for n in range(23)]
        options = {"model": server["embedder"] or server["model"], "dimensions": 16}
        if server["embedder"] is None:
            with self.assertRaises(openai.APIStatusError) as raised:
                client.embeddings.create(input=texts, **options)
            self.assertTrue(raised.exception.body["message"])
            return
        # By itself the SDK asks for base64 and decodes it.
        answer = client.embeddings.create(input=texts, **options)
        floats = client.embeddings.create(input=texts, encoding_format="float", **options)
        self.assertEqual([item.index for item in answer.data], list(range(23)))
        self.assertEqual(answer.model, options["model"])
        self.assertEqual(answer.usage.total_tokens, floats.usage.total_tokens)
        self.assertGreater(answer.usage.total_tokens, 22)
        for one, other in zip(answer.data, floats.data):
            self.assertEqual(len(one.embedding), 16)
            self.assertAlmostEqual(sum(x * x for x in one.embedding), 1, places=5)
            for a, b in zip(one.embedding, other.embedding):
                self.assertAlmostEqual(a, b, places=6)
        (alone,) = client.embeddings.create(input=texts[17], **options).data
        self.assertEqual(alone.embedding, answer.data[17].embedding, "in the order of the inputs")


def cell(feature, server):
    return lambda self: getattr(self, feature)(server)


for feature in [name for name in vars(Cell) if name.startswith("feature_")]:
    for server in SERVERS:
        title = f"test_{server['name']}_{feature.removeprefix('feature_')}"
        setattr(Cell, title.replace("-", "_"), cell(feature, server))


if __name__ == "__main__":
    unittest.main()
