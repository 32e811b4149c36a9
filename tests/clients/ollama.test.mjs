// Ollama's own client for JavaScript against the proxy on the emulator, and against the edge alone.
//
// PROXY_BASE_URL, OTHER_BASE_URL, ANSWERS_BASE_URL and PROXY_API_KEY say where;
// tests/ollama_clients.rs sets them, and says what answers there.

import assert from "node:assert/strict";
import test from "node:test";
import { Ollama } from "ollama";

const model = "qwen3-max";
const key = { Authorization: `Bearer ${process.env.PROXY_API_KEY}` };
const web = new Ollama({ host: process.env.PROXY_BASE_URL, headers: key });
const other = new Ollama({ host: process.env.OTHER_BASE_URL });
const answers = new Ollama({ host: process.env.ANSWERS_BASE_URL });

const user = (content) => ({ role: "user", content });

const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather of a city.",
      parameters: {
        type: "object",
        properties: { city: { type: "string" }, days: { type: "integer" } },
        required: ["city"],
      },
    },
  },
];

// A streamed answer as one message, with its last part.
async function joined(parts) {
  const message = { role: "assistant", content: "", thinking: "", tool_calls: [] };
  let last;
  for await (const part of parts) {
    message.content += part.message.content;
    message.thinking += part.message.thinking ?? "";
    message.tool_calls.push(...(part.message.tool_calls ?? []));
    last = part;
  }
  return { message, last };
}

const refused = (ask, status, says) =>
  assert.rejects(ask, (error) => {
    assert.equal(error.status_code, status);
    assert.match(error.error, says);
    return true;
  });

test("models are listed, shown and pulled", async () => {
  const { models } = await web.list();
  assert.ok(models.some(({ name }) => name === model));
  const shown = await web.show({ model: `${model}:latest` });
  assert.ok(shown.capabilities.includes("tools"));
  assert.ok(shown.model_info["qwen.context_length"] > 100_000);
  assert.deepEqual((await web.ps()).models, []);
  const states = [];
  for await (const { status } of await web.pull({ model, stream: true })) states.push(status);
  assert.equal(states.at(-1), "success");
});

test("an answer is the same whole and as a stream", async () => {
  const messages = [user("emulate:say=One two — 千问 🌍 three.")];
  const whole = await web.chat({ model, messages });
  assert.equal(whole.message.content, "One two — 千问 🌍 three.");
  assert.equal(whole.done_reason, "stop");
  const { message, last } = await joined(await web.chat({ model, messages, stream: true }));
  assert.equal(message.content, whole.message.content);
  assert.equal(last.eval_count, whole.eval_count);
});

test("a call goes there and back", async () => {
  for (const [client, name] of [[web, model], [other, "qwen3:32b"]]) {
    const messages = [user('Use get_weather {"city":"Zürich \\"}{ <b>","days":3}')];
    const parts = await client.chat({ model: name, messages, tools, think: false, stream: true });
    const { message } = await joined(parts);
    const [call] = message.tool_calls;
    assert.equal(message.tool_calls.length, 1);
    assert.equal(call.function.name, "get_weather");
    assert.deepEqual(call.function.arguments, { city: 'Zürich "}{ <b>', days: 3 });
    messages.push(message, { role: "tool", tool_name: "get_weather", content: "sun in Zürich" });
    const answer = await client.chat({ model: name, messages, tools, think: false });
    assert.match(answer.message.content, /sun in Zürich/);
  }
});

test("prompts are answered and texts embedded", async () => {
  const prompt = await web.generate({ model, prompt: "emulate:say=Once upon a time" });
  assert.equal(prompt.response, "Once upon a time");
  const { embeddings } = await other.embed({ model: "qwen3-embedding:0.6b", input: ["a", "b"] });
  assert.equal(embeddings.length, 2);
});

test("errors have a status and words", async () => {
  const chat = (words) => web.chat({ model, messages: [user(words)] });
  await refused(() => chat("emulate:rate_limited"), 429, /./);
  await refused(() => chat("emulate:challenge_html"), 503, /./);
  await refused(() => web.show({ model: "none" }), 404, /model 'none' not found/);
  await refused(() => web.delete({ model }), 501, /the upstream's/);
  await refused(() => web.embed({ model, input: "a" }), 501, /no embeddings/);
  await refused(() => new Ollama({ host: process.env.PROXY_BASE_URL }).list(), 401, /key/);
  const messages = [user("emulate:cut=3")];
  await assert.rejects(async () => joined(await web.chat({ model, messages, stream: true })));
});

test("every answer is read", async () => {
  const known = await (await fetch(`${process.env.ANSWERS_BASE_URL}/answers`)).json();
  for (const [number, answer] of known.entries()) {
    const asked = { model: "m", messages: [user(`answer ${number}`)] };
    if (answer.reason === "error") {
      await assert.rejects(() => answers.chat(asked), /what went wrong/);
      const streamed = async () => joined(await answers.chat({ ...asked, stream: true }));
      await assert.rejects(streamed, /what went wrong/);
      continue;
    }
    const { message, last } = await joined(await answers.chat({ ...asked, stream: true }));
    const whole = await answers.chat(asked);
    for (const [said, end] of [[message, last], [whole.message, whole]]) {
      const calls = (said.tool_calls ?? []).map((call) => call.function);
      assert.deepEqual(
        {
          text: said.content,
          thinking: said.thinking ?? "",
          reason: end.done_reason,
          tokens: end.eval_count ?? null,
          calls: calls.map(({ name, arguments: given }) => [name, given]),
        },
        answer,
        `answer ${number}`,
      );
    }
  }
});
