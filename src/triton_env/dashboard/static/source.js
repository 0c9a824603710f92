// Server-sent events that pause while the page is hidden. A browser opens six connections to a server at most, for all
// tabs together, and each stream keeps one.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5000;

/**
 * Listen to a stream until it is closed.
 *
 * @param {string} url
 * @param {object} handlers `on`: functions by the name of the event; `opened()`, each time the stream begins;
 *   `lost()`, when it breaks off and is tried again; `ended()`, for a stream that may end: it is not tried again.
 * @returns {function(): void} what closes it.
 */
export function listen(url, { on, opened, lost, ended }) {
  let source = null;
  let timer = 0;
  let pause = FIRST_PAUSE;

  function open() {
    source = new EventSource(url);
    source.onopen = () => {
      pause = FIRST_PAUSE;
      opened?.();
    };
    for (const [name, handle] of Object.entries(on)) source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    source.onerror = () => {
      stop();
      if (ended) return ended();
      lost?.();
      timer = setTimeout(open, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    };
  }

  function stop() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function seen() {
    stop();
    if (!document.hidden) open();
  }

  if (!ended) document.addEventListener("visibilitychange", seen);
  if (ended || !document.hidden) open();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    stop();
  };
}
