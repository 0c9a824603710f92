// How an environment started: what each service did, and when.

import { emptyState } from "./parts.js";
import { declaredOf } from "./store.js";
import { seconds } from "./units.js";
import { h } from "./vdom.js";

const WORDS = { pull: "Image", create: "Create", boot: "Boot", ready: "Ready", failed: "Failed" };
const TICKS = 5;

export function startView(environment) {
  const spans = environment.timeline ?? [];
  const total = Math.max(0, ...spans.map((span) => span.end));
  if (!total) return emptyState("No timeline", h("p", null, "This environment was started without one, or by a version that keeps none."));
  // As they stand everywhere else. One that is gone was part of the start all the same.
  const services = [...new Set([...environment.services, ...spans.map((span) => ({ name: span.service }))].map(({ name }) => name))].filter((name) => spans.some((span) => span.service === name));
  const phases = Object.keys(WORDS).filter((phase) => phase !== "ready" && spans.some((span) => span.phase === phase));
  return h(
    "section",
    { class: "card timeline" },
    h("div", { class: "card-head" }, h("h2", null, `Ready after ${seconds(total)}`), h("div", { class: "legend" }, phases.map((phase) => h("span", null, h("i", { class: `phase ${phase}` }), WORDS[phase])))),
    h(
      "table",
      null,
      h("thead", { class: "visually-hidden" }, h("tr", null, ["Service", "Phases", "Ready after"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", null, services.map((service) => row(service, spans.filter((span) => span.service === service), total))),
    ),
    h("div", { class: "ticks", "aria-hidden": "true" }, Array.from({ length: TICKS }, (_, index) => h("span", null, seconds((total * index) / (TICKS - 1))))),
  );
}

function row(service, spans, total) {
  const ready = spans.find((span) => span.phase === "ready");
  const place = ({ start, end }) => ({ left: `${(100 * start) / total}%`, width: `${(100 * (end - start)) / total}%` });
  const words = (span) => `${WORDS[span.phase] ?? span.phase}: ${seconds(span.end - span.start)}`;
  return h(
    "tr",
    { key: service },
    h("th", { scope: "row" }, declaredOf(service).title),
    h("td", { class: "bars" }, h("div", { class: "track", role: "img", "aria-label": spans.map(words).join(", ") }, spans.filter((span) => span.phase !== "ready").map((span) => h("i", { class: `phase ${span.phase}`, title: words(span), style: place(span) })))),
    h("td", { class: "numeric" }, ready ? seconds(ready.end) : "not ready"),
  );
}
