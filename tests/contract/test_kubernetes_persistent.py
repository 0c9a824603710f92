"""Persistent services in a real cluster: their data survives all but `reset`, and nothing of others is touched."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cluster as clusters
from cluster import Kubectl, names
from contents import CONTENTS
from patience import TO_BOOT, patient_probes, until
from projects import free_name
from triton_env import Settings, TritonEnvironment
from triton_env.cli import command_line
from triton_env.core.settings_group import Role
from triton_env.errors import ProjectTaken, VolumeMismatch
from triton_env.inspection import inspect
from triton_env.persistent.choice import open_stack
from triton_env.persistent.kubernetes.stack import KubernetesStack
from triton_env.runtimes.kubernetes.role import LASTING, LASTING_NAME, as_text
from triton_env.services import SERVICES

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(clusters.TO_BUILD)]

NAMESPACE = "triton-persistent"
SERVERS = "statefulsets,services,pods"
EVERYTHING = f"{SERVERS},secrets,persistentvolumeclaims"


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    with clusters.cluster() as kubectl, clusters.namespace(NAMESPACE), patient_probes():
        yield kubectl


@pytest.fixture
def settings(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    name, kept = free_name("lasting")
    variables = {
        "TRITON_RUNTIME": "kubernetes",
        "TRITON_PROJECT": name,
        "TRITON_K8S_NAMESPACE": NAMESPACE,
        "TRITON_PULL": "never",
        "TRITON_STATE_DIR": str(tmp_path / "state"),
    }
    for service in SERVICES.values():
        variables |= {field.upper(): "of-our-own" for field in service.settings_group.names_of(Role.PASSWORD)}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with kept:
        settings = Settings(**TO_BOOT)
        try:
            yield settings
        finally:
            with open_stack(settings) as stack:
                stack.remove()
    assert names(EVERYTHING, f"org.triton-env.project={name}", NAMESPACE) == []


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, arguments)


def good(*arguments: str) -> Result:
    done = cli(*arguments)
    assert done.exit_code == 0, done.output
    return done


def put(env: TritonEnvironment) -> None:
    for name in env.services:
        CONTENTS[name].put(env.service(name), "kept")


def look(env: TritonEnvironment) -> set[str | None]:
    return {CONTENTS[name].look(env.service(name)) for name in env.services}


def forwarder_of(settings: Settings) -> int:
    with open_stack(settings) as stack:
        assert isinstance(stack, KubernetesStack)
        noted = stack.forwarder.noted()
    assert noted is not None
    return noted.pid


def test_data_survives_whatever_happens_to_the_servers(settings: Settings, kubectl: Kubectl) -> None:
    ours = f"org.triton-env.project={settings.triton_project}"
    good("up")
    with TritonEnvironment(settings, persistent=True) as env:
        put(env)
        env.restart("redis")
        assert look(env) == {"kept"}
    # They were started before, so they go on. Others delete the pods, and the same addresses lead to the next ones.
    kubectl("delete", "pods", "--selector", ours, "--namespace", NAMESPACE)
    assert until(lambda: cli("status").exit_code == 0)
    # The process that forwards their ports is killed: the next start begins another one.
    os.kill(forwarder_of(settings), signal.SIGKILL)
    assert until(lambda: cli("status").exit_code == 1)
    assert "not forwarded" in cli("status").stdout
    good("up")
    good("down")
    assert names(SERVERS, ours, NAMESPACE) == []
    with TritonEnvironment(settings, persistent=True) as env:
        assert look(env) == {"kept"}
    # It had started them.
    assert names(SERVERS, ours, NAMESPACE) == []


def test_up_names_the_runtime_and_later_commands_find_it(
    settings: Settings, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, ours = str(tmp_path / "redis.backup"), f"org.triton-env.project={settings.triton_project}"
    monkeypatch.delenv("TRITON_RUNTIME")
    good("up", "--runtime", "kubernetes", "redis")
    monkeypatch.delenv("TRITON_K8S_NAMESPACE")
    assert "running already" in good("up", "redis").stderr
    assert NAMESPACE in good("status", "redis").stderr
    good("logs", "redis")
    good("env", "--persistent")
    good("restart", "redis")
    good("backup", file, "redis")
    good("restore", "--yes", file)
    with TritonEnvironment(services=("redis",), persistent=True) as env:
        assert env.runtime == "kubernetes"
    good("down")
    assert names(SERVERS, ours, NAMESPACE) == []
    good("reset", "--yes")
    assert names(EVERYTHING, ours, NAMESPACE) == []


def test_up_says_that_other_commands_look_elsewhere(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_RUNTIME", "embedded")
    assert "look at the runtime embedded" in good("up", "--runtime", "kubernetes", "redis").stderr


def test_a_backup_is_restored(settings: Settings, tmp_path: Path) -> None:
    file = str(tmp_path / "all.backup")
    good("up")
    with TritonEnvironment(settings, persistent=True) as env:
        put(env)
        good("backup", file)
        for name in env.services:
            CONTENTS[name].put(env.service(name), "changed")
        good("restore", "--yes", file)
        assert look(env) == {"kept"}


def test_changed_settings_are_applied_and_what_data_was_made_with_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    good("up", "redis", "postgres")
    with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
        put(env)
    monkeypatch.setenv("REDIS_PASSWORD", "another")
    applied = good("up", "redis", "postgres")
    assert "Redis was replaced" in applied.stderr
    with TritonEnvironment(services=("redis",), persistent=True) as env:
        assert look(env) == {"kept"}
    monkeypatch.setenv("POSTGRES_PASSWORD", "another")
    refused = cli("up", "postgres")
    assert refused.exit_code == VolumeMismatch("").exit_code
    assert "POSTGRES_PASSWORD" in refused.stderr
    monkeypatch.setenv("POSTGRES_PASSWORD", "of-our-own")
    good("status", "postgres")


def test_data_of_another_version_is_refused_before_a_server_touches_it(
    settings: Settings, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = f"data-triton-{settings.triton_project}-postgres-0"
    good("up", "postgres")
    noted = json.loads(kubectl("get", "pvc", claim, "--namespace", NAMESPACE, "-o", "json"))["metadata"]["annotations"]
    version = json.loads(noted["org.triton-env.stamp"])["version"]
    monkeypatch.setenv("POSTGRES_IMAGE", _newer_postgres(settings.postgres_image))
    for _ in range(2):
        # By the annotation, and without it by the data, which its server has open.
        refused = cli("up", "postgres")
        assert refused.exit_code == VolumeMismatch("").exit_code, refused.output
        assert f"data is of version {version.split('.')[0]}" in refused.stderr
        kubectl("annotate", "pvc", claim, "org.triton-env.stamp-", "--namespace", NAMESPACE)
    good("down")
    # By the data, which the pod that looks mounts.
    assert cli("up", "postgres").exit_code == VolumeMismatch("").exit_code
    monkeypatch.setenv("POSTGRES_IMAGE", settings.postgres_image)
    good("up", "postgres")
    ours = f"org.triton-env.project={settings.triton_project}"
    assert names("pods", ours, NAMESPACE) == [f"pod/triton-{settings.triton_project}-postgres-0"]


def _newer_postgres(image: str) -> str:
    return "triton-env/standin-postgres:17" if "standin" in image else "postgres:17-alpine"


def test_what_belongs_to_others_is_neither_used_nor_removed(
    settings: Settings, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"triton-{settings.triton_project}-redis"
    kubectl("create", "service", "externalname", name, "--external-name=example.test", "--namespace", NAMESPACE)
    refused = cli("up", "redis")
    assert refused.exit_code == ProjectTaken("").exit_code
    assert "Objects of the cluster have the names" in refused.stderr
    good("reset", "--yes")
    kubectl("delete", "service", name, "--namespace", NAMESPACE)

    good("up", "redis")
    monkeypatch.setattr("triton_env.persistent.kubernetes.stack.checkout", lambda: str(tmp_path))
    kubectl(
        *("annotate", "statefulset", name, "org.triton-env.checkout=elsewhere:/app"),
        *("--overwrite", "--namespace", NAMESPACE),
    )
    for words in (("up", "redis"), ("down",), ("reset", "--yes")):
        taken = cli(*words)
        assert taken.exit_code == ProjectTaken("").exit_code, taken.output
        assert "elsewhere:/app" in taken.stderr
    kubectl("annotate", "statefulset", name, "org.triton-env.checkout-", "--namespace", NAMESPACE)


def test_they_are_shown_and_the_roles_of_the_documents_suffice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "role.yaml"
    file.write_text(f"{as_text(NAMESPACE)}\n---\n{as_text(NAMESPACE, LASTING_NAME, LASTING)}")
    clusters.script("role", str(file), NAMESPACE)
    monkeypatch.setenv("KUBECONFIG", str(clusters.DEVELOPER))
    good("up", "redis")
    (shown,) = (each for each in inspect(settings, ask=True).environments if each.id == settings.triton_project)
    assert (shown.runtime, shown.mode, shown.problem) == ("kubernetes", "persistent", None)
    assert [each.name for each in shown.services] == ["redis"]
    assert "Ready to accept connections" in cli("logs", "redis").stdout
    good("reset", "--yes")
    assert settings.triton_project not in {each.id for each in inspect(settings).environments}
