// Anthropic's SDK: messages, streams, tools.

import Anthropic from "@anthropic-ai/sdk";
import { expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: "none" });
const message = {
  model: MODEL,
  max_tokens: 32,
  temperature: 0,
  messages: [{ role: "user", content: JAPAN }],
};

await tried("message", async () => {
  expect((await client.messages.create(message)).content[0].text, "Tokyo");
});

await tried("stream", async () => {
  expect(await client.messages.stream(message).finalText(), "Tokyo");
});

await tried("tool, streamed", async () => {
  const input_schema = {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  };
  const said = await client.messages
    .stream({
      ...message,
      model: TOOLS,
      max_tokens: 64,
      messages: [{ role: "user", content: OSLO }],
      tools: [{ name: "get_weather", description: "Weather in a city", input_schema }],
    })
    .finalMessage();
  const call = said.content.find((block) => block.type === "tool_use");
  expect(call?.input?.city, "Oslo");
});
