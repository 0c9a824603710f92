"""Persistent services in a cluster without one: what pods are taken for, and the process that forwards their ports."""

import base64
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

import forkserver
from patience import until
from triton_env import Settings
from triton_env.errors import VolumeMismatch
from triton_env.persistent.choice import forget, last_place, open_stack, remember
from triton_env.persistent.fitting import check_values
from triton_env.persistent.kubernetes.claim_files import ClaimFiles
from triton_env.persistent.kubernetes.forwarding import Forwarder
from triton_env.persistent.kubernetes.instances import ProjectPod, described, is_ready, is_same
from triton_env.persistent.kubernetes.orders import Order
from triton_env.persistent.kubernetes.projects import projects, settings_in
from triton_env.persistent.kubernetes.stack import KubernetesStack
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.pods import CONTAINER
from triton_env.runtimes.kubernetes.role import LASTING, LASTING_NAME, as_text
from triton_env.services import SERVICES

ORDER = Order("redis", "Redis", "triton-shop-redis-0", "127.0.0.1", {"redis": 40001}, {"redis": 6379})
KUBECTL = """\
#!{python} -S
import os, sys, time
folder = {folder!r}
with open(folder + "/asked", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if os.path.exists(folder + "/taken"):
    sys.exit("error: unable to listen on any of the requested ports: [[40001 6379]]")
print("Forwarding from 127.0.0.1:40001 -> 6379", flush=True)
print(os.getpid(), file=open(folder + "/forwarding", "w"), flush=True)
while not os.path.exists(folder + "/lost"):
    time.sleep(0.02)
os.remove(folder + "/lost")
words = "an error occurred forwarding 40001 -> 6379: error forwarding port 6379 to pod: not found"
print(words, file=sys.stderr, flush=True)
time.sleep(1000)
"""


def pod(status: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
    sidecar = {"name": "proxy", "state": {"running": {}}, "restartCount": 9}
    return {
        "metadata": {"uid": "0815"},
        "spec": {"containers": [{"name": "proxy", "image": "proxy"}, {"name": CONTAINER, "image": "redis:7"}]},
        "status": {"containerStatuses": [sidecar, {"name": CONTAINER, **status}], **more},
    }


def seen(found: Mapping[str, Any] | None, *, forwarded: bool = True, is_inside: bool = False) -> ProjectPod:
    secret = {
        "metadata": {"annotations": {"org.triton-env.digest": "abc"}},
        "data": {"env.REDIS_PASSWORD": base64.b64encode(b"secret").decode(), "files.0": "AA=="},
    }
    return described("triton-shop-redis-0", found, secret, ORDER if forwarded else None, is_inside=is_inside)


def test_a_server_is_what_its_pod_says() -> None:
    running = seen(pod({"state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}, "restartCount": 2}))

    assert running.running
    assert (running.id, running.image, running.restarts) == ("0815", "redis:7", 2)
    assert running.started is not None
    assert running.started.timestamp() == 1767323045
    assert (running.given, running.digest) == ({"REDIS_PASSWORD": "secret"}, "abc")
    assert "secret" not in repr(running)


def test_a_server_that_this_machine_does_not_reach_does_not_run_for_it() -> None:
    runs = pod({"state": {"running": {}}})

    assert seen(runs, forwarded=False).status == "not forwarded"
    assert seen(runs, forwarded=False, is_inside=True).running


def test_how_a_server_ended() -> None:
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}

    again = seen(pod({"state": waits, "lastState": killed, "restartCount": 3}))
    assert (again.status, again.exit_code, again.out_of_memory) == ("restarting", 137, True)
    assert seen(pod({"state": killed})).status == "exited"
    assert seen(pod({"state": {"waiting": {"reason": "ContainerCreating"}}})).status == "created"
    assert seen(None).status == "created"


def test_it_is_ready_when_the_cluster_reaches_it() -> None:
    assert is_ready(pod({"ready": True}))
    assert not is_ready(pod({"ready": False}))
    assert not is_ready(None)


def test_data_that_was_made_with_other_values_is_refused_and_no_password_is_shown() -> None:
    recipe = SERVICES["postgres"].recipe(Settings.model_construct(postgres_user="new"))
    environment = recipe.container.environment

    check_values(recipe, environment, where="here")
    check_values(recipe, {"OTHER": "1", "POSTGRES_INITDB_ARGS": "--other"}, where="here")
    with pytest.raises(VolumeMismatch, match="initialised with old") as refused:
        check_values(recipe, {**environment, "POSTGRES_USER": "old"}, where="here")
    assert "set POSTGRES_USER back to old" in refused.value.hint
    with pytest.raises(VolumeMismatch, match="POSTGRES_PASSWORD") as refused:
        check_values(recipe, {**environment, "POSTGRES_PASSWORD": "hunter2"}, where="here")
    assert "hunter2" not in str(refused.value)


def test_whose_a_project_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    assert is_same(f"laptop:{tmp_path}", f"laptop:{tmp_path}/link")
    assert is_same("laptop:/gone/since", f"laptop:{tmp_path}")
    assert not is_same("laptop:/", f"laptop:{tmp_path}")
    assert not is_same(f"other:{tmp_path}", f"laptop:{tmp_path}")


def test_the_documents_have_the_role_that_persistent_services_need_besides() -> None:
    text = (Path(__file__).parents[2] / "docs/how-to/kubernetes.md").read_text()
    (_, _, second, *_) = text.split("```yaml\n")

    assert second.partition("\n```")[0] == as_text("default", LASTING_NAME, LASTING)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the `kubectl` that is found works."""
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(KUBECTL).format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_construct(triton_state_dir=str(tmp_path / "state"))


@pytest.fixture
def forwarder(folder: Path, settings: Settings) -> Iterator[Forwarder]:
    found = Forwarder(settings, "shop", Cluster("ci", "tests", "/kubeconfig"))
    yield found
    found.end()


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def forwarding(folder: Path) -> int:
    return int((folder / "forwarding").read_text() or 0)


def test_ports_are_forwarded_by_a_process_of_its_own(forwarder: Forwarder, folder: Path, settings: Settings) -> None:
    assert forwarder.noted() is None
    forwarder.forward([ORDER])

    assert until(lambda: forwarder.states()["redis"].up)
    words = "--context ci --namespace tests port-forward pod/triton-shop-redis-0 40001:6379 --address 127.0.0.1"
    assert asked(folder) == [words]
    noted = forwarder.noted()
    assert noted is not None
    assert psutil.Process(noted.pid).ppid() != os.getpid()
    assert noted.services == {"redis": ORDER}
    assert projects(settings) == {"shop": noted}
    there = settings_in(noted, settings)
    assert (there.triton_runtime, there.triton_k8s_context, there.triton_k8s_namespace) == ("kubernetes", "ci", "tests")


def test_it_begins_again_where_kubectl_ends_or_has_lost_the_pod(forwarder: Forwarder, folder: Path) -> None:
    forwarder.forward([ORDER])
    assert until(lambda: forwarder.states()["redis"].up)
    first = forwarding(folder)
    os.kill(first, signal.SIGKILL)
    assert until(lambda: len(asked(folder)) == 2 and forwarder.states()["redis"].up)

    # It goes on, and leads nowhere.
    second = forwarding(folder)
    (folder / "lost").touch()
    assert until(lambda: len(asked(folder)) == 3 and forwarder.states()["redis"].up)
    assert until(lambda: not psutil.pid_exists(second))


def test_a_port_that_is_taken_is_reported(forwarder: Forwarder, folder: Path) -> None:
    (folder / "taken").touch()
    forwarder.forward([ORDER])

    assert until(lambda: forwarder.states()["redis"].taken)
    assert not forwarder.states()["redis"].up


def test_it_ends_with_the_last_service(forwarder: Forwarder, folder: Path, settings: Settings) -> None:
    other = Order("s3", "S3", "triton-shop-s3-0", "127.0.0.1", {"s3": 40002}, {"s3": 4566})
    forwarder.forward([ORDER, other])
    forwarder.drop(("s3",))
    assert forwarder.is_alive
    forwarder.drop(("redis",))

    assert not forwarder.is_alive
    assert projects(settings) == {}
    forwarder.drop(("redis",))
    forwarder.forward([ORDER])
    assert forwarder.is_alive


def test_its_kubectl_ends_with_it(forwarder: Forwarder, folder: Path) -> None:
    forwarder.forward([ORDER])
    assert until(lambda: forwarder.states()["redis"].up)
    noted, kubectl = forwarder.noted(), forwarding(folder)
    assert noted is not None
    os.kill(noted.pid, signal.SIGKILL)

    assert until(lambda: not forwarder.is_alive)
    assert until(lambda: not psutil.pid_exists(kubectl))


def test_later_commands_find_the_cluster_in_which_services_were_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton_env.persistent.kubernetes.stack.cluster_of", _cluster_of_kubectl)
    asked = Settings(triton_state_dir=str(tmp_path), triton_runtime="kubernetes", triton_k8s_namespace="shop")
    with open_stack(asked) as started:
        assert remember(asked, started)
        assert not remember(asked, started)
    with open_stack(asked.updated(triton_runtime="auto", triton_k8s_namespace="")) as found:
        assert (found.runtime, found.cluster) == ("kubernetes", Cluster("of kubectl", "shop"))
        # Running services are not replaced because their namespace is named in another way.
        assert isinstance(started, KubernetesStack)
        assert isinstance(found, KubernetesStack)
        assert found.digest("redis") == started.digest("redis")
    with open_stack(asked.updated(triton_runtime="auto", triton_k8s_namespace="other")) as other:
        assert other.cluster == Cluster("of kubectl", "other")


def test_a_place_is_forgotten_once_nothing_is_left_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_env.persistent.kubernetes.stack.cluster_of", _cluster_of_kubectl)
    left = {"data-triton-shop-redis-0"}
    monkeypatch.setattr(KubernetesStack, "belongings", lambda stack: left)
    here = Settings(triton_state_dir=str(tmp_path), triton_runtime="kubernetes", triton_k8s_namespace="shop")
    elsewhere = here.updated(triton_k8s_namespace="other")
    with open_stack(here) as stack, open_stack(elsewhere) as other:
        remember(here, stack)
        forget(stack)
        assert last_place(here) == "kubernetes"
        left.clear()
        # What is removed in one namespace says nothing about another.
        forget(other)
        assert last_place(here) == "kubernetes"
        forget(stack)
        assert last_place(here) == ""


def test_a_cluster_is_not_asked_about_services_that_are_not_reached_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton_env.persistent.kubernetes.stack.cluster_of", _cluster_of_kubectl)
    monkeypatch.setattr(KubernetesStack, "instances", lambda _: pytest.fail("the cluster was asked"))
    with open_stack(Settings(triton_state_dir=str(tmp_path), triton_runtime="kubernetes")) as stack:
        assert stack.running() == {}


def _cluster_of_kubectl(settings: Settings) -> Cluster:
    return Cluster("of kubectl", settings.triton_k8s_namespace or "default")


def test_services_that_start_at_once_have_one_forwarder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []
    both = threading.Barrier(2)

    def launch(forwarder: Forwarder) -> None:
        # The other one has time to see that there is none yet.
        time.sleep(0.2)
        launched.append("one")

    monkeypatch.setattr(Forwarder, "_launch", launch)
    monkeypatch.setattr(Forwarder, "is_alive", property(lambda _: bool(launched)))
    monkeypatch.setattr(Forwarder, "_ask", lambda *_: {})
    forwarder = Forwarder(Settings(triton_state_dir=str(tmp_path)), "tryout", Cluster("test", "default"))

    def forward() -> None:
        both.wait()
        forwarder.forward(())

    threads = [threading.Thread(target=forward) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert launched == ["one"]


def test_files_of_a_claim_are_read_as_those_of_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(cluster: Cluster, *words: str, content: str = "", what: str) -> str:
        program = words[words.index("--") + 1 :]
        return subprocess.run(program, input=content, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(Cluster, "run", here)
    (tmp_path / "base/1").mkdir(parents=True)
    (tmp_path / "base/1/112").write_bytes(b"\x00\xff")
    (tmp_path / "PG_VERSION").write_text("15\n")
    (tmp_path / ".hidden").touch()
    files = ClaimFiles(PodAccess(Cluster("test", "default"), "pod"), str(tmp_path))

    assert files.files("PG_VERSION") == {"PG_VERSION": b"15\n"}
    assert files.files("base") == {"base/1/112": b"\x00\xff"}
    assert files.files("away") == {}
    assert set(files.names()) == {"base/", "base/1/", "base/1/112", "PG_VERSION", ".hidden"}
    assert set(files.names("base")) == {"base/1/", "base/1/112"}
    assert list(files.names("away")) == []
    files.put({"PG_VERSION": b"16\xff"})
    assert (tmp_path / "PG_VERSION").read_bytes() == b"16\xff"


FOLLOWS = """\
import sys
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.cluster import Cluster
for line in PodAccess(Cluster("test", "default"), "pod").lines(None, follow=True):
    print(line, flush=True)
"""


def test_a_log_is_followed_no_more_where_the_process_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho $$\nexec sleep 1000\n")
    program.chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with forkserver.Popen([sys.executable, "-c", FOLLOWS], env=variables, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        kubectl = int(reader.stdout.readline())
        reader.kill()
    assert until(lambda: not psutil.pid_exists(kubectl))


@pytest.mark.parametrize(("ahead", "noted"), [(0.5, 0), (3600.0, 3600.0), (-90.0, -90.0)])
def test_positions_in_a_log_are_by_the_clock_of_the_cluster(
    ahead: float, noted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "triton_env.runtimes.kubernetes.access.now_of",
        lambda _: datetime.fromtimestamp(time.time() + ahead, UTC),
    )
    access = PodAccess(Cluster("test", f"clock-{ahead}"), "pod")
    before = time.time()
    position = access.log_position()
    # As late as this process was in asking.
    assert before + noted <= position <= time.time() + noted + (time.time() - before)
