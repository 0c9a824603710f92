// A panel that a service declares, as a table that stays fresh.

import * as api from "./api.js";
import { openDialog } from "./dialog.js";
import { chip, copyButton, emptyState, icon, problem } from "./parts.js";
import { toPanel } from "./route.js";
import { inOneLine, visible } from "./text.js";
import { MISSING, epoch, inUnit } from "./units.js";
import { h, patch } from "./vdom.js";

const MARKED = "Not the environment's own: a part that triton-env has made";
const EVERY = 3000;
const SHORT = 28;
const LONG = 90;
const MUCH = 262144;
const NUMERIC = new Set(["number", "bytes", "seconds", "time"]);
const sorted = new Map(); // what a panel is sorted by, as long as the page is open

export const panelView = (environment, service, panel, argument) =>
  h("div", { key: argument, mount: (element) => new PanelTable(element, environment, service, panel, argument).start() });

class PanelTable {
  constructor(element, environment, service, panel, argument) {
    Object.assign(this, { element, environment, service, panel, argument });
    this.key = `${service}/${panel.name}`;
    this.stopped = new AbortController();
  }

  start() {
    this.draw();
    this.load();
    return () => {
      clearTimeout(this.timer);
      this.stopped.abort();
    };
  }

  async load() {
    clearTimeout(this.timer);
    if (!document.hidden) {
      try {
        this.table = await api.table(this.environment, this.service, this.panel.name, this.argument, this.stopped.signal);
        this.error = null;
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        this.error = error;
      }
      this.draw();
    }
    if (!this.stopped.signal.aborted) this.timer = setTimeout(() => this.load(), EVERY);
  }

  draw() {
    patch(this.element, this.panel.argument && this.argumentForm(), this.content());
  }

  argumentForm() {
    const submitted = (event) => {
      event.preventDefault();
      location.hash = toPanel(this.environment, this.service, this.panel.name, event.currentTarget.elements.argument.value);
    };
    const label = this.panel.argument[0].toUpperCase() + this.panel.argument.slice(1);
    return h(
      "form",
      { class: "toolbar", onsubmit: submitted },
      h("label", { for: "argument" }, label),
      h("input", { id: "argument", name: "argument", value: this.argument, autocomplete: "off", spellcheck: "false", "data-shortcut": "/" }),
      h("button", { type: "submit", class: "button" }, "Show"),
    );
  }

  content() {
    if (this.error && !this.table) return problem(this.error, () => this.load());
    if (!this.table) return h("p", { class: "faded loading" }, "Reading \u2026");
    const { columns, rows, note, is_cut: isCut } = this.table;
    return [
      this.error && problem(this.error, () => this.load()),
      note && h("p", { class: "note" }, visible(note)),
      rows.length
        ? h("div", { class: "card scroll" }, h("table", { class: "data" }, h("thead", null, h("tr", null, columns.map((column, index) => this.header(column, index)), this.hasDocuments() && h("th", null, h("span", { class: "visually-hidden" }, "Document")))), h("tbody", null, this.ordered().map((row) => this.row(row)))))
        : emptyState(this.argument ? "Nothing found" : "Nothing here", h("p", null, this.panel.empty)),
      rows.length > 0 && h("p", { class: "faded foot" }, `${rows.length === 1 ? "1 row" : `${inUnit(rows.length, "number")} rows`}${isCut ? ", cut: there are more" : ""}`),
    ];
  }

  hasDocuments() {
    return this.table.rows.some((row) => row.download);
  }

  header({ name, kind }, index) {
    const by = sorted.get(this.key);
    const isSorted = by?.index === index;
    const order = isSorted ? (by.isDown ? "descending" : "ascending") : null;
    const sort = () => {
      // Numbers are looked at for the highest, words for the first.
      const isDown = isSorted ? !by.isDown : NUMERIC.has(kind);
      sorted.set(this.key, { index, isDown });
      this.draw();
    };
    return h("th", { scope: "col", class: NUMERIC.has(kind) ? "numeric" : "", "aria-sort": order }, h("button", { type: "button", class: "sort", onclick: sort }, inOneLine(name), h("span", { class: "arrow", "aria-hidden": "true" }, isSorted ? (by.isDown ? "\u2193" : "\u2191") : "")));
  }

  ordered() {
    const by = sorted.get(this.key);
    const kind = this.table.columns[by?.index]?.kind;
    if (!kind) return this.table.rows;
    const valueOf = (row) => (kind === "time" ? epoch(row.cells[by.index]) : row.cells[by.index]);
    const sign = by.isDown ? -1 : 1;
    return this.table.rows.toSorted((one, other) => sign * compared(valueOf(one), valueOf(other), sign));
  }

  row({ cells, opens, key, download, mark }) {
    const { columns } = this.table;
    const first = Math.max(0, columns.findIndex(({ kind }) => !NUMERIC.has(kind)));
    const isFirst = (index) => index === first;
    return h(
      "tr",
      { class: mark ? "marked" : null },
      cells.map((value, index) => this.cell(value, columns[index]?.kind ?? "text", opens && isFirst(index) ? toPanel(this.environment, this.service, opens, key) : "", isFirst(index) ? mark : "")),
      this.hasDocuments() && h("td", { class: "end" }, download && this.documentButtons(download)),
    );
  }

  cell(value, kind, href, mark) {
    if (value === null) return h("td", { class: `faded ${NUMERIC.has(kind) ? "numeric" : ""}` }, MISSING);
    if (NUMERIC.has(kind)) return h("td", { class: "numeric" }, href ? h("a", { href }, inUnit(value, kind)) : inUnit(value, kind), mark && [" ", chip(mark, MARKED)]);
    const [text, line] = [String(value), inOneLine(value)];
    const className = line.length <= SHORT ? `${kind} short` : kind;
    const shown = line.length > LONG ? `${[...line.slice(0, LONG * 2)].join("")}\u2026` : line;
    const inside = [h("bdi", null, shown), mark && [" ", chip(mark, MARKED)]];
    if (href) return h("td", { class: className }, h("a", { href }, text === "" ? "\u2039empty\u203a" : inside));
    if (line.length <= LONG) return h("td", { class: className }, inside);
    return h("td", { class: kind }, h("button", { type: "button", class: "long", title: "Show all of it", onclick: () => showAll(text) }, inside));
  }

  documentButtons(key) {
    const name = key.split("/").pop();
    return h(
      "div",
      { class: "row-actions" },
      h("button", { type: "button", class: "button small", onclick: () => this.preview(key, name) }, "Preview"),
      h("a", { class: "icon-button small", href: api.documentUrl(this.environment, this.service, key, false), download: name, "aria-label": `Download ${visible(name)}`, title: "Download" }, icon("download")),
    );
  }

  async preview(key, name) {
    const url = api.documentUrl(this.environment, this.service, key, true);
    let content = h("p", { class: "faded" }, "Reading \u2026");
    const { redraw } = openDialog(inOneLine(name), () => content, "wide");
    try {
      content = await previewOf(url);
    } catch (error) {
      content = [problem(error), h("p", null, h("a", { class: "button", href: api.documentUrl(this.environment, this.service, key, false), download: name }, icon("download"), "Download"))];
    }
    redraw();
  }
}

function compared(one, other, sign) {
  // What is missing comes last, whichever way it is sorted.
  if (one === null || other === null || one === other) return sign * ((one === null) - (other === null));
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

function showAll(text) {
  openDialog("Value", () => [h("pre", { class: "value" }, h("bdi", null, visible(text))), copyButton(() => text, "Copy the value", "Copy")], "wide");
}

async function previewOf(url) {
  const response = await api.opened(url);
  if (response.headers.get("Content-Type")?.startsWith("image/")) {
    response.body?.cancel();
    return h("img", { class: "preview", src: url, alt: "The image that is stored" });
  }
  const [text, isAll] = await beginningOf(response);
  return [h("pre", { class: "value" }, h("bdi", null, visible(text))), !isAll && h("p", { class: "faded" }, "Only the beginning is shown. The download has all of it.")];
}

async function beginningOf(response) {
  const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
  let text = "";
  while (text.length < MUCH) {
    const { done, value } = await reader.read();
    if (done) return [text + decoder.decode(), true];
    text += decoder.decode(value, { stream: true });
  }
  reader.cancel();
  return [text.slice(0, MUCH), false];
}
