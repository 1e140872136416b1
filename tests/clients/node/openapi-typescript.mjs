// A client in TypeScript by openapi-typescript: its types compile with a call, which is answered.

import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { expect, JAPAN, MODEL, tried, URL } from "./tried.mjs";

const folder = mkdtempSync("generated-");
const run = (program, ...options) =>
  execFileSync("node_modules/.bin/" + program, options, { encoding: "utf8" });

await tried("generated and compiled", async () => {
  run("openapi-typescript", `${URL}/openapi.json`, "--output", `${folder}/service.ts`);
  writeFileSync(
    `${folder}/call.ts`,
    `import createClient from "openapi-fetch";
import type { components, paths } from "./service.js";
const client = createClient<paths>({ baseUrl: ${JSON.stringify(URL)} });
const { data } = await client.POST("/v1/chat/completions", {
  body: {
    model: ${JSON.stringify(MODEL)},
    messages: [{ role: "user", content: ${JSON.stringify(JAPAN)} }],
    temperature: 0,
  },
});
// Its other form is a stream.
const chat = data as components["schemas"]["ChatCompletion"] | undefined;
export const text: string | null | undefined = chat?.choices[0]?.message.content;
`,
  );
  run(
    ...["tsc", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"],
    `${folder}/call.ts`,
  );
});

await tried("a typed chat", async () => {
  expect((await import(`./${folder}/call.js`)).text, "Tokyo");
});
