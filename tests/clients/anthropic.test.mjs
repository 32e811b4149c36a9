// Anthropic's official SDK for Node against the Messages edge.
//
// PROXY_BASE_URL and PROXY_API_KEY say where; tests/anthropic_clients.rs sets them, and says what
// the words of a message do.

import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const baseURL = process.env.PROXY_BASE_URL;
const apiKey = process.env.PROXY_API_KEY;
const city = { city: 'Zürich "}{" <b>', days: 3 };

// Without retries every error is seen once.
const connect = (options) =>
  new Anthropic({ apiKey, baseURL, maxRetries: 0, timeout: 60_000, ...options });
const client = connect();

const known = async (path) => (await fetch(baseURL + path)).json();

const asked = (content, more) => ({
  model: "qwen3-max",
  max_tokens: 64,
  messages: [{ role: "user", content }],
  ...more,
});

const tool = (name, properties) => ({ name, input_schema: { type: "object", properties } });
const tools = [
  tool("get_weather", { city: { type: "string" }, days: { type: "integer" } }),
  tool("get_time", {}),
];

// Whether it is no list of sources, which stands in a block of its own.
const isSaid = (text) => !text.startsWith("\n\nSources:\n");

// What a message says, without a last call that is cut.
function said({ content }, isCut) {
  const of = (type) => content.filter((block) => block.type === type);
  const calls = of("tool_use").map(({ name, input }) => ({ name, input }));
  return {
    text: of("text").map((block) => block.text).filter(isSaid).join(""),
    thinking: of("thinking").map((block) => block.thinking).join(""),
    calls: isCut ? calls.slice(0, -1) : calls,
  };
}

const expected = ({ text, thinking, calls }) => ({ text, thinking, calls });

test("a thousand answers, streamed", async () => {
  const answers = await known("/answers");
  assert.equal(answers.length, 1_000);
  const ids = new Set();
  let failed = 0;
  for (const [number, answer] of answers.entries()) {
    const texts = [];
    const stream = client.messages.stream(asked(`answer ${number}`));
    stream.on("text", (text) => isSaid(text) && texts.push(text));
    let message;
    try {
      message = await stream.finalMessage();
    } catch (error) {
      assert.ok(error instanceof Anthropic.APIError, `${number}: ${error}`);
      assert.ok(answer.fails, `${number}: ${error}`);
      assert.ok(answer.text.startsWith(texts.join("")), String(number));
      failed += 1;
      continue;
    }
    assert.ok(answer.refuses || !answer.fails, String(number));
    assert.deepEqual(said(message, answer.is_cut), expected(answer), String(number));
    assert.equal(texts.join(""), answer.text, String(number));
    for (const block of message.content) {
      if (block.type === "thinking") assert.ok(block.signature, String(number));
      if (block.type === "tool_use") {
        assert.ok(!ids.has(block.id), String(number));
        ids.add(block.id);
      }
    }
    assert.ok(!ids.has(message.id), String(number));
    ids.add(message.id);
  }
  assert.ok(failed > 50 && failed < 400, `${failed} failed`);
});

test("answers come whole", async () => {
  const answers = await known("/answers");
  for (let number = 0; number < answers.length; number += 7) {
    const answer = answers[number];
    let message;
    try {
      message = await client.messages.create(asked(`answer ${number}`));
    } catch (error) {
      assert.ok(answer.fails && error instanceof Anthropic.APIError, `${number}: ${error}`);
      continue;
    }
    assert.ok(!answer.fails, String(number));
    // What is cut is no call of a whole answer.
    assert.deepEqual(said(message, false), expected(answer), String(number));
  }
});

test("tools are called and answered", async () => {
  const first = asked("What is the weather?", { tools });
  for (const ask of [
    (request) => client.messages.create(request),
    (request) => client.messages.stream(request).finalMessage(),
  ]) {
    const message = await ask(first);
    assert.equal(message.stop_reason, "tool_use");
    assert.equal(message.usage.input_tokens, 20);
    const calls = message.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(calls.map((call) => call.name), ["get_weather", "get_time"]);
    assert.deepEqual(calls.map((call) => call.input), [city, {}]);
    const results = ["sunny", "noon"].map((content, at) => ({
      type: "tool_result",
      tool_use_id: calls[at].id,
      content,
    }));
    const messages = [
      ...first.messages,
      { role: "assistant", content: message.content },
      { role: "user", content: results },
    ];
    const { content } = await ask({ ...first, messages });
    const texts = content.map((block) => block.text);
    assert.deepEqual(texts, ["get_weather, get_time: noon and sunny; thought Both."]);
  }
});

test("errors have their classes", async () => {
  const classes = {
    400: Anthropic.BadRequestError,
    401: Anthropic.AuthenticationError,
    403: Anthropic.PermissionDeniedError,
    404: Anthropic.NotFoundError,
    413: Anthropic.ContentTooLargeError,
    429: Anthropic.RateLimitError,
  };
  for (const { name, status } of await known("/errors")) {
    const kind = classes[status] ?? Anthropic.InternalServerError;
    for (const ask of [
      (request) => client.messages.create(request),
      (request) => client.messages.stream(request).finalMessage(),
    ]) {
      await assert.rejects(ask(asked(`error ${name}`)), (error) => {
        assert.ok(error instanceof kind, `${name}: ${error}`);
        assert.equal(error.status, status);
        assert.equal(error.error.type, "error");
        return true;
      });
    }
  }
});

test("what cannot help is not repeated", async () => {
  const patient = connect({ maxRetries: 2 });
  for (const [name, times] of Object.entries({ auth: 1, quota: 1, invalid: 1, overloaded: 3 })) {
    const answer = patient.messages.create(asked(`error ${name} node`));
    await assert.rejects(answer, (error) => {
      assert.ok(error.message.includes(`asked ${times} times`), error.message);
      return true;
    });
  }
});
