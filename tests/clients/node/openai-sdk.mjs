// OpenAI's SDK: chats, streams, parsed answers, tools, Responses.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

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
