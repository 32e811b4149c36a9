// The sources of a search, as OpenAI's official SDK for Node reads them; see test_search.py.

import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";

const { PROXY_BASE_URL: origin, PROXY_API_KEY: apiKey } = process.env;
const FIRST = "https://example.org/a";

for (const [upstream, model, content, count] of [
  ["web", "qwen3-max", "emulate:sources=3 emulate:say=Found.", 3],
  ["dashscope", "qwen-plus", "emulate:say=Found.", 2],
]) {
  const client = new OpenAI({ apiKey, baseURL: `${origin}/${upstream}/v1`, maxRetries: 0 });
  const chat = { model, messages: [{ role: "user", content }], web_search_options: {} };

  test(`${upstream}: annotations of a message`, async () => {
    const answer = await client.chat.completions.create(chat);
    const { annotations } = answer.choices[0].message;
    assert.equal(annotations.length, count);
    assert.equal(annotations[0].type, "url_citation");
    assert.equal(annotations[0].url_citation.url, FIRST);
  });

  test(`${upstream}: annotations of a stream`, async () => {
    const found = [];
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
      const delta = chunk.choices[0]?.delta;
      found.push(...(delta?.annotations ?? []));
      text += delta?.content ?? "";
    }
    assert.equal(text, "Found.");
    assert.deepEqual(found.map(({ index }) => index), [...Array(count).keys()]);
    assert.equal(found[0].url_citation.url, FIRST);
  });

  test(`${upstream}: a stream that the SDK joins`, async () => {
    const answer = await client.chat.completions.stream(chat).finalChatCompletion();
    assert.equal(answer.choices[0].message.content, "Found.");
  });

  test(`${upstream}: annotations of a response`, async () => {
    const events = [];
    const stream = await client.responses.create({
      model, input: chat.messages, tools: [{ type: "web_search" }], stream: true,
    });
    for await (const event of stream) events.push(event);
    const added = events.filter(({ type }) => type === "response.output_text.annotation.added");
    assert.equal(added.length, count);
    const part = events.at(-1).response.output.at(-1).content[0];
    assert.equal(part.text, "Found.");
    assert.deepEqual(part.annotations, added.map(({ annotation }) => annotation));
  });
}
