// Texts to try: an adapter's own where the service shows them, else some that fit any labels.

const FOR_ANY_LABELS = ["The parcel came two weeks late, and nobody answers.", "Thank you, everything works again.", "Where can I change my address?"];

const known = new Map();

/** Keep the adapters' examples, which are fields of requests. */
export function keepExamples(adapters) {
  known.clear();
  for (const { name, examples } of adapters) known.set(name, examples ?? []);
}

const examplesOf = (model) => known.get(model.split("@")[0]) ?? [];

/** Texts for a classifier that brings its labels. */
export function textsFor(model) {
  const found = examplesOf(model).map((each) => each.input).filter(Boolean);
  return (found.length ? found : FOR_ANY_LABELS).map((text) => text.replace(/\s+/g, " "));
}

/** A question for a model: its mode, system message and text; undefined where none is known. */
export function questionFor(model) {
  const [first] = examplesOf(model).filter((each) => each.prompt || each.messages);
  if (!first) return undefined;
  if (first.prompt) return { mode: "prompt", system: "", text: first.prompt };
  const said = (role) => first.messages.filter((each) => each.role === role).map((each) => each.content).join("\n");
  return { mode: "chat", system: said("system"), text: said("user") };
}

/** True while a field holds what was suggested last, or its first text. */
export const untouched = (field) => field.value === (field.dataset.suggested ?? field.defaultValue);

/** Put a text into a field, unless a person wrote into it; without a text, its first one. */
export function suggest(field, text = field.defaultValue) {
  if (untouched(field)) field.value = field.dataset.suggested = text;
}
