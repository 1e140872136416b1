// The AI SDK by Responses, which are its provider's default, and by an OpenAI-compatible provider.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const responses = createOpenAI({ baseURL: `${URL}/v1`, apiKey: "none" });
const compatible = createOpenAICompatible({
  name: "service",
  baseURL: `${URL}/v1`,
  supportsStructuredOutputs: true,
});
const tools = {
  get_weather: tool({
    description: "Weather in a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async () => "12 degrees, light rain",
  }),
};
const schema = z.object({ city: z.string().max(20), country: z.string().max(20) });

for (const [name, provider] of [
  ["", responses],
  [" (openai-compatible)", compatible],
]) {
  await tried(`text${name}`, async () => {
    const answer = await generateText({ model: provider(MODEL), prompt: JAPAN, temperature: 0 });
    expect(answer.text, "Tokyo");
  });

  await tried(`stream${name}`, async () => {
    const answer = streamText({ model: provider(MODEL), prompt: JAPAN, temperature: 0 });
    expect(await answer.text, "Tokyo");
  });

  await tried(`second turn${name}`, async () => {
    const providerOptions = { openai: { store: false } }; // by default it refers to kept answers
    const model = provider(MODEL);
    const messages = [{ role: "user", content: JAPAN }];
    const first = await generateText({ model, messages, providerOptions, temperature: 0 });
    messages.push(...first.response.messages, { role: "user", content: JAPAN });
    const second = await generateText({ model, messages, providerOptions, temperature: 0 });
    expect(second.text, "Tokyo");
  });

  await tried(`object${name}`, async () => {
    const asked = { model: provider(MODEL), prompt: JAPAN, schema, temperature: 0 };
    if (typeof (await generateObject(asked)).object.city !== "string") throw new Error("no city");
  });

  await tried(`tool that is run${name}`, async () => {
    const answer = await generateText({
      model: provider(TOOLS),
      prompt: OSLO,
      tools,
      stopWhen: stepCountIs(3),
      temperature: 0,
    });
    expect(answer.text, "light rain");
  });
}
