// The routes of the server.

/** What the server could not do: `what`, `cause` and `hint`. */
export class ApiError extends Error {
  constructor(status, { what, cause = "", hint = "" }) {
    super(what);
    Object.assign(this, { status, what, cause, hint });
  }
}

const part = encodeURIComponent;
const ofEnvironment = (environment) => `api/environments/${part(environment)}`;
const ofService = (environment, service) => `${ofEnvironment(environment)}/services/${part(service)}`;

function withQuery(path, values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
  return query.size ? `${path}?${query}` : path;
}

const RETRIES = 3;
const RETRY_AFTER = 250;

/** Browsers give up what is under way when the network changes, so what only reads is asked for again. */
async function response(path, options = {}, retries = options.method ? 0 : RETRIES) {
  try {
    return await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!retries) throw new ApiError(0, { what: "The dashboard does not answer.", cause: error.message, hint: "python -m triton_env dashboard" });
    await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER));
    return response(path, options, retries - 1);
  }
}

async function json(path, options) {
  const answer = await response(path, options);
  if (!answer.ok) throw await errorOf(answer);
  return answer.json();
}

/** What a response says that is not a good one. */
async function errorOf(answer) {
  const body = await answer.json().catch(() => ({}));
  return new ApiError(answer.status, body.error ?? { what: `The dashboard answers with status ${answer.status}.` });
}

/** A response whose body the caller reads. */
export async function opened(url, signal) {
  const answer = await response(url, { signal });
  if (!answer.ok) throw await errorOf(answer);
  return answer;
}

/** Why a stream could not be opened; null where it can. The browser does not show that to who asked for the stream. */
export async function whyNot(url) {
  const aborted = new AbortController();
  try {
    await opened(url, aborted.signal);
    return null;
  } catch (error) {
    return error;
  } finally {
    aborted.abort();
  }
}

export const inspection = () => json("api/inspection");
export const services = () => json("api/services");
export const samples = (environment, service, since) => json(withQuery(`${ofService(environment, service)}/samples`, { since }));
export const table = (environment, service, panel, argument, signal) =>
  json(withQuery(`${ofService(environment, service)}/panels/${part(panel)}`, { argument }), { signal });
export const snippets = (environment) => json(`${ofEnvironment(environment)}/snippets`);
export const actions = (environment) => json(`${ofEnvironment(environment)}/actions`);
export const act = (environment, action, values) =>
  json(`${ofEnvironment(environment)}/actions/${part(action)}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Triton-Env": "1" },
    body: JSON.stringify(values),
  });

export const eventsUrl = () => "api/events";
export const logsUrl = (environment, services, tail) => withQuery(`${ofEnvironment(environment)}/logs`, { services: services.join(","), tail });
export const streamUrl = (environment, service, panel, argument, seconds) =>
  withQuery(`${ofService(environment, service)}/streams/${part(panel)}`, { argument, seconds });
export const documentUrl = (environment, service, key, isInline) =>
  withQuery(`${ofService(environment, service)}/documents`, { key, inline: isInline ? "1" : "0" });
