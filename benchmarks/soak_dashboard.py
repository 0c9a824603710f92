"""The dashboard of `soak.py --dashboard`: its process, and a reader that keeps the page open."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx
import psutil
from dashboard_process import dashboard
from soak_containers import MB

from triton_env.services import SERVICES

VIEWS = 5
"""How often the page shows another view in one phase."""
IsEnded = Callable[[], bool]
_TESTS = Path(__file__).parents[1] / "tests"
_LOOK = 500
"""Milliseconds within which the page's thread notices that it is to end."""
_PAGE_TIMEOUT = 60_000
_JOIN_TIMEOUT = 30
_IN_PAGE = """async () => {
    const walker = document.createTreeWalker(document);
    let attached = 1;
    while (walker.nextNode()) attached += 1;
    const { environments, state } = await import(new URL("store.js", document.querySelector("script[src]").src));
    return {
        attached,
        environments: environments().length,
        samples: [...state.samples.values()].reduce((count, each) => count + each.length, 0),
    };
}"""


class Notes(Protocol):
    """Where records go; see `Recorder` of `soak.py`."""

    def write(self, kind: str, **values: Any) -> None:
        """Write one record."""

    def fail(self, service: str, what: str, words: str) -> None:
        """Write down that something is not as it should be."""


class Watched:
    """A dashboard that runs while its page is open.

    Args:
        process: of the dashboard.
        notes: where failures go.
    """

    def __init__(self, process: psutil.Process, notes: Notes) -> None:
        self._process = process
        self._notes = notes
        process.cpu_percent()

    def usage(self) -> dict[str, float] | None:
        """What the process uses now, and percent of one CPU since it was asked before; None where it has ended."""
        try:
            with self._process.oneshot():
                memory = self._process.memory_full_info()
                return {
                    "memory": round(memory.uss / MB, 2),
                    "rss": round(memory.rss / MB, 2),
                    "cpu": self._process.cpu_percent(),
                    "threads": self._process.num_threads(),
                    "descriptors": self._process.num_fds(),
                }
        except psutil.Error as error:
            self._notes.fail("dashboard", "process", f"{type(error).__name__}: {error}")
            return None


@contextmanager
def watched(project: str, phase: float, notes: Notes) -> Iterator[Watched]:
    """A dashboard in a process of its own, and a reader of its page until the end.

    Args:
        project: whose services the page shows.
        phase: seconds of the run's phases.
        notes: where the page's records go, and what fails.
    """
    views = partial(_alternate, project, phase / VIEWS, notes)
    with ExitStack() as stack:
        process, url = stack.enter_context(dashboard())
        stack.callback(Reader(_browser(url, views, notes) or partial(read_events, url), notes).end)
        yield Watched(process, notes)


class Reader:
    """Keeps the page open, in a thread, and opens it again where that fails.

    Args:
        read: opens the page; returns where what it is called with returns true.
        notes: where failures go.
    """

    def __init__(self, read: Callable[[IsEnded], None], notes: Notes) -> None:
        self._read, self._notes = read, notes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-page", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Close the page."""
        self._ended.set()
        self._thread.join(_JOIN_TIMEOUT)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._read(self._ended.is_set)
            except Exception as error:
                # At the end, Ctrl-C reaches the browser and the dashboard as well.
                if not self._ended.is_set():
                    self._notes.fail(
                        "dashboard", "page", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                    )
            self._ended.wait(_LOOK / 1000)


def read_events(url: str, is_ended: IsEnded) -> None:
    """Read the stream of events, as the page does."""
    with httpx.Client(trust_env=False, timeout=_PAGE_TIMEOUT / 1000) as http:
        http.get(url).raise_for_status()
        with http.stream("GET", f"{url.partition('/?')[0]}/api/events") as answer:
            answer.raise_for_status()
            for _ in answer.iter_raw():
                if is_ended():
                    return


def _browser(url: str, views: Callable[[Any, IsEnded], None], notes: Notes) -> Callable[[IsEnded], None] | None:
    """What opens the page in the browser of the dashboard's tests; None where there is none."""
    if not find_spec("playwright"):
        return None
    sys.path.append(str(_TESTS))
    import browser  # type: ignore[import-not-found]

    def read(is_ended: IsEnded) -> None:
        with browser.launched() as chromium:
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(_PAGE_TIMEOUT)
            page.on("pageerror", lambda error: notes.fail("dashboard", "page", str(error)[:300]))
            page.goto(url)
            page.get_by_text("Live", exact=True).wait_for()
            views(page, is_ended)

    return read if browser.program() else None


def _alternate(project: str, seconds: float, notes: Notes, page: Any, is_ended: IsEnded) -> None:
    """Show the charts of one service and the logs of all in turn, and measure the page between two views."""
    key = quote(f"{project}@docker", safe="")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    views = [view for service in SERVICES for view in (f"#/{key}/service/{service}", f"#/{key}/logs")]
    for view in cycle(views):
        page.evaluate("view => { location.hash = view; }", view)
        left = seconds * 1000
        while left > 0 and not is_ended():
            # Not a wait of this thread's: the browser's events come in while Playwright waits.
            page.wait_for_timeout(min(_LOOK, left))
            left -= _LOOK
        if is_ended():
            return
        charts, lines = (page.locator(each).count() for each in (".charts .chart", ".lines .line"))
        # The same view for each measurement, so that the numbers can be compared.
        page.evaluate("view => { location.hash = view; }", f"#/{key}")
        page.locator(".charts, .lines").first.wait_for(state="detached")
        page.wait_for_timeout(_LOOK)
        session.send("HeapProfiler.collectGarbage")
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        found = page.evaluate(_IN_PAGE)
        notes.write(
            "page",
            view=view.rpartition("/")[2],
            charts=charts,
            lines=lines,
            heap=round(metrics["JSHeapUsedSize"] / MB, 3),
            nodes=metrics["Nodes"],
            detached=metrics["Nodes"] - found["attached"],
            listeners=metrics["JSEventListeners"],
            environments=found["environments"],
            samples=found["samples"],
        )
