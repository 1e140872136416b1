// OpenAI's agents at their default, which are Responses, and by chats.

import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import { expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

setTracingDisabled(true);
const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "none" });
const getWeather = tool({
  name: "get_weather",
  description: "Weather in a city",
  parameters: z.object({ city: z.string() }),
  execute: async () => "12 degrees, light rain",
});
const weather = (Model) =>
  new Agent({
    name: "Weather",
    model: new Model(client, TOOLS),
    modelSettings: { temperature: 0 },
    tools: [getWeather],
  });

await tried("agent with a tool", async () => {
  expect((await run(weather(OpenAIResponsesModel), OSLO)).finalOutput, "light rain");
});

await tried("agent with a tool, streamed", async () => {
  const result = await run(weather(OpenAIResponsesModel), OSLO, { stream: true });
  await result.completed;
  expect(result.finalOutput, "light rain");
});

await tried("agent with a tool, by chats", async () => {
  expect((await run(weather(OpenAIChatCompletionsModel), OSLO)).finalOutput, "light rain");
});

await tried("typed output", async () => {
  const outputType = z.object({ city: z.string().max(20), country: z.string().max(20) });
  const model = new OpenAIResponsesModel(client, MODEL);
  const agent = new Agent({ name: "Guide", model, outputType, modelSettings: { temperature: 0 } });
  outputType.parse((await run(agent, JAPAN)).finalOutput);
});
