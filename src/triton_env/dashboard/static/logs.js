// The logs of services, together, with a filter, and followed.

import { logsUrl } from "./api.js";
import { icon } from "./parts.js";
import { Lines } from "./lines.js";
import { listen } from "./source.js";
import { whole } from "./units.js";
import { h, patch } from "./vdom.js";

const TAIL = 200;
const NARROW = "(max-width: 56rem)";
const COLOURS = 6;

/** The logs of external servers are where those run. */
export const hasLogs = (environment) => environment.mode !== "external";

export const logsView = (environment, services) =>
  h("div", { class: "logs", key: "logs", mount: (element) => new LogView(element, environment.key, services).start() });

class LogView {
  constructor(element, environment, services) {
    Object.assign(this, { element, environment, services });
    this.hidden = new Set();
    this.needle = "";
    this.state = "Connecting \u2026";
    this.bar = document.createElement("div");
    this.bar.className = "toolbar";
    this.box = document.createElement("div");
    this.box.className = "lines";
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "log");
    this.box.setAttribute("aria-live", "off");
    this.box.setAttribute("aria-label", "Log lines");
    element.append(this.bar, this.box);
    this.lines = new Lines(this.box);
    this.isWrapped = false;
    if (matchMedia(NARROW).matches) this.wrap();
    this.lines.changed = () => this.draw();
  }

  start() {
    this.draw();
    return listen(logsUrl(this.environment, this.services.map(({ name }) => name), TAIL), {
      on: {
        log: ({ service, line }) => this.lines.add([this.line(service, line)]),
        problem: ({ what }) => this.say(what),
      },
      // What is read again after a break begins with the same lines.
      opened: () => {
        this.lines.clear();
        this.say("");
      },
      lost: () => this.say("The log broke off. Trying again \u2026"),
    });
  }

  say(state) {
    this.state = state;
    this.draw();
  }

  line(service, text) {
    const index = this.services.findIndex(({ name }) => name === service);
    const label = this.services.length > 1 ? (this.services[index]?.title ?? service) : "";
    return { service, label, className: `colour-${(Math.max(index, 0) % COLOURS) + 1}`, text };
  }

  filter() {
    this.lines.filter(({ service }) => !this.hidden.has(service), this.needle);
  }

  toggle(service) {
    if (!this.hidden.delete(service)) this.hidden.add(service);
    this.filter();
  }

  draw() {
    const { lines } = this;
    patch(
      this.bar,
      h("input", { type: "search", class: "filter", placeholder: "Filter", "aria-label": "Filter the lines", "data-shortcut": "/", oninput: (event) => ((this.needle = event.target.value), this.filter()) }),
      this.services.length > 1 &&
        h(
          "div",
          { class: "toggles", role: "group", "aria-label": "Services shown" },
          this.services.map(({ name, title }, index) =>
            h("button", { key: name, type: "button", class: `toggle colour-${(index % COLOURS) + 1}`, "aria-pressed": String(!this.hidden.has(name)), onclick: () => this.toggle(name) }, h("span", { class: "swatch", "aria-hidden": "true" }), title),
          ),
        ),
      h("span", { class: "faded count", role: "status" }, this.state || (lines.shown === lines.lines.length ? `${whole(lines.shown)} lines` : `${whole(lines.shown)} of ${whole(lines.lines.length)} lines`)),
      h("button", { type: "button", class: "toggle", "aria-pressed": String(this.isWrapped), "data-shortcut": "w", onclick: () => this.wrap() }, "Wrap"),
      h("button", { type: "button", class: "toggle", "aria-pressed": String(lines.isFollowing), "data-shortcut": "f", onclick: () => lines.follow(!lines.isFollowing) }, "Follow"),
      h("button", { type: "button", class: "icon-button small", "aria-label": "Clear", title: "Clear", onclick: () => lines.clear() }, icon("erase")),
    );
  }

  wrap() {
    this.isWrapped = !this.isWrapped;
    this.box.classList.toggle("wrapped", this.isWrapped);
    this.draw();
  }
}
