// One service: its metrics, the panels that it declares, and its log.

import { serviceActions } from "./actions.js";
import { chart, rangePicker } from "./chart.js";
import { connectButton, copyAddress } from "./connect.js";
import { hasLogs, logsView } from "./logs.js";
import { pageLink } from "./overview.js";
import { panelView } from "./panel.js";
import { address, stateWords, tabs, titleOf } from "./parts.js";
import { toEnvironment, toOverview, toPanel, toService } from "./route.js";
import { seriesOf } from "./series.js";
import { declaredOf, samplesOf } from "./store.js";
import { streamView } from "./stream.js";
import { age, time } from "./units.js";
import { h } from "./vdom.js";

export function serviceView(environment, service, route) {
  const { panels } = declaredOf(service.name);
  const panel = panels.find((each) => each.name === route.panel);
  const isLog = route.tab === "logs" && hasLogs(environment);
  return [
    h("div", { class: "crumbs" }, h("a", { href: toOverview() }, "All environments"), h("a", { href: toEnvironment(environment.key) }, titleOf(environment))),
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        null,
        h("h1", null, service.title, service.version && h("span", { class: "version" }, service.version)),
        h("div", { class: "facts" }, stateWords(service), service.started && h("span", { class: "faded", title: time(service.started) }, `started ${age(service.started)}`), service.url && h("div", { class: "with-copy" }, address(service.url), copyAddress(environment, service), pageLink(service))),
      ),
      h("div", { class: "actions" }, serviceActions(environment, service), connectButton(environment, service, "primary")),
    ),
    service.health?.problem && h("p", { class: "note bad" }, `The last probe failed: ${service.health.problem}`),
    tabs("Parts of the service", [
      { href: toService(environment.key, service.name), title: "Metrics", isCurrent: !panel && !isLog },
      ...panels.filter((each) => each === panel || !each.needs_argument).map((each) => ({ href: toPanel(environment.key, service.name, each.name), title: each.title, isCurrent: each === panel })),
      ...(hasLogs(environment) ? [{ href: toService(environment.key, service.name, "logs"), title: "Log", isCurrent: isLog }] : []),
    ]),
    h("div", { key: [environment.key, service.name, route.tab, route.panel].join("/"), class: "tab-body" }, body(environment, service, panel, route, isLog)),
  ];
}

function body(environment, service, panel, route, isLog) {
  if (panel?.is_stream) return streamView(environment.key, service.name, panel, route.argument);
  if (panel) return panelView(environment.key, service.name, panel, route.argument);
  if (isLog) return logsView(environment, [service]);
  return metrics(environment, service);
}

function metrics(environment, service) {
  const samples = samplesOf(environment.key, service.name);
  return [
    h("div", { class: "toolbar end" }, rangePicker()),
    h("div", { class: "charts" }, seriesOf(declaredOf(service.name).metrics).map((series) => chart(series, samples))),
  ];
}
