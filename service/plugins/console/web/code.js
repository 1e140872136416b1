// A request as code that others can run. The key is named, never written.

import { address, hasKey } from "./api.js";

const VARIABLE = "LLM_SERVICE_KEY";
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The request as a curl command. */
export function curl(path, body) {
  const key = hasKey() ? ` \\\n  -H "Authorization: Bearer $${VARIABLE}"` : "";
  return `curl -sSN ${quoted(address(path))}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}\n`;
}

/** The request with OpenAI's Python client. */
export function python(path, body) {
  const chat = path.endsWith("chat/completions");
  const call = chat ? "chat.completions" : "completions";
  const text = chat ? "event.choices[0].delta.content" : "event.choices[0].text";
  const fields = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value)},\n`).join("");
  const key = hasKey() ? `os.environ["${VARIABLE}"]` : '"none"';
  return `${hasKey() ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${literal(address("v1"))}, api_key=${key})
stream = client.${call}.create(
${fields})
for event in stream:
    if event.choices:
        print(${text} or "", end="", flush=True)
print()
`;
}

/** A JSON value as Python writes it. */
function literal(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${literal(name)}: ${literal(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}
