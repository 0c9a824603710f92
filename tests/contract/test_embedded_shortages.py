"""Starts without enough of something: each works or ends with one typed error, and nothing is left."""

import json
import os
import pwd
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from patience import until
from triton_env import TritonEnvironment
from triton_env._startup import Startup
from triton_env.errors import ResourceExhausted, TritonError
from triton_env.servers.rights import become_ordinary

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(500)]

IS_ROOT = os.geteuid() == 0
PATIENCE = 400
LOOP = """
import json, os, resource, sys, threading, time
from pathlib import Path
import psutil
from triton_env import Settings, TritonEnvironment, TritonError
from triton_env._startup import Startup

ids = []
begin = Startup.begin
Startup.begin = lambda self: (ids.append(self.id), begin(self))[1]
settings = Settings(triton_progress="off")

def left():
    found = [str(path) for base in BASES for path in Path(base).glob(f"triton-env-*{ids[-1]}*")]
    return found + [str(child) for child in psutil.Process().children()]

def of_user():
    threads = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        if process.info["uids"] and process.info["uids"].real == os.getuid():
            threads += process.info["num_threads"]
    return threads

def limited(name, soft):
    number = getattr(resource, name)
    resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))

def one():
    environment = TritonEnvironment(settings, services=("redis",), runtime="embedded")
    try:
        with environment:
            environment.namespace().close()
            environment.logs("redis")
    except Exception as error:
        return error
    return None

first = one()
assert first is None, first  # everything that it imports is there now
for spare in SPARE:
    before = set(os.listdir("/dev/fd"))
    value = VALUE
    limited(NAME, value)
    try:
        error = one()
    finally:
        limited(NAME, resource.getrlimit(getattr(resource, NAME))[1])
    deadline = time.monotonic() + 60
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    words = "" if error is None else str(error)
    print(json.dumps([spare, type(error).__name__, words, left()]), flush=True)
"""


def outcomes(name: str, value: str, spare: list[int], tmp_path: Path, *, user: bool = False) -> list[Any]:
    """What becomes of a start in a process of its own, once for each number of things that are to be had."""
    bases = repr([str(tmp_path), "/dev/shm"])
    lines = [f"NAME, SPARE, BASES = {name!r}, {list(spare)!r}, {bases}", LOOP.replace("VALUE", value)]
    account = pwd.getpwnam("nobody")

    def become() -> None:
        # No limit of processes is for root. A user that other programs do not run as has none but these.
        become_ordinary((61_000 + os.getpid() % 500, account.pw_gid), read_all=True)

    if user and IS_ROOT:
        tmp_path.chmod(0o777)
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
        env=dict(os.environ) | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        preexec_fn=become if user and IS_ROOT else None,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="short-", dir="/tmp") as folder:
        # Root's servers pass through.
        Path(folder).chmod(0o755)
        yield Path(folder)


def check(found: list[Any], words: str) -> set[str]:
    for spare, kind, message, left in found:
        assert kind in ("NoneType", "ResourceExhausted"), f"{spare}: {kind} {message}"
        assert left == [], f"{spare}: {left}"
        if kind != "NoneType":
            assert words in message
            assert "hint:" in message
            assert "--force-reinstall" not in message
    return {kind for _, kind, _, _ in found}


ENOUGH = 200
"""Several times what a start takes: how much of it is in use at the same moment depends on the machine."""
SOME = pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)], ids=["some", "each"])


class TestLimits:
    @SOME
    def test_whichever_file_descriptor_is_missing(self, short_path: Path, step: int) -> None:
        found = outcomes("RLIMIT_NOFILE", "len(before) - 1 + spare", [*range(0, 23, step), ENOUGH], short_path)
        assert check(found, "file descriptor") == {"NoneType", "ResourceExhausted"}

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS counts processes, not threads")
    @SOME
    def test_whichever_process_or_thread_is_missing(self, short_path: Path, step: int) -> None:
        found = outcomes("RLIMIT_NPROC", "of_user() + spare", [*range(0, 15, step), ENOUGH], short_path, user=True)
        assert check(found, "process or thread") == {"NoneType", "ResourceExhausted"}

    def test_whichever_file_is_too_large(self, short_path: Path) -> None:
        found = outcomes("RLIMIT_FSIZE", "spare", [0, 1, 100, 1_000, 100_000_000], short_path)
        assert check(found, "largest size") == {"NoneType", "ResourceExhausted"}


class TestInThisProcess:
    def test_whichever_thread_does_not_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also in processes whose user has no limit. What the environment began is ended."""
        ids: list[str] = []
        begin, start = Startup.begin, threading.Thread.start

        def begun(run: Startup) -> None:
            ids.append(run.id)
            begin(run)

        monkeypatch.setattr(Startup, "begin", begun)
        outcomes = []
        for allowed in range(8):
            started = []

            def counted(thread: threading.Thread, allowed: int = allowed, started: list[Any] = started) -> None:
                if len(started) >= allowed:
                    raise RuntimeError("can't start new thread")
                started.append(thread)
                start(thread)

            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", counted)
                try:
                    with TritonEnvironment(services=("redis",), runtime="embedded") as env:
                        env.redis.client().ping()
                except ResourceExhausted as error:
                    outcomes.append(str(error))
                else:
                    outcomes.append("")
            assert until(lambda: not left_of(ids[-1])), left_of(ids[-1])
        assert "process or thread" in outcomes[0]
        assert outcomes[-1] == ""

    def test_a_folder_for_temporary_files_that_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gone = tmp_path / "gone"
        monkeypatch.setattr("tempfile.tempdir", str(gone))
        monkeypatch.setattr("triton_env.runtimes.embedded.bases._LONGEST_SOCKET", 500)
        with pytest.raises(TritonError, match="No private directory can be made") as caught:
            TritonEnvironment(services=("redis",), runtime="embedded").start()
        assert str(gone) in str(caught.value)
        assert "set TMPDIR" in str(caught.value)


def left_of(environment: str) -> list[str]:
    import psutil

    found = [str(path) for base in ("/tmp", "/dev/shm") for path in Path(base).glob(f"triton-env-*{environment}*")]
    for child in psutil.Process().children():
        # One that has just ended has no command line.
        with suppress(psutil.NoSuchProcess):
            if environment in " ".join(child.cmdline()):
                found.append(str(child))
    return found


SMALL = textwrap.dedent("""
    import os, subprocess, sys, tempfile
    from triton_env import Settings, TritonEnvironment, TritonError
    # Folders that are seen in this process alone, and go with it.
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    small = os.environ["TMPDIR"]
    for folder in (small, "/dev/shm"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv[1].removesuffix("ro"), "none", folder], check=True)
    print("mounted", flush=True)
    assert tempfile.gettempdir() == small
    if sys.argv[1].endswith("ro"):
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    try:
        TritonEnvironment(Settings(triton_progress="off"), services=(sys.argv[2],), runtime="embedded").start()
    except TritonError as error:
        print(type(error).__name__, error, sorted(os.listdir(small)), sep="\\n")
    else:
        print("started")
""")


@pytest.mark.skipif(not (IS_ROOT and sys.platform.startswith("linux")), reason="only root can mount")
@pytest.mark.parametrize(
    ("options", "service", "words"),
    [
        ("size=100k", "postgres", "no space is left"),
        ("size=20m", "postgres", "no space is left"),
        ("nr_inodes=20", "postgres", "no space is left"),
        ("nr_inodes=4", "redis", "no space is left"),
        ("size=9m,ro", "redis", "can only be read"),
    ],
)
def test_a_disk_that_is_full_or_cannot_be_written(options: str, service: str, words: str, short_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SMALL, options, service],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=dict(os.environ) | {"TMPDIR": str(short_path)},
    )
    if "mounted" not in done.stdout:
        pytest.skip(f"this root cannot mount: {done.stderr}")
    kind, *message = done.stdout.splitlines()[1:]
    assert kind == "ResourceExhausted", done.stdout + done.stderr
    assert words in "\n".join(message)
    assert "--force-reinstall" not in done.stdout
    assert message[-1] == "[]"


FULL = textwrap.dedent("""
    import os, subprocess, sys
    from triton_env import Settings, TritonEnvironment, TritonError
    # A folder that is seen in this process and the keepers alone, and goes with them.
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    os.mkdir("state")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", "state"], check=True)
    settings = Settings(triton_progress="off", triton_state_dir=os.path.abspath("state"), triton_linger=0)
    environment = TritonEnvironment(settings, services=("redis",), runtime="embedded", reuse=True)
    print("mounted", flush=True)
    for pages in map(int, sys.argv[1:]):
        with open("state/ballast", "wb", buffering=0) as ballast:
            while free := os.statvfs("state").f_bavail - pages:
                ballast.write(bytes(4096 * free))
        try:
            environment.start()
        except TritonError as error:
            print(pages, type(error).__name__, error.what)
        else:
            print(pages, "started")
        finally:
            environment.stop()
            os.unlink("state/ballast")
""")


@pytest.mark.skipif(not (IS_ROOT and sys.platform.startswith("linux")), reason="only root can mount")
def test_a_disk_that_has_no_room_for_the_files_of_a_keeper(short_path: Path) -> None:
    """However little room there is, until there is enough."""
    pages = [0, 1, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 40]
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", FULL, *map(str, pages)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=short_path,
    )
    if "mounted" not in done.stdout:
        pytest.skip(f"this root cannot mount: {done.stderr}")
    outcomes = [line.split(maxsplit=2) for line in done.stdout.splitlines()[1:]]
    assert [int(pages) for pages, *_ in outcomes] == pages, done.stdout + done.stderr
    assert {kind for _, kind, *_ in outcomes} == {"ResourceExhausted", "started"}, done.stdout
    assert all("no space is left on the device" in " ".join(what) for _, kind, *what in outcomes if what), done.stdout
    assert outcomes[0][1] == "ResourceExhausted"
    assert outcomes[-1][1] == "started"
