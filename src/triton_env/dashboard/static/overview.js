// All environments, and what to do where nothing runs.

import { spark, rangePicker } from "./chart.js";
import { connectButton, copyAddress } from "./connect.js";
import { chip, command, emptyView, icon, shortAddress, stateWords, titleOf } from "./parts.js";
import { toEnvironment, toService } from "./route.js";
import { seriesOf } from "./series.js";
import { declaredOf, environments, samplesOf, state } from "./store.js";
import { age, time } from "./units.js";
import { h } from "./vdom.js";

const SHOWN_METRICS = 4;

export function overview() {
  if (!environments().length) return nothingRuns();
  const count = environments().length;
  return [
    h("div", { class: "page-head" }, h("div", null, h("h1", null, "All environments"), h("p", { class: "faded" }, count === 1 ? "1 environment runs" : `${count} environments run`)), rangePicker()),
    environments().map((environment) => h("section", { key: environment.key, class: "card" }, head(environment), servicesTable(environment))),
    leftovers(),
  ];
}

function nothingRuns() {
  return emptyView(
    "Nothing runs",
    h("p", null, "An environment shows up here as soon as a command, a test run or a notebook starts one."),
    h("div", { class: "ways" }, way("For a while", "python -m triton_env serve"), way("With data that stays", "python -m triton_env up"), way("Around a command", "python -m triton_env run -- pytest")),
    state.inspection?.engine_problem && h("p", { class: "faded" }, `No Docker engine was asked: ${state.inspection.engine_problem}`),
  );
}

const way = (title, text) => h("div", null, h("h3", null, title), command(text));

function head(environment) {
  return h("div", { class: "card-head" }, h("h2", null, h("a", { href: toEnvironment(environment.key) }, titleOf(environment))), facts(environment));
}

/** What an environment is, in a line. */
export function facts(environment) {
  const { owner } = environment;
  return h(
    "div",
    { class: "facts" },
    chip(environment.mode),
    chip(environment.runtime, environment.reason && `Since ${environment.reason}`),
    environment.id !== titleOf(environment) && h("code", { class: "faded" }, environment.id),
    environment.starting_since && h("span", { class: "faded", title: time(environment.starting_since) }, `starting, begun ${age(environment.starting_since)}`),
    environment.started && h("span", { class: "faded", title: time(environment.started) }, `started ${age(environment.started)}`),
    owner && h("span", { class: "faded owner", title: `${owner.command}\n${owner.project}` }, `${owner.held_by}, process ${owner.pid}`),
  );
}

/** The services of an environment: a row each, with the metrics that say most. */
export function servicesTable(environment) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "services" },
      h("thead", null, h("tr", null, ["Service", "Address", "Now"].map((title) => h("th", { scope: "col" }, title)), h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Connect")))),
      h("tbody", null, environment.services.map((service) => serviceRow(environment, service))),
    ),
  );
}

function serviceRow(environment, service) {
  const samples = samplesOf(environment.key, service.name);
  const series = seriesOf(declaredOf(service.name).metrics).slice(0, SHOWN_METRICS);
  return h(
    "tr",
    { key: service.name, "data-service": service.name },
    h("th", { scope: "row" }, h("a", { href: toService(environment.key, service.name) }, service.title), h("div", { class: "under" }, stateWords(service), service.version && h("span", { class: "version", title: service.version }, service.version))),
    h("td", { class: "at" }, service.url ? h("div", { class: "with-copy" }, shortAddress(service.url), copyAddress(environment, service), pageLink(service)) : h("span", { class: "faded" }, ports(service))),
    h("td", { class: "sparks" }, h("div", null, series.map((each) => h("div", { class: "spark-cell" }, h("span", { class: "spark-title" }, each.title), spark(each, samples))))),
    h("td", { class: "end" }, connectButton(environment, service)),
  );
}

/** What is reached over HTTP can be opened. Without the credentials: browsers do not take them from an address. */
export function pageLink(service) {
  if (!service.url?.startsWith("http")) return null;
  const label = `Open ${service.title} in a new tab`;
  return h("a", { class: "icon-button small", href: new URL("/", service.url.replace(/\/\/[^/@]*@/, "//")).href, target: "_blank", rel: "noreferrer", "aria-label": label, title: label }, icon("open"));
}

const ports = (service) => Object.entries(service.ports).map(([protocol, port]) => `${protocol} ${service.host ?? ""}:${port}`).join(", ");

function leftovers() {
  const found = state.inspection?.leftovers ?? [];
  return (
    found.length > 0 &&
    h(
      "section",
      { class: "card quiet" },
      h("div", { class: "card-head" }, h("h2", null, "Left by processes that ended"), h("span", { class: "faded" }, `${found.length} found`)),
      h("ul", { class: "leftovers" }, found.map(({ what, name, why }) => h("li", null, chip(what), h("code", null, name), h("span", { class: "faded" }, why)))),
      command("python -m triton_env prune"),
    )
  );
}
