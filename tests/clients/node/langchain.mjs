// LangChain for Node: chats, streams, structured output, an agent with a tool, embeddings.

import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { createAgent, tool } from "langchain";
import { z } from "zod";
import { ENCODER, expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

const service = { apiKey: "none", configuration: { baseURL: `${URL}/v1` } };
const model = (name, options) => new ChatOpenAI({ model: name, temperature: 0, ...service, ...options });
const Place = z.object({ city: z.string().max(20), country: z.string().max(20) });

await tried("chat", async () => {
  expect((await model(MODEL).invoke(JAPAN)).text, "Tokyo");
});

await tried("stream", async () => {
  let text = "";
  for await (const part of await model(MODEL).stream(JAPAN)) text += part.text;
  expect(text, "Tokyo");
});

await tried("chat, by Responses", async () => {
  expect((await model(MODEL, { useResponsesApi: true }).invoke(JAPAN)).text, "Tokyo");
});

await tried("structured output", async () => {
  const found = await model(MODEL).withStructuredOutput(Place).invoke(JAPAN);
  Place.parse(found);
});

await tried("agent with a tool", async () => {
  const getWeather = tool(() => "12 degrees, light rain", {
    name: "get_weather",
    description: "Weather in a city",
    schema: z.object({ city: z.string() }),
  });
  const agent = createAgent({ model: model(TOOLS), tools: [getWeather] });
  const answer = await agent.invoke({ messages: [{ role: "user", content: OSLO }] });
  expect(answer.messages.at(-1).text, "light rain");
});

await tried("embeddings", async () => {
  const embeddings = new OpenAIEmbeddings({ model: ENCODER, ...service });
  const [vector] = await embeddings.embedDocuments(["The cat sits outside."]);
  if (vector.length !== 384) throw new Error(`${vector.length} values`);
});
