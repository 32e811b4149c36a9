// Images, documents and URLs, as the official SDKs for Node send them. See test_files.py.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const { PROXY_BASE_URL: baseURL, PROXY_API_KEY: apiKey, FILES_ORIGIN, CLOSED_ORIGIN } = process.env;
const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ''), apiKey, maxRetries: 0 });
const model = 'qwen3-max';

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const NOTES = Buffer.from('The first line.\nThe second one.');

const told = (name, kind, data) =>
  `${name} is ${kind}, ${data.length} bytes, SHA-256 ${createHash('sha256').update(data).digest('hex')}`;
const dataUrl = (kind, data) => `data:${kind};base64,${data.toString('base64')}`;
const image = (url) => ({ type: 'image_url', image_url: { url } });

const ask = (part, options = {}) =>
  openai.chat.completions.create({
    model,
    messages: [{ role: 'user', content: [{ type: 'text', text: 'What is this?' }, part] }],
    ...options,
  });

test('an image is seen', async () => {
  const answer = await ask(image(dataUrl('image/png', PNG)));
  assert.ok(answer.choices[0].message.content.includes(told('image.png', 'image/png', PNG)));
});

test('an image is seen in a stream', async () => {
  let text = '';
  for await (const chunk of await ask(image(dataUrl('image/png', PNG)), { stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? '';
  }
  assert.ok(text.includes(told('image.png', 'image/png', PNG)), text);
});

test('a document is read', async () => {
  const file = { filename: 'notes.txt', file_data: dataUrl('text/plain', NOTES) };
  const answer = await ask({ type: 'file', file });
  assert.ok(answer.choices[0].message.content.includes(told('notes.txt', 'text/plain', NOTES)));
});

test('responses show images and files', async () => {
  for (const [part, line] of [
    [
      { type: 'input_image', image_url: dataUrl('image/png', PNG), detail: 'auto' },
      told('image.png', 'image/png', PNG),
    ],
    [
      { type: 'input_file', filename: 'notes.txt', file_data: dataUrl('text/plain', NOTES) },
      told('notes.txt', 'text/plain', NOTES),
    ],
  ]) {
    const content = [{ type: 'input_text', text: 'What is this?' }, part];
    const answer = await openai.responses.create({ model, input: [{ role: 'user', content }] });
    assert.ok(answer.output_text.includes(line), answer.output_text);
  }
});

test('messages show images and documents', async () => {
  const source = (kind, data) => ({
    type: 'base64',
    media_type: kind,
    data: data.toString('base64'),
  });
  const pdf = Buffer.from('%PDF-1.4\n%\xe2\xe3\n1 0 obj', 'latin1');
  for (const [block, line] of [
    [{ type: 'image', source: source('image/png', PNG) }, told('image.png', 'image/png', PNG)],
    [
      { type: 'document', title: 'r.pdf', source: source('application/pdf', pdf) },
      told('r.pdf', 'application/pdf', pdf),
    ],
  ]) {
    const content = [{ type: 'text', text: 'What is this?' }, block];
    const answer = await anthropic.messages.create({
      model,
      max_tokens: 1000,
      messages: [{ role: 'user', content }],
    });
    assert.ok(answer.content[0].text.includes(line), answer.content[0].text);
  }
});

test('what is allowed is fetched, and nothing that is not public', async () => {
  const answer = await ask(image(`${FILES_ORIGIN}/a.png`));
  assert.ok(answer.choices[0].message.content.includes('image.png is image/png, 16 bytes'));
  for (const url of [
    `${CLOSED_ORIGIN}/a.png`,
    'http://2130706433/a.png',
    'http://[::ffff:127.0.0.1]/a.png',
    'http://0177.0.0.1/a.png',
    `${FILES_ORIGIN}/to-closed`,
  ]) {
    await assert.rejects(ask(image(url)), (error) => {
      assert.equal(error.status, 400, url);
      assert.equal(error.code, 'url_not_fetched', url);
      assert.equal(error.param, 'messages[0].content[1]', url);
      return true;
    });
  }
});
