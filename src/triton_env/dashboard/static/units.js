// Numbers as people read them. What is missing is a dash.

export const MISSING = "\u2013";
const NARROW = "\u202f";
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function grouped(value, digits) {
  return new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(value);
}

export function number(value) {
  if (!isNumber(value)) return MISSING;
  const size = Math.abs(value);
  if (size >= 1e7) return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  return grouped(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export function whole(value) {
  if (typeof value === "string") return value;
  if (!isNumber(value)) return MISSING;
  return Number.isInteger(value) ? grouped(value, 0) : grouped(value, 3);
}

export function bytes(value) {
  if (!isNumber(value)) return MISSING;
  let [size, unit] = [value, 0];
  while (Math.abs(size) >= 1000 && unit < BYTES.length - 1) [size, unit] = [size / 1024, unit + 1];
  return `${grouped(size, unit === 0 || Math.abs(size) >= 100 ? 0 : 1)}${NARROW}${BYTES[unit]}`;
}

export function seconds(value) {
  if (!isNumber(value)) return MISSING;
  const size = Math.abs(value);
  if (size === 0) return `0${NARROW}s`;
  if (size < 0.001) return `${grouped(value * 1e6, 0)}${NARROW}\u00b5s`;
  if (size < 1) return `${grouped(value * 1e3, size < 0.01 ? 1 : 0)}${NARROW}ms`;
  if (size < 60) return `${grouped(value, 1)}${NARROW}s`;
  const [whole, sign] = [Math.round(size), value < 0 ? "-" : ""];
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)}${NARROW}min ${whole % 60}${NARROW}s`;
  if (whole < 86400) return `${sign}${Math.floor(whole / 3600)}${NARROW}h ${Math.floor((whole % 3600) / 60)}${NARROW}min`;
  return `${sign}${Math.floor(whole / 86400)}${NARROW}d ${Math.floor((whole % 86400) / 3600)}${NARROW}h`;
}

export function percent(value) {
  return isNumber(value) ? `${grouped(value, value < 10 ? 1 : 0)}${NARROW}%` : MISSING;
}

/** Seconds since the epoch, of such a number or of a time in ISO's form; NaN where it is neither. */
export function epoch(value) {
  return typeof value === "number" ? value : Date.parse(value) / 1000;
}

export function time(value) {
  const at = epoch(value);
  if (Number.isNaN(at)) return value ? String(value) : MISSING;
  const [date, now] = [new Date(at * 1000), new Date()];
  const clock = date.toLocaleTimeString("en-GB");
  const isToday = date.toDateString() === now.toDateString();
  return isToday ? clock : `${date.toLocaleDateString("en-CA")} ${clock}`;
}

/** How long ago something was, in one unit. */
export function age(value) {
  const passed = Date.now() / 1000 - epoch(value);
  if (Number.isNaN(passed)) return MISSING;
  if (passed < 45) return "just now";
  for (const [size, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (passed >= size) return `${Math.floor(passed / size)}${NARROW}${word} ago`;
  }
  return `1${NARROW}min ago`;
}

/** By the `unit` of a metric, or the `kind` of a column. */
export function inUnit(value, unit) {
  if (value === null || value === undefined) return MISSING;
  return ({ bytes, seconds, percent, time, number: whole }[unit] ?? number)(value);
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
