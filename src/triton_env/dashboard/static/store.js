// What the page knows. After a change, `changed` is called, and the page is drawn once before the next frame.

const HOUR = 3600;

export const state = {
  inspection: null,
  problem: null, // why nothing new is known of what runs
  declared: {},
  connection: "connecting", // "live", "lost", "refused"
  samples: new Map(), // by environment and service: [{at, values}], the oldest first
  actions: new Map(), // by environment
  hover: null, // seconds since the epoch, under the pointer, for all charts at once
  range: Number(localStorage.getItem("range")) || 900,
};

let draw = () => {};
let isAsked = false;

export function drawnBy(render) {
  draw = render;
}

export function changed() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

/** Draw what is due now: a key is about what the address says, not about what the last frame showed. */
export function drawNow() {
  draw();
}

export const environments = () => state.inspection?.environments ?? [];
/** By its key, or by its id where no other one has that. */
export function environmentOf(name) {
  const found = environments().filter((each) => each.key === name || each.id === name);
  return found.length === 1 ? found[0] : undefined;
}
export const declaredOf = (service) => state.declared[service] ?? { title: service, metrics: [], panels: [] };
export const samplesOf = (environment, service) => state.samples.get(`${environment}/${service}`) ?? [];

/** Add samples of a service, in any order, and forget what is older than an hour. */
export function addSamples(environment, service, added) {
  const known = samplesOf(environment, service);
  const last = known.at(-1)?.at ?? -Infinity;
  const isNewer = added.length === 1 && added[0].at > last;
  const all = isNewer ? [...known, ...added] : [...new Map([...known, ...added].map((each) => [each.at, each])).values()].sort((a, b) => a.at - b.at);
  const oldest = (all.at(-1)?.at ?? 0) - HOUR;
  state.samples.set(`${environment}/${service}`, all[0]?.at < oldest ? all.filter((each) => each.at >= oldest) : all);
}

/** Forget what is not listed any more, and that it was asked for: it may come back. */
export function keepListed(asked) {
  const listed = new Set(environments().flatMap((each) => [each.key, ...each.services.map((service) => `${each.key}/${service.name}`)]));
  for (const kept of [state.samples, state.actions, asked]) {
    for (const key of kept.keys()) if (!listed.has(key)) kept.delete(key);
  }
}
