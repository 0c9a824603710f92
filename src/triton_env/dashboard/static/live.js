// Keeps the store up to date from the stream of the server.

import * as api from "./api.js";
import { listen } from "./source.js";
import { addSamples, changed, environments, keepListed, state } from "./store.js";
import { epoch } from "./units.js";

const HOUR = 3600;
const asked = new Set(); // samples by environment and service, actions by environment

export function connect() {
  listen(api.eventsUrl(), {
    on: { inspection: inspected, samples: sampled, problem: failed },
    opened,
    lost,
  });
}

async function opened() {
  state.connection = "live";
  asked.clear();
  changed();
  try {
    [state.declared, state.inspection] = await Promise.all([api.services(), api.inspection()]);
  } catch {
    return; // the stream is what says whether there is a connection
  }
  inspected(state.inspection);
}

async function lost() {
  // The page's cookie belongs to one run of the server.
  const refused = await api.inspection().then(() => false, (error) => error.status === 401 || error.status === 403);
  state.connection = refused ? "refused" : "lost";
  changed();
}

function failed(problem) {
  state.problem = problem;
  changed();
}

function inspected(inspection) {
  state.inspection = inspection;
  state.problem = null;
  keepListed(asked);
  for (const environment of environments()) {
    for (const service of environment.services) remember(environment.key, service.name);
    if (!asked.has(environment.key)) askForActions(environment.key);
  }
  changed();
}

function sampled({ environment, service, at, values }) {
  addSamples(environment, service, [{ at: epoch(at), values }]);
  changed();
}

/** Fetch the last hour of a service, once a connection. */
async function remember(environment, service) {
  const key = `${environment}/${service}`;
  if (asked.has(key)) return;
  asked.add(key);
  const found = await api.samples(environment, service, HOUR).catch(() => []);
  addSamples(environment, service, found.map(({ at, values }) => ({ at: epoch(at), values })));
  changed();
}

export async function askForActions(environment) {
  asked.add(environment);
  try {
    state.actions.set(environment, await api.actions(environment));
  } catch {
    asked.delete(environment); // the next look asks again
  }
  changed();
}
