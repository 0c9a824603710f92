"""Runs of the example's tests in which a process is killed at a random moment, and what is left afterwards.

python benchmarks/chaos.py [--runs N] [--runtimes docker,embedded] [--seed N]
python benchmarks/chaos.py --restores N [--seed N]   # kills restores and backups instead

Each run is `pytest` in examples/app, serially or in four processes. The victim is the process of pytest, one of its
workers, the keeper of the shared environment, or the reaper or guard of an environment, or Ctrl-C is pressed.
Then containers, networks, volumes, processes and directories have to become what they were before: as long as something
still goes, it is waited for, and the longest time is reported. Where the reaper was killed as well, nothing is left to
clean up: the next start has to, so a short one follows. What belongs
to others who use the same machine does not count: the runs have a folder for temporary files and a mark of their own,
and on the engine what has a living owner without that mark is not theirs.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import chaos_restores
import click
import psutil

from triton_env.runtimes.embedded.directory import abandoned
from triton_env.runtimes.owner import LABEL
from triton_env.services import SERVICES

APPLICATION = Path(__file__).parents[1] / "examples" / "app"
MARK = "TRITON_CHAOS_RUN"
"""In the environment of everything that a run starts, so that the victims are its own."""
PATIENCE = 30.0
"""Seconds in which something more of what is left has to go. execnet gives a worker 15 that has lost its pytest."""
LONGEST = 120.0
"""Seconds in which all of a run has to be gone, and that it may take besides ten times what it takes undisturbed."""
WORKER = "exec(eval(sys.stdin.readline()))"
"""In the command line of a worker of pytest-xdist, which execnet starts."""
OURS = re.compile(rf"triton[-_]env|claims_desk|valkey-server|/pginstall/|moto|{re.escape(WORKER)}")
"""In the command lines of what the runs start."""
SHARED_MEMORY = Path("/dev/shm")
_INTERVAL = 0.3
"""Seconds between two looks at what is left."""
ANONYMOUS = re.compile(r"[0-9a-f]{64}")
"""The name of a volume that Docker made for a container of an image with VOLUME."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs of this benchmark leave their traces.

    Attributes:
        state: their state folder.
        temporary: their folder for temporary files.
        mark: begins the mark of each of them.
    """

    state: Path
    temporary: Path
    mark: str

    def environ(self, runtime: str, mark: str) -> dict[str, str]:
        """The environment variables of one run."""
        own = {"TRITON_RUNTIME": runtime, "TRITON_STATE_DIR": str(self.state), "TMPDIR": str(self.temporary)}
        # A start that is only slow is not what this is about.
        patient = {f"TRITON_{name.upper()}_TIMEOUT": "1800" for name in SERVICES}
        return dict(os.environ) | patient | own | {MARK: f"{self.mark}{mark}"}

    def has(self, process: psutil.Process) -> bool:
        """Whether a process is one of its runs.

        Servers have no mark, but their folder for temporary files. Valkey overwrites even that: an orphan of it counts.
        """
        try:
            variables = process.environ()
            if "PATH" not in variables and process.ppid() == 1:
                return True
        except (psutil.Error, OSError):
            return False
        own_folder = str(self.temporary) in " ".join((variables.get("TMPDIR", ""), _words(process)))
        return variables.get(MARK, "").startswith(self.mark) or own_folder


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        runtime: where the services run.
        workers: processes of pytest; 0 for none but itself.
        victim: who is hit.
        share: how far into the run, as a share of how long one takes undisturbed.
    """

    runtime: str
    workers: int
    victim: str
    share: float

    def __str__(self) -> str:
        return f"{self.runtime}, -n {self.workers}, {self.victim} at {self.share:.0%}"


ENDED = "it had ended before"
VICTIMS = ("pytest", "worker", "keeper", "reaper", "everybody", "Ctrl-C")


def plans(runs: int, runtimes: tuple[str, ...], seed: int) -> Iterator[Plan]:
    """As many plans as wanted, the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(runs):
        workers = chance.choice((0, 4))
        possible = [victim for victim in VICTIMS if workers or victim not in ("worker", "keeper")]
        runtime = chance.choice(runtimes)
        yield Plan(runtime, workers, chance.choice(possible), chance.uniform(0.05, 1))


def carry_out(plan: Plan, place: Place, undisturbed: float | None) -> str:
    """Do one run; returns what happened to its victim.

    Args:
        plan: which.
        place: where.
        undisturbed: the seconds that such a run takes by itself; None to hit nothing.
    """
    # On a busy machine everything takes longer, hanging alone takes for ever.
    longest = LONGEST + 10 * (undisturbed or LONGEST)
    environ = place.environ(plan.runtime, str(time.monotonic_ns()))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-n", str(plan.workers)] if plan.workers else []
    with tempfile.TemporaryFile() as output:
        pytest = subprocess.Popen(
            command, cwd=APPLICATION, env=environ, stdout=output, stderr=output, start_new_session=True
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                pytest.wait(longest if undisturbed is None else undisturbed * plan.share)
            if pytest.poll():
                output.seek(0)
                raise click.ClickException(f"pytest failed before it was hit: {output.read().decode(errors='replace')}")
            outcome = ENDED if pytest.poll() == 0 else strike(plan, pytest.pid, environ[MARK])
            try:
                pytest.wait(longest)
            except subprocess.TimeoutExpired:
                pytest.kill()
                raise click.ClickException(f"pytest hangs: {plan}") from None
        finally:
            if pytest.poll() is None:  # Ctrl-C was pressed here
                os.killpg(pytest.pid, signal.SIGINT)
                pytest.wait(longest)
    return outcome


def strike(plan: Plan, pytest: int, mark: str) -> str:
    """Hit the victim of a running pytest; returns whom."""
    if plan.victim == "Ctrl-C":
        # As a terminal does: to the whole foreground group.
        os.killpg(pytest, signal.SIGINT)
        return "Ctrl-C"
    marked = [process for process in psutil.process_iter() if process.pid != pytest and _is_marked(process, mark)]
    tell: dict[str, Callable[[psutil.Process], bool]] = {
        "pytest": lambda process: False,
        "worker": lambda process: WORKER in _words(process),
        "keeper": lambda process: "triton_env.sharing" in _words(process) or "keeper" in _words(process),
        "reaper": lambda process: "reaper.py" in _words(process) or "guard.py" in _words(process),
        "everybody": lambda process: "postgres" not in _words(process),
    }
    found = [process for process in marked if tell[plan.victim](process)]
    if plan.victim != "everybody":
        found = found[:1]
    if plan.victim in ("pytest", "everybody"):
        found.append(psutil.Process(pytest))
    hit = 0
    for process in found:
        with suppress(psutil.Error):
            process.kill()
            hit += 1
    return f"{hit} killed"


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def belongings(place: Place, since: float, *, on_engine: bool) -> set[str]:
    """All that is there of the runs: on the engine, in the process table from `since` on, and in folders.

    The workers of pytest are among it: as long as one lives, it uses the shared environment.

    Args:
        on_engine: whether runs may have something there. What others have left there looks like theirs.
    """
    found = _on_the_engine(place) if on_engine and shutil.which("docker") else set[str]()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = _words(process)
            if process.create_time() > since and OURS.search(words) and place.has(process):
                found.add(f"process {process.pid} {words[:90]}")
    found |= {f"folder {path}" for path in place.temporary.glob("triton-env-*")}
    return found | {f"folder {path}" for path in abandoned((SHARED_MEMORY,))}


def _on_the_engine(place: Place) -> set[str]:
    found: set[str] = set()
    label = f"label={LABEL}"
    owner = f'{{{{.Label "{LABEL}.owner.pid"}}}}'
    for kind, command in (
        ("container", ("ps", "-a", "--filter", label, "--format", f"{{{{.Names}}}} {owner}")),
        ("network", ("network", "ls", "--filter", label, "--format", f"{{{{.Name}}}} {owner}")),
        ("volume", ("volume", "ls", "--filter", label, "--format", f"{{{{.Name}}}} {owner}")),
        # Of containers that were removed without theirs.
        ("dangling volume", ("volume", "ls", "--filter", "dangling=true", "--format", "{{.Name}}")),
    ):
        done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            name, _, pid = line.partition(" ")
            if kind == "dangling volume":
                is_ours = ANONYMOUS.fullmatch(name) is not None
            else:
                is_ours = bool(pid) and not _is_of_a_stranger(place, int(pid))
            if is_ours:
                found.add(f"{kind} {name}")
    return found


def _is_of_a_stranger(place: Place, pid: int) -> bool:
    try:
        return not place.has(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def left(look: Callable[[], set[str]], patience: float = PATIENCE, longest: float = LONGEST) -> tuple[set[str], float]:
    """What a run leaves, and the seconds until that was known.

    A fixed time would be right only on a quick machine: what counts is that it becomes less.

    Args:
        look: returns what is there now.
        patience: seconds in which something of it has to go.
        longest: seconds in which all of it has to be gone.
    """
    began = changed = time.monotonic()
    rest = look()
    while rest:
        now = time.monotonic()
        if now - changed > patience or now - began > longest:
            break
        time.sleep(_INTERVAL)
        before, rest = rest, look()
        if before - rest:
            changed = time.monotonic()
    return rest, time.monotonic() - began


def start_once(runtime: str, place: Place) -> None:
    """What anybody does next: a short session, whose start takes away what dead owners left."""
    code = "import time; from triton_env import TritonEnvironment as E\nwith E(services=['redis']): time.sleep(3)"
    environ = place.environ(runtime, "next") | {"TRITON_PROGRESS": "off"}
    subprocess.run([sys.executable, "-c", code], env=environ, check=False, timeout=LONGEST)


@click.command()
@click.option("--runs", default=100, show_default=True)
@click.option("--runtimes", default="docker,embedded", show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--restores", default=0, help="Kill so many restores and backups of persistent services, and nothing else."
)
def main(runs: int, runtimes: str, seed: int, restores: int) -> None:
    """Run, kill, look what is left."""
    if restores:
        sys.exit(0 if chaos_restores.run(restores, seed) else 1)
    # Short: the paths of Unix sockets begin with it.
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    place = Place(folder / "state", folder / "tmp", f"{os.getpid()}-")
    counts: Counter[str] = Counter()
    longest = 0.0
    try:
        for each in (place.state, place.temporary):
            each.mkdir()
        # The servers' own user has to reach its folders below.
        folder.chmod(0o711)
        place.temporary.chmod(0o1777)
        since = time.time()
        before = belongings(place, since, on_engine=True)
        undisturbed: dict[tuple[str, int], float] = {}
        for number, plan in enumerate(plans(runs, tuple(runtimes.split(",")), seed), 1):
            kind = plan.runtime, plan.workers
            if kind not in undisturbed:
                began = time.monotonic()
                carry_out(plan, place, None)
                undisturbed[kind] = time.monotonic() - began
                print(f"    {plan.runtime}, -n {plan.workers}, undisturbed: {undisturbed[kind]:.1f} s", flush=True)
            began = time.monotonic()
            outcome = carry_out(plan, place, undisturbed[kind])
            if outcome == ENDED:
                # The first had caches to fill, or the machine is less busy now.
                undisturbed[kind] = time.monotonic() - began
            cleaner_is_dead = plan.victim in ("reaper", "everybody")
            look = partial(belongings, place, since, on_engine=plan.runtime == "docker")
            new = partial(lambda look, before: look() - before, look, before)
            rest, seconds = left(new, 1.0 if cleaner_is_dead else PATIENCE)
            swept = ""
            if rest and cleaner_is_dead:
                start_once(plan.runtime, place)
                (rest, seconds), swept = left(new), ", swept by the next start"
            longest = max(longest, seconds)
            counts[f"{plan.runtime}, {plan.victim}"] += 1
            counts["left something"] += bool(rest)
            print(
                f"{number:3} {plan}: {outcome}{swept}; {'LEFT ' + '; '.join(sorted(rest)) if rest else 'clean'}"
                f" after {seconds:.1f} s",
                flush=True,
            )
            before |= rest
        print()
        for name, count in sorted(counts.items()):
            print(f"{count:4} {name}")
        files = [str(path.relative_to(place.state)) for path in place.state.rglob("*") if path.is_file()]
        print(f"{longest:6.1f} s until the slowest of them was clean, or was given up")
        print(f"{len(files):4} files in the state folder {files[:5]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if counts["left something"] else 0)


if __name__ == "__main__":
    main()
