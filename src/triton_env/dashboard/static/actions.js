// What can be done with an environment, after a question where data is lost.

import * as api from "./api.js";
import { ask, tell } from "./dialog.js";
import { askForActions } from "./live.js";
import { icon, titleOf } from "./parts.js";
import { changed, environmentOf, state } from "./store.js";
import { h } from "./vdom.js";

const ICONS = { restart: "refresh", stop: "stop", reset: "erase", snapshot: "camera", restore: "back", backup: "archive" };
const busy = new Set();
let isAsking = false; // a question, or what it has to say: until that is there, the button can be pressed again

const actionsOf = (environment) => state.actions.get(environment.key) ?? [];

/** Buttons for what is done with the whole environment. */
export function environmentActions(environment) {
  return h("div", { class: "actions" }, actionsOf(environment).filter((action) => !action.needs_service).map((action) => button(environment, action, {})));
}

/** Buttons for what is done with one of its services. */
export function serviceActions(environment, service) {
  return actionsOf(environment)
    .filter((action) => action.needs_service)
    .map((action) => button(environment, action, { service: service.name }));
}

/** Buttons for what is done with one of its snapshots. */
export function snapshotActions(environment, name) {
  return actionsOf(environment)
    .filter((action) => action.needs_name && action.loses)
    .map((action) => button(environment, action, { name }));
}

function button(environment, action, values) {
  const key = [environment.key, action.name, values.service, values.name].join("/");
  const isBusy = busy.has(key);
  const lacks = action.needs_name && action.loses && !snapshotsOf(environment.key).length ? "Take a snapshot first" : null;
  return h(
    "button",
    {
      key,
      type: "button",
      class: `button small ${action.loses ? "losing" : ""}`,
      disabled: isBusy || Boolean(lacks),
      title: lacks,
      "aria-busy": isBusy ? "true" : null,
      "data-action": action.name,
      onclick: () => perform(environment, action, values, key),
    },
    isBusy ? h("span", { class: "spinner", "aria-hidden": "true" }) : icon(ICONS[action.name]),
    action.title,
  );
}

async function perform(environment, action, values, key) {
  if (isAsking) return;
  const target = values.name ?? values.service ?? "";
  const words = [action.title, target, "\u00b7", titleOf(environment)].filter(Boolean).join(" ");
  const asksForName = (action.needs_name || action.takes_name) && !values.name;
  if (action.loses || asksForName) {
    isAsking = true;
    try {
      const loses = action.loses && (await lossOf(environment, action));
      const name = await ask({
        title: words,
        text: loses && `This loses ${loses}.`,
        confirm: action.title,
        isDangerous: Boolean(loses),
        field: asksForName ? fieldOf(action, environment) : null,
      });
      if (name === null) return;
      if (asksForName && name) values = { ...values, name };
    } catch (error) {
      tell(words)(error);
      return;
    } finally {
      isAsking = false;
    }
  }
  const ended = tell(`${words} \u2026`);
  busy.add(key);
  changed();
  try {
    const done = await api.act(environment.key, action.name, values);
    ended(done.words);
  } catch (error) {
    ended(error);
  }
  busy.delete(key);
  if (environmentOf(environment.key)) askForActions(environment.key);
  changed();
}

/** What is lost by an action now: with an environment, its program may lose others that it has started since. */
async function lossOf(environment, action) {
  const offered = await api.actions(environment.key);
  return offered.find(({ name }) => name === action.name)?.loses ?? action.loses;
}

const fieldOf = (action, environment) =>
  action.needs_name
    ? { label: "Name", value: "", suggestions: snapshotsOf(environment.key) }
    : { label: "Name of the file (may be empty)", value: "", suggestions: [], isOptional: true };

const snapshotsOf = (key) => (environmentOf(key)?.spaces ?? []).filter((space) => space.kind === "snapshot").map((space) => space.name);
