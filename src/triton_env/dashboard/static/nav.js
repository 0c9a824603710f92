// The environments and their services, at the side.

import { dot, mood, moodOfAll, stateWord, titleOf } from "./parts.js";
import { toEnvironment, toOverview, toService } from "./route.js";
import { environments } from "./store.js";
import { h } from "./vdom.js";

export function navView(route) {
  const current = (isCurrent) => (isCurrent ? "page" : null);
  return [
    h("a", { class: "nav-all", href: toOverview(), "aria-current": current(!route.environment) }, "All environments", h("span", { class: "count" }, environments().length)),
    environments().map((environment) =>
      h(
        "section",
        { key: environment.key, class: "nav-environment" },
        h(
          "a",
          { href: toEnvironment(environment.key), "aria-current": current(route.environment === environment.key && !route.service) },
          dot(moodOfAll(environment)),
          h("span", { class: "nav-title" }, titleOf(environment)),
          h("span", { class: "nav-note" }, environment.mode),
        ),
        h(
          "ul",
          null,
          environment.services.map((service) =>
            h(
              "li",
              { key: service.name },
              h(
                "a",
                { href: toService(environment.key, service.name), "aria-current": current(route.environment === environment.key && route.service === service.name) },
                service.title,
                mood(service) !== "good" && [dot(mood(service)), h("span", { class: "nav-note" }, stateWord(service))],
              ),
            ),
          ),
        ),
      ),
    ),
  ];
}
