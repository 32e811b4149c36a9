// The official OpenAI SDK for Node against the proxy on the emulator.
//
// PROXY_BASE_URL and PROXY_API_KEY say where; tests/clients.rs sets them. The words `emulate:…` in
// a message tell the emulator how to fail.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const baseURL = process.env.PROXY_BASE_URL;
const apiKey = process.env.PROXY_API_KEY;
const model = "qwen3-max";

// Without retries every error is seen once.
const connect = (options) =>
  new OpenAI({ apiKey, baseURL, maxRetries: 0, timeout: 60_000, ...options });
const client = connect();
const messages = (content) => [{ role: "user", content }];
const ask = (text, options) =>
  client.chat.completions.create({ model, messages: messages(text), ...options });
const stream = (text, options) => ask(text, { stream: true, ...options });

async function read(chunks) {
  const texts = [];
  const reasons = [];
  for await (const chunk of chunks) {
    for (const choice of chunk.choices) {
      if (choice.delta.content) texts.push(choice.delta.content);
      if (choice.finish_reason) reasons.push(choice.finish_reason);
    }
  }
  return { texts, reasons };
}

async function raises(kind, code, promise) {
  const error = await promise.then(
    () => assert.fail("nothing was thrown"),
    (error) => error,
  );
  assert.equal(error.constructor, kind, String(error));
  assert.equal(error.code, code);
  assert.ok(error.requestID);
  return error;
}

// Before the first content a stream fails as the whole answer does.
async function both(kind, code, text) {
  await raises(kind, code, stream(text));
  return raises(kind, code, ask(text));
}

test("models are listed", async () => {
  const ids = [];
  for await (const entry of client.models.list()) ids.push(entry.id);
  assert.ok(ids.includes(model), ids.join());
  assert.equal((await client.models.retrieve(model)).object, "model");
  await raises(OpenAI.NotFoundError, "model_not_found", client.models.retrieve("no-such-model"));
});

test("an answer comes whole", async () => {
  const answer = await ask("emulate:say=Whole words.");
  assert.equal(answer.choices[0].message.content, "Whole words.");
  assert.equal(answer.choices[0].finish_reason, "stop");
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.ok(completion_tokens > 0);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
});

test("a stream has the same words", async () => {
  const words = "One two three four five — 千问 🌍 six.";
  const { texts, reasons } = await read(await stream(`emulate:say=${words}`));
  assert.ok(texts.length > 5, `${texts.length} pieces`);
  assert.equal(texts.join(""), words);
  assert.deepEqual(reasons, ["stop"]);
});

test("pieces come before the answer is there", async () => {
  // After three pieces the upstream falls silent for good: whoever waits for the end of the
  // answer, or for more of it, gets none of them.
  const texts = [];
  for await (const chunk of await stream("emulate:stall=3")) {
    if (chunk.choices[0]?.delta.content) texts.push(chunk.choices[0].delta.content);
    if (texts.length === 3) break;
  }
  assert.equal(texts.length, 3);
});

test("usage comes when it is asked for", async () => {
  const chunks = [];
  for await (const chunk of await stream("Hello", { stream_options: { include_usage: true } })) {
    chunks.push(chunk);
  }
  const last = chunks.pop();
  assert.ok(chunks.every((chunk) => chunk.usage === null));
  assert.deepEqual(last.choices, []);
  assert.ok(last.usage.completion_tokens > 0);
  const without = [];
  for await (const chunk of await stream("Hello")) without.push(chunk);
  assert.ok(without.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
});

test("a stream can be left", async () => {
  // The chat is free again only if leaving reached the upstream; the emulator keeps it busy for
  // 10 s otherwise, longer than the retries last.
  const chunks = await stream("emulate:stall=2");
  let chat;
  for await (const chunk of chunks) {
    chat = chunk.qwen_chat_id;
    chunks.controller.abort();
    break;
  }
  const answer = await connect({ maxRetries: 3 }).chat.completions.create({
    model,
    messages: messages("emulate:say=Free."),
    qwen_chat_id: chat,
  });
  assert.equal(answer.choices[0].message.content, "Free.");
  assert.equal(answer.qwen_chat_id, chat);
});

test("fifty streams at once", async () => {
  const one = async (n) => {
    const words = `This is answer number ${n} of fifty.`;
    const { texts, reasons } = await read(await stream(`emulate:say=${words}`));
    assert.equal(texts.join(""), words);
    assert.deepEqual(reasons, ["stop"]);
  };
  await Promise.all(Array.from({ length: 50 }, (_, n) => one(n)));
});

test("malformed JSON", async () => {
  for (const body of ['{"model":', "[]", '{"model":"m","messages":[}', "{}"]) {
    const headers = { "content-type": "application/json" };
    const answer = client.post("/chat/completions", { body, headers });
    await assert.rejects(answer, (error) => error.constructor === OpenAI.BadRequestError);
  }
});

test("missing messages and wrong types", async () => {
  const hello = messages("Hello");
  for (const [field, body] of [
    ["messages", { model }],
    ["messages", { model, messages: [] }],
    ["messages", { model, messages: "Hello" }],
    ["model", { model: 7, messages: hello }],
    ["temperature", { model, messages: hello, temperature: "hot" }],
    ["stream", { model, messages: hello, stream: "yes" }],
    ["messages[0].role", { model, messages: [{ role: 1, content: "Hello" }] }],
  ]) {
    await assert.rejects(client.post("/chat/completions", { body }), (error) => {
      assert.equal(error.constructor, OpenAI.BadRequestError);
      assert.equal(error.param, field);
      return true;
    });
  }
});

test("an unknown model", async () => {
  const unknown = { model: "no-such-model" };
  await raises(OpenAI.NotFoundError, "model_not_found", ask("Hello", unknown));
  await raises(OpenAI.NotFoundError, "model_not_found", stream("Hello", unknown));
});

test("a wrong key", async () => {
  const stranger = connect({ apiKey: "sk-wrong" });
  const answer = stranger.chat.completions.create({ model, messages: messages("Hello") });
  await raises(OpenAI.AuthenticationError, "invalid_api_key", answer);
});

test("a refusal of a large body arrives", async () => {
  const rows = [
    ["over the limit", connect(), 34, 413],
    ["a wrong key", connect({ apiKey: "sk-wrong" }), 8, 401],
    ["an unknown path", connect({ baseURL: `${baseURL}/v2` }), 8, 404],
  ];
  for (const [kind, client, mebibytes, status] of rows) {
    const content = "a".repeat(mebibytes << 20);
    for (let round = 0; round < 3; round += 1) {
      const asked = client.chat.completions.create({ model, messages: messages(content) });
      await assert.rejects(asked, { status }, kind);
    }
  }
});

test("a rate limit inside a 200", async () => {
  await both(OpenAI.RateLimitError, "rate_limit_exceeded", "emulate:parallel_limited");
  const error = await both(
    OpenAI.RateLimitError,
    "insufficient_quota",
    "emulate:rate_limited=2",
  );
  assert.equal(error.headers.get("retry-after"), "7200");
});

test("an anti-bot page", async () => {
  for (const form of ["challenge_html", "challenge_redirect", "challenge_json"]) {
    const error = await both(
      OpenAI.InternalServerError,
      "upstream_challenge",
      `emulate:${form}`,
    );
    assert.equal(error.status, 503);
    assert.equal(error.headers.get("x-should-retry"), "false");
  }
});

test("an answer that is cut", async () => {
  for (const fault of ["cut=3", "reset=3"]) {
    const texts = [];
    await assert.rejects(
      async () => {
        for await (const chunk of await stream(`emulate:${fault}`)) {
          assert.equal(chunk.choices[0].finish_reason, null);
          texts.push(chunk.choices[0].delta.content ?? "");
        }
      },
      (error) => error.constructor === OpenAI.APIError,
    );
    assert.ok(texts.join(""));
    await assert.rejects(ask(`emulate:${fault}`), (error) => {
      assert.equal(error.constructor, OpenAI.InternalServerError);
      assert.equal(error.status, 502);
      return true;
    });
  }
});
