// Images and videos by the official OpenAI SDK for Node, against the proxy on the emulator.
//
// PROXY_BASE_URL and PROXY_API_KEY say where; tests/clients.rs sets them. The words `emulate:…` in
// a prompt tell the emulator how to fail.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI, { toFile } from "openai";

const baseURL = process.env.PROXY_BASE_URL;
const apiKey = process.env.PROXY_API_KEY;
const model = "qwen3-max";

// Without retries every error is seen once.
const client = new OpenAI({ apiKey, baseURL, maxRetries: 0, timeout: 120_000 });

const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==",
  "base64",
);
const picture = (name) => toFile(png, name, { type: "image/png" });
const isPng = (data) => Buffer.from(data, "base64").subarray(1, 4).toString() === "PNG";

test("images are generated", async () => {
  const images = await client.images.generate({ model, prompt: "A fox", n: 2 });
  assert.equal(images.data.length, 2);
  for (const image of images.data) assert.match(image.url, /\.png\?/);
  const itself = { model, prompt: "A fox", response_format: "b64_json" };
  assert.ok(isPng((await client.images.generate(itself)).data[0].b64_json));
});

test("images as a stream", async () => {
  const events = [];
  const asked = { model, prompt: "A fox", stream: true };
  for await (const event of await client.images.generate(asked)) events.push(event);
  assert.deepEqual(
    events.map((event) => event.type),
    ["image_generation.completed"],
  );
  assert.ok(isPng(events[0].b64_json));
});

test("an image is edited", async () => {
  const image = [await picture("a.png"), await picture("b.png")];
  const images = await client.images.edit({ model, prompt: "Now blue", image });
  assert.match(images.data[0].url, /\.png\?/);
});

test("refusals keep their meaning", async () => {
  for (const [prompt, kind, code] of [
    ["emulate:content_filter", OpenAI.BadRequestError, "content_filter"],
    ["emulate:rate_limited=2", OpenAI.RateLimitError, "insufficient_quota"],
  ]) {
    await assert.rejects(client.images.generate({ model, prompt }), (error) => {
      assert.equal(error.constructor, kind);
      assert.equal(error.code, code);
      return true;
    });
  }
});

test("a video is made", async () => {
  const input_reference = await picture("a.png");
  let video = await client.videos.create({ model, prompt: "A fox", seconds: "4", input_reference });
  const seen = [];
  while (["queued", "in_progress"].includes(video.status)) {
    seen.push(video.progress);
    video = await client.videos.retrieve(video.id);
  }
  assert.equal(video.status, "completed");
  assert.deepEqual(seen, seen.toSorted((a, b) => a - b));
  const content = await client.videos.downloadContent(video.id);
  assert.equal(Buffer.from(await content.arrayBuffer()).subarray(4, 8).toString(), "ftyp");
  assert.equal((await client.videos.delete(video.id)).deleted, true);
});

test("a video that fails", async () => {
  let video = await client.videos.create({ model, prompt: "emulate:task_failed" });
  while (["queued", "in_progress"].includes(video.status)) {
    video = await client.videos.retrieve(video.id);
  }
  assert.equal(video.status, "failed");
  assert.equal(video.error.code, "video_generation_failed");
});
