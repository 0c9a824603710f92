"""An environment as HTML, for the output of a notebook's cell."""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from triton_env.core.readiness import check_listening
from triton_env.core.threads import in_thread
from triton_env.core.timeline import Phase, Timeline
from triton_env.errors import StartCancelled
from triton_env.progress.rows import seconds_words
from triton_env.services import SERVICES, Service

if TYPE_CHECKING:
    from triton_env._startup import Startup

_LISTEN_TIMEOUT = 0.5
_VERSION_TIMEOUT = 1.5
"""Seconds that a cell waits for servers, for all of them together. One that does not answer may not hold it up."""

_BAR_PIXELS = 160
_COLOURS = {Phase.PULL: "#a3acb5", Phase.CREATE: "#a9c4de", Phase.BOOT: "#1f6fb4", Phase.FAILED: "#c0533a"}
_GOOD, _BAD = "#2a8c7c", "#c0533a"
_CELL = "text-align:left;vertical-align:top;padding:3px 16px 3px 0;border:0;background:none;white-space:nowrap"
_FADED = "opacity:.65"
_HIDDEN = "•••"

_versions: "WeakKeyDictionary[Service, Future[str]]" = WeakKeyDictionary()
"""What servers were asked and have answered: a version does not change while a server runs."""
_asking = threading.Lock()


def page(names: Sequence[str], state: str, run: "Startup | None", timeline: Timeline | None) -> str:
    """An environment as HTML: state, runtime, services and start. Answers within seconds whatever the servers do.

    Args:
        names: of its services, in the order in which people read them.
        state: in a word, where it does not run.
        run: the start that is in force; None where it does not run.
        timeline: of the last start; None where there was none.
    """
    if run is None:
        rows = [_row(name, "", "", "", _bar(name, timeline)) for name in names]
        return _frame(_head(state, "", ""), rows, timeline)
    running = {name: future.result() for name, future in run.services.items() if _has_succeeded(future)}
    listening = _listening(running)
    versions = _answers({name: running[name] for name in listening})
    rows = []
    for name in names:
        if name in running:
            # Notebooks are saved with what they show, and passed on.
            status = _coloured("ready", _GOOD) if name in listening else _silent(run, name)
            address = _address(running[name], hidden=run.mode.secrets_outlive_us)
        else:
            status, address = _why_not(run.services[name]), ""
        rows.append(_row(name, escape(versions.get(name, "")), status, address, _bar(name, timeline)))
    runtime = run.runtime.result() if _has_succeeded(run.runtime) else None
    where = f"{runtime.name}, since {runtime.reason}" if runtime else ""
    return _frame(_head(_state(run), run.id, where), rows, timeline)


def _state(run: "Startup") -> str:
    futures = run.services.values()
    if not all(future.done() for future in futures):
        return "starting"
    return "running" if all(map(_has_succeeded, futures)) else "failed"


def _has_succeeded(future: "Future[Any]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _why_not(future: "Future[Service]") -> str:
    if not future.done():
        return "starting"
    if isinstance(future.exception(), StartCancelled):
        return "cancelled"
    return _coloured(escape(str(future.exception()).partition("\n")[0]), _BAD)


def _silent(run: "Startup", name: str) -> str:
    """Why a server does not answer."""
    died = run.liveness.died(name)
    words = f"{died.what.partition(' ')[2].rstrip('.')}: {died.cause}" if died else "no answer"
    return _coloured(escape(words), _BAD)


def _listening(services: dict[str, Service]) -> set[str]:
    answers = {
        name: in_thread(check_listening, service.host, service.port) for name, service in sorted(services.items())
    }
    wait(answers.values(), timeout=_LISTEN_TIMEOUT)
    return {name for name, answer in answers.items() if _has_succeeded(answer)}


def _answers(services: dict[str, Service]) -> dict[str, str]:
    """The versions that are known, by service name. Each server is asked once, until it has answered."""
    asked: list[Future[str]] = []
    with _asking:
        for service in services.values():
            before = _versions.get(service)
            if before is None or (before.done() and not _has_succeeded(before)):
                _versions[service] = in_thread(service.server_version)
                asked.append(_versions[service])
        known = {name: _versions[service] for name, service in services.items()}
    # Those that others have asked before are not waited for again.
    wait(asked, timeout=_VERSION_TIMEOUT)
    return {name: answer.result() for name, answer in known.items() if _has_succeeded(answer)}


def _address(service: Service, *, hidden: bool) -> str:
    """The URL; its password, if there is one, behind a click, or not at all."""
    parts = urlsplit(service.url)
    if not parts.password:
        return _code(service.url)
    user, _, _ = parts.netloc.rpartition("@")[0].partition(":")
    host = parts.netloc.rpartition("@")[2]
    masked = _code(parts._replace(netloc=f"{user}:{_HIDDEN}@{host}").geturl())
    if hidden:
        return masked
    return f'<details><summary style="cursor:pointer">{masked}</summary>{_code(service.url)}</details>'


def _bar(name: str, timeline: Timeline | None) -> str:
    """How the start of a service went, as a bar on the scale of the whole start."""
    spans = timeline.of(name) if timeline else ()
    if timeline is None or not spans or not timeline.total:
        return ""
    parts: list[str] = []
    for span in spans:
        left, width = (round(_BAR_PIXELS * seconds / timeline.total) for seconds in (span.start, span.duration))
        colour = _COLOURS.get(span.phase)
        if colour and (width or span.phase is Phase.FAILED):
            place = f"position:absolute;top:0;height:100%;left:{left}px;width:{max(width, 2)}px"
            title = escape(f"{span.phase} {seconds_words(span.duration)}")
            parts.append(f'<span title="{title}" style="{place};background:{colour}"></span>')
    box = f"display:inline-block;position:relative;width:{_BAR_PIXELS}px;height:9px;background:rgba(128,128,128,.15)"
    ready = timeline.ready_at(name)
    words = f"ready after {seconds_words(ready)}" if ready is not None else "not ready"
    return f'<span style="{box}">{"".join(parts)}</span> <span style="{_FADED}">{words}</span>'


def _head(state: str, identity: str, where: str) -> str:
    colour = {"running": _GOOD, "failed": _BAD}.get(state)
    words = [_coloured(f"<b>{escape(state)}</b>", colour) if colour else f"<b>{escape(state)}</b>"]
    words += [f'<span style="{_FADED}">{escape(where)}</span>'] if where else []
    return f"<div><b>TritonEnvironment</b> {_code(identity) + ' ' if identity else ''}{' &ensp; '.join(words)}</div>"


def _row(name: str, *cells: str) -> str:
    return _line("td", [f"<b>{escape(SERVICES[name].title)}</b>", *cells])


def _frame(head: str, rows: Iterable[str], timeline: Timeline | None) -> str:
    titles = ("", "version", "state", "address", "start" if timeline and timeline.spans else "")
    table = f"<thead>{_line('th', titles)}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<div style="overflow-x:auto">{head}<table style="border:0;margin:4px 0">{table}</table></div>'


def _line(tag: str, cells: Iterable[str]) -> str:
    style = _CELL if tag == "td" else f"{_CELL};font-weight:normal;{_FADED}"
    return f'<tr style="background:none">{"".join(f"""<{tag} style="{style}">{cell}</{tag}>""" for cell in cells)}</tr>'


def _coloured(html: str, colour: str) -> str:
    return f'<span style="color:{colour}">{html}</span>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
