"""The sources of a search, as the official SDKs for Python read them.

PROXY_BASE_URL and PROXY_API_KEY say where; tests/search_clients.rs sets them. Over chat.qwen.ai a
search has as many sources as the message asks for, over DashScope two.
"""

import os
import unittest

import anthropic
import openai

ORIGIN = os.environ["PROXY_BASE_URL"]
API_KEY = os.environ["PROXY_API_KEY"]
WEB = "qwen3-max", "emulate:sources=3 emulate:say=Found."
DASHSCOPE = "qwen-plus", "emulate:say=Found."
FIRST = "https://example.org/a"
UPSTREAMS = {"web": (*WEB, 3), "dashscope": (*DASHSCOPE, 2)}


def client(upstream):
    return openai.OpenAI(
        api_key=API_KEY, base_url=f"{ORIGIN}/{upstream}/v1", max_retries=0, timeout=60
    )


def claude(upstream):
    return anthropic.Anthropic(
        api_key=API_KEY, base_url=f"{ORIGIN}/{upstream}", max_retries=0, timeout=60
    )


class Search(unittest.TestCase):
    def each(self):
        for upstream, (model, text, count) in UPSTREAMS.items():
            yield upstream, model, [{"role": "user", "content": text}], count

    def test_chat_completions(self):
        for upstream, model, messages, count in self.each():
            with client(upstream) as api:
                answer = api.chat.completions.create(
                    model=model, messages=messages, web_search_options={}
                )
            annotations = answer.choices[0].message.annotations
            self.assertEqual(len(annotations), count)
            self.assertEqual({a.type for a in annotations}, {"url_citation"})
            first = annotations[0].url_citation
            self.assertEqual((first.url, first.title), (FIRST, "An example"))
            self.assertIsInstance(first.start_index, int)

    def test_a_stream_of_chunks(self):
        for upstream, model, messages, count in self.each():
            with client(upstream) as api:
                chunks = list(
                    api.chat.completions.create(
                        model=model, messages=messages, web_search_options={}, stream=True
                    )
                )
            deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
            found = [a for d in deltas for a in getattr(d, "annotations", None) or []]
            self.assertEqual([a["index"] for a in found], list(range(count)))
            self.assertEqual(found[0]["url_citation"]["url"], FIRST)
            self.assertEqual("".join(d.content or "" for d in deltas), "Found.")

    def test_a_stream_that_the_sdk_joins(self):
        for upstream, model, messages, count in self.each():
            with client(upstream) as api:
                with api.chat.completions.stream(
                    model=model, messages=messages, web_search_options={}
                ) as stream:
                    for _ in stream:
                        pass
                    message = stream.get_final_completion().choices[0].message
            self.assertEqual(message.content, "Found.")
            self.assertEqual(len(message.annotations), count)
            self.assertEqual(message.annotations[0].url_citation.url, FIRST)

    def test_a_virtual_model_searches_without_a_field(self):
        with client("web") as api:
            answer = api.chat.completions.create(
                model="qwen3-max-search", messages=[{"role": "user", "content": WEB[1]}]
            )
        self.assertEqual(answer.model, "qwen3-max-search")
        self.assertEqual(len(answer.choices[0].message.annotations), 3)

    def test_responses(self):
        for upstream, model, messages, count in self.each():
            with client(upstream) as api:
                answer = api.responses.create(
                    model=model, input=messages, tools=[{"type": "web_search"}]
                )
            part = answer.output[-1].content[0]
            self.assertEqual(part.text, "Found.")
            self.assertEqual(len(part.annotations), count)
            self.assertEqual(part.annotations[0].type, "url_citation")
            self.assertEqual(part.annotations[0].url, FIRST)

    def test_a_stream_of_responses(self):
        for upstream, model, messages, count in self.each():
            with client(upstream) as api:
                with api.responses.stream(
                    model=model, input=messages, tools=[{"type": "web_search"}]
                ) as stream:
                    events = list(stream)
                    final = stream.get_final_response()
            added = [e for e in events if e.type == "response.output_text.annotation.added"]
            self.assertEqual([e.annotation_index for e in added], list(range(count)))
            self.assertEqual(added[0].annotation.url, FIRST)
            part = final.output[-1].content[0]
            self.assertEqual([a.url for a in part.annotations][0], FIRST)
            self.assertEqual(len(part.annotations), count)

    def check_blocks(self, content, count):
        self.assertEqual(
            [b.type for b in content], ["server_tool_use", "web_search_tool_result", "text"]
        )
        used, found, text = content
        self.assertEqual((used.name, found.tool_use_id), ("web_search", used.id))
        self.assertEqual(len(found.content), count)
        self.assertEqual((found.content[0].type, found.content[0].url), ("web_search_result", FIRST))
        self.assertEqual(text.text, "Found.")

    def test_messages_with_the_vendors_search(self):
        tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]
        for upstream, model, messages, count in self.each():
            with claude(upstream) as api:
                options = {"model": model, "max_tokens": 100, "tools": tools}
                answer = api.messages.create(messages=messages, **options)
                self.check_blocks(answer.content, count)
                with api.messages.stream(messages=messages, **options) as stream:
                    answer = stream.get_final_message()
                self.check_blocks(answer.content, count)
                # What it gave is taken back.
                said = [*messages, {"role": "assistant", "content": answer.content}]
                said.append({"role": "user", "content": "emulate:say=Again."})
                answer = api.messages.create(messages=said, model=model, max_tokens=100)
            self.assertEqual(answer.content[0].text, "Again.")

    def check_links(self, content, count):
        text, links = (block.text for block in content)
        self.assertEqual(text, "Found.")
        self.assertEqual(links.count("](https://example.org/"), count)
        self.assertTrue(links.startswith(f"\n\nSources:\n1. [An example]({FIRST})"), links)

    def test_messages_of_others_have_links(self):
        for model in ["qwen3-max-search", "qwen3-max"]:
            text = WEB[1] if model.endswith("search") else f"emulate:search {WEB[1]}"
            messages = [{"role": "user", "content": text}]
            options = {"model": model, "max_tokens": 100}
            with claude("web") as api:
                answer = api.messages.create(messages=messages, **options)
                self.check_links(answer.content, 3)
                with api.messages.stream(messages=messages, **options) as stream:
                    answer = stream.get_final_message()
                self.check_links(answer.content, 3)

    def test_links_that_come_back_are_no_part_of_the_conversation(self):
        """The emulator tells what it was sent: `path` lists the messages of the chat."""
        messages = [{"role": "user", "content": WEB[1]}]
        with claude("web") as api:
            first = api.messages.create(model="qwen3-max-search", max_tokens=100, messages=messages)
            messages.append({"role": "assistant", "content": first.content})
            messages.append({"role": "user", "content": "emulate:path"})
            second = api.messages.create(model="qwen3-max", max_tokens=100, messages=messages)
        path = second.content[0].text
        self.assertNotIn("Sources", path)
        # It went on in the chat, and was not told the history anew.
        self.assertNotIn("[assistant]", path)
        self.assertIn("Found.", path)


if __name__ == "__main__":
    unittest.main()
