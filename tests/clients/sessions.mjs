// As sessions.py, through the official OpenAI SDK for Node, streamed.
import assert from "node:assert";
import OpenAI from "openai";

const tools = [{ type: "function", function: { name: "get_time", parameters: { type: "object", properties: {} } } }];
const messages = [{ role: "system", content: "Be brief." }];
for (const [turn, baseURL] of JSON.parse(process.env.TURN_URLS).entries()) {
  const client = new OpenAI({ apiKey: process.env.PROXY_API_KEY, baseURL, maxRetries: 0, timeout: 60_000 });
  messages.push({ role: "user", content: `<turn ${turn}>` });
  let message;
  do {
    const stream = client.chat.completions.stream({ model: "qwen3-coder-plus", messages, tools });
    ({ message } = (await stream.finalChatCompletion()).choices[0]);
    messages.push(message);
    for (const call of message.tool_calls ?? []) {
      messages.push({ role: "tool", tool_call_id: call.id, content: `<result ${turn}>` });
    }
  } while (message.tool_calls?.length);
  assert.equal(message.content, `answer ${turn}`);
}
