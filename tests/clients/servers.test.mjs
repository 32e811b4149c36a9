// Every OpenAI-compatible server through the official OpenAI SDK for Node: server × feature.
//
// PROXY_BASE_URL, PROXY_API_KEY and SERVERS say where, and which; tests/compatible_clients.rs sets
// them. There is one test a cell, named after it, and the same is expected of every server.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const origin = process.env.PROXY_BASE_URL;
const apiKey = process.env.PROXY_API_KEY;
const servers = JSON.parse(process.env.SERVERS);
const thought = "The user wrote something. I will say what it was.";
const said = '千问 says: 1 < 2 & <b>"three"</b> 🌍.';
const city = { city: 'Zürich "}{" <b>', days: 3 };

const fn = (name, properties) => {
  const parameters = { type: "object", properties, additionalProperties: false };
  return { type: "function", function: { name, parameters } };
};
const tools = [
  fn("get_weather", { city: { type: "string" }, days: { type: "integer" } }),
  fn("get_time", {}),
];
const user = (content) => ({ role: "user", content });
const messagesOf = (asked) => (typeof asked === "string" ? [user(asked)] : asked);

// Without retries every error is seen once.
const connect = ({ name }, mode = "native") =>
  new OpenAI({ apiKey, baseURL: `${origin}/${name}/${mode}/v1`, maxRetries: 0, timeout: 60_000 });

async function whole(server, asked, { mode, ...options } = {}) {
  const request = { model: server.model, messages: messagesOf(asked), ...options };
  const answer = await connect(server, mode).chat.completions.create(request);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, server.model, "as the client calls it");
  assert.equal(answer.choices.length, 1);
  const { message, finish_reason } = answer.choices[0];
  return { message, reason: finish_reason, usage: answer.usage };
}

// The same from a stream, put together by the SDK; `seen` is what came of one that fails.
async function streamed(server, asked, { mode, seen = {}, ...options } = {}) {
  const request = { model: server.model, messages: messagesOf(asked), ...options };
  const stream = connect(server, mode).chat.completions.stream(request);
  let usage = null;
  let reasoning = "";
  const ids = new Set();
  const roles = [];
  seen.text = "";
  stream.on("chunk", (chunk) => {
    ids.add(chunk.id);
    assert.equal(chunk.model, server.model);
    if (chunk.usage) {
      assert.deepEqual(chunk.choices, []);
      usage = chunk.usage;
    }
    for (const { delta } of chunk.choices) {
      if (delta.role) roles.push(delta.role);
      reasoning += delta.reasoning_content ?? "";
      seen.text += delta.content ?? "";
    }
  });
  const { choices } = await stream.finalChatCompletion();
  assert.equal(ids.size, 1, "one id for the whole stream");
  assert.deepEqual(roles, ["assistant"], "the role comes once");
  const { message, finish_reason } = choices[0];
  if (reasoning) message.reasoning_content = reasoning;
  return { message, reason: finish_reason, usage };
}

const both = [whole, streamed];

const called = ({ tool_calls }) =>
  (tool_calls ?? []).map(({ type, function: { name, arguments: text } }) => {
    assert.equal(type, "function");
    return [name, JSON.parse(text)];
  });

// One call, whole and streamed, and the answer to its result.
async function checkCalls(server, mode, text) {
  for (const ask of both) {
    const { message, reason } = await ask(server, text, { mode, tools });
    assert.deepEqual(called(message), [["get_weather", city]]);
    assert.deepEqual([message.content, reason], [null, "tool_calls"]);
    const [{ id }] = message.tool_calls;
    const result = { role: "tool", tool_call_id: id, content: 'result: <ok> & "fine"' };
    const { content, tool_calls } = message;
    const history = [user(text), { role: "assistant", content, tool_calls }, result];
    const told = await ask(server, history, { mode, tools });
    assert.ok(told.message.content.includes('result: <ok> & "fine"'), told.message.content);
    assert.deepEqual([called(told.message), told.reason], [[], "stop"]);
  }
}

const wish = `get_weather ${JSON.stringify(city)}`;

const features = {
  async chat(server) {
    const history = [
      { role: "system", content: "Be brief." },
      user("one"),
      { role: "assistant", content: "two" },
      user("emulate:path"),
    ];
    const path = await whole(server, history);
    assert.equal(path.message.content, "1. one\n2. two\n3. emulate:path\n");
    const { message, reason } = await whole(server, `emulate:say=${said}`);
    assert.deepEqual([message.content, reason], [said, "stop"]);
    const short = await whole(server, "emulate:say=one two three", { max_tokens: 2 });
    assert.deepEqual([short.message.content, short.reason], ["one two", "length"]);
  },

  async stream(server) {
    const { message, reason } = await streamed(server, `emulate:say=${said}`);
    assert.deepEqual([message.content, reason], [said, "stop"]);
    // The SDK takes the limit for an error where it puts an answer together.
    const request = { model: server.model, messages: [user("emulate:say=one two three")] };
    const options = { ...request, max_tokens: 2, stream: true };
    const texts = [];
    const reasons = [];
    for await (const { choices } of await connect(server).chat.completions.create(options)) {
      texts.push(choices[0].delta.content ?? "");
      if (choices[0].finish_reason) reasons.push(choices[0].finish_reason);
    }
    assert.deepEqual([texts.join(""), reasons], ["one two", ["length"]]);
  },

  async reasoning(server) {
    for (const place of ["", "reasoning", "reasoning_content", "both", "tags"]) {
      const directive = place && ` emulate:reasoning=${place}`;
      for (const ask of both) {
        const { message, reason } = await ask(server, `emulate:think${directive} emulate:say=Hi`);
        assert.equal(message.reasoning_content?.trim(), thought, place);
        assert.deepEqual([message.content, reason], ["Hi", "stop"]);
      }
    }
  },

  async "tools native"(server) {
    await checkCalls(server, "native", wish);
    const two = 'get_weather {"city": "Oslo"} and get_time {}';
    const calls = [
      ["get_weather", { city: "Oslo" }],
      ["get_time", {}],
    ];
    const get_time = { type: "function", function: { name: "get_time" } };
    for (const ask of both) {
      for (const [text, options, expected] of [
        [two, { parallel_tool_calls: true }, calls],
        [two, { parallel_tool_calls: false }, calls.slice(0, 1)],
        ["Hello", { tool_choice: get_time }, calls.slice(1)],
        [two, { tool_choice: "none" }, []],
      ]) {
        const { message, reason } = await ask(server, text, { tools, ...options });
        const end = expected.length ? "tool_calls" : "stop";
        assert.deepEqual([called(message), reason], [expected, end]);
      }
    }
  },

  async "tools in the prompt"(server) {
    await checkCalls(server, "prompt", wish);
    for (const ask of both) {
      const options = { mode: "prompt", tools, tool_choice: "required" };
      const { message, reason } = await ask(server, "Hello", options);
      assert.deepEqual([called(message).length, reason], [1, "tool_calls"]);
    }
  },

  async rescue(server) {
    for (const form of ["bare", "coder", "hermes", "tags", "reasoning"]) {
      const text = `${wish} emulate:unparsed=${form}`;
      await checkCalls(server, "rescue", text);
      // Where nobody looks for them they stay where they are.
      const { message, reason } = await streamed(server, text, { tools });
      assert.deepEqual([called(message), reason], [[], "stop"]);
    }
    await checkCalls(server, "rescue", wish);
  },

  async usage(server) {
    const text = "emulate:say=one two three";
    const stream_options = { include_usage: true };
    for (const { usage } of [
      await whole(server, text),
      await streamed(server, text, { stream_options }),
    ]) {
      assert.equal(usage.completion_tokens, 3);
      assert.ok(usage.prompt_tokens > 24);
      assert.equal(usage.total_tokens, usage.prompt_tokens + 3);
    }
    assert.equal((await streamed(server, text)).usage, null, "nobody asked for it");
  },

  async "errors before the stream"(server) {
    const cases = [
      ["unauthorized", OpenAI.AuthenticationError],
      ["rate_limited=7", OpenAI.RateLimitError],
      ["quota", OpenAI.RateLimitError],
      ["model_not_found", OpenAI.NotFoundError],
      ["content_filter", OpenAI.BadRequestError],
      ["internal", OpenAI.InternalServerError],
      ["timeout", OpenAI.InternalServerError],
      ["status=502", OpenAI.InternalServerError],
    ];
    // That one cuts the prompt.
    if (server.name !== "ollama-2025") cases.push(["too_long", OpenAI.BadRequestError]);
    for (const [directive, expected] of cases) {
      for (const ask of both) {
        await assert.rejects(ask(server, `emulate:${directive}`), (error) => {
          assert.ok(error instanceof expected, `${directive}: ${error.status}`);
          assert.ok(error.error.message && error.error.type);
          assert.ok([null, "string"].includes(error.code && typeof error.code), "never a number");
          if (directive === "too_long") assert.equal(error.code, "context_length_exceeded");
          if (directive === "timeout") assert.equal(error.status, 504);
          const wait = directive === "rate_limited=7" ? "7" : error.headers.get("retry-after");
          assert.equal(error.headers.get("retry-after"), wait);
          return true;
        });
      }
    }
  },

  async "errors in the stream"(server) {
    for (const directive of ["error_event", "error_string", "rate_event"]) {
      const text = `emulate:${directive}=2 emulate:say=one two three`;
      const seen = {};
      await assert.rejects(streamed(server, text, { seen }), (error) => {
        assert.ok(error instanceof OpenAI.OpenAIError, String(error));
        assert.equal(error.status, undefined);
        assert.ok(error.message);
        return true;
      });
      assert.equal(seen.text, "one two");
      await assert.rejects(whole(server, text), (error) => error.status >= 429);
    }
  },

  async cut(server) {
    for (const directive of ["cut", "reset"]) {
      const text = `emulate:${directive}=2 emulate:say=one two three`;
      const seen = {};
      await assert.rejects(streamed(server, text, { seen }), OpenAI.OpenAIError);
      // What a connection has not given when it is reset is lost.
      assert.ok("one two".startsWith(seen.text));
      if (directive === "cut") assert.equal(seen.text, "one two");
      await assert.rejects(whole(server, text), OpenAI.InternalServerError);
    }
  },

  async completions(server) {
    const request = { model: server.model, prompt: "emulate:say=one two" };
    const client = connect(server);
    const [choice] = (await client.completions.create(request)).choices;
    assert.deepEqual([choice.text, choice.finish_reason], ["one two", "stop"]);
    const texts = [];
    const reasons = [];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      texts.push(chunk.choices[0].text);
      if (chunk.choices[0].finish_reason) reasons.push(chunk.choices[0].finish_reason);
    }
    assert.deepEqual([texts.join(""), reasons], ["one two", ["stop"]]);
  },

  async embeddings(server) {
    const input = Array.from({ length: 23 }, (_, n) => `text ${n}`);
    const request = { model: server.embedder ?? server.model, input, dimensions: 16 };
    const { embeddings } = connect(server);
    if (!server.embedder) {
      await assert.rejects(embeddings.create(request), (error) => {
        assert.ok(error instanceof OpenAI.APIError && error.status >= 400);
        assert.ok(error.error.message);
        return true;
      });
      return;
    }
    // By itself the SDK asks for base64 and decodes it.
    const answer = await embeddings.create(request);
    const floats = await embeddings.create({ ...request, encoding_format: "float" });
    assert.equal(answer.model, request.model);
    assert.deepEqual(answer.usage, floats.usage);
    assert.deepEqual(answer.data.map(({ index }) => index), [...input.keys()]);
    for (const [at, { embedding }] of answer.data.entries()) {
      assert.equal(embedding.length, 16);
      const other = floats.data[at].embedding;
      assert.ok(embedding.every((x, n) => Math.abs(x - other[n]) < 1e-6));
      assert.ok(Math.abs(embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-5);
    }
    const alone = await embeddings.create({ ...request, input: input[17] });
    assert.deepEqual(alone.data[0].embedding, answer.data[17].embedding, "in order");
  },
};

for (const server of servers) {
  for (const [feature, check] of Object.entries(features)) {
    test(`${server.name}: ${feature}`, () => check(server));
  }
}
