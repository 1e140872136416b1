// promptfoo: an evaluation of chats, completions, tool calls and decisions, with a check by embeddings.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { DECIDE, ENCODER, expect, FILM, JAPAN, MODEL, OSLO, SENTIMENT, TOOLS, tried, URL } from "./tried.mjs";

const service = { apiBaseUrl: `${URL}/v1`, apiKey: "none" };
const quiet = { PROMPTFOO_DISABLE_TELEMETRY: "1", PROMPTFOO_DISABLE_UPDATE: "1" };

function openai(kind, model, options) {
  const config = { temperature: 0, max_tokens: 32, ...service, ...options };
  return { id: `openai:${kind}:${model}`, config };
}

// Runs an evaluation of one question and returns its only result.
function evaluate(provider, question, assert) {
  const folder = mkdtempSync("evaluated-");
  const asked = {
    prompts: ["{{question}}"],
    providers: [provider],
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
  evaluate(openai("chat", MODEL), JAPAN, { type: "contains", value: "Tokyo" });
});

await tried("completion", () => {
  const asked = "The capital of Japan is";
  evaluate(openai("completion", MODEL), asked, { type: "contains", value: "Tokyo" });
});

await tried("answer that is like another, by embeddings", () => {
  const provider = { id: `openai:embedding:${ENCODER}`, config: service };
  const similar = { type: "similar", value: "It is Tokyo.", threshold: 0.5, provider };
  evaluate(openai("chat", MODEL), JAPAN, similar);
});

await tried("tool call", () => {
  const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const weather = { name: "get_weather", description: "Weather in a city", parameters };
  const tools = [{ type: "function", function: weather }];
  const valid = { type: "is-valid-openai-tools-call" };
  const found = evaluate(openai("chat", TOOLS, { tools }), OSLO, valid);
  expect(JSON.stringify(found.response), "Oslo");
});

const choices = [{ value: "negative" }, { value: "positive" }];
const questions = [{ type: "choice", name: "sentiment", instructions: SENTIMENT, choices }];

await tried(
  "decision (openai:decisions)",
  () => {
    const value = "JSON.parse(output).answers[0].choice === 'positive'";
    const positive = { type: "javascript", value };
    evaluate({ id: `openai:decisions:${DECIDE}`, config: { ...service, questions } }, FILM, positive);
  },
  "'decisions' is not served here",
  "this release asks a chat of the model `decisions`; the provider is in promptfoo's source only",
);

await tried("decision (http)", () => {
  const config = {
    url: `${URL}/v1/decisions`,
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: { model: DECIDE, input: "{{prompt}}", questions },
    transformResponse: "json.answers[0].choice",
  };
  evaluate({ id: "http", config }, FILM, { type: "equals", value: "positive" });
});
