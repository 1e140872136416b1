// The service under trial, and the lines that say what a client could do with it.

export const {
  CLIENTS_URL: URL,
  CLIENTS_MODEL: MODEL,
  CLIENTS_TOOLS: TOOLS,
  CLIENTS_ENCODER: ENCODER,
} = process.env;
export const JAPAN = "What is the name of the capital city of Japan?";
export const OSLO = "Is it raining in Oslo?";

// Runs a check and prints a line of JSON: what it tried, and its error.
export async function tried(what, check) {
  let failure = null;
  try {
    await check();
  } catch (error) {
    failure = `${error.name}: ${error.message}`;
  }
  console.log(JSON.stringify({ what, failure }));
}

export function expect(found, wanted) {
  if (!String(found).includes(wanted)) throw new Error(`no '${wanted}' in '${found}'`);
}
