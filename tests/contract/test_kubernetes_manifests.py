"""What `manifests` prints, applied to a real cluster by `kubectl`."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import yaml
from click.testing import CliRunner

import cluster as clusters
from cluster import CACHE, Kubectl
from contents import CONTENTS
from patience import patient_probes, until
from projects import free_name, ports
from triton_env import TritonEnvironment
from triton_env.cli import command_line
from triton_env.core.settings_group import Role
from triton_env.services import SERVICES

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(clusters.TO_BUILD)]

NAMESPACE = "triton-manifests"
OURS = "app.kubernetes.io/managed-by=triton-env"


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    with clusters.cluster() as kubectl, clusters.namespace(NAMESPACE), patient_probes():
        yield kubectl


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name, kept = free_name("applied")
    monkeypatch.setenv("TRITON_PROJECT", name)
    monkeypatch.setenv("TRITON_K8S_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("TRITON_PULL", "never")
    for service in SERVICES.values():
        for field in service.settings_group.names_of(Role.PASSWORD):
            monkeypatch.setenv(field.upper(), "of-our-own")
    for variable, port in ports(name).items():
        monkeypatch.setenv(variable, port)
    with kept:
        yield name


def printed(*options: str) -> str:
    done = CliRunner().invoke(command_line, ("manifests", *options))
    assert done.exit_code == 0, done.output
    return done.stdout


@contextmanager
def forwarded(project: str) -> Iterator[TritonEnvironment]:
    """The services as external ones, on which nothing is created: what clients look for has to be there."""
    with ExitStack() as ending:
        for name, service in SERVICES.items():
            described = service.recipe(TritonEnvironment(runtime="external").settings)
            pairs = [f"{port.fixed}:{port.number}" for port in described.ports]
            words = ("--namespace", NAMESPACE, "port-forward", f"service/triton-{project}-{name}", *pairs)
            process = ending.enter_context(
                subprocess.Popen((CACHE / "programs/bin/kubectl", *words), stdout=subprocess.PIPE, text=True)
            )
            ending.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Forwarding from")
        yield ending.enter_context(TritonEnvironment(runtime="external"))


@pytest.mark.parametrize("options", [(), ("--persistent",)])
def test_services_that_are_applied_answer_and_are_deleted(
    kubectl: Kubectl, project: str, options: tuple[str, ...]
) -> None:
    text = printed(*options)
    kubectl("apply", "-f", "-", content=text)
    wait = ("wait", "--for=condition=ready", "pod", "--selector", OURS, "--timeout=600s", "--namespace", NAMESPACE)
    try:
        pods = ("get", "pods", "--selector", OURS, "-o", "name", "--namespace", NAMESPACE)
        assert until(lambda: len(kubectl(*pods).split()) == len(SERVICES))
        kubectl(*wait)
        with forwarded(project) as env:
            for name in SERVICES:
                CONTENTS[name].put(env.service(name), "kept")
        if options:
            kubectl("delete", "pod", "--selector", OURS, "--namespace", NAMESPACE)
            assert until(lambda: len(kubectl(*pods).split()) == len(SERVICES))
            kubectl(*wait)
            with forwarded(project) as env:
                for name in SERVICES:
                    assert CONTENTS[name].look(env.service(name)) == "kept"
    finally:
        kubectl("delete", "-f", "-", content=text)
    everything = (
        "get",
        "pods,services,secrets,statefulsets",
        "--selector",
        OURS,
        "-o",
        "name",
        "--namespace",
        NAMESPACE,
    )
    # The pods of a StatefulSet end after it.
    assert until(lambda: kubectl(*everything) == "")
    kept = kubectl("get", "persistentvolumeclaims", "-o", "name", "--namespace", NAMESPACE).split()
    assert len(kept) == (len(SERVICES) if options else 0)
    assert {each["kind"] for each in yaml.safe_load_all(text)} < {"Secret", "Service", "Pod", "StatefulSet"}
