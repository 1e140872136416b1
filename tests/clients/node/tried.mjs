// The service under trial, and the lines that say what a client could do with it.

export const {
  CLIENTS_URL: URL,
  CLIENTS_MODEL: MODEL,
  CLIENTS_TOOLS: TOOLS,
  CLIENTS_DECIDE: DECIDE,
  CLIENTS_ENCODER: ENCODER,
} = process.env;
export const JAPAN = "What is the name of the capital city of Japan?";
export const OSLO = "Is it raining in Oslo?";
export const FILM = "A warm, funny film that I would gladly watch again.";
export const SENTIMENT = "What is the sentiment of the text?";

// Runs a check and prints a line of JSON: what it tried, and its error. `because` says whose fault
// it is that the check fails with an error that holds the text `fails`.
export async function tried(what, check, fails = "", because = "") {
  let failure = null;
  try {
    await check();
  } catch (error) {
    failure = `${error.name}: ${error.message}`;
  }
  const line = { what, failure };
  if (because && failure === null) line.failure = `works now, and should have failed: ${because}`;
  else if (because && failure.includes(fails)) line.because = because;
  console.log(JSON.stringify(line));
}

export function expect(found, wanted) {
  if (!String(found).includes(wanted)) throw new Error(`no '${wanted}' in '${found}'`);
}
