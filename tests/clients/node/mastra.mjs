// Mastra: agents that answer, stream, call a tool and answer by a schema.

import { Agent } from "@mastra/core/agent";
import { createTool } from "@mastra/core/tools";
import { z } from "zod";
import { expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

const exact = { modelSettings: { temperature: 0 } };
const schema = z.object({ city: z.string().max(20), country: z.string().max(20) });
const getWeather = createTool({
  id: "get_weather",
  description: "Weather in a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async () => "12 degrees, light rain",
});
const agent = (name, options) =>
  new Agent({
    id: "guide",
    name: "Guide",
    instructions: "",
    model: { id: `service/${name}`, url: `${URL}/v1`, apiKey: "none" },
    ...options,
  });

await tried("agent", async () => {
  expect((await agent(MODEL).generate(JAPAN, exact)).text, "Tokyo");
});

await tried("agent, streamed", async () => {
  expect(await (await agent(MODEL).stream(JAPAN, exact)).text, "Tokyo");
});

await tried("agent with a tool", async () => {
  const answer = await agent(TOOLS, { tools: { get_weather: getWeather } }).generate(OSLO, exact);
  expect(answer.text, "light rain");
});

await tried("typed output", async () => {
  const answer = await agent(MODEL).generate(JAPAN, { ...exact, structuredOutput: { schema } });
  schema.parse(answer.object);
});
