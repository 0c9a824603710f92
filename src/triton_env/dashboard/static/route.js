// Addresses of the page: all that is shown can be bookmarked, and the browser's "back" goes back.
//
//   #/                                      all environments
//   #/ENVIRONMENT[/TAB]                     one of them: its services, or "logs", "start", "spaces"
//   #/ENVIRONMENT/service/SERVICE[/TAB]     one of its services: its metrics, or "logs"
//   #/ENVIRONMENT/service/SERVICE/panel/PANEL[/ARGUMENT]

const part = encodeURIComponent;

export const toOverview = () => "#/";
export const toEnvironment = (environment, tab = "") => `#/${part(environment)}${tab && `/${tab}`}`;
export const toService = (environment, service, tab = "") => `#/${part(environment)}/service/${part(service)}${tab && `/${tab}`}`;
export const toPanel = (environment, service, panel, argument = "") =>
  `${toService(environment, service)}/panel/${part(panel)}${argument && `/${part(argument)}`}`;

export function currentRoute() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const [environment = "", kind = "", service = "", tab = "", panel = "", argument = ""] = parts;
  if (kind !== "service") return { environment, service: "", tab: kind, panel: "", argument: "" };
  return { environment, service, tab, panel: tab === "panel" ? panel : "", argument };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // typed by hand
  }
}
