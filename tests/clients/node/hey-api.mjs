// A client in TypeScript by Hey API: it compiles with a call, which is answered.

import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { expect, JAPAN, MODEL, tried, URL } from "./tried.mjs";

const folder = mkdtempSync("generated-");
const run = (program, ...options) =>
  execFileSync("node_modules/.bin/" + program, options, { encoding: "utf8", stdio: "pipe" });

await tried("generated and compiled", async () => {
  run("openapi-ts", "--input", `${URL}/openapi.json`, "--output", `${folder}/service`);
  writeFileSync(
    `${folder}/call.ts`,
    `import { chatCompletionsV1ChatCompletionsPost as chat } from "./service";
const { data } = await chat({
  baseUrl: ${JSON.stringify(URL)},
  body: {
    model: ${JSON.stringify(MODEL)},
    messages: [{ role: "user", content: ${JSON.stringify(JAPAN)} }],
    temperature: 0,
  },
});
export const text: string | null | undefined = data?.choices[0]?.message.content;
`,
  );
  run(
    ...["tsc", "--strict", "--noEmit", "--target", "es2022", "--module", "esnext"],
    ...["--moduleResolution", "bundler", "--skipLibCheck", `${folder}/call.ts`],
  );
  run(
    ...["esbuild", "--bundle", "--format=esm", "--platform=node"],
    ...[`--outfile=${folder}/call.mjs`, `${folder}/call.ts`],
  );
});

await tried("a typed chat", async () => {
  expect((await import(`./${folder}/call.mjs`)).text, "Tokyo");
});
