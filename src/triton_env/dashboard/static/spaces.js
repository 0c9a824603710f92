// The parts of an environment besides its own: snapshots, namespaces, templates.

import { snapshotActions } from "./actions.js";
import { chip } from "./parts.js";
import { declaredOf } from "./store.js";
import { inOneLine } from "./text.js";
import { MISSING, age, bytes, time } from "./units.js";
import { h } from "./vdom.js";

const KINDS = [
  { kind: "snapshot", title: "Snapshots", empty: "A snapshot keeps the data of this moment, to go back to: env.snapshot(\"name\"), or the button above." },
  { kind: "namespace", title: "Namespaces", empty: "A namespace is a test's own part of each service: env.namespace(), or the fixtures of the pytest plugin." },
  { kind: "template", title: "Templates", empty: "A template is data that namespaces begin with. It is made once and copied for each test." },
];

export function spacesView(environment) {
  return KINDS.map(({ kind, title, empty }) => {
    const spaces = environment.spaces.filter((space) => space.kind === kind).toSorted((one, other) => (one.changed < other.changed ? 1 : -1));
    return h(
      "section",
      { key: kind, class: "card" },
      h("div", { class: "card-head" }, h("h2", null, title), h("span", { class: "faded" }, spaces.length || "")),
      spaces.length ? h("div", { class: "scroll" }, table(environment, spaces, kind)) : h("p", { class: "faded pad" }, empty),
    );
  });
}

function table(environment, spaces, kind) {
  const isSnapshot = kind === "snapshot";
  return h(
    "table",
    { class: "data" },
    h("thead", null, h("tr", null, ["Name", "Services", "Made by", "Size", kind === "template" ? "Last used" : "Made"].map((title, index) => h("th", { scope: "col", class: index > 2 ? "numeric" : "" }, title)), isSnapshot && h("th", null, h("span", { class: "visually-hidden" }, "Actions")))),
    h(
      "tbody",
      null,
      spaces.map((space) =>
        h(
          "tr",
          { key: space.name },
          h("td", { class: "code" }, h("bdi", null, inOneLine(space.name)), space.is_ready && [" ", chip("ready", "Made in advance for the next test")], space.is_kept && !isSnapshot && [" ", chip("kept", "Outlives its process")]),
          h("td", null, space.services.map((name) => declaredOf(name).title).join(", ")),
          h("td", null, space.made_by ? h("code", null, inOneLine(space.made_by)) : space.pid ? h("span", { class: "faded" }, `process ${space.pid}`) : h("span", { class: "faded" }, MISSING)),
          h("td", { class: "numeric" }, sizeOf(space)),
          h("td", { class: "numeric", title: time(space.changed) }, age(space.changed)),
          isSnapshot && h("td", { class: "end" }, h("div", { class: "row-actions" }, snapshotActions(environment, space.name))),
        ),
      ),
    ),
  );
}

function sizeOf({ sizes }) {
  const known = Object.values(sizes ?? {}).filter((size) => typeof size === "number");
  return known.length ? bytes(known.reduce((sum, size) => sum + size, 0)) : MISSING;
}
