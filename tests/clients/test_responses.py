"""OpenAI's official SDK for Python against the Responses edge.

PROXY_BASE_URL and PROXY_API_KEY say where; tests/responses_clients.rs sets them, and says what the
words of a request do.
"""

import json
import os
import unittest
import urllib.request

import openai
from openai import OpenAI

ORIGIN = os.environ["PROXY_BASE_URL"]
CITY = {"city": 'Zürich "}{" <b>', "days": 3}
PATCH = '*** Begin\n+é\U0001f30c"'
SUMMARY = {"summary": "auto"}

# Without retries every error is seen once.
CLIENT = OpenAI(
    api_key=os.environ["PROXY_API_KEY"], base_url=ORIGIN + "/v1", max_retries=0, timeout=60
)
unittest.addModuleCleanup(CLIENT.close)


def known(path):
    with urllib.request.urlopen(ORIGIN + path, timeout=60) as response:
        return json.load(response)


def function(name, properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "name": name, "parameters": parameters, "strict": False}


TOOLS = [
    function("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}),
    {"type": "namespace", "name": "clock", "description": "Clocks.",
     "tools": [function("get_time", {})]},
    {"type": "custom", "name": "patch", "description": "Patches."},
]


def said(response):
    def of(kind):
        return [item for item in response.output if item.type == kind]

    calls = []
    for item in of("function_call"):
        namespace = getattr(item, "namespace", None)
        name = f"{namespace}__{item.name}" if namespace else item.name
        calls.append([name, item.arguments.strip()])
    thinking = [part.text for item in of("reasoning") for part in item.summary]
    return {
        "text": response.output_text,
        "thinking": "".join(thinking),
        "calls": calls,
        "status": response.status,
    }


class Responses(unittest.TestCase):
    maxDiff = 2_000

    def test_answers_streamed(self):
        """By events, with the SDK's own accumulator beside."""
        ids = set()
        for number, answer in enumerate(known("/answers")):
            with self.subTest(number=number):
                texts, names, last = [], [], None
                options = {"model": "m", "input": f"answer {number}", "reasoning": SUMMARY}
                with CLIENT.responses.stream(**options) as stream:
                    for event in stream:
                        names.append(event.type)
                        if event.type == "response.output_text.delta":
                            texts.append(event.delta)
                        last = event
                    if answer["status"] == "completed":
                        final = stream.get_final_response()
                        self.assertEqual(final.output_text, answer["text"])
                self.assertEqual(names[0], "response.created")
                self.assertEqual(names[-1], f"response.{answer['status']}")
                self.assertNotIn(last.response.id, ids)
                ids.add(last.response.id)
                if answer["status"] == "failed":
                    self.assertTrue(last.response.error.message)
                    continue
                self.assertEqual("".join(texts), answer["text"])
                self.assertEqual(said(last.response), answer)

    def test_answers_whole(self):
        for number, answer in enumerate(known("/answers")):
            with self.subTest(number=number):
                options = {"model": "m", "input": f"answer {number}", "reasoning": SUMMARY}
                if answer["status"] == "failed":
                    with self.assertRaises(openai.APIStatusError):
                        CLIENT.responses.create(**options)
                    continue
                self.assertEqual(said(CLIENT.responses.create(**options)), answer)

    def test_tools_of_every_kind_go_there_and_back(self):
        for streamed in (False, True):
            with self.subTest(streamed=streamed):
                options = {
                    "model": "m",
                    "tools": TOOLS,
                    "reasoning": SUMMARY,
                    "include": ["reasoning.encrypted_content"],
                }
                question = {"role": "user", "content": "Weather?"}
                if streamed:
                    with CLIENT.responses.stream(input=[question], **options) as stream:
                        stream.until_done()
                        response = stream.get_final_response()
                else:
                    response = CLIENT.responses.create(input=[question], **options)
                kinds = [item.type for item in response.output]
                self.assertEqual(
                    kinds,
                    ["reasoning", "message", "function_call", "function_call", "custom_tool_call"],
                )
                weather, clock, patch = response.output[2:]
                self.assertEqual((weather.name, json.loads(weather.arguments)), ("get_weather", CITY))
                self.assertEqual((clock.name, clock.namespace), ("get_time", "clock"))
                self.assertEqual((patch.name, patch.input), ("patch", PATCH))
                self.assertEqual(response.usage.total_tokens, 30)

                results = [
                    {"type": "function_call_output", "call_id": weather.call_id, "output": "sun"},
                    {"type": "function_call_output", "call_id": clock.call_id, "output": "noon"},
                    {"type": "custom_tool_call_output", "call_id": patch.call_id, "output": "ok"},
                ]
                dumped = [item.model_dump(exclude_unset=True) for item in response.output]
                answer = CLIENT.responses.create(input=[question, *dumped, *results], **options)
                calls = ", ".join(
                    [f"get_weather{weather.arguments}", "clock__get_time{}",
                     "patch" + json.dumps({"input": PATCH}, ensure_ascii=False,
                                          separators=(",", ":"))]
                )
                self.assertEqual(answer.output_text, f"{calls}: ok and noon and sun; thought Both.")

    def test_errors(self):
        for error in known("/errors"):
            for streamed in (False, True):
                with self.subTest(error=error, streamed=streamed):
                    with self.assertRaises(openai.APIStatusError) as raised:
                        CLIENT.responses.create(
                            model="m", input=f"error {error['name']}", stream=streamed
                        )
                    self.assertEqual(raised.exception.status_code, error["status"])
                    self.assertEqual(raised.exception.body["message"], "what went wrong")

    def test_state_is_refused(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            CLIENT.responses.create(model="m", input="x", previous_response_id="resp_1")
        self.assertEqual(raised.exception.code, "previous_response_not_found")


if __name__ == "__main__":
    unittest.main()
