// Tool calls through the official OpenAI SDK for Node and through the AI SDK.
//
// PROXY_BASE_URL, SHORT_BASE_URL, PROXY_API_KEY and TOOL_CASES say where, and what the model
// does; tests/tool_clients.rs sets them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const baseURL = process.env.PROXY_BASE_URL;
const apiKey = process.env.PROXY_API_KEY;
const { tools, forms, cases } = JSON.parse(readFileSync(process.env.TOOL_CASES, "utf8"));
const model = "qwen3-coder-plus";
// Each is asked for calls in another format.
const models = ["qwen3-coder-plus", "qwen3-max", "qwen3.7-plus"];
const weather = 'What does get_weather say about "Oslo"?';
const oslo = { name: "get_weather", arguments: { city: "Oslo" } };

const short = process.env.SHORT_BASE_URL;
// Without retries every error is seen once.
const connect = (baseURL) => new OpenAI({ apiKey, baseURL, maxRetries: 0, timeout: 60_000 });
const client = connect(baseURL);
const user = (content) => ({ role: "user", content });
const resultOf = (turn, at) => `result ${turn}.${at} is <ok> & "fine"`;

// Large values are not printed when they differ.
function same(got, wanted, what) {
  try {
    assert.deepEqual(got, wanted);
  } catch {
    const brief = (value) => JSON.stringify(value).slice(0, 1_000);
    assert.fail(`${what}: ${brief(got)} is not ${brief(wanted)}`);
  }
}

// What the last answer repeats of the results before it: each once, in order.
function checkTold(told, turn, count, what) {
  const at = Array.from({ length: count }, (_, n) => told.split(resultOf(turn, n)));
  assert.ok(at.every((parts) => parts.length === 2), `${what}: ${told}`);
  const order = at.map((parts) => parts[0].length);
  assert.deepEqual(order, order.toSorted((a, b) => a - b), what);
}

// A large argument takes these SDKs seconds; the suite for Python reads it in every form.
const formsOf = (name) => (name === "large" ? forms.slice(0, 1) : forms);

// ---- The OpenAI SDK

async function whole(client, messages, options) {
  const answer = await client.chat.completions.create({ model, tools, messages, ...options });
  assert.equal(answer.choices.length, 1);
  const { message, finish_reason } = answer.choices[0];
  return { message, reason: finish_reason };
}

// The same from a stream, put together by the SDK.
async function streamed(client, messages, options) {
  const stream = client.chat.completions.stream({ model, tools, messages, ...options });
  const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
  return { message, reason: finish_reason };
}

// What of an answer does not change from one to the next.
function answer({ message, reason }) {
  const calls = (message.tool_calls ?? []).map(({ type, function: called }) => {
    assert.equal(type, "function");
    return { name: called.name, arguments: called.arguments };
  });
  return { text: message.content, calls, reason };
}

const parsed = ({ text, calls, reason }) => ({
  text,
  calls: calls.map((call) => ({ ...call, arguments: JSON.parse(call.arguments) })),
  reason,
});

// Sends results back until there are no calls; every answer.
async function converse(ask, text) {
  const messages = [user(text)];
  const answers = [];
  const ids = new Set();
  for (;;) {
    const got = await ask(client, messages);
    answers.push(answer(got));
    const calls = got.message.tool_calls ?? [];
    if (calls.length === 0) return answers;
    assert.ok(answers.length < 10);
    messages.push(got.message);
    for (const [at, { id }] of calls.entries()) {
      assert.ok(id && !ids.has(id), id);
      ids.add(id);
      const content = resultOf(answers.length, at);
      messages.push({ role: "tool", tool_call_id: id, content });
    }
  }
}

const expected = ({ text, calls }) => ({
  text,
  calls,
  reason: calls.length ? "tool_calls" : "stop",
});

for (const [name, steps] of Object.entries(cases)) {
  test(`openai: ${name}`, async () => {
    for (const form of formsOf(name)) {
      const what = `${name} ${form}`;
      const text = `Do it: case:${name}:${form}`;
      const answers = await converse(whole, text);
      same(await converse(streamed, text), answers, `streamed ${what}`);
      const wanted = steps.map(expected);
      same(answers.slice(0, steps.length).map(parsed), wanted, what);
      const { calls } = steps.at(-1);
      if (calls.length === 0) continue;
      assert.equal(answers.length, steps.length + 1, what);
      const last = answers.at(-1);
      assert.equal(last.reason, "stop");
      checkTold(last.text, steps.length, calls.length, what);
    }
  });
}

async function both(text, options) {
  const got = answer(await whole(client, [user(text)], options));
  assert.deepEqual(answer(await streamed(client, [user(text)], options)), got);
  return parsed(got);
}

test("openai: the choice of tools", async () => {
  const called = (...calls) => ({ text: null, calls, reason: "tool_calls" });
  for (const model of models) {
    for (const tool_choice of [undefined, "auto", "required"]) {
      assert.deepEqual(await both(weather, { model, tool_choice }), called(oslo));
    }
    const required = await both("Hello", { model, tool_choice: "required" });
    assert.ok(required.calls.length > 0);
    const named = { type: "function", function: { name: "get_time" } };
    const forced = await both(weather, { model, tool_choice: named });
    assert.deepEqual(forced, called({ name: "get_time", arguments: {} }));
    for (const [text, tool_choice] of [
      ["Hello", "auto"],
      [weather, "none"],
    ]) {
      const { calls, reason } = await both(text, { model, tool_choice });
      assert.deepEqual({ calls, reason }, { calls: [], reason: "stop" });
    }
  }
});

test("openai: a call in spite of none is text", async () => {
  for (const form of forms) {
    const got = await both(`case:one:${form}`, { tool_choice: "none" });
    assert.ok(got.text.includes("get_weather") && got.text.includes("Oslo"), got.text);
    assert.deepEqual([got.calls, got.reason], [[], "stop"]);
  }
});

test("openai: a stream that is cut in a call", async () => {
  for (const form of forms) {
    let opened = 0;
    for (const after of [1, 8, 16, 24, 32, 40, 48]) {
      const messages = [user(`case:unicode:${form} emulate:cut=${after}`)];
      const written = [];
      await assert.rejects(
        async () => {
          const options = { model, tools, messages, stream: true };
          for await (const chunk of await client.chat.completions.create(options)) {
            assert.equal(chunk.choices[0].finish_reason, null);
            for (const { index, function: called } of chunk.choices[0].delta.tool_calls ?? []) {
              written[index] = (written[index] ?? "") + (called.arguments ?? "");
            }
          }
        },
        (error) => error instanceof OpenAI.APIError,
      );
      for (const text of written) assert.equal(typeof JSON.parse(text), "object");
      opened += written.filter((text) => text.length > 2).length;
      await assert.rejects(whole(client, messages), OpenAI.InternalServerError);
    }
    assert.ok(opened > 2, `${opened} ${form}`);
  }
});

test("openai: an answer that is cut by its limit", async () => {
  const limited = connect(short);
  for (const form of forms) {
    let opened = 0;
    for (let bytes = 1; bytes < 150; bytes += 12) {
      const messages = [user(`case:nested:${form} bytes:${bytes}`)];
      const request = { model, tools, messages };
      const { choices } = await limited.chat.completions.create(request);
      const got = answer({ message: choices[0].message, reason: choices[0].finish_reason });
      assert.equal(parsed(got).reason, "length");
      opened += got.calls.length;
      const texts = [];
      const reasons = [];
      const stream = await limited.chat.completions.create({ ...request, stream: true });
      for await (const { choices } of stream) {
        for (const piece of choices[0].delta.tool_calls ?? []) texts.push(piece.function.arguments);
        if (choices[0].finish_reason) reasons.push(choices[0].finish_reason);
      }
      assert.deepEqual(reasons, ["length"]);
      assert.equal(texts.join(""), got.calls.map((call) => call.arguments).join(""));
    }
    assert.ok(opened > 2, `${opened} ${form}`);
  }
});

// ---- The AI SDK

const provider = (baseURL) => createOpenAICompatible({ name: "proxy", baseURL, apiKey });
const proxy = provider(baseURL);

// The tools with results that say which call of which turn they answer.
function executed() {
  let length = 0;
  let turn = 0;
  let at = 0;
  const execute = (_, { messages }) => {
    // A turn has more messages before it than the last one.
    if (messages.length !== length) [length, turn, at] = [messages.length, turn + 1, 0];
    at += 1;
    return resultOf(turn, at - 1);
  };
  return Object.fromEntries(
    tools.map(({ function: { name, description, parameters } }) => [
      name,
      tool({ description, inputSchema: jsonSchema(parameters), execute }),
    ]),
  );
}

const steps = (list) =>
  list.map(({ text, toolCalls, finishReason }) => ({
    text: text || null,
    calls: toolCalls.map((call) => {
      assert.ok(!call.invalid, String(call.error));
      return { name: call.toolName, arguments: call.input };
    }),
    reason: finishReason.replace("-", "_"),
  }));

const request = (prompt) => ({
  model: proxy(model),
  prompt,
  tools: executed(),
  stopWhen: stepCountIs(10),
  maxRetries: 0,
});

for (const [name, wanted] of Object.entries(cases)) {
  test(`ai: ${name}`, async () => {
    for (const form of formsOf(name)) {
      const what = `${name} ${form}`;
      const prompt = `Do it: case:${name}:${form}`;
      const made = await generateText(request(prompt));
      const got = steps(made.steps);
      same(got.slice(0, wanted.length), wanted.map(expected), what);
      let deltas = 0;
      const stream = streamText({ ...request(prompt), onError: () => {} });
      for await (const part of stream.fullStream) {
        assert.notEqual(part.type, "error", `${what}: ${part.error}`);
        if (part.type === "tool-input-delta") deltas += 1;
      }
      same(steps(await stream.steps), got, `streamed ${what}`);
      if (name === "large") assert.ok(deltas > 1_000, `${deltas} deltas, ${what}`);
      const { calls } = wanted.at(-1);
      if (calls.length === 0) continue;
      assert.equal(got.length, wanted.length + 1, what);
      checkTold(made.text, wanted.length, calls.length, what);
    }
  });
}

test("ai: the choice of tools, with schemas of zod", async () => {
  const inputSchema = z.object({ city: z.string(), days: z.number().int().optional() });
  const tools = {
    get_weather: tool({ description: "The weather of a city.", inputSchema }),
    get_time: tool({ description: "The time here.", inputSchema: z.object({}) }),
  };
  const ask = async (model, prompt, toolChoice) => {
    const options = { model: proxy(model), prompt, tools, toolChoice, maxRetries: 0 };
    const got = steps((await generateText(options)).steps);
    assert.deepEqual(steps(await streamText(options).steps), got);
    assert.equal(got.length, 1);
    return got[0];
  };
  const called = (...calls) => ({ text: null, calls, reason: "tool_calls" });
  for (const model of models) {
    for (const choice of [undefined, "auto", "required"]) {
      assert.deepEqual(await ask(model, weather, choice), called(oslo));
    }
    const named = { type: "tool", toolName: "get_time" };
    const time = { name: "get_time", arguments: {} };
    assert.deepEqual(await ask(model, weather, named), called(time));
    const { calls, reason } = await ask(model, weather, "none");
    assert.deepEqual({ calls, reason }, { calls: [], reason: "stop" });
  }
});

test("ai: a stream that is cut in a call", async () => {
  for (const form of forms) {
    for (const after of [1, 16, 32, 48]) {
      const prompt = `case:unicode:${form} emulate:cut=${after}`;
      const errors = [];
      const stream = streamText({
        ...request(prompt),
        stopWhen: stepCountIs(1),
        onError: ({ error }) => errors.push(error),
      });
      const reasons = [];
      for await (const part of stream.fullStream) {
        if (part.type === "finish-step" || part.type === "finish") reasons.push(part.finishReason);
      }
      assert.equal(errors.length, 1, `${form} ${after}`);
      assert.ok(reasons.every((reason) => reason === "error"), `${form} ${after}: ${reasons}`);
      await assert.rejects(generateText(request(prompt)));
    }
  }
});
