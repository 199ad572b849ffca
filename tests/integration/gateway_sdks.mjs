// The official Node clients against the gateway: node gateway_sdks.mjs URL KEY, with the folder of
// their packages in NODE_MODULES. Prints the number of checks; any that fails ends it with 1.
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.NODE_MODULES}/index.js`);
const OpenAI = require('openai').default ?? require('openai');
const Anthropic = require('@anthropic-ai/sdk').default ?? require('@anthropic-ai/sdk');

const [url, apiKey] = process.argv.slice(2);
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
const messages = [{ role: 'user', content: 'hello' }];
const parameters = { type: 'object', properties: { city: { type: 'string' } } };
const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
let checks = 0;

function check(holds, what) {
  checks += 1;
  if (!holds) {
    console.error('FAILED', what);
    process.exitCode = 1;
  }
}

async function raises(call, kind, what) {
  try {
    await call();
    check(false, what);
  } catch (error) {
    check(error instanceof kind, what);
  }
}

for (const model of ['on-openai', 'on-anthropic']) {
  const chat = (more) => openai.chat.completions.create({ model, messages, ...more });
  const said = (await chat({})).choices[0].message.content;
  check(said === 'You said: hello', 'chat');
  let text = '';
  for await (const chunk of await chat({ stream: true })) text += chunk.choices[0]?.delta?.content ?? '';
  check(text === 'You said: hello', 'chat stream');
  const called = (await chat({ tools, tool_choice: 'required' })).choices[0].message.tool_calls[0];
  check(JSON.parse(called.function.arguments).city === 'Paris', 'tools');
  const streamed = await openai.chat.completions
    .stream({ model, messages, tools, tool_choice: 'required' })
    .finalChatCompletion();
  const pieces = streamed.choices[0].message.tool_calls[0].function.arguments;
  check(JSON.parse(pieces).degrees === 21, 'tool stream');
  const form = { type: 'json_schema', json_schema: { name: 'place', schema: parameters } };
  const filled = (await chat({ response_format: form })).choices[0].message.content;
  check(JSON.parse(filled).city === 'Paris', 'structured output');
  const response = await openai.responses.create({ model, input: 'hello' });
  check(response.output_text === 'You said: hello', 'responses');
  const final = await openai.responses.stream({ model, input: 'hello' }).finalResponse();
  check(final.output_text === 'You said: hello', 'responses stream');
  const asked = { model, max_tokens: 9, messages };
  check((await anthropic.messages.create(asked)).content[0].text === 'You said: hello', 'messages');
  const message = await anthropic.messages.stream(asked).finalMessage();
  check(message.stop_reason === 'end_turn', 'messages stream');
  const use = { tools: [{ name: 'weather', input_schema: parameters }], tool_choice: { type: 'any' } };
  const used = await anthropic.messages.stream({ ...asked, ...use }).finalMessage();
  check(used.content[0].input.city === 'Paris', 'messages tool stream');
  const counted = await anthropic.messages.countTokens({ model, messages });
  check(counted.input_tokens > 0, 'count tokens');
}
const embedded = await openai.embeddings.create({ model: 'on-openai', input: ['a', 'b'] });
check(embedded.data[1].embedding[0] === 1, 'embeddings');
check((await openai.models.list()).data.length === 2, 'models of OpenAI');
check((await anthropic.models.list()).data.length === 2, 'models of Anthropic');
const unknown = { model: 'none', messages };
await raises(() => openai.chat.completions.create(unknown), OpenAI.NotFoundError, 'unknown model');
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'bad', maxRetries: 0 });
await raises(() => stranger.models.list(), OpenAI.AuthenticationError, 'wrong key');
const nothing = { model: 'on-openai', max_tokens: 0, messages };
await raises(() => anthropic.messages.create(nothing), Anthropic.BadRequestError, 'no tokens');
console.log(checks);
