// Requests to the service. The key lives in this module's memory and nowhere else.

let key = "";
export const limits = {};

export const setKey = (value) => { key = value; };
export const hasKey = () => key !== "";

/** The address of a route, also behind a proxy that adds a prefix. */
export const address = (path) => new URL(path, document.baseURI).href;

/** A refusal of the service, in its own words. */
export class Refusal extends Error {
  constructor(status, error, retryAfter) {
    const wait = retryAfter ? ` Try again in ${retryAfter} s.` : "";
    super(`${error?.message || `The service answered with ${status}.`}${wait}`);
    this.status = status;
  }
}

/** GET a path, or POST `body` to it; throws a Refusal for every status but success. */
export async function request(path, { body, signal, accept } = {}) {
  const headers = {};
  if (key) headers.authorization = `Bearer ${key}`;
  if (accept) headers.accept = accept;
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(address(path), {
    method: body ? "POST" : "GET",
    body: body && JSON.stringify(body),
    headers,
    signal,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  });
  for (const [name, value] of answer.headers) {
    if (name.startsWith("x-ratelimit-")) limits[name.slice(12)] = value;
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, problem.error, answer.headers.get("retry-after"));
}

export const json = async (path, options) => (await request(path, options)).json();

/** The parts of an answer between a separator, as they come. */
async function* parts(answer, separator) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const found = (held + value).split(separator);
      held = found.pop();
      yield* found;
    }
    if (held.trim()) yield held;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The events of a stream, parsed; throws a Refusal for an error and for an end before [DONE]. */
export async function* events(answer) {
  for await (const part of parts(answer, "\n\n")) {
    if (!part.startsWith("data: ")) continue;
    const data = part.slice(6);
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new Refusal(answer.status, event.error);
    yield event;
  }
  throw new Refusal(answer.status, { message: "The stream ended before its answer was complete." });
}

/** The lines of an answer in NDJSON, parsed. */
export async function* rows(answer) {
  for await (const part of parts(answer, "\n")) if (part.trim()) yield JSON.parse(part);
}
