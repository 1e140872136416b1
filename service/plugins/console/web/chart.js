// Lines over time, drawn as SVG.

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, TOP] = [300, 90, 6];

function shape(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** A limit of the axis that is one, two or five times a power of ten. */
function rounded(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((limit) => limit >= most);
}

/** The path of a line; it has a gap where a value is null. */
function path(values, most, places) {
  let pen = "M";
  return values.map((value, place) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    const x = WIDTH * (1 - (values.length - 1 - place) / (places - 1));
    const point = `${pen}${x.toFixed(1)} ${(HEIGHT - (HEIGHT - TOP) * Math.min(1, value / most)).toFixed(1)}`;
    pen = "L";
    return point;
  }).join("");
}

/**
 * A chart of lines [name, values], the newest at the right, of `places` in all: `span` in words.
 * `show` writes a value; `objective` is drawn across; `most` fixes the axis.
 */
export function chart(title, lines, { show, places, span, objective = null, most = null }) {
  const largest = Math.max(0, ...lines.flatMap(([, values]) => values.filter((value) => value !== null)), objective ?? 0);
  const limit = most ?? rounded(largest || 1);
  const last = lines.map(([name, values]) => [name, values.at(-1) ?? null]);
  const said = last.map(([name, value]) => `${name} ${value === null ? "none" : show(value)}`).join(", ");
  const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 2}`, role: "img", "aria-label": `${title}, now: ${said}`, preserveAspectRatio: "none" });
  for (const share of [0, 0.5, 1]) {
    const y = HEIGHT - (HEIGHT - TOP) * share;
    picture.append(shape("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  if (objective !== null) {
    const y = HEIGHT - (HEIGHT - TOP) * (objective / limit);
    picture.append(shape("line", { class: "objective", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  lines.forEach(([, values], place) => picture.append(shape("path", { class: `line l${place}`, d: path(values, limit, places) })));
  const keys = last.map(([name, value], place) =>
    element("span", {}, element("i", { class: `key l${place}` }), `${name} `, element("b", {}, value === null ? "–" : show(value))));
  if (objective !== null) keys.push(element("span", {}, element("i", { class: "key objective" }), `objective ${show(objective)}`));
  return element("figure", { class: "card" },
    element("figcaption", {}, element("b", {}, title), element("small", {}, `0 to ${show(limit)}`)), picture,
    element("p", { class: "ends" }, element("small", {}, `${span} ago`), element("small", {}, "now")),
    element("p", { class: "keys" }, ...keys));
}
