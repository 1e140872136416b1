// OpenAI's SDK: chats, streams, parsed answers, tools, Responses, decisions.

import OpenAI from "openai";
import { DecisionsToolRunner } from "openai/helpers/decisions-tool-runner";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { DECIDE, expect, FILM, JAPAN, MODEL, OSLO, SENTIMENT, TOOLS, tried, URL } from "./tried.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "none" });
const chat = { model: MODEL, messages: [{ role: "user", content: JAPAN }], temperature: 0 };
const Place = z.object({ city: z.string().max(20), country: z.string().max(20) });
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};

await tried("chat", async () => {
  const answer = await client.chat.completions.create(chat);
  expect(answer.choices[0].message.content, "Tokyo");
});

await tried("stream", async () => {
  let text = "";
  for await (const part of await client.chat.completions.create({ ...chat, stream: true }))
    text += part.choices[0]?.delta?.content ?? "";
  expect(text, "Tokyo");
});

await tried("parsed answer", async () => {
  const answer = await client.chat.completions.parse({
    ...chat,
    response_format: zodResponseFormat(Place, "place"),
  });
  if (typeof answer.choices[0].message.parsed.city !== "string") throw new Error("no city");
});

await tried("tool that is run", async () => {
  const runner = client.chat.completions.runTools({
    model: TOOLS,
    temperature: 0,
    messages: [{ role: "user", content: OSLO }],
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "Weather in a city",
          parameters,
          parse: JSON.parse,
          function: () => "12 degrees, light rain",
        },
      },
    ],
  });
  expect(await runner.finalContent(), "light rain");
});

await tried("response, streamed", async () => {
  const stream = client.responses.stream({ model: MODEL, input: JAPAN, temperature: 0 });
  expect((await stream.finalResponse()).output_text, "Tokyo");
});

await tried("decisions", async () => {
  const choices = [{ value: "negative" }, { value: "positive" }];
  const { answers } = await client.decisions.create({
    model: DECIDE,
    input: FILM,
    questions: [
      { type: "predicate", instructions: "The author praises it." },
      { type: "choice", name: "sentiment", instructions: SENTIMENT, choices },
    ],
  });
  if (!(answers[0].probability > 0.5)) throw new Error(JSON.stringify(answers));
  expect(answers[1].choice, "positive");
});

await tried("actions that are decided and run (DecisionsToolRunner)", async () => {
  let light = "off";
  const runner = new DecisionsToolRunner({
    observe: () => `The light is ${light}.`,
    candidates: () => {
      const on = { id: "on", description: "turn the light on", execute: () => void (light = "on") };
      const done = { id: "done", description: "finished", done: true };
      return light === "on" ? [done] : [on, done];
    },
    verify: () => light === "on",
  });
  const run = await runner.run(client, { model: DECIDE, input: "turn the light on" });
  expect(run.status, "verified");
  expect(run.completedCandidateIds, "on");
});
