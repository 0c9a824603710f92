// One environment: its services, logs, start, and the parts of it that tests made.

import { environmentActions } from "./actions.js";
import { rangePicker } from "./chart.js";
import { hasLogs, logsView } from "./logs.js";
import { emptyView, tabs, titleOf } from "./parts.js";
import { facts, servicesTable } from "./overview.js";
import { toEnvironment, toOverview } from "./route.js";
import { spacesView } from "./spaces.js";
import { startView } from "./start.js";
import { h } from "./vdom.js";

const TABS = [
  { name: "", title: () => "Services", view: services },
  { name: "logs", title: () => "Logs", view: (environment) => logsView(environment, environment.services) },
  { name: "start", title: () => "Start", view: startView },
  { name: "spaces", title: ({ spaces }) => `Namespaces and snapshots${spaces.length ? ` (${spaces.length})` : ""}`, view: spacesView },
];

export function environmentView(environment, route) {
  const offered = TABS.filter((tab) => tab.name !== "logs" || hasLogs(environment));
  const current = offered.find((tab) => tab.name === route.tab) ?? offered[0];
  return [
    h("div", { class: "crumbs" }, h("a", { href: toOverview() }, "All environments")),
    h("div", { class: "page-head" }, h("div", null, h("h1", null, titleOf(environment)), facts(environment)), environmentActions(environment)),
    tabs("Parts of the environment", offered.map((tab) => ({ href: toEnvironment(environment.key, tab.name), title: tab.title(environment), isCurrent: tab === current }))),
    h("div", { key: `${environment.key}/${current.name}`, class: "tab-body" }, current.view(environment)),
  ];
}

function services(environment) {
  return [
    h("div", { class: "toolbar end" }, rangePicker()),
    h("section", { class: "card" }, servicesTable(environment)),
    environment.problem && h("p", { class: "faded" }, environment.problem),
  ];
}

/** For an address of an environment or a service that is not there. */
export const notThere = (what) => emptyView(`This ${what} does not run`, h("p", null, "It was stopped, or its process has ended."), h("p", null, h("a", { class: "button", href: toOverview() }, "Show all environments")));
