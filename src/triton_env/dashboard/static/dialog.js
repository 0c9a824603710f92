// Questions, and messages about how things went.

import { problem } from "./parts.js";
import { visible } from "./text.js";
import { h, patch } from "./vdom.js";

const GOOD_STAYS = 8000;

/**
 * Open a dialog; it is gone from the page once it is closed.
 *
 * @param {string} title
 * @param {function(function(): void): object[]} content makes what is in it; gets what closes it.
 * @returns {{element: HTMLDialogElement, redraw: function(): void}}
 */
export function openDialog(title, content, className = "") {
  const element = document.createElement("dialog");
  element.className = className;
  const close = () => element.close();
  const redraw = () =>
    patch(
      element,
      h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title), h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: close }, h("span", { "aria-hidden": "true" }, "\u00d7"))),
      h("div", { class: "dialog-body" }, content(close)),
    );
  element.setAttribute("aria-labelledby", "dialog-title");
  element.addEventListener("close", () => element.remove());
  element.addEventListener("click", (event) => event.target === element && close());
  redraw();
  document.body.append(element);
  element.showModal();
  element.querySelector("[autofocus], .dialog-body input, .dialog-body button")?.focus();
  return { element, redraw };
}

/**
 * Ask before something is done.
 *
 * @param {object} question `title`, `text`, `confirm` (the word on the button), `isDangerous`, and `field` where a name
 *   is asked for: `{label, value, suggestions, isOptional}`.
 * @returns {Promise<string|null>} the name, or an empty string; null where the answer is no.
 */
export function ask({ title, text, confirm, isDangerous, field }) {
  return new Promise((resolve) => {
    const { element } = openDialog(title, (close) =>
      h(
        "form",
        { onsubmit: answered },
        text && h("p", { class: "question" }, text),
        field && [
          h("label", { for: "dialog-field" }, field.label),
          h("input", { id: "dialog-field", value: field.value, list: "dialog-suggestions", required: !field.isOptional, autocomplete: "off", spellcheck: "false", autofocus: true }),
          h("datalist", { id: "dialog-suggestions" }, field.suggestions.map((value) => h("option", { value }))),
        ],
        h(
          "div",
          { class: "dialog-buttons" },
          // Enter alone does not lose data.
          h("button", { type: "button", class: "button", onclick: close, autofocus: isDangerous && !field }, "Cancel"),
          h("button", { type: "submit", class: `button ${isDangerous ? "danger" : "primary"}` }, confirm),
        ),
      ),
    );
    function answered(event) {
      event.preventDefault();
      resolve(element.querySelector("#dialog-field")?.value.trim() ?? "");
      element.close();
    }
    element.addEventListener("close", () => resolve(null));
  });
}

let messages = [];

/** Show what is being done; the function that it returns shows how it ended. */
export function tell(words) {
  const message = { id: crypto.randomUUID(), kind: "busy", words };
  messages = [...messages, message];
  draw();
  return (result) => {
    const isError = result instanceof Error;
    messages = messages.map((each) => (each.id === message.id ? { ...message, kind: isError ? "bad" : "good", words: result } : each));
    draw();
    // What went wrong stays until it is read.
    if (!isError) setTimeout(() => dismiss(message.id), GOOD_STAYS);
  };
}

function dismiss(id) {
  messages = messages.filter((each) => each.id !== id);
  draw();
}

function draw() {
  patch(
    document.getElementById("messages"),
    messages.map(({ id, kind, words }) =>
      h(
        "div",
        { key: id, class: `message ${kind}` },
        kind === "busy" && h("span", { class: "spinner", "aria-hidden": "true" }),
        kind === "bad" ? problem(words) : h("p", null, visible(words)),
        kind !== "busy" && h("button", { type: "button", class: "icon-button small", "aria-label": "Dismiss", onclick: () => dismiss(id) }, h("span", { "aria-hidden": "true" }, "\u00d7")),
      ),
    ),
  );
}
