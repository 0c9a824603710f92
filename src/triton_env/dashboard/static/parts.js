// Small pieces that several views are made of.

import { inOneLine, lastPart } from "./text.js";
import { h } from "./vdom.js";

const ICONS = {
  copy: "M7.5 7.5v-4h9v9h-4M3.5 7.5h9v9h-9z",
  done: "M4 10.5l4 4 8-9",
  open: "M8 4H4v12h12v-4M11 4h5v5M16 4l-7.5 7.5",
  back: "M12 4l-6 6 6 6",
  more: "M7 4l6 6-6 6",
  refresh: "M16 10a6 6 0 1 1-1.8-4.3M16 3v3.5h-3.5",
  download: "M10 3v9M6 8.5l4 4 4-4M4 16.5h12",
  plug: "M7 3v4M13 3v4M5 7h10v3a5 5 0 0 1-10 0zM10 15v3",
  stop: "M5 5h10v10H5z",
  play: "M6 4l10 6-10 6z",
  camera: "M3 6.5h3.5L8 4.5h4l1.5 2H17v9H3zM10 8.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z",
  archive: "M3 4h14v3.5H3zM4.5 7.5v8.5h11V7.5M8 11h4",
  erase: "M4 6h12M8 6V4h4v2M5.5 6l1 10.5h7l1-10.5",
  warning: "M10 3.5L17.5 16.5h-15zM10 8.5v4M10 14.3v.2",
};

export const icon = (name) => h("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" }, h("path", { d: ICONS[name] ?? ICONS.more }));

/** What people call an environment: the folder of its project, or the name of the project. */
export const titleOf = (environment) => (environment.owner ? lastPart(environment.owner.project) : environment.id);

const GOOD = new Set(["running", "ready", "healthy"]);
const BETWEEN = new Set(["starting", "restarting", "created", "paused", "stopping"]);

/** "good", "warn" or "bad": how a service is, for its colour. */
export function mood(service) {
  if (GOOD.has(service.state)) return service.health && !service.health.is_good ? "bad" : "good";
  return BETWEEN.has(service.state) ? "warn" : "bad";
}

export const moodOfAll = (environment) =>
  ["bad", "warn", "good"].find((each) => environment.services.some((service) => mood(service) === each)) ?? "warn";

export const dot = (of) => h("span", { class: `dot ${of}`, "aria-hidden": "true" });
/** Its state in a word. What runs may still not answer as it should. */
export function stateWord(service) {
  return mood(service) === "bad" && GOOD.has(service.state) ? "unhealthy" : service.state;
}

export const stateWords = (service) => h("span", { class: `state ${mood(service)}`, title: service.stage || service.health?.problem || null }, dot(mood(service)), stateWord(service), service.stage && h("span", { class: "stage" }, service.stage));
export const chip = (text, title) => h("span", { class: "chip", title }, text);

/** A password never shows; what stands for it is dimmed. */
export function address(url) {
  const [before, after] = url.split("***");
  return h("code", { class: "address", title: url }, after === undefined ? url : [before, h("span", { class: "faded" }, "***"), after]);
}

/** Which server it is, in few letters: the same without the scheme and the user. */
export function shortAddress(url) {
  return h("code", { class: "address", title: url }, url.replace(/^[^/]*\/\/([^/@]*@)?/, ""));
}

/** What helps where a part of a view has nothing to show. */
export const emptyState = (title, ...words) => h("div", { class: "empty" }, h("h2", null, title), words);

/** The same for a whole view. */
export const emptyView = (title, ...words) => h("div", { class: "empty" }, h("h1", null, title), words);

/** A command to copy. */
export const command = (text) => h("div", { class: "command" }, h("code", null, text), copyButton(() => text, `Copy ${text}`));

/**
 * A button that copies.
 *
 * @param {function(): string|Promise<string>} text what to copy, asked for on the click.
 * @param {string} label for people who do not see the icon.
 * @param {string} words beside the icon; none for the icon alone.
 */
export function copyButton(text, label, words = "") {
  return h("button", { type: "button", class: words ? "button small" : "icon-button small", "aria-label": label, title: label, onclick: (event) => copy(event.currentTarget, text) }, icon("copy"), words && h("span", null, words));
}

async function copy(button, text) {
  try {
    // Browsers allow writing right after the click alone, so what has to be fetched is given as a promise.
    const blob = Promise.resolve(text()).then((each) => new Blob([each], { type: "text/plain" }));
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    flash(button, "copied");
  } catch (error) {
    flash(button, "failed");
    throw error;
  }
}

function flash(button, name) {
  button.classList.add(name);
  setTimeout(() => button.classList.remove(name), 1200);
}

/** Words and a hint about what went wrong. */
export function problem(error, retry) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    icon("warning"),
    h(
      "div",
      null,
      h("strong", null, inOneLine(error.what ?? error.message)),
      error.cause && h("p", null, inOneLine(error.cause)),
      error.hint && h("p", { class: "hint" }, h("span", { class: "faded" }, "hint: "), inOneLine(error.hint)),
      retry && h("button", { type: "button", class: "button small", onclick: retry }, icon("refresh"), "Try again"),
    ),
  );
}

/** Links that look like tabs. */
export const tabs = (label, entries) =>
  h(
    "nav",
    { class: "tabs", "aria-label": label },
    entries.map(({ href, title, isCurrent }) => h("a", { key: href, href, "aria-current": isCurrent ? "page" : null }, title)),
  );
