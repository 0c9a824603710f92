"""A runtime that runs nothing: the boundary behind which an environment can be tested in milliseconds."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar
from unittest.mock import patch

from triton_env import TritonEnvironment
from triton_env.core import interrupts
from triton_env.core.ending import Ending
from triton_env.core.model import Endpoint, Placement, Probe, Program, ServiceRecipe
from triton_env.core.timeline import Phase
from triton_env.errors import StartCancelled
from triton_env.runtimes.access import Access
from triton_env.runtimes.base import Report
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.settings import Settings

Behaviour = Callable[["FakeRuntime"], None]
"""What happens between a service's boot and its readiness: returns for ready, raises for failed."""


def until_cancelled(runtime: "FakeRuntime") -> None:
    """Never gets ready."""
    runtime.cancelled.wait()
    raise StartCancelled("The start was cancelled.")


def after(event: threading.Event) -> Behaviour:
    """Ready once `event` is set."""

    def behaviour(runtime: "FakeRuntime") -> None:
        while not event.wait(0.005):
            if runtime.cancelled.is_set():
                raise StartCancelled("The start was cancelled.")

    return behaviour


def fails_with(error: BaseException) -> Behaviour:
    def behaviour(runtime: "FakeRuntime") -> None:
        raise error

    return behaviour


class FakeRuntime:
    """Every service is ready at once, unless `behaviours` say otherwise."""

    name: ClassVar[str] = "docker"
    reason = "it is a fake"

    def __init__(self, opener: "FakeRuntimes", settings: Settings, environment: str) -> None:
        self.opener = opener
        self.settings = settings
        self.environment = environment
        self.cancelled = threading.Event()
        self.recipes: dict[str, ServiceRecipe] = {}
        self.ready: list[str] = []
        self.called_off: list[str] = []
        self.stops = 0
        self.endings: dict[str, Ending] = {}

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        self.recipes[recipe.name] = recipe
        for phase in (Phase.PULL, Phase.CREATE, Phase.BOOT):
            report(phase, "")
        try:
            self.opener.behaviours.get(recipe.name, lambda runtime: None)(self)
        except StartCancelled:
            self.called_off.append(recipe.name)
            raise
        self.ready.append(recipe.name)
        report(Phase.READY, "")
        return Placement(
            endpoints={port.name: Endpoint("127.0.0.1", 20_000 + port.number) for port in recipe.ports},
            internal={port.name: Endpoint(recipe.container.alias, port.number) for port in recipe.ports},
        )

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        self.endings.pop(recipe.name, None)

    def access(self, service: str) -> Access:
        return ContainerAccess("unix:///fake", f"fake-{service}")

    def log_position(self, service: str) -> float:
        return 0

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return "\n".join(f"{service} line {number}" for number in range(lines))

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        return self.endings.get(service)

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        return Program(tuple(argv), environment)

    def stop(self) -> None:
        self.cancelled.set()
        self.stops += 1
        self.opener.on_stop()
        if self.opener.stop_error is not None:
            raise self.opener.stop_error


class FakeRuntimes:
    """Opens fake runtimes and keeps them.

    Attributes:
        behaviours: by service name; whatever is missing is ready at once.
        open_error: raised instead of opening a runtime.
        stop_error: raised at the end of each `stop`.
        on_stop: called in each `stop`.
        opened: the runtimes so far, with the names by which they were asked for in `names`.
    """

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.open_error: BaseException | None = None
        self.stop_error: BaseException | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.opened: list[FakeRuntime] = []
        self.names: list[str] = []

    def open(
        self,
        name: str,
        settings: Settings,
        environment: str,
        recipes: Sequence[ServiceRecipe] = (),
        say: Callable[[str], None] = lambda words: None,
    ) -> FakeRuntime:
        self.names.append(name)
        if self.open_error is not None:
            raise self.open_error
        self.opened.append(FakeRuntime(self, settings, environment))
        return self.opened[-1]

    @property
    def last(self) -> FakeRuntime:
        return self.opened[-1]


@contextmanager
def when_main_waits(action: Callable[[], object]) -> Iterator[None]:
    """Do it in another thread once the main thread, in the block, waits for services: that is seen, not guessed."""
    main = threading.main_thread().ident
    assert main is not None
    over = threading.Event()

    def work() -> None:
        seen: tuple[FrameType, int] | None = None
        while not over.wait(0.02):
            frame = sys._current_frames()[main]
            # Twice at the same instruction: it is in the wait, not on its way there.
            if _is_in_a_wait_for_a_future(frame) and seen == (frame, frame.f_lasti):
                action()
                return
            seen = frame, frame.f_lasti

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_in_a_wait_for_a_future(frame: FrameType) -> bool:
    if frame.f_code is not threading.Condition.wait.__code__:
        return False
    caller = frame.f_back
    while caller and caller.f_code.co_filename == threading.__file__:
        caller = caller.f_back
    return caller is not None and caller.f_code.co_filename == futures._base.__file__


@contextmanager
def installed() -> Iterator[FakeRuntimes]:
    """Environments that are started in the block run on fake runtimes. None is left to be cleaned up afterwards."""
    runtimes = FakeRuntimes()
    with patch("triton_env.runtimes.choice.open_runtime", runtimes.open):
        yield runtimes
    runtimes.stop_error = None
    for environment in interrupts.living():
        if isinstance(environment, TritonEnvironment) and environment._startup is None:
            environment.stop()
