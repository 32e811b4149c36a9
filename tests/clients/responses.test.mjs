// OpenAI's official SDK for Node against the Responses edge.
//
// PROXY_BASE_URL and PROXY_API_KEY say where; tests/responses_clients.rs sets them, and says what
// the words of a request do.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const origin = process.env.PROXY_BASE_URL;
const city = { city: 'Zürich "}{" <b>', days: 3 };
const patch = '*** Begin\n+é🌌"';
const reasoning = { summary: "auto" };

// Without retries every error is seen once.
const client = new OpenAI({
  apiKey: process.env.PROXY_API_KEY,
  baseURL: `${origin}/v1`,
  maxRetries: 0,
  timeout: 60_000,
});

const known = async (path) => (await fetch(origin + path)).json();

const tool = (name, properties) => ({
  type: "function",
  name,
  parameters: { type: "object", properties },
  strict: false,
});
const tools = [
  tool("get_weather", { city: { type: "string" }, days: { type: "integer" } }),
  { type: "namespace", name: "clock", description: "Clocks.", tools: [tool("get_time", {})] },
  { type: "custom", name: "patch", description: "Patches." },
];

function said({ output, status }) {
  const of = (type) => output.filter((item) => item.type === type);
  const texts = of("message").flatMap(({ content }) => content.map(({ text }) => text));
  const thinking = of("reasoning").flatMap(({ summary }) => summary.map(({ text }) => text));
  const calls = of("function_call").map(({ namespace, name, arguments: json }) => [
    namespace ? `${namespace}__${name}` : name,
    json.trim(),
  ]);
  return { text: texts.join(""), thinking: thinking.join(""), calls, status };
}

test("answers, streamed", async () => {
  const ids = new Set();
  for (const [number, answer] of (await known("/answers")).entries()) {
    const names = [];
    const texts = [];
    let last;
    const stream = client.responses.stream({ model: "m", input: `answer ${number}`, reasoning });
    for await (const event of stream) {
      names.push(event.type);
      if (event.type === "response.output_text.delta") texts.push(event.delta);
      last = event;
    }
    assert.equal(names[0], "response.created");
    assert.equal(names.at(-1), `response.${answer.status}`, `${number}`);
    assert.ok(!ids.has(last.response.id));
    ids.add(last.response.id);
    if (answer.status === "failed") {
      assert.ok(last.response.error.message);
      continue;
    }
    assert.equal(texts.join(""), answer.text);
    assert.deepEqual(said(last.response), answer, `${number}`);
    if (answer.status === "completed") {
      const final = await stream.finalResponse();
      assert.equal(final.output_text, answer.text);
    }
  }
});

test("answers, whole", async () => {
  for (const [number, answer] of (await known("/answers")).entries()) {
    const asked = client.responses.create({ model: "m", input: `answer ${number}`, reasoning });
    if (answer.status === "failed") {
      await assert.rejects(asked, OpenAI.APIError);
      continue;
    }
    assert.deepEqual(said(await asked), answer, `${number}`);
  }
});

for (const stream of [false, true]) {
  test(`tools of every kind go there and back, ${stream ? "streamed" : "whole"}`, async () => {
    const options = { model: "m", tools, reasoning, include: ["reasoning.encrypted_content"] };
    const question = { role: "user", content: "Weather?" };
    const asked = { ...options, input: [question] };
    const response = stream
      ? await client.responses.stream(asked).finalResponse()
      : await client.responses.create(asked);
    const kinds = ["reasoning", "message", "function_call", "function_call", "custom_tool_call"];
    assert.deepEqual(response.output.map(({ type }) => type), kinds);
    const [weather, clock, patched] = response.output.slice(2);
    assert.deepEqual([weather.name, JSON.parse(weather.arguments)], ["get_weather", city]);
    assert.deepEqual([clock.name, clock.namespace], ["get_time", "clock"]);
    assert.deepEqual([patched.name, patched.input], ["patch", patch]);
    assert.equal(response.usage.total_tokens, 30);

    const result = (type, { call_id }, output) => ({ type, call_id, output });
    const answer = await client.responses.create({
      ...options,
      input: [
        question,
        ...response.output,
        result("function_call_output", weather, "sun"),
        result("function_call_output", clock, "noon"),
        result("custom_tool_call_output", patched, "ok"),
      ],
    });
    const input = JSON.stringify({ input: patch });
    const calls = `get_weather${weather.arguments}, clock__get_time{}, patch${input}`;
    assert.equal(answer.output_text, `${calls}: ok and noon and sun; thought Both.`);
  });
}

test("errors", async () => {
  for (const { name, status } of await known("/errors")) {
    for (const stream of [false, true]) {
      await assert.rejects(
        client.responses.create({ model: "m", input: `error ${name}`, stream }),
        (error) => {
          assert.deepEqual([error.status, error.error.message], [status, "what went wrong"]);
          return true;
        },
      );
    }
  }
});

test("state is refused", async () => {
  await assert.rejects(
    client.responses.create({ model: "m", input: "x", previous_response_id: "resp_1" }),
    { status: 400, code: "previous_response_not_found" },
  );
});
