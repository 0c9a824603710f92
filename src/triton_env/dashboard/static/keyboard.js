// What keys do. Views mark what a key presses or focuses with `data-shortcut`.

import { openDialog } from "./dialog.js";
import { toOverview } from "./route.js";
import { drawNow } from "./store.js";
import { h } from "./vdom.js";

const SHORTCUTS = [
  ["?", "Show these shortcuts"],
  ["g", "Go to all environments"],
  ["j", "Next environment or service"],
  ["k", "Previous environment or service"],
  ["1 \u2026 9", "Open a tab"],
  ["/", "Filter, or type an argument"],
  ["f", "Follow the log, or stop following"],
  ["w", "Wrap long lines"],
  ["t", "Change the theme"],
  ["Esc", "Close, or leave a field"],
];

export function listenToKeys(changeTheme) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (pressed(event.key, changeTheme)) event.preventDefault();
  });
  document.getElementById("help").onclick = showShortcuts;
}

function pressed(key, changeTheme) {
  drawNow();
  const marked = document.querySelector(`[data-shortcut="${CSS.escape(key)}"]`);
  if (marked) return marked.matches("input") ? (marked.focus(), marked.select?.(), true) : (marked.click(), true);
  if (key === "?") return showShortcuts(), true;
  if (key === "t") return changeTheme(), true;
  if (key === "g") return (location.hash = toOverview()), true;
  if (key === "j" || key === "k") return step(key === "j" ? 1 : -1), true;
  if (/^[1-9]$/.test(key)) return document.querySelectorAll(".tabs a")[Number(key) - 1]?.click(), true;
  return false;
}

function step(by) {
  const links = [...document.querySelectorAll("#nav a")];
  const current = links.findIndex((link) => link.getAttribute("aria-current") === "page");
  links[Math.min(links.length - 1, Math.max(0, current + by))]?.click();
}

function showShortcuts() {
  openDialog("Keyboard shortcuts", () => h("dl", { class: "shortcuts" }, SHORTCUTS.map(([key, words]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, words)))));
}
