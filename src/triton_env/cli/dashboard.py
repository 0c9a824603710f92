"""`dashboard`: a page that shows what runs."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triton_env.cli.output import say
from triton_env.cli.signals import Interrupted, interruptible
from triton_env.errors import TritonError

if TYPE_CHECKING:
    from triton_env.settings import Settings


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Listen on this port.  [default: a free one]")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the token from this file, which is made (mode 0600) where it is missing.  [default: a new token]",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def command(port: int | None, token_file: Path | None, opens: bool) -> None:
    """Show what runs on a page of this machine, until Ctrl-C.

    \b
    python -m triton_env dashboard --open

    The page shows every environment of this user with its services, logs and data, and restarts, stops and resets
    them. It is served on 127.0.0.1 alone, to those who have the token in the URL that is printed on standard output.
    /metrics has the same numbers for Prometheus, which sends the token as a bearer: --port and --token-file keep its
    configuration valid.

    It needs the extra `dashboard`: pip install "triton-env[dashboard]".

    Exit status: 0 after Ctrl-C, SIGTERM or SIGHUP; 1 if the port is taken or the extra is not installed; 2 for wrong
    use.
    """
    with interruptible():
        try:
            _serve(port or 0, token_file, opens)
        except Interrupted:
            say("Ended. What it showed keeps running.")


@contextmanager
def opened(settings: "Settings", url: str) -> Iterator[None]:
    """Open a URL in the browser by a private file that leads there, and is removed at the end.

    Every user of the machine sees with which words a program is started, and the URL has the token.
    """
    import webbrowser

    from triton_env.core.private import replace
    from triton_env.state.folders import make_private, private_folder
    from triton_env.state.samples import FOLDER

    folder = private_folder(settings, FOLDER)
    path = folder / f"open-{os.getpid()}.html"
    try:
        make_private(folder)
        replace(path, f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(url)}">')
        if not webbrowser.open(path.as_uri()):
            say(f"No browser was found that could be started here. Open it by hand: {url}")
        yield
    finally:
        path.unlink(missing_ok=True)


def _serve(port: int, token_file: Path | None, opens: bool) -> None:
    from triton_env.dashboard.extra import check_installed
    from triton_env.settings import Settings

    check_installed()
    from triton_env.dashboard.guard import token_of
    from triton_env.dashboard.serving import Serving

    token, settings = token_of(token_file) if token_file else "", Settings()
    with Serving(settings, port, token) as serving, opened(settings, serving.url) if opens else nullcontext():
        click.echo(serving.url)
        say("Ctrl-C ends the dashboard, and nothing else.", bold=True)
        while serving.is_running:
            time.sleep(1)
        raise TritonError("The dashboard ended by itself.", where=serving.url)
