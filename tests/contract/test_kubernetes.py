"""Sessions in a real cluster: the contract of all services, and what is a cluster's own."""

import base64
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import docker
import psutil
import psycopg
import pytest
import yaml
from click.testing import CliRunner

import cluster as clusters
import places
from belongings import gone_owner
from cluster import Kubectl, names, processes_with
from contents import CONTENTS
from faces.served import Machine
from patience import TO_BOOT, patient_probes, until
from triton_env import Settings, TritonEnvironment
from triton_env.cli import command_line
from triton_env.errors import (
    ClusterFailed,
    ClusterUnreachable,
    ImageUnavailable,
    InvalidSetting,
    NotOffered,
    PortTaken,
    ServiceDied,
    ServiceExited,
)
from triton_env.runtimes.kubernetes import objects
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.cluster import cluster_of
from triton_env.runtimes.kubernetes.leftovers import find_leftovers, renewed, sweep
from triton_env.runtimes.kubernetes.role import LASTING, LASTING_NAME, as_text
from triton_env.runtimes.kubernetes.usage import usage_of
from triton_env.runtimes.owner import Owner, OwnerState
from triton_env.runtimes.ports import free_port
from triton_env.services import SERVICES
from triton_env.testing import BackupContract, Contents, IsolationContract, ServiceContract

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(clusters.TO_BUILD)]

NAMESPACE = "triton-tests"


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    with clusters.cluster() as kubectl, clusters.namespace(NAMESPACE), patient_probes():
        yield kubectl


@pytest.fixture(autouse=True)
def _there(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands and programs of a test start goes there, too."""
    monkeypatch.setenv("TRITON_K8S_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("TRITON_PULL", "never")


@pytest.fixture(scope="module")
def settings(kubectl: Kubectl) -> Settings:
    return Settings(**TO_BOOT, triton_k8s_namespace=NAMESPACE, triton_pull="never")


@pytest.fixture(scope="module")
def env(settings: Settings) -> Iterator[TritonEnvironment]:
    with TritonEnvironment(settings, runtime="kubernetes") as running:
        identity = running.id
        yield running
    assert left_of(identity) == []


@pytest.fixture(params=list(SERVICES))
def service_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return CONTENTS


def left_of(environment: str) -> list[str]:
    return names(objects.KINDS, objects.selector(environment), NAMESPACE)


class TestEveryService(ServiceContract):
    """The contract of all services."""


class TestIsolation(IsolationContract):
    """The contract of isolation."""


class TestBackup(BackupContract):
    """The contract of backup and restore."""


def test_it_is_as_the_documents_compare_it(env: TritonEnvironment) -> None:
    places.check(places.KUBERNETES, env)


def test_other_pods_reach_a_service_by_its_name(env: TritonEnvironment, kubectl: Kubectl, service_name: str) -> None:
    service = env.service(service_name)
    name = f"triton-{env.id}-{service_name}"

    assert f"{name}.{NAMESPACE}.svc" in service.environ(internal=True).values().__repr__()
    of_pod = json.loads(kubectl("--namespace", NAMESPACE, "get", "pod", name, "-o", "json"))["status"]["podIP"]
    endpoints = json.loads(kubectl("--namespace", NAMESPACE, "get", "endpoints", name, "-o", "json"))
    assert endpoints["subsets"][0]["addresses"][0]["ip"] == of_pod
    ports = {each["port"] for each in endpoints["subsets"][0]["ports"]}
    assert ports == {port.number for port in service.recipe(env.settings).ports}


def test_a_connection_that_breaks_comes_back_under_the_same_address(env: TritonEnvironment) -> None:
    with env.postgres.connect() as connection:
        connection.execute("select 1")
    (forwarding,) = processes_with(f"pod/triton-{env.id}-postgres")

    os.kill(forwarding, signal.SIGKILL)

    def answers() -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(env.postgres.url) as connection:
            return connection.execute("select 1").fetchone() == (1,)
        return False

    assert until(answers)


def test_no_password_is_in_a_command_line(env: TritonEnvironment) -> None:
    program = env.program("postgres", ("sh", "-c", 'echo "$PGPASSWORD"; exec sleep 20'), {"PGPASSWORD": "hunter2"})
    with subprocess.Popen(program.argv, env=dict(program.environment), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hunter2\n"
        assert processes_with("hunter2") == []
        assert processes_with(env.settings.postgres_password.get_secret_value()) == []
        process.kill()


def test_variables_of_a_program_may_hold_anything(env: TritonEnvironment) -> None:
    value = "a'b\"c\\n $HOME `id`\nsecond line\t\n"
    program = env.program("redis", ("sh", "-c", 'printf %s "$VALUE"'), {"VALUE": value})

    done = subprocess.run(program.argv, env=dict(program.environment), capture_output=True, text=True, check=True)

    assert done.stdout == value
    left = env.program("redis", ("sh", "-c", "ls /tmp"), {})
    listed = subprocess.run(left.argv, env=dict(left.environment), capture_output=True, text=True, check=True)
    assert "tmp." not in listed.stdout


def test_dollars_in_options_reach_the_server(settings: Settings) -> None:
    own = settings.updated(triton_redis_options="proc-title-template=a$$b-$(HOME)-$c")

    with TritonEnvironment(own, services=("redis",), runtime="kubernetes") as env:
        found = env.redis.client().config_get("proc-title-template")
    assert found == {"proc-title-template": "a$$b-$(HOME)-$c"}


def test_logs_are_those_of_the_server_and_hide_secrets(env: TritonEnvironment) -> None:
    secret = env.settings.postgres_password.get_secret_value()
    with env.postgres.connect(autocommit=True) as connection, suppress(psycopg.Error):
        connection.execute(f"select '{secret}' from nowhere")
    assert until(lambda: 'relation "nowhere" does not exist' in env.logs("postgres"))
    assert secret not in env.logs("postgres")


def test_a_server_that_dies_is_reported_with_its_end_and_restarted(settings: Settings) -> None:
    with TritonEnvironment(settings, services=("redis",), runtime="kubernetes") as env:
        url = env.redis.url
        with suppress(Exception):
            env.redis.client().shutdown(nosave=True)
        with pytest.raises(ServiceDied, match="Redis died") as caught:
            env.redis.client().ping()
        assert "exit code 0" in caught.value.cause
        assert f"triton-{env.id}-redis" in caught.value.where
        assert "Ready to accept connections" in caught.value.log_tail

        env.restart("redis")

        assert env.redis.client().ping()
        assert env.redis.url == url


def test_a_pod_whose_time_is_up_says_so(settings: Settings, kubectl: Kubectl) -> None:
    with TritonEnvironment(settings, services=("redis",), runtime="kubernetes") as env:
        name = f"triton-{env.id}-redis"
        kubectl("--namespace", NAMESPACE, "patch", "pod", name, "--patch", '{"spec": {"activeDeadlineSeconds": 1}}')

        def problem() -> str:
            try:
                env.redis.client().ping()
            except ServiceDied as error:
                return error.cause
            return ""

        assert until(lambda: "TRITON_K8S_TTL" in problem())


def test_a_pod_that_takes_too_long_to_go_fails_its_restart(
    settings: Settings, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TritonEnvironment(settings, services=("redis",), runtime="kubernetes") as env:
        pod = ("--namespace", NAMESPACE, "patch", "pod", f"triton-{env.id}-redis", "--type", "merge", "--patch")
        kubectl(*pod, '{"metadata": {"finalizers": ["example.org/slow"]}}')
        try:
            with monkeypatch.context() as quick:
                quick.setattr("triton_env.runtimes.kubernetes.runtime._REMOVAL_TIMEOUT", 1)
                with pytest.raises(ClusterFailed, match="remove the pod of Redis") as caught:
                    env.restart("redis")
        finally:
            kubectl(*pod, '{"metadata": {"finalizers": null}}')
        assert "timed out waiting" in caught.value.cause

        env.restart("redis")

        assert env.redis.client().ping()


def test_a_pod_that_was_removed_says_so(settings: Settings, kubectl: Kubectl) -> None:
    with TritonEnvironment(settings, services=("redis",), runtime="kubernetes") as env:
        kubectl("--namespace", NAMESPACE, "delete", "pod", f"triton-{env.id}-redis")

        with pytest.raises(ServiceDied, match="Redis died") as caught:
            env.redis.client().ping()

        assert "its pod was removed" in caught.value.cause


OWNER = textwrap.dedent("""
    import sys
    from triton_env import TritonEnvironment
    env = TritonEnvironment(services=("redis",), runtime="kubernetes").start()
    print(env.id, flush=True)
    sys.stdin.read()
""")


def test_an_owner_that_is_killed_leaves_nothing(kubectl: Kubectl) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        environment = owner.stdout.readline().strip()
        assert len(left_of(environment)) == 4
        owner.kill()

    assert until(lambda: left_of(environment) == [])
    assert until(lambda: processes_with(f"triton-{environment}") == [])


def test_what_serve_holds_is_seen_by_commands_and_goes_with_it(tmp_path: Path, kubectl: Kubectl) -> None:
    machine = Machine(tmp_path, dict(os.environ))
    with machine.serving("redis", "--runtime", "kubernetes") as environment:
        assert "healthy" in machine.good("status")
        assert "Ready to accept connections" in machine.good("logs", "redis")
        assert machine.good("redis-cli", "ping").strip() == "PONG"
        listed = json.loads(machine.good("ps", "--json"))["environments"]
        assert [each["runtime"] for each in listed if each["id"] == environment] == ["kubernetes"]
    assert left_of(environment) == []
    assert processes_with(f"triton-{environment}") == []


def test_processes_share_an_environment(tmp_path: Path, settings: Settings) -> None:
    shared = settings.updated(triton_state_dir=str(tmp_path), triton_linger=0)
    first = TritonEnvironment(shared, services=("redis",), runtime="kubernetes", reuse=True).start()
    identity = first.id
    try:
        with TritonEnvironment(shared, services=("redis",), runtime="kubernetes", reuse=True) as second:
            assert second.id == identity
            assert second.redis.client().ping()
    finally:
        first.stop()
    assert until(lambda: left_of(identity) == [])


def of_another_machine(environment: str) -> Owner:
    return replace(Owner.this_process(environment), host="another-machine", machine="another", boot="another")


def lease_of(kubectl: Kubectl, owner: Owner, seconds: int) -> str:
    """The lease of an environment, claimed for so many seconds, with a secret that belongs to it."""
    made = {**objects.lease(owner)}
    made["spec"] = {**made["spec"], "leaseDurationSeconds": seconds}
    kept = json.loads(kubectl("--namespace", NAMESPACE, "create", "-f", "-", "-o", "json", content=json.dumps(made)))
    secret, *_ = objects.session_objects(SERVICES["redis"].recipe(Settings()), owner, kept, Settings())
    kubectl("--namespace", NAMESPACE, "create", "-f", "-", content=json.dumps(secret))
    return str(kept["metadata"]["name"])


def test_what_a_machine_left_goes_once_its_claim_is_old_and_not_before(kubectl: Kubectl) -> None:
    old, young = of_another_machine("0ld0ld01"), of_another_machine("y0ungy01")
    lease_of(kubectl, old, 1)
    lease_of(kubectl, young, 3600)
    lease_of(kubectl, gone_owner("dead0001"), 3600)
    here = cluster_of(Settings())
    try:
        found = {each.environment: each.liveness for each in find_leftovers(here)}
        assert found["y0ungy01"].state is OwnerState.UNKNOWN
        assert found["dead0001"].state is OwnerState.DEAD

        def sweep_all() -> bool:
            sweep(here)
            return left_of("0ld0ld01") == left_of("dead0001") == []

        assert until(sweep_all)
        assert len(left_of("y0ungy01")) == 2
        result = CliRunner().invoke(command_line, ["prune", "--json"], env={"TRITON_RUNTIME": "kubernetes"})
        (entry,) = (each for each in json.loads(result.stdout)["leftovers"] if each["environment"] == "y0ungy01")
        assert entry["result"] == "stays"
        assert entry["host"] == "another-machine"
        assert len(left_of("y0ungy01")) == 2
    finally:
        for owner in (old, young):
            kubectl(
                "--namespace", NAMESPACE, "delete", "lease", objects.name_of(owner.environment), "--ignore-not-found"
            )


def test_a_renewal_counts_by_the_clock_of_the_cluster(kubectl: Kubectl) -> None:
    owner = of_another_machine("renew001")
    name = lease_of(kubectl, owner, 3600)
    renewal = json.dumps({"spec": {"renewTime": "2001-01-01T00:00:00.000000Z"}})
    try:
        kubectl("--namespace", NAMESPACE, "patch", "lease", name, "--type", "merge", "--patch", renewal)
        (lease,) = cluster_of(Settings()).list("leases", objects.selector(owner.environment), what="look")
        made = lease["metadata"]["creationTimestamp"]
        lease["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z"
        assert f"{renewed(lease):%Y-%m-%dT%H:%M:%SZ}" >= made
    finally:
        kubectl("--namespace", NAMESPACE, "delete", "lease", name, "--ignore-not-found")


def test_objects_of_others_are_not_touched(settings: Settings, kubectl: Kubectl) -> None:
    labels = {"app": "theirs", "org.triton-env.service": "redis", "app.kubernetes.io/managed-by": "helm"}
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "labels": labels}}
    kubectl("--namespace", NAMESPACE, "create", "-f", "-", content=json.dumps(theirs))
    try:
        with TritonEnvironment(settings, services=("redis",), runtime="kubernetes"):
            sweep(cluster_of(settings))
        assert names("secrets", "app=theirs", NAMESPACE) == ["secret/theirs"]
    finally:
        kubectl("--namespace", NAMESPACE, "delete", "secret", "theirs")


def test_the_role_is_enough_and_without_it_the_error_says_so(
    settings: Settings, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(clusters.DEVELOPER))
    with clusters.namespace("triton-limited") as namespace:
        limited = settings.updated(triton_k8s_namespace=namespace)
        with pytest.raises(ClusterFailed, match="does not allow this user to create a lease") as caught:
            TritonEnvironment(limited, services=("redis",), runtime="kubernetes").start()
        assert "doctor" in caught.value.hint
        variables = {"TRITON_RUNTIME": "kubernetes", "TRITON_K8S_NAMESPACE": namespace}
        refused = CliRunner().invoke(command_line, ["doctor"], env=variables)
        assert refused.exit_code == 1
        assert "create pods" in refused.output
        printed = refused.output[refused.output.index("apiVersion:") :]
        roles = [as_text(namespace), as_text(namespace, LASTING_NAME, LASTING)]
        assert printed.strip() == "\n---\n".join(roles)

        file = tmp_path / "role.yaml"
        file.write_text(roles[0])
        clusters.script("role", str(file), namespace)

        allowed = CliRunner().invoke(command_line, ["doctor"], env=variables)
        assert "this user may do all that sessions need there" in allowed.output
        assert allowed.exit_code == 0
        with TritonEnvironment(limited, services=("redis", "postgres"), runtime="kubernetes") as env:
            env.restart("redis")
            assert env.redis.client().ping()
            with env.namespace() as own, own.postgres.connect() as connection:
                connection.execute("select 1")
            assert env.logs("redis")
            program = env.program("redis", ("redis-cli", "ping"), {"REDISCLI_AUTH": env.redis.password})
            done = subprocess.run(
                program.argv, env=dict(program.environment), capture_output=True, text=True, check=True
            )
            assert done.stdout.strip() == "PONG"
        assert names(objects.KINDS, objects.OURS, namespace) == []


@pytest.fixture
def alpine(engine: docker.DockerClient) -> Iterator[str]:
    """The image of PostgreSQL by a name that says who its server's user is."""
    name = "triton-env/standin-postgres-alpine:15"
    engine.images.get(os.environ["POSTGRES_IMAGE"]).tag(name)
    yield name
    engine.images.remove(name)


def test_all_run_without_root_where_that_is_asked_for(settings: Settings, kubectl: Kubectl, alpine: str) -> None:
    rootless = settings.updated(triton_k8s_security="restricted", postgres_image=alpine)
    with pytest.raises(NotOffered, match="without root"):
        TritonEnvironment(rootless, services=("s3",), runtime="kubernetes").start()

    rootless = rootless.updated(triton_s3_server="seaweedfs")
    with TritonEnvironment(rootless, runtime="kubernetes") as env:
        users = {
            name: kubectl("--namespace", NAMESPACE, "exec", f"triton-{env.id}-{name}", "--", "id", "-u").strip()
            for name in env.services
        }
        assert users == {"postgres": "70", "clickhouse": "101", "redis": "999", "s3": "1000"}
        for name in env.services:
            CONTENTS[name].put(env.service(name), "rootless")
            assert CONTENTS[name].look(env.service(name)) == "rootless"


AS_POD = """
set -eu
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$1" /run/secrets/kubernetes.io/serviceaccount
mount --bind "$2" /etc/hosts
shift 2
exec "$@"
"""
"""Gives a process what a pod has: a service account, and names of services, which no DNS knows in this cluster."""
IN_POD = textwrap.dedent("""
    import json, subprocess, sys, threading
    from triton_env import TritonEnvironment
    over = threading.Event()

    def know_names():
        while not over.wait(0.5):
            found = subprocess.run(["kubectl", "get", "pods", "-o", "json"], capture_output=True, text=True).stdout
            lines = ["127.0.0.1 localhost"]
            for pod in json.loads(found or '{"items": []}')["items"]:
                if address := pod["status"].get("podIP"):
                    lines.append(address + " " + pod["metadata"]["name"] + "." + sys.argv[1] + ".svc")
            open("/etc/hosts", "w").write("\\n".join(lines) + "\\n")

    threading.Thread(target=know_names, daemon=True).start()
    with TritonEnvironment(services=("postgres", "redis", "s3"), runtime="kubernetes") as env:
        with env.postgres.connect() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert env.redis.client().ping()
        env.s3.client().put_object(Bucket=env.s3.bucket, Key="a", Body=b"b")
        assert env.postgres.url == env.postgres.internal_url
        print(env.redis.host)
    over.set()
""")


def test_in_a_pod_services_are_reached_by_their_names(kubectl: Kubectl, tmp_path: Path) -> None:
    with clusters.namespace("triton-inside") as namespace:
        account = f"system:serviceaccount:{namespace}:default"
        kubectl("--namespace", namespace, "create", "-f", "-", content=as_text(namespace))
        words = ("create", "rolebinding", "jobs", "--role", "triton-env", "--user", account)
        kubectl("--namespace", namespace, *words)
        of_account = ("get", "serviceaccount", "default", "-o", "jsonpath={.secrets[0].name}")
        secret = kubectl("--namespace", namespace, *of_account)
        found = json.loads(kubectl("--namespace", namespace, "get", "secret", secret, "-o", "json"))
        given = tmp_path / "serviceaccount"
        given.mkdir()
        for name in ("token", "ca.crt", "namespace"):
            (given / name).write_bytes(base64.b64decode(found["data"][name]))
        (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
        server = urlsplit(yaml.safe_load(clusters.ADMINISTRATOR.read_text())["clusters"][0]["cluster"]["server"])
        variables = os.environ | {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        for absent in ("KUBECONFIG", "TRITON_K8S_NAMESPACE"):
            variables.pop(absent, None)
        done = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c", AS_POD, "sh", str(given), str(tmp_path / "hosts")),
                *(sys.executable, "-c", IN_POD, namespace),
            ],
            env=variables | {"HOME": str(tmp_path), "TRITON_STATE_DIR": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith(f"-redis.{namespace}.svc")
        assert names(objects.KINDS, objects.OURS, namespace) == []


def test_an_image_that_no_node_has(settings: Settings) -> None:
    without = settings.updated(redis_image="triton-env/there-is-none:1", triton_pull="never")

    with pytest.raises(ImageUnavailable, match="there-is-none") as caught:
        TritonEnvironment(without, services=("redis",), runtime="kubernetes").start()

    assert caught.value.where == "REDIS_IMAGE"


def test_a_server_that_ends_while_it_starts(settings: Settings) -> None:
    wrong = settings.updated(triton_redis_options="maxmemory=nonsense")

    with pytest.raises(ServiceExited, match="Redis exited while it started") as caught:
        TritonEnvironment(wrong, services=("redis",), runtime="kubernetes").start()

    assert "exit code 1" in caught.value.cause
    assert "maxmemory" in caught.value.log_tail


def test_what_a_pod_asks_for_in_vain_is_in_the_error(settings: Settings) -> None:
    vast = settings.updated(triton_k8s_requests="cpu=1000", triton_pull_timeout=5.0)

    with pytest.raises(Exception, match="did not begin to run") as caught:
        TritonEnvironment(vast, services=("redis",), runtime="kubernetes").start()

    assert "Insufficient cpu" in str(caught.value)


def test_ports_that_are_asked_for(settings: Settings) -> None:
    port = free_port("127.0.0.1")
    fixed = settings.updated(triton_ports="fixed", redis_port=port)

    with TritonEnvironment(fixed, services=("redis",), runtime="kubernetes") as env:
        assert env.redis.port == port
        with pytest.raises(PortTaken, match=str(port)):
            TritonEnvironment(fixed, services=("redis",), runtime="kubernetes").start()


def test_a_password_that_all_pods_know_is_refused(settings: Settings) -> None:
    known = settings.updated(triton_passwords="fixed")

    with pytest.raises(InvalidSetting, match="REDIS_PASSWORD is empty or the default"):
        TritonEnvironment(known, services=("redis",), runtime="kubernetes").start()


def test_an_address_that_others_reach_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match=r"0\.0\.0\.0"):
        TritonEnvironment(settings.updated(triton_bind_address="0.0.0.0"), runtime="kubernetes").start()


@pytest.mark.parametrize("context", ["", "nowhere"])
def test_a_cluster_that_does_not_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: str
) -> None:
    config = yaml.safe_load(clusters.ADMINISTRATOR.read_text())
    for each in config["clusters"]:
        each["cluster"]["server"] = f"https://127.0.0.1:{free_port('127.0.0.1')}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    with pytest.raises(ClusterUnreachable):
        TritonEnvironment(settings.updated(triton_k8s_context=context), runtime="kubernetes").start()


def test_the_agent_ends_with_its_environment(settings: Settings) -> None:
    before = {each.pid for each in psutil.Process().children()}
    with TritonEnvironment(settings, services=("redis",), runtime="kubernetes"):
        assert len({each.pid for each in psutil.Process().children()} - before) == 1
    assert {each.pid for each in psutil.Process().children()} == before


def test_what_pods_use_is_seen(env: TritonEnvironment, service_name: str) -> None:
    usage = usage_of(PodAccess.of_session(cluster_of(env.settings), env.id, service_name))

    assert usage is not None
    assert usage.memory > 1_000_000
    assert usage.cpu_percent >= 0
