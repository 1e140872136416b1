// The button that chooses the system's theme, light or dark.

import { byId } from "./dom.js";

const THEMES = ["light dark", "light", "dark"];

byId("theme").addEventListener("click", () => {
  THEMES.push(THEMES.shift());
  document.documentElement.style.colorScheme = THEMES[0];
  byId("theme-name").textContent = THEMES[0].includes(" ") ? "system" : THEMES[0];
});
