// What is drawn of a service: its processor, its memory, and each metric that it declares. Counters become rates, and a
// counter with the title "... hits" and one with "... misses" become their ratio.

// Servers are asked every two seconds while a page is open, else every minute. What is further apart is not connected.
const LONGEST_GAP = 130;
// How long a value counts as that of now.
const MOMENT = 20;
const EVERYWHERE = [
  { name: "cpu_percent", kind: "gauge", unit: "percent", title: "CPU", help: "Of one core; several cores can give more than 100 %." },
  { name: "memory", kind: "gauge", unit: "bytes", title: "Memory", help: "Memory that is in use." },
];

/** @returns {{name: string, title: string, help: string, unit: string, perSecond: boolean, points: function(Array): Array}[]} */
export function seriesOf(metrics) {
  const counters = new Map(metrics.filter((each) => each.kind === "counter").map((each) => [each.title.toLowerCase(), each]));
  const used = new Set();
  const ratios = [];
  for (const [title, hits] of counters) {
    const misses = counters.get(title.replace(/hits$/, "misses"));
    if (!misses || misses === hits) continue;
    used.add(hits.name).add(misses.name);
    ratios.push({ name: hits.name, title: "Cache hits", help: `${hits.help} Of all look-ups.`, unit: "percent", perSecond: false, points: ratioOf(hits.name, misses.name) });
  }
  const rest = metrics.filter((each) => !used.has(each.name));
  return [...[...EVERYWHERE, ...rest].map(plain), ...ratios];
}

function plain({ name, kind, unit, title, help }) {
  const perSecond = kind === "counter";
  return { name, title, help, unit, perSecond, points: perSecond ? rateOf(name) : valuesOf(name) };
}

const valuesOf = (name) => (samples) => samples.filter(({ values }) => name in values).map(({ at, values }) => ({ at, value: values[name] }));
const rateOf = (name) => (samples) => betweenSamples(samples, [name], (before, after, passed) => grown(before[name], after[name]) / passed);
const ratioOf = (hits, misses) => (samples) =>
  betweenSamples(samples, [hits, misses], (before, after) => {
    const [good, bad] = [grown(before[hits], after[hits]), grown(before[misses], after[misses])];
    return (100 * good) / (good + bad);
  });

/** NaN where it is not known: the server was restarted in between, and counts from zero. */
function grown(before, after) {
  return after >= before ? after - before : NaN;
}

function betweenSamples(samples, names, of) {
  // Some samples have the processor and the memory alone.
  const whole = samples.filter(({ values }) => names.every((name) => name in values));
  return whole.slice(1).map(({ at, values }, index) => {
    const before = whole[index];
    const value = of(before.values, values, at - before.at);
    return { at, value: Number.isFinite(value) ? value : null };
  });
}

/** The last value that is known and not old; null where there is none. */
export function lastValue(points) {
  const last = points.findLast((each) => each.value !== null);
  return last && Date.now() / 1000 - last.at < MOMENT ? last.value : null;
}

/**
 * At most `count` points since `from`, each the highest of what it stands for, in stretches without a gap.
 *
 * @returns {{at: number, value: number}[][]}
 */
export function stretches(points, from, to, count) {
  const width = (to - from) / count;
  const found = [];
  let [stretch, last] = [[], null];
  for (const { at, value } of points) {
    if (at < from - LONGEST_GAP || value === null) continue;
    if (last === null || at - last > LONGEST_GAP) found.push((stretch = []));
    const before = stretch.at(-1);
    if (before && Math.floor((at - from) / width) === before.bucket) before.value = Math.max(before.value, value);
    else stretch.push({ at, value, bucket: Math.floor((at - from) / width) });
    last = at;
  }
  return found.filter((each) => each.length);
}

/** The point that is nearest to a time; null where none is near. */
export function nearest(points, at) {
  let best = null;
  for (const each of points) {
    if (each.value !== null && (!best || Math.abs(each.at - at) < Math.abs(best.at - at))) best = each;
  }
  return best && Math.abs(best.at - at) < LONGEST_GAP ? best : null;
}
