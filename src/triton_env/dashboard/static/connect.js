// Ready lines to connect with. They hold passwords, so they are fetched on a click and kept nowhere.

import * as api from "./api.js";
import { openDialog } from "./dialog.js";
import { copyButton, icon, problem } from "./parts.js";
import { h } from "./vdom.js";

/** A button that copies the address of a service with its password. */
export const copyAddress = (environment, service) =>
  copyButton(async () => (await snippetsOf(environment, service))[0].text, `Copy the URL of ${service.title}`);

/** A button that shows all lines. */
export const connectButton = (environment, service, className = "") =>
  h("button", { type: "button", class: `button small ${className}`, onclick: () => show(environment, service) }, icon("plug"), "Connect");

async function snippetsOf(environment, service) {
  return (await api.snippets(environment.key))[service.name] ?? [];
}

function show(environment, service) {
  let found = null;
  let error = null;
  const { redraw } = openDialog(
    `Connect to ${service.title}`,
    () => {
      if (error) return problem(error);
      if (!found) return h("p", { class: "faded" }, "Asking \u2026");
      return found.map(({ title, text }) => h("section", { class: "snippet" }, h("div", { class: "snippet-head" }, h("h3", null, title), copyButton(() => text, `Copy ${title}`, "Copy")), h("pre", null, h("code", null, text))));
    },
    "wide",
  );
  snippetsOf(environment, service)
    .then((snippets) => (found = snippets), (reason) => (error = reason))
    .finally(redraw);
}
