"""What the keys of `top` do."""

from functools import partial
from typing import TYPE_CHECKING

from triton_env.cli.terminal import full_screen
from triton_env.cli.top import drawing
from triton_env.cli.top.watching import Deed, Line, Log, Watcher
from triton_env.settings import Settings
from triton_env.steering import Action, act, actions

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from triton_env.inspection import EnvironmentEntry

_WAIT = 0.2
"""Seconds within which something new is shown."""


class Program:
    """The view and its keys, until it is left.

    Args:
        console: a terminal.
    """

    def __init__(self, settings: Settings, console: "Console") -> None:
        self._settings = settings
        self._console = console
        self._watcher = Watcher(settings)
        self._selected: tuple[str, str, str] | None = None
        self._filter = ""
        self._types_filter = False
        self._shows_help = False
        self._question: tuple[Line, Action] | None = None
        self._deed: Deed | None = None
        self._log: Log | None = None
        self._above = 0  # lines of the log between the last one shown and the end
        self._is_left = False

    def run(self) -> None:
        """Show it, and obey, until a person leaves it."""
        self._watcher.begin()
        try:
            with full_screen(self._console) as screen:
                shown: object = None
                while not self._is_left:
                    self._check()
                    if shown != (state := self._state()):
                        screen.show(self._drawn())
                        shown = state
                    try:
                        keys = screen.keys(_WAIT)
                    except EOFError:
                        return
                    for key in filter(None, keys):
                        self._press(key)
        finally:
            self._watcher.close()
            self._close_log()

    def _check(self) -> None:
        """Raise what has ended some of the work beside this, which is a mistake of ours."""
        self._watcher.check()
        if self._log:
            self._log.check()
        if self._deed:
            self._deed.check()

    def _state(self) -> object:
        """What decides what is to be seen."""
        log, deed = self._log, self._deed
        return (
            *(self._console.size, self._watcher.looks, self._selected, self._filter, self._types_filter),
            *(self._shows_help, self._question, self._above),
            log and (log.service, log.environment, log.reads),
            deed and (deed.words, deed.is_over),
        )

    def _drawn(self) -> "RenderableType":
        if self._log:
            return drawing.log(self._console, self._log, self._above)
        if self._shows_help:
            return drawing.help_page()
        return drawing.table(
            self._console,
            self._lines(),
            self._chosen(),
            total=len(self._watcher.lines),
            foot=drawing.foot(
                self._console,
                question=self._question,
                deed=self._deed,
                problem=self._watcher.problem,
                words=self._filter,
                types_filter=self._types_filter,
            ),
            is_first_look=not self._watcher.looks,
        )

    def _lines(self) -> list[Line]:
        return [line for line in self._watcher.lines if self._filter.lower() in line.words]

    def _chosen(self) -> Line | None:
        """The service that is selected; the first one where that is gone."""
        lines = self._lines()
        return next((line for line in lines if line.key == self._selected), lines[0] if lines else None)

    def _press(self, key: str) -> None:
        if self._log:
            self._press_in_log(key)
        elif self._question:
            self._answer(key)
        elif self._types_filter:
            self._type(key)
        elif self._shows_help:
            self._shows_help = False
        else:
            self._press_in_table(key)

    def _press_in_table(self, key: str) -> None:
        if self._deed and self._deed.is_over:
            self._deed = None
        page = max(self._console.height - drawing.AROUND_TABLE, 1)
        match key:
            case "up" | "k":
                self._move(-1)
            case "down" | "j":
                self._move(1)
            case "page up":
                self._move(-page)
            case "page down":
                self._move(page)
            case "home" | "g":
                self._move(-len(self._watcher.lines))
            case "end" | "G":
                self._move(len(self._watcher.lines))
            case "l" | "enter":
                self._open_log()
            case "r":
                self._ask("restart")
            case "s":
                self._ask("stop")
            case "/":
                self._types_filter = True
            case "?" | "h":
                self._shows_help = True
            case "escape":
                self._filter = ""
            case "q":
                self._leave()

    def _leave(self) -> None:
        if self._deed and not self._deed.is_over and not self._deed.words.endswith(drawing.LEAVE):
            self._deed.words += drawing.LEAVE
        else:
            self._is_left = True

    def _move(self, by: int) -> None:
        lines, chosen = self._lines(), self._chosen()
        if chosen:
            place = [line.key for line in lines].index(chosen.key)
            self._selected = lines[min(max(place + by, 0), len(lines) - 1)].key

    def _type(self, key: str) -> None:
        match key:
            case "enter":
                self._types_filter = False
            case "escape":
                self._types_filter, self._filter = False, ""
            case "backspace":
                self._filter = self._filter[:-1]
            case "up" | "down":
                self._move(-1 if key == "up" else 1)
            case _ if len(key) == 1:
                self._filter += key

    def _ask(self, name: str) -> None:
        """Ask whether an action is meant, unless another one is at work."""
        line = self._chosen()
        if line is None or (self._deed and not self._deed.is_over):
            return
        self._selected = line.key  # it stays the one that the question names
        action = next((each for each in self._offered(line) if each.name == name), None)
        if action:
            self._question = line, action
        else:
            self._deed = Deed(drawing.not_offered(line, name), is_over=True, has_failed=True)

    def _offered(self, line: Line) -> tuple[Action, ...]:
        return actions(line.environment, [each.environment for each in self._watcher.lines])

    def _answer(self, key: str) -> None:
        question, self._question = self._question, None
        if key not in ("y", "Y") or question is None:
            return
        line, action = question
        self._deed = Deed(drawing.doing(line, action))
        service = line.service.name if action.needs_service else ""
        self._deed.begin(partial(self._act, line.environment, action.name, service))

    def _act(self, environment: "EnvironmentEntry", action: str, service: str) -> str:
        try:
            return act(self._settings, environment.id, action, runtime=environment.runtime, service=service)
        finally:
            self._watcher.hurry()

    def _open_log(self) -> None:
        if line := self._chosen():
            self._selected = line.key
            environment = line.environment
            self._log = Log(self._settings, environment.id, environment.runtime, line.service.name)
            self._above = 0
            self._log.begin()

    def _press_in_log(self, key: str) -> None:
        assert self._log is not None
        page = max(self._console.height - drawing.AROUND_LOG, 1)
        by = {"up": 1, "k": 1, "down": -1, "j": -1, "page up": page, "page down": -page}.get(key, 0)
        if key in ("q", "escape", "l"):
            self._close_log()
        elif key in ("end", "G"):
            self._above = 0
        elif by or key in ("home", "g"):
            most = max(len(self._log.lines) - page, 0)
            self._above = most if not by else min(max(self._above + by, 0), most)

    def _close_log(self) -> None:
        if self._log:
            self._log.close()
            self._log = None
