// Draws the page: what is around the views, and the view of the current address.

import { connect } from "./live.js";
import { environmentView, notThere } from "./environment.js";
import { listenToKeys } from "./keyboard.js";
import { navView } from "./nav.js";
import { overview } from "./overview.js";
import { command, emptyState, problem, titleOf } from "./parts.js";
import { currentRoute } from "./route.js";
import { serviceView } from "./service.js";
import { changed, drawnBy, environmentOf, state } from "./store.js";
import { h, patch } from "./vdom.js";

const AGES_CHANGE_EVERY = 15000;
const THEMES = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
const CONNECTIONS = {
  connecting: ["warn", "Connecting"],
  live: ["good", "Live"],
  lost: ["bad", "Reconnecting"],
  refused: ["bad", "Signed out"],
};

const menu = document.getElementById("menu");
const theme = document.getElementById("theme");

function draw() {
  const route = currentRoute();
  const environment = environmentOf(route.environment);
  const service = environment?.services.find((each) => each.name === route.service);
  const [mood, words] = CONNECTIONS[state.connection];
  patch(document.getElementById("connection"), h("span", { class: `state ${mood}` }, h("span", { class: `dot ${mood}` }), words));
  patch(document.getElementById("nav"), state.inspection && navView(route));
  patch(document.getElementById("main"), banner(), state.inspection ? view(route, environment, service) : h("p", { class: "faded loading" }, "Looking at what runs \u2026"));
  document.title = [service?.title, environment && titleOf(environment), "triton-env"].filter(Boolean).join(" \u00b7 ");
}

function view(route, environment, service) {
  if (!route.environment) return overview();
  if (!environment) return notThere("environment");
  if (!route.service) return environmentView(environment, route);
  return service ? serviceView(environment, service, route) : notThere("service");
}

function banner() {
  if (state.connection === "refused") return h("div", { key: "banner" }, emptyState("The dashboard was started again", h("p", null, "Its address has a new token. Open the address that it printed, or start it again:"), command("python -m triton_env dashboard --open")));
  if (state.connection === "lost") return h("p", { key: "banner", class: "note bad", role: "status" }, "The dashboard does not answer. What is shown may be old; the page goes on by itself once it answers.");
  return state.problem && h("div", { key: "banner" }, problem(state.problem));
}

function moved() {
  closeMenu();
  document.getElementById("main").scrollTop = 0;
  window.scrollTo(0, 0);
  changed();
}

function closeMenu() {
  document.body.classList.remove("menu-open");
  menu.setAttribute("aria-expanded", "false");
}

function showTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("theme", name);
  theme.setAttribute("aria-label", THEMES[name]);
  theme.title = THEMES[name];
}

function nextTheme() {
  const names = Object.keys(THEMES);
  showTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length]);
}

showTheme(document.documentElement.dataset.theme ?? "");
theme.onclick = nextTheme;
menu.onclick = () => menu.setAttribute("aria-expanded", String(document.body.classList.toggle("menu-open")));
document.querySelector(".skip").onclick = (event) => {
  event.preventDefault(); // the part after "#" is the address of a view
  document.getElementById("main").focus();
};
// The cookie has the token now. Out of the address bar it gets into no bookmark and no screenshot.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
window.addEventListener("hashchange", moved);
setInterval(changed, AGES_CHANGE_EVERY);
listenToKeys(nextTheme);
drawnBy(draw);
draw();
connect();
