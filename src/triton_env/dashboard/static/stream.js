// A panel that is a stream: what happens on a server, for a bounded time, until it is stopped.

import { streamUrl, whyNot } from "./api.js";
import { Lines } from "./lines.js";
import { icon, problem } from "./parts.js";
import { listen } from "./source.js";
import { whole } from "./units.js";
import { h, patch } from "./vdom.js";

const LENGTHS = [10, 30, 60];

export const streamView = (environment, service, panel, argument) =>
  h("div", { class: "logs", key: argument, mount: (element) => new StreamView(element, environment, service, panel, argument).start() });

class StreamView {
  constructor(element, environment, service, panel, argument) {
    Object.assign(this, { element, environment, service, panel, argument });
    this.seconds = LENGTHS[1];
    this.close = null;
    this.ends = 0;
    this.error = null;
    this.hasRun = false;
    this.bar = document.createElement("div");
    this.box = document.createElement("div");
    this.box.className = "lines wrapped";
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "log");
    this.box.setAttribute("aria-live", "off");
    this.box.setAttribute("aria-label", panel.title);
    element.append(this.bar, this.box);
    this.lines = new Lines(this.box);
    this.lines.changed = () => this.draw();
  }

  start() {
    this.draw();
    this.clock = setInterval(() => this.close && this.draw(), 1000);
    return () => {
      clearInterval(this.clock);
      this.close?.();
    };
  }

  play(argument) {
    this.argument = argument;
    this.error = null;
    this.hasRun = true;
    this.lines.clear();
    this.ends = Date.now() + this.seconds * 1000;
    const url = streamUrl(this.environment, this.service, this.panel.name, argument, this.seconds);
    let isOpen = false;
    this.close = listen(url, {
      on: {
        line: (line) => this.lines.add([{ label: "", className: "", text: typeof line === "string" ? line : line.line }]),
        problem: (error) => (this.error = error),
      },
      opened: () => (isOpen = true),
      ended: async () => {
        this.stop();
        if (isOpen) return;
        this.error = await whyNot(url);
        this.draw();
      },
    });
    this.draw();
  }

  stop() {
    this.close?.();
    this.close = null;
    this.draw();
  }

  submitted(event) {
    event.preventDefault();
    if (this.close) return this.stop();
    return this.play(event.currentTarget.elements.argument?.value ?? "");
  }

  draw() {
    const isRunning = this.close !== null;
    const left = Math.max(0, Math.ceil((this.ends - Date.now()) / 1000));
    const label = this.panel.argument && this.panel.argument[0].toUpperCase() + this.panel.argument.slice(1);
    patch(
      this.bar,
      h(
        "form",
        { class: "toolbar", onsubmit: (event) => this.submitted(event) },
        label && [h("label", { for: "argument" }, label), h("input", { id: "argument", name: "argument", value: this.argument, disabled: isRunning, autocomplete: "off", spellcheck: "false", "data-shortcut": "/" })],
        h("label", { for: "length" }, "For"),
        h("select", { id: "length", disabled: isRunning, onchange: (event) => (this.seconds = Number(event.target.value)) }, LENGTHS.map((each) => h("option", { value: each, selected: each === this.seconds }, `${each} s`))),
        h("button", { type: "submit", class: `button ${isRunning ? "" : "primary"}` }, icon(isRunning ? "stop" : "play"), isRunning ? "Stop" : "Listen"),
        h("span", { class: "faded count", role: "status" }, this.words(isRunning, left)),
      ),
      this.error && problem(this.error),
      !this.hasRun && h("p", { class: "note" }, this.panel.empty),
    );
  }

  words(isRunning, left) {
    if (!this.hasRun) return "";
    const count = this.lines.lines.length;
    return `${whole(count)} ${count === 1 ? "line" : "lines"}${isRunning ? `, ${left} s left` : ", ended"}`;
  }
}
