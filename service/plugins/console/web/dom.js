// Elements of the page. Text from the service becomes text nodes only, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A table with a caption; cells are strings or elements. */
export function table(caption, heads, rows) {
  const line = (cells, name) =>
    element("tr", {}, ...cells.map((cell) => element(name, name === "th" ? { scope: "col" } : {}, cell)));
  return element("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": caption },
    element("table", {},
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, line(heads, "th")),
      element("tbody", {}, ...rows.map((cells) => line(cells, "td")))));
}

/** Show a message in an alert, or hide it. */
export function tell(alert, message) {
  alert.textContent = message || "";
  alert.hidden = !message;
}

/** Have screen readers say a sentence. */
export function say(text) {
  byId("said").textContent = text;
}

/** Replace the options of a select; `groups` maps a group's name to [value, text, disabled]. */
export function fill(select, groups) {
  const before = select.value;
  select.replaceChildren();
  for (const [label, options] of Object.entries(groups)) {
    const made = options.map(([value, text, disabled]) => element("option", { value, disabled }, text ?? value));
    if (!made.length) continue;
    select.append(...(label ? [element("optgroup", { label }, ...made)] : made));
  }
  if ([...select.options].some((option) => option.value === before)) select.value = before;
}

export const lines = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);

export const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 || share === 0 ? 0 : 1)} %`;

const numbers = new Intl.NumberFormat("en");
export const count = (value) => numbers.format(value);

/** Have the browser save a file. */
export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A bar of a share; the number beside it says the same. */
export function meter(share) {
  const bar = element("span", { class: "meter", "aria-hidden": "true" }, element("i"));
  bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return bar;
}

/** A bar and a sentence of a batch's lines. */
export function progress({ total, completed, failed }) {
  const done = `${count(completed)} of ${count(total)}${failed ? `, ${count(failed)} failed` : ""}`;
  return [meter(total ? (completed + failed) / total : 0), done];
}

export const moment = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString() : "");

/** Options for adapters: each by its name, and by each version's where a release has two. */
export function adapterOptions(adapters) {
  return adapters.flatMap(({ name, version, versions, state }) => [
    [name, `${name} (${version}, ${state})`],
    ...(versions?.length > 1 ? versions.map((each) => [`${name}@${each}`]) : []),
  ]);
}
