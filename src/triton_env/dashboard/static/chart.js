// Line charts over time: one in a card, and a small one in a row. The pointer reads the same moment in all of them.

import { nearest, stretches, lastValue } from "./series.js";
import { changed, state } from "./store.js";
import { MISSING, inUnit } from "./units.js";
import { h } from "./vdom.js";

const WIDTH = 300;
const HEIGHT = 100;

/** A card with one series over the last `state.range` seconds. */
export function chart(series, samples) {
  const points = series.points(samples);
  const [from, to] = span();
  const lines = stretches(points, from, to, 180);
  const highest = Math.max(0, ...lines.flat().map((each) => each.value));
  const top = niceTop(highest, series.unit);
  const read = state.hover === null ? null : nearest(points, state.hover);
  const now = lastValue(points);
  const shown = read ? read.value : now;
  return h(
    "figure",
    { class: "chart", key: series.name, "data-metric": series.name },
    h("figcaption", null, h("span", { class: "chart-title", title: series.help }, series.title), h("span", { class: "chart-value" }, amount(shown, series))),
    h(
      "div",
      { class: "plot", role: "img", "aria-label": spoken(series, now, highest, lines), onpointermove: (event) => hover(event, from, to), onpointerleave: leave },
      drawing(lines, from, to, top, read),
      h("span", { class: "axis highest" }, lines.length ? inUnit(top, series.unit) : ""),
      h("span", { class: "axis lowest" }, lines.length ? "0" : ""),
      !lines.length && h("span", { class: "no-data" }, "No samples yet"),
      read && h("span", { class: `when ${place(read.at, from, to) > 0.7 ? "left" : ""}`, style: { left: `${100 * place(read.at, from, to)}%` } }, clock(read.at)),
    ),
    h("div", { class: "axis-x", "aria-hidden": "true" }, h("span", null, clock(from)), h("span", null, clock((from + to) / 2)), h("span", null, "now")),
  );
}

/** A series in the space of a word. */
export function spark(series, samples) {
  const points = series.points(samples);
  const [from, to] = span();
  const lines = stretches(points, from, to, 60);
  const top = niceTop(Math.max(0, ...lines.flat().map((each) => each.value)), series.unit);
  return h(
    "span",
    { class: "spark", title: `${series.title}. ${series.help}` },
    h("span", { class: "spark-value" }, amount(lastValue(points), series)),
    drawing(lines, from, to, top, null),
  );
}

function span() {
  const to = Date.now() / 1000;
  return [to - state.range, to];
}

const place = (at, from, to) => Math.min(1, Math.max(0, (at - from) / (to - from)));

function drawing(lines, from, to, top, read) {
  const x = (at) => (place(at, from, to) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - (HEIGHT * value) / top).toFixed(1);
  const paths = lines.map((line) => line.map(({ at, value }) => `${x(at)},${y(value)}`).join("L"));
  const areas = lines.map((line, index) => `M${x(line[0].at)},${HEIGHT}L${paths[index]}L${x(line.at(-1).at)},${HEIGHT}Z`);
  return h(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    h("path", { class: "grid", d: `M0,${HEIGHT / 2}H${WIDTH}M0,0H${WIDTH}M0,${HEIGHT}H${WIDTH}` }),
    h("path", { class: "area", d: areas.join("") }),
    h("path", { class: "line", d: paths.map((path) => `M${path}${path.includes("L") ? "" : "h0"}`).join("") }),
    read && h("path", { class: "cursor", d: `M${x(read.at)},0V${HEIGHT}` }),
  );
}

function amount(value, series) {
  if (value === null) return MISSING;
  return [inUnit(value, series.unit), series.perSecond && h("span", { class: "per" }, series.unit === "seconds" ? " per s" : "/s")];
}

function spoken(series, now, highest, lines) {
  if (!lines.length) return `${series.title}: no samples yet`;
  const per = series.perSecond ? " a second" : "";
  return `${series.title}: now ${inUnit(now, series.unit)}${per}, at most ${inUnit(highest, series.unit)}${per}`;
}

/** A round number above the highest one. */
function niceTop(highest, unit) {
  if (unit === "percent" && highest <= 100 && highest > 50) return 100;
  if (!(highest > 0)) return unit === "percent" ? 10 : 1;
  const base = unit === "bytes" ? 1024 ** Math.floor(Math.log(highest) / Math.log(1024)) : 1;
  const size = highest / base;
  const step = 10 ** Math.floor(Math.log10(size));
  return base * step * [1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15].find((each) => each * step >= size * 1.001);
}

function hover(event, from, to) {
  const box = event.currentTarget.getBoundingClientRect();
  state.hover = from + ((event.clientX - box.left) / box.width) * (to - from);
  changed();
}

function leave() {
  state.hover = null;
  changed();
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB", state.range > 600 ? { hour: "2-digit", minute: "2-digit" } : {});

/** Buttons for how much of the last hour charts show. */
export function rangePicker() {
  return h(
    "div",
    { class: "segmented", role: "group", "aria-label": "Time shown" },
    [[300, "5 min"], [900, "15 min"], [3600, "1 h"]].map(([seconds, title]) =>
      h("button", { type: "button", "aria-pressed": String(state.range === seconds), onclick: () => show(seconds) }, title),
    ),
  );
}

function show(seconds) {
  state.range = seconds;
  localStorage.setItem("range", String(seconds));
  changed();
}
