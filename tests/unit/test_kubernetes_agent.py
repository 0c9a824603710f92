"""The agent keeps an environment while its owner lives, and removes it afterwards. Its `kubectl` is one of our own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from patience import until
from triton_env.runtimes.kubernetes.agent import Renewal
from triton_env.runtimes.kubernetes.agent_client import AgentHandle
from triton_env.runtimes.kubernetes.cluster import Cluster

KUBECTL = """\
#!{python} -S
import json, os, sys, time
folder = {folder!r}
words = sys.argv[1:]
with open(folder + "/asked", "a") as file:
    file.write(json.dumps(words) + "\\n")
if os.path.exists(folder + "/unreachable"):
    sys.exit("Unable to connect to the server")
if "get" in words and os.path.exists(folder + "/left"):
    print(open(folder + "/left").read())
if "delete" in words and os.path.exists(folder + "/left"):
    os.remove(folder + "/left")
if "port-forward" in words:
    if os.path.exists(folder + "/taken"):
        sys.exit("error: unable to listen on any of the requested ports: [[40001 5432]]")
    if os.path.exists(folder + "/taken-one"):
        print("Unable to listen on port 40002: address already in use", file=sys.stderr, flush=True)
        time.sleep(0.5)
    print("Forwarding from 127.0.0.1:40001 -> 5432", flush=True)
    print(os.getpid(), file=open(folder + "/forwarding", "w"), flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kubectl of these tests reads and writes; that one is first on PATH."""
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def agent(folder: Path) -> Iterator[AgentHandle]:
    agent = AgentHandle(Cluster("test", "default"), "1a2b3c4d")
    yield agent
    (folder / "unreachable").unlink(missing_ok=True)
    agent.end()


def asked(folder: Path, verb: str) -> list[list[str]]:
    file = folder / "asked"
    lines = file.read_text().splitlines() if file.exists() else []
    return [words for line in lines if verb in (words := json.loads(line))]


def forwarding(folder: Path) -> Callable[[], int]:
    def found() -> int:
        file = folder / "forwarding"
        text = file.read_text().strip() if file.exists() else ""
        return int(text or 0)

    return found


def test_ports_are_forwarded_and_that_is_known(agent: AgentHandle, folder: Path) -> None:
    agent.forward("triton-1a2b3c4d-postgres", "127.0.0.1", {40001: 5432})

    assert until(lambda: agent.state("triton-1a2b3c4d-postgres").up)
    (words,) = asked(folder, "port-forward")
    assert words[:4] == ["--context", "test", "--namespace", "default"]
    assert words[4:] == ["port-forward", "pod/triton-1a2b3c4d-postgres", "40001:5432", "--address", "127.0.0.1"]


def test_forwarding_that_ends_begins_again_with_the_same_ports(agent: AgentHandle, folder: Path) -> None:
    agent.forward("a", "127.0.0.1", {40001: 5432})
    assert until(forwarding(folder))
    first = forwarding(folder)()

    os.kill(first, signal.SIGKILL)

    assert until(lambda: forwarding(folder)() not in (0, first))
    assert until(lambda: agent.state("a").up)
    one, other = asked(folder, "port-forward")
    assert one == other


def test_a_port_that_another_program_has_is_reported(agent: AgentHandle, folder: Path) -> None:
    (folder / "taken").touch()

    agent.forward("a", "127.0.0.1", {40001: 5432})

    assert until(lambda: agent.state("a").taken)
    assert not agent.state("a").up
    assert "40001" in agent.state("a").words


def test_one_of_several_ports_that_another_program_has_is_reported(agent: AgentHandle, folder: Path) -> None:
    """kubectl forwards the others."""
    (folder / "taken-one").touch()

    agent.forward("a", "127.0.0.1", {40001: 5432, 40002: 8123})
    assert until(forwarding(folder))
    # What was said is read between two requests.
    agent.state("a")

    assert agent.state("a").taken
    assert not agent.state("a").up


def test_a_kubectl_that_cannot_be_run_for_a_while_ends_nothing(agent: AgentHandle, folder: Path) -> None:
    program = folder / "bin/kubectl"
    agent.forward("a", "127.0.0.1", {40001: 5432})
    assert until(forwarding(folder))
    program.rename(folder / "elsewhere")

    os.kill(forwarding(folder)(), signal.SIGKILL)

    assert until(lambda: "No such file" in agent.state("a").words)
    (folder / "elsewhere").rename(program)
    assert until(lambda: agent.state("a").up)


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(agent: AgentHandle) -> None:
    agent.forward("a", "127.0.0.1", {40001: 5432})
    assert until(lambda: agent.state("a").up)
    assert agent._process is not None
    os.kill(agent._process.pid, signal.SIGSTOP)
    agent._socket.settimeout(0.1)

    assert not agent.state("a").up
    os.kill(agent._process.pid, signal.SIGCONT)
    agent._socket.settimeout(60)

    assert not agent.state("unknown").up
    assert agent.state("a").up


def test_a_renewal_that_hangs_does_not_keep_the_next_from_being_tried(folder: Path) -> None:
    begun = folder / "begun"
    command = ["sh", "-c", f'echo >> "{begun}"; exec sleep 1000', "sh"]
    renewal = Renewal(command, 0.1)

    def looked() -> int:
        renewal.look()
        return len(begun.read_text().splitlines()) if begun.exists() else 0

    try:
        assert until(lambda: looked() >= 3)
    finally:
        renewal.end()


def test_nothing_is_removed_by_an_agent_that_is_asked_to_end(agent: AgentHandle, folder: Path) -> None:
    agent.forward("a", "127.0.0.1", {40001: 5432})
    assert until(forwarding(folder))
    (folder / "left").write_text("pod/a")

    agent.end()

    assert not asked(folder, "delete")
    assert until(lambda: not psutil.pid_exists(forwarding(folder)()))


def test_what_an_owner_could_not_remove_is_removed_once_the_cluster_answers(agent: AgentHandle, folder: Path) -> None:
    (folder / "left").write_text("pod/a")
    (folder / "unreachable").touch()

    agent.leave()
    assert until(lambda: asked(folder, "delete"))
    (folder / "unreachable").unlink()

    assert until(lambda: not (folder / "left").exists())
    assert until(lambda: agent.is_gone)


def test_everything_is_removed_after_an_owner_that_was_killed(folder: Path) -> None:
    script = textwrap.dedent("""
        from triton_env.runtimes.kubernetes.agent_client import AgentHandle
        from triton_env.runtimes.kubernetes.cluster import Cluster
        agent = AgentHandle(Cluster("test", "default"), "1a2b3c4d")
        agent.forward("a", "127.0.0.1", {40001: 5432})
        print(agent._process.pid, flush=True)
        input()
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        keeper = psutil.Process(int(owner.stdout.readline()))
        assert until(forwarding(folder))
        (folder / "left").write_text("pod/a")

        owner.kill()

    assert until(lambda: not (folder / "left").exists())
    assert until(lambda: not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE)
    assert until(lambda: not psutil.pid_exists(forwarding(folder)()))
    assert all("org.triton-env.environment=1a2b3c4d" in " ".join(words) for words in asked(folder, "delete"))
