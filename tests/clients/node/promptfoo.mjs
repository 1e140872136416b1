// promptfoo: an evaluation of chats, completions and tool calls, with a check by embeddings.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { ENCODER, expect, JAPAN, MODEL, OSLO, TOOLS, tried, URL } from "./tried.mjs";

const service = { apiBaseUrl: `${URL}/v1`, apiKey: "none" };
const quiet = { PROMPTFOO_DISABLE_TELEMETRY: "1", PROMPTFOO_DISABLE_UPDATE: "1" };

// Runs an evaluation of one question and returns its only result.
function evaluate(kind, model, question, assert, options) {
  const folder = mkdtempSync("evaluated-");
  const config = { temperature: 0, max_tokens: 32, ...service, ...options };
  const asked = {
    prompts: ["{{question}}"],
    providers: [{ id: `openai:${kind}:${model}`, config }],
    tests: [{ vars: { question }, assert: [assert] }],
  };
  writeFileSync(`${folder}/promptfooconfig.json`, JSON.stringify(asked));
  const flags = ["--no-cache", "--no-table", "--no-write", "--output", `${folder}/found.json`];
  const program = ["node_modules/.bin/promptfoo", "eval", "-c", `${folder}/promptfooconfig.json`];
  const done = spawnSync(process.execPath, [...program, ...flags], {
    encoding: "utf8",
    env: { ...process.env, ...quiet, PROMPTFOO_CONFIG_DIR: folder },
  });
  let found;
  try {
    found = JSON.parse(readFileSync(`${folder}/found.json`));
  } catch {
    throw new Error((done.stderr || done.stdout).slice(-300));
  }
  const [result] = found.results.results;
  if (!result.success) throw new Error(result.error ?? JSON.stringify(result.response));
  return result;
}

await tried("chat", () => {
  evaluate("chat", MODEL, JAPAN, { type: "contains", value: "Tokyo" });
});

await tried("completion", () => {
  evaluate("completion", MODEL, "The capital of Japan is", { type: "contains", value: "Tokyo" });
});

await tried("answer that is like another, by embeddings", () => {
  const provider = { id: `openai:embedding:${ENCODER}`, config: service };
  evaluate("chat", MODEL, JAPAN, { type: "similar", value: "It is Tokyo.", threshold: 0.5, provider });
});

await tried("tool call", () => {
  const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const weather = { name: "get_weather", description: "Weather in a city", parameters };
  const tools = [{ type: "function", function: weather }];
  const valid = { type: "is-valid-openai-tools-call" };
  expect(JSON.stringify(evaluate("chat", TOOLS, OSLO, valid, { tools }).response), "Oslo");
});
