"""The browser of the dashboard's tests: Debian's Chromium, which Playwright from PyPI drives.

    python tests/browser.py

installs it where it is missing and that is possible.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from standins import apt

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""What it is called on PATH. The first has no windows, and starts in a fraction of the time."""
ARGUMENTS = (
    # /dev/shm of a container holds 64 MB.
    "--disable-dev-shm-usage",
    # Its sandbox needs namespaces, which root does not get, nor a container. It sees the tests' own pages alone.
    "--no-sandbox",
)


def program() -> str:
    """Where it is; empty where this machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), "")


@contextmanager
def launched() -> Iterator[Browser]:
    """One that runs, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def main() -> None:
    # With a font that it can show text in.
    if not program() and (problem := apt.require(NAMES[0], NAMES[0], "fonts-inter")):
        print(problem, file=sys.stderr)
        # Its tests are skipped then, but not in CI.
        sys.exit(bool(os.environ.get("CI")))


if __name__ == "__main__":
    main()
