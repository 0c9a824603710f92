"""How long until four services are ready: bare `docker run`, Testcontainers' modules, Compose, and ours.

python benchmarks/startup.py [--rounds N] [--rows PATTERNS] [--json | --markdown]

README.md beside this file explains how to read the table. Everything that is started carries a label of this run and is
removed at the end, also after Ctrl-C.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import click
import psutil
from tables import Aim, Row, as_data, as_markdown, as_text, chosen, lines

from triton_env.core.model import Endpoint, Placement, ServiceRecipe, Storage
from triton_env.core.settings_group import Role
from triton_env.errors import TritonError
from triton_env.persistent.docker.compose import OUR_LABEL, Compose, compose_program
from triton_env.persistent.settings import persistent_settings
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.owner import LABEL
from triton_env.runtimes.ports import free_port, listener_on
from triton_env.services import SERVICES
from triton_env.settings import Settings, process_environment

LOOPBACK = "127.0.0.1"
POLL_INTERVAL = 0.01
"""Seconds between two tries of a bare service's readiness probe."""
TIMEOUT = 180
"""Seconds for one measurement."""
PATIENCE = 30
"""Seconds that an interrupted child gets to remove what it started."""
CLEAN_UP_TRIES = 10
PROJECT_TRIES = 20
CHILDREN = Path(__file__).with_name("startup_children.py")
MODULES = ", ".join(f"testcontainers.community.{name}" for name in ("clickhouse", "localstack", "postgres", "redis"))

ALL = tuple(f"bare-{name}" for name in SERVICES)
READY = Aim(1.15, "ratio")
PERSISTENT = ("persistent-first", "persistent-again", "persistent-attach")
LIKE_A_SESSION = Aim(1.2, "ratio")


def _rows() -> tuple[Row, ...]:
    titles = {name: service.title for name, service in SERVICES.items()}
    return (
        *(Row(f"bare-{name}", f"bare `docker run`, {title}") for name, title in titles.items()),
        Row("modules-sequence", "Testcontainers' modules, one after another", ALL),
        Row("modules-threads", "Testcontainers' modules, in threads", ALL),
        Row("compose", "`docker compose up --wait` of our file, empty volumes", ALL),
        Row("eager-cold", "ours, all four, fresh process with its imports", ALL, READY),
        Row("eager-start", "ours, all four, `start()` of that alone", ALL, READY),
        Row("eager-warm", "ours, all four, second start of the process", ALL, READY),
        *(
            Row(name, f"persistent, {what}", ("eager-start",), LIKE_A_SESSION)
            for name, what in zip(
                PERSISTENT,
                ("first start (empty volumes)", "start with data (volumes there)", "attach (all four running)"),
                strict=True,
            )
        ),
        *(
            Row(f"lazy-{name}", f"ours lazily, first query on {title}, fresh process", (f"bare-{name}",), READY)
            for name, title in titles.items()
        ),
        *(
            Row(f"lazy-warm-{name}", f"ours lazily, first query on {title}, second start", (f"bare-{name}",), READY)
            for name, title in titles.items()
        ),
        Row("stop", "ours, `stop()`", aim=Aim(0.5, "seconds")),
        Row("import", "`import triton_env`, over bare Python", aim=Aim(0.1, "seconds")),
        Row("help", "`python -m triton_env --help`", aim=Aim(0.25, "seconds")),
        Row("import-modules", "`import` of Testcontainers' four modules, over bare Python"),
    )


ROWS = _rows()


class Unmeasurable(click.ClickException):
    """This machine cannot run a measurement."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing to do per round, which yields a sample (in seconds) for each of its rows."""

    rows: tuple[str, ...]
    take: Callable[[], Mapping[str, float]]


class Bench:
    """One run: knows what it started, and removes it."""

    def __init__(self) -> None:
        self.id = token_hex(4)
        self.label = f"{LABEL}.benchmark={self.id}"
        self.settings = Settings()
        self._children: set[str] = set()
        self._projects: list[str] = []
        self._volumes: dict[str, tuple[str, ...]] = {}

    def measurements(self) -> list[Measurement]:
        """In the order of a round."""
        return [
            *(_single(f"bare-{name}", self.bare, name) for name in SERVICES),
            Measurement(("modules-sequence",), lambda: self.child("modules", "sequence", self.label)),
            Measurement(("modules-threads",), lambda: self.child("modules", "threads", self.label)),
            _single("compose", self.compose),
            Measurement(("eager-cold", "eager-start", "eager-warm", "stop"), lambda: self.child("eager")),
            Measurement(PERSISTENT, self.persistent),
            *(_lazy(self, name) for name in SERVICES),
            _single("import", lambda: _python("-c", "import triton_env") - _python("-c", "pass")),
            _single("help", _python, "-m", "triton_env", "--help"),
            _single("import-modules", lambda: _python("-c", f"import {MODULES}") - _python("-c", "pass")),
        ]

    def prepare(self) -> None:
        """Have all images on the engine, so that no sample contains a pull."""
        for name, service in SERVICES.items():
            recipe = service.recipe(self.settings).container
            if not _output("docker", "image", "ls", "--quiet", recipe.image):
                _say(f"pulling {recipe.image} ...")
                _output("docker", "pull", "--quiet", recipe.image, timeout=self.settings.triton_pull_timeout)
            declared = json.loads(_output("docker", "image", "inspect", "-f", "{{json .Config.Volumes}}", recipe.image))
            self._volumes[name] = tuple(dict.fromkeys((*(declared or {}), *recipe.data_paths)))

    def bare(self, name: str) -> float:
        """`docker run` of our recipe's image, variables, arguments and storage, until our readiness probe succeeds."""
        settings = self.settings.updated(**SERVICES[name].fresh_credentials())
        recipe = SERVICES[name].recipe(settings)
        ports = {port: free_port(LOOPBACK) for port in recipe.ports}
        placement = Placement({port.name: Endpoint(LOOPBACK, number) for port, number in ports.items()})
        service = SERVICES[name](settings, placement)
        publish = [word for port, number in ports.items() for word in ("-p", f"{LOOPBACK}:{number}:{port.number}")]
        container = f"triton-benchmark-{self.id}-{name}"
        command = ["docker", "run", "--detach", "--name", container, "--label", self.label, *publish]
        command += self._options(name, recipe)
        # Values by the environment, as arguments they would show in the process list.
        environment = process_environment() | dict(recipe.container.environment)
        try:
            begun = time.perf_counter()
            _output(*command, recipe.container.image, *recipe.container.command, environment=environment)
            _poll(service.ensure_ready, begun + recipe.timeout, lambda: _output("docker", "logs", container))
            return time.perf_counter() - begun
        finally:
            with suppress(Unmeasurable):
                _output("docker", "rm", "--force", "--volumes", container)

    def _options(self, name: str, recipe: ServiceRecipe) -> Iterator[str]:
        for variable in recipe.container.environment:
            yield from ("--env", variable)
        for path in self._volumes[name]:
            yield from ("--tmpfs" if recipe.container.storage is Storage.MEMORY else "--volume", path)

    def compose(self) -> float:
        """`docker compose up --wait` of the project's own file: until its health checks are satisfied."""
        with self._project() as compose:
            begun = time.perf_counter()
            _compose(compose, "up", "--detach", "--wait", "--quiet-pull")
            return time.perf_counter() - begun

    def persistent(self) -> dict[str, float]:
        """Ours, persistent, each time in a fresh process: on empty volumes, on those with data, and attached."""
        rows: dict[str, float] = {}
        with self._project() as compose, tempfile.TemporaryDirectory(prefix="triton-benchmark-") as state:
            _, environment = compose.command(())
            variables = ("TRITON_PROJECT", *(port.upper() for port in self.settings.names_in(Role.PORT)))
            chosen_here = {name: environment[name] for name in variables} | {"TRITON_STATE_DIR": state}
            for row in PERSISTENT:
                # The first is stopped, so that the second starts; the second is left running, for the third.
                rows[row] = self.child("persistent", "stop" if row == PERSISTENT[0] else "leave", **chosen_here)[
                    "start"
                ]
        return rows

    @contextmanager
    def _project(self) -> Iterator[Compose]:
        """A persistent project with ports of its own; removed with its volumes."""
        compose = Compose(self._project_settings(), self._engine_url(), LOOPBACK)
        self._projects.append(compose.project)
        try:
            yield compose
        finally:
            with suppress(Unmeasurable):  # `clean_up` sees what is left
                _compose(compose, "down", "--volumes", "--timeout", "0")

    def _project_settings(self) -> Settings:
        ports = self.settings.names_in(Role.PORT)
        defaults = {port: Settings.model_fields[port].default for port in ports}
        for number in range(len(self._projects), len(self._projects) + PROJECT_TRIES):
            name = f"triton-benchmark-{self.id}-{number}"
            # Ports follow from the name: those of daily development may be in use.
            settings = persistent_settings(self.settings.updated(triton_project=name, **defaults))
            if not any(listener_on(getattr(settings, port)) for port in ports):
                return settings
        raise Unmeasurable("There are no five free ports for a project.")

    @staticmethod
    def _engine_url() -> str:
        engine = Engine()
        engine.close()
        return engine.url

    def child(self, *arguments: str, **variables: str) -> dict[str, float]:
        """What `startup_children.py` measures in a fresh process, with these variables besides."""
        environment = process_environment() | variables
        environment |= {
            "TRITON_PROGRESS": "off",
            # Its image may be out of reach; without it the modules are, if anything, quicker.
            "TESTCONTAINERS_RYUK_DISABLED": "true",
        }
        command = [sys.executable, str(CHILDREN), *arguments]
        with _process(command, environment) as process:
            self._children.add(f"{process.pid} {psutil.Process(process.pid).create_time():.2f}")
            answer: dict[str, float] = json.loads(_answer(process, command, TIMEOUT))
        return answer

    def clean_up(self, *, interrupted: bool) -> None:
        """Remove what is still there of this run: by our label, and by that of environments whose owner was a child."""
        problem = ""
        for _ in range(CLEAN_UP_TRIES):
            if interrupted:
                # The engine may still be at a request whose sender is gone.
                time.sleep(1)
            found: list[str] = []
            for kind, remove in (("container", ("--force", "--volumes")), ("network", ()), ("volume", ())):
                if left := self._left(kind):
                    found += left
                    try:
                        _output("docker", kind, "rm", *remove, *left)
                    except Unmeasurable as error:  # it is being removed already; the next look finds that
                        problem = str(error)
            if not found:
                return
        raise Unmeasurable(f"Something may be left behind: {problem}\n\nhint: docker ps -a --filter label={self.label}")

    def _left(self, kind: str) -> list[str]:
        every = ("--all",) if kind == "container" else ()
        name = "{{.Name}}" if kind == "volume" else "{{.ID}}"
        ids: list[str] = []
        for label in (self.label, *(f"{OUR_LABEL}={project}" for project in self._projects)):
            ids += _output("docker", kind, "ls", *every, "--filter", f"label={label}", "--format", name).split()
        here = f"label={LABEL}.owner.host={socket.gethostname()}"
        # Both: process ids are used again, and what another process started is none of our business.
        owners = f'{name} {{{{.Label "{LABEL}.owner.pid"}}}} {{{{.Label "{LABEL}.owner.started"}}}}'
        for line in _output("docker", kind, "ls", *every, "--filter", here, "--format", owners).splitlines():
            identity, _, owner = line.partition(" ")
            if owner in self._children:
                ids.append(identity)
        return ids


def _single(row: str, take: Callable[..., float], *arguments: str) -> Measurement:
    return Measurement((row,), lambda: {row: take(*arguments)})


def _lazy(bench: Bench, name: str) -> Measurement:
    return Measurement((f"lazy-{name}", f"lazy-warm-{name}"), lambda: bench.child("lazy", name))


def _compose(compose: Compose, *arguments: str) -> None:
    command, environment = compose.command(arguments)
    _output(*command, environment=environment)


def _python(*arguments: str) -> float:
    """Seconds of a whole Python process."""
    begun = time.perf_counter()
    _output(sys.executable, *arguments)
    return time.perf_counter() - begun


def _poll(probe: Callable[[], None], deadline: float, logs: Callable[[], str]) -> None:
    while True:
        try:
            return probe()
        except Exception as error:
            if time.perf_counter() > deadline:
                raise Unmeasurable(f"A bare service did not get ready: {error}\n{logs()}") from error
        time.sleep(POLL_INTERVAL)


@contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str] | None) -> Iterator["subprocess.Popen[str]"]:
    try:
        # In a session of its own: on Ctrl-C we end it in order, instead of the terminal ending all at once.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
    except OSError as error:
        raise Unmeasurable(f"{command[0]} cannot be run: {error}") from error
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()


def _answer(process: "subprocess.Popen[str]", command: Sequence[str], timeout: float) -> str:
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise Unmeasurable(f"{command[0]} did not end within {timeout:g} s: {' '.join(command)}") from error
    if process.returncode:
        raise Unmeasurable(f"exit status {process.returncode} of: {' '.join(command)}\n{errors.strip()}")
    return output.strip()


def _output(*command: str, environment: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> str:
    with _process(command, environment) as process:
        return _answer(process, command, timeout)


def _say(words: str) -> None:
    click.echo(words, err=True)


def _rounds(bench: Bench, measurements: Sequence[Measurement], rounds: int, samples: dict[str, list[float]]) -> None:
    for number in range(1, rounds + 1):
        for measurement in measurements:
            taken = measurement.take()
            for row, seconds in taken.items():
                samples.setdefault(row, []).append(seconds)
            _say(f"round {number}/{rounds}  " + "  ".join(f"{row} {seconds:.3f} s" for row, seconds in taken.items()))


def _caption(bench: Bench, rounds: int) -> str:
    engine = _output("docker", "version", "--format", "{{.Server.Version}}")
    images = ", ".join(service.recipe(bench.settings).container.image for service in SERVICES.values())
    medians = f"medians of {rounds} rounds" if rounds > 1 else "one round"
    return f"{medians}; {os.cpu_count()} CPUs, Docker {engine}, Python {sys.version.split()[0]}; images {images}"


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="How often each row is measured.")
@click.option("--rows", "patterns", default="", help="Only these rows: names or patterns, such as bare-*,eager-cold.")
@click.option("--json", "form", flag_value="json", help="All samples, as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="The table as Markdown.")
def main(rounds: int, patterns: str, form: str | None) -> None:
    """Measure how long until four services are ready, against bare containers.

    A row's ratio needs its baselines in the same run: `--rows 'bare-*,eager-*'`.
    """
    try:
        rows = chosen(ROWS, patterns)
        bench = Bench()
    except (ValueError, TritonError) as error:
        raise click.UsageError(str(error)) from error
    names = {row.name for row in rows}
    measurements = [measurement for measurement in bench.measurements() if names.intersection(measurement.rows)]
    if names.intersection(("compose", *PERSISTENT)):
        try:
            compose_program()  # said now rather than in the middle of the first round
        except TritonError as error:
            raise Unmeasurable(str(error)) from error
    bench.prepare()
    samples: dict[str, list[float]] = {}
    signal.signal(signal.SIGTERM, _end)
    interrupted = True
    try:
        _rounds(bench, measurements, rounds, samples)
        interrupted = False
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        bench.clean_up(interrupted=interrupted)
    measured = lines(rows, samples)
    caption = _caption(bench, rounds)
    if form == "json":
        click.echo(json.dumps({"caption": caption, "rounds": rounds, "rows": as_data(measured)}, indent=2))
    elif form == "markdown":
        click.echo(f"{as_markdown(measured)}\n\n{caption}")
    else:
        click.echo(f"{as_text(measured)}\n\n{caption}")


if __name__ == "__main__":
    main()
