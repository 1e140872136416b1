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

/** Bring an answer into sight where it is not: on a phone it is below the form. */
export function reveal(box) {
  box.closest(".columns > *")?.classList.add("asked");
  const { top } = box.getBoundingClientRect();
  if (top >= 0 && top < innerHeight / 2) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  box.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

/** A word that tells what it means when it is pressed; `id` is the explanation in the page. */
export function term(word, id) {
  const made = element("button", { type: "button", class: "term", popovertarget: id, "aria-describedby": id }, word);
  made.addEventListener("click", () => requestAnimationFrame(() => placeBy(byId(id), made.getBoundingClientRect())));
  return made;
}

/** Put a box below a place in the window, or above it where there is no room. */
export function placeBy(box, at) {
  const own = box.getBoundingClientRect();
  const above = at.bottom + own.height + 6 > innerHeight;
  box.style.left = `${Math.max(4, Math.min(at.left, document.documentElement.clientWidth - own.width - 4))}px`;
  box.style.top = `${above ? Math.max(4, at.top - own.height - 4) : at.bottom + 4}px`;
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
