"""A dashboard of this process, and a browser that looks at it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, Request, expect

import browser
from conftest import in_ci
from patience import SECONDS, WAIT, until
from triton_env import Settings
from triton_env.dashboard.serving import Serving

MILLISECONDS = WAIT * 1000
# A page may be late by all that its server may be late.
expect.set_options(timeout=MILLISECONDS)


def require_browser() -> None:
    """Skip where there is none; CI has to have one."""
    if browser.program():
        return
    words = "this machine has no Chromium (bash scripts/test.sh installs it)"
    if in_ci():
        pytest.fail(f"CI has to run the browser tests, but {words}", pytrace=False)
    pytest.skip(words)


@dataclass
class Site:
    """A dashboard and a browser's window on it.

    Args:
        browser: that shows it.
        settings: where state is kept.

    Attributes:
        context: the window, with its cookies.
        faults: what the browser said about the page that is a mistake of the page.
        asked: the addresses of all requests.
    """

    browser: Browser
    settings: Settings
    serving: Serving
    context: BrowserContext
    faults: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.serving.key.port}/"

    def window(self, context: BrowserContext | None = None) -> Page:
        """A new page, whose faults are collected."""
        page = (context or self.context).new_page()
        page.set_default_timeout(MILLISECONDS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("request", lambda request: self.asked.add(request.url))
        return page

    def at(self, page: Page, *parts: str) -> Page:
        """Show a view: the parts of its address."""
        from urllib.parse import quote

        visit(page, f"{self.root}#/{'/'.join(quote(part, safe='') for part in parts)}")
        return page

    def _said(self, kind: str, text: str) -> None:
        # Statuses of answers are what tests are about.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.faults.append(text)


@contextmanager
def site(settings: Settings) -> Iterator[Site]:
    """One that runs, signed in."""
    require_browser()
    with browser.launched() as chromium, Serving(settings, timeout=SECONDS) as serving:
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        found = Site(chromium, settings, serving, context)
        page = found.window()
        visit(page, serving.url)
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        page.close()
        yield found
        context.close()


def visit(page: Page, url: str) -> None:
    """Go there. Chromium gives up what is under way when a network changes, as with each container of another test."""
    failed: list[str] = []

    def note(request: Request) -> None:
        if request.resource_type in ("script", "stylesheet"):
            failed.append(request.resource_type)

    def went() -> bool:
        try:
            if failed:
                # The page is about to load itself again, as it lacks a part.
                page.goto("about:blank")
            failed.clear()
            page.goto(url)
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in str(error) and "interrupted" not in str(error):
                raise
            failed.append("document")
        return not failed

    page.on("requestfailed", note)
    try:
        assert until(went)
    finally:
        page.remove_listener("requestfailed", note)


def rows(page: Page) -> list[list[str]]:
    """What the table of a panel shows."""
    table = page.locator("table.data")
    return [
        [cell.strip() for cell in row]
        for row in table.locator("tbody tr").evaluate_all(
            "rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
        )
    ]


def answered(page: Page, button: str) -> None:
    """Press a button of the dialog that is open."""
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


@contextmanager
def load(work: Callable[[], Any]) -> Iterator[None]:
    """Work again and again in a thread. It goes on where a server is restarted under it."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            with suppress(Exception):
                work()
            over.wait(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
