// Runs before anything is painted. Not a module: those run later.
"use strict";
{
  // The theme that was chosen, so the page never flashes in the other one.
  const saved = localStorage.getItem("theme");
  if (saved === "light" || saved === "dark") document.documentElement.dataset.theme = saved;

  // A browser gives up what it fetches when the network changes, as it does with each container that starts, and a page
  // that lacks one of its parts shows nothing. So it is loaded again, a few times at most.
  const tries = Number(sessionStorage.getItem("tries"));
  const failed = (event) => {
    if (tries >= 5 || !(event.target instanceof HTMLScriptElement || event.target instanceof HTMLLinkElement)) return;
    sessionStorage.setItem("tries", String(tries + 1));
    setTimeout(() => location.reload(), 200 * (tries + 1));
  };
  window.addEventListener("error", failed, true);
  window.addEventListener("load", () => sessionStorage.removeItem("tries"));
}
