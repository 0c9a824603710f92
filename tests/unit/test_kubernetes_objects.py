"""The objects of a session in a cluster, worked out from recipes; what a pod says of itself; what kubectl says."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings
from triton_env.core.model import ServiceRecipe, Storage
from triton_env.core.setting_types import SecretStr
from triton_env.core.settings_group import LOGIN
from triton_env.errors import ClusterFailed, ClusterUnreachable, NotOffered, UsageError
from triton_env.runtimes.kubernetes import objects, pods
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.cluster import Cluster, failure
from triton_env.runtimes.kubernetes.role import as_text
from triton_env.runtimes.kubernetes.troubles import not_begun
from triton_env.runtimes.owner import Owner
from triton_env.services import SERVICES

OWNER = Owner("1a2b3c4d", 42, 1000.5, "laptop", "/home/a b/project", 1000, "77", "boot", "machine", "4026531836")
LEASE = objects.lease(OWNER)
KEPT = {**LEASE, "metadata": {**LEASE["metadata"], "uid": "0815"}}
SERVICES_HERE = list(SERVICES)


def settings(**values: Any) -> Settings:
    return Settings.model_construct(**values)


def recipe(name: str, **values: Any) -> ServiceRecipe:
    return SERVICES[name].recipe(settings(**values))


def made(name: str, **values: Any) -> tuple[objects.Object, ...]:
    return objects.session_objects(recipe(name, **values), OWNER, KEPT, settings(**values))


def container(name: str, **values: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = made(name, **values)[-1]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_everything_of_a_session_belongs_to_its_lease(name: str) -> None:
    belonging = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "name": "triton-1a2b3c4d",
        "uid": "0815",
    }

    assert [each["kind"] for each in made(name)] == ["Secret", "Service", "Pod"]
    assert all(each["metadata"]["ownerReferences"] == [belonging] for each in made(name))


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_it_is_found_by_its_labels_and_says_who_made_it(name: str) -> None:
    wanted = dict(each.split("=") for each in objects.selector("1a2b3c4d").split(","))

    for each in (*made(name), LEASE):
        assert wanted.items() <= each["metadata"]["labels"].items()
        assert Owner.of_labels(each["metadata"]["annotations"]) == replace(OWNER, process_started=1000.5)


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_no_secret_stands_in_a_pod(name: str) -> None:
    fields = Settings.model_fields
    login = {
        field: SecretStr("hunter2") if fields[field].is_secret else "hunter2" for field in settings().names_in(*LOGIN)
    }
    secret, service, pod = made(name, **login)

    assert "hunter2" not in repr((service, pod))
    kept = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    environment = recipe(name, **login).container.environment
    # LocalStack is not given keys: it takes any.
    assert name == "s3" or any("hunter2" in value for value in environment.values())
    assert {key: kept[f"env.{key}"] for key in environment} == dict(environment)
    given = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in pod["spec"]["containers"][0]["env"]}
    assert environment.keys() <= given.keys()
    assert given == {key: {"name": "triton-1a2b3c4d-" + name, "key": f"env.{key}"} for key in given}
    assert {f"env.{key}" for key in given} <= kept.keys()


@pytest.mark.parametrize("image", ["postgres:14-alpine", "postgres:18", "postgres:18-alpine"])
def test_postgres_keeps_its_data_in_the_volume_whichever_path_its_image_has(image: str) -> None:
    # Without the variable, images from 18 on exit where something is mounted on the path of those before.
    secret, _, pod = made("postgres", postgres_image=image)

    (container,) = pod["spec"]["containers"]
    path = base64.b64decode(secret["data"]["env.PGDATA"]).decode()
    assert [each["mountPath"] for each in container["volumeMounts"]] == [path]
    assert "PGDATA" in {each["name"] for each in container["env"]}


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_the_service_leads_to_the_pod_of_this_environment_alone(name: str) -> None:
    _, service, pod = made(name)

    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"]["org.triton-env.environment"] == "1a2b3c4d"
    assert {each["port"] for each in service["spec"]["ports"]} == {port.number for port in recipe(name).ports}


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_a_pod_stays_dead_and_has_no_access_to_the_cluster(name: str) -> None:
    spec = made(name, triton_k8s_ttl=90)[-1]["spec"]

    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 90
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    assert spec["containers"][0]["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_a_service_whose_name_a_cluster_would_not_take_is_refused() -> None:
    described = replace(recipe("redis"), name="my_search")

    with pytest.raises(NotOffered, match="triton-1a2b3c4d-my_search"):
        objects.session_objects(described, OWNER, KEPT, settings())


@pytest.mark.parametrize(
    ("server", "key", "variable"),
    [
        ("seaweedfs", "test", "AWS_SECRET_ACCESS_KEY"),
        ("seaweedfs", "", "AWS_SECRET_ACCESS_KEY"),
        ("seaweedfs", "a key of its own", ""),
        # LocalStack lets everyone in, whatever the key.
        ("localstack", "test", ""),
    ],
)
def test_a_key_that_everyone_knows_is_known_where_it_is_checked(server: str, key: str, variable: str) -> None:
    described = recipe("s3", triton_s3_server=server, aws_secret_access_key=SecretStr(key))

    assert described.known_password == variable


def test_data_is_in_memory_or_on_the_nodes_disk() -> None:
    in_memory = made("postgres", triton_storage=Storage.MEMORY)[-1]["spec"]
    on_disk = made("postgres", triton_storage=Storage.DISK)[-1]["spec"]

    assert in_memory["volumes"][0]["emptyDir"] == {"medium": "Memory"}
    assert on_disk["volumes"][0]["emptyDir"] == {}
    mounted = in_memory["containers"][0]["volumeMounts"][0]
    assert mounted["name"] == in_memory["volumes"][0]["name"]


def test_settings_of_the_cluster_reach_the_pod() -> None:
    given = {
        "triton_k8s_requests": "cpu=250m,memory=512Mi",
        "triton_k8s_limits": "memory=1Gi",
        "triton_k8s_pull_secrets": "one,two",
        "triton_pull": "never",
    }
    spec = made("redis", **given)[-1]["spec"]

    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"memory": "1Gi"},
    }
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert spec["containers"][0]["imagePullPolicy"] == "Never"
    assert container("redis")["imagePullPolicy"] == "IfNotPresent"
    assert container("redis")["resources"] == {}


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_pods_keep_to_the_restricted_standard_where_that_is_asked_for(name: str) -> None:
    given = {"triton_k8s_security": "restricted", "triton_s3_server": "seaweedfs"}
    spec = made(name, **given)[-1]["spec"]

    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
    }
    assert all(set(volume) - {"name"} <= {"emptyDir", "secret"} for volume in spec["volumes"])


def test_an_image_that_has_to_begin_as_root_is_refused_there() -> None:
    with pytest.raises(NotOffered, match="without root") as caught:
        made("s3", triton_k8s_security="restricted")
    assert "TRITON_S3_SERVER=seaweedfs" in caught.value.hint


@pytest.mark.parametrize(("image", "user"), [("postgres:16", 999), ("postgres:14-alpine", 70)])
def test_the_user_of_postgres_is_that_of_the_variant(image: str, user: int) -> None:
    given = {"postgres_image": image, "triton_k8s_security": "restricted"}
    spec = made("postgres", **given)[-1]["spec"]

    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == user


@pytest.mark.parametrize("value", ["cpu", "cpu=", "cpu=1,", "cpu=1;memory=2", "=1"])
def test_quantities_that_no_cluster_would_take_are_refused_at_once(value: str) -> None:
    with pytest.raises(Exception, match="TRITON_K8S_LIMITS"):
        Settings(triton_k8s_limits=value)


def test_options_reach_the_server_as_they_are() -> None:
    """https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/"""
    described = recipe("redis")
    command = ("redis-server", "--requirepass", "a$$b$(HOME)c$d")
    described = replace(described, container=replace(described.container, command=command))

    *_, pod = objects.session_objects(described, OWNER, KEPT, settings())

    assert pod["spec"]["containers"][0]["args"] == ["redis-server", "--requirepass", "a$$$$b$$(HOME)c$d"]


def test_scripts_that_no_cluster_changes_are_written_as_they_are() -> None:
    """`podman kube play` takes `$$` as it stands."""
    described = recipe("redis")
    script = "password=$(printf '%s' \"$REDIS_PASSWORD\")"
    described = replace(described, container=replace(described.container, command=("sh", "-c", script)))

    *_, pod = objects.session_objects(described, OWNER, KEPT, settings())

    assert pod["spec"]["containers"][0]["args"] == ["sh", "-c", script]


def test_files_are_mounted_one_by_one_beside_those_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init/1.sh").write_text("true")
    (tmp_path / "init/1.sh").chmod(0o755)
    (tmp_path / "init/2.sql").write_bytes(b"\xff")
    files = {"/docker-entrypoint-initdb.d": tmp_path / "init"}
    described = recipe("postgres")
    described = replace(described, container=replace(described.container, files=files))

    secret, _, pod = objects.session_objects(described, OWNER, KEPT, settings())

    mounts = {each["mountPath"]: each["subPath"] for each in pod["spec"]["containers"][0]["volumeMounts"][1:]}
    items = {each["path"]: each for each in pod["spec"]["volumes"][-1]["secret"]["items"]}
    assert sorted(mounts) == ["/docker-entrypoint-initdb.d/1.sh", "/docker-entrypoint-initdb.d/2.sql"]
    assert [items[mounts[path]]["mode"] for path in sorted(mounts)] == [0o755, 0o644]
    assert base64.b64decode(secret["data"][items[mounts["/docker-entrypoint-initdb.d/2.sql"]]["key"]]) == b"\xff"


def test_files_that_no_secret_has_room_for_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dump.sql").write_bytes(b"x" * 1_000_000)
    described = recipe("postgres")
    described = replace(described, container=replace(described.container, files={"/x": tmp_path / "dump.sql"}))

    with pytest.raises(UsageError, match="1 MiB"):
        objects.session_objects(described, OWNER, KEPT, settings())


PROXY = {"name": "mesh-proxy", "state": {"running": {}}}
"""Of a container that the cluster has added."""


def pod(state: Mapping[str, Any], **status: Any) -> pods.Pod:
    return {
        "metadata": {},
        "spec": {},
        "status": {"containerStatuses": [PROXY, {"name": "server", "state": state}], **status},
    }


def ending(found: pods.Pod | None) -> str:
    found_ending = pods.ending(found, where="pod x", hint="")
    return found_ending.words if found_ending else ""


def test_how_a_pod_has_ended() -> None:
    killed = {"exitCode": 137, "finishedAt": "2026-01-02T03:04:05Z"}

    assert not ending(pod({"running": {}}, phase="Running"))
    assert not ending(pod({"waiting": {"reason": "ContainerCreating"}}, phase="Pending"))
    assert "SIGKILL" in ending(pod({"terminated": killed}, phase="Failed"))
    assert "out of memory" in ending(pod({"terminated": killed | {"reason": "OOMKilled"}}, phase="Failed"))
    assert "TRITON_K8S_TTL" in ending(pod({"terminated": killed}, phase="Failed", reason="DeadlineExceeded"))
    evicted = {"metadata": {}, "status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}
    assert ending(evicted) == "Evicted: low on memory"
    assert "removed" in ending(None)


def test_a_container_that_the_cluster_added_is_not_the_server() -> None:
    assert not pods.runs(pod({"waiting": {"reason": "ContainerCreating"}}))
    assert pods.runs(pod({"running": {}}))


def test_when_a_pod_ended() -> None:
    terminated = {"exitCode": 1, "finishedAt": "2026-01-02T03:04:05Z"}
    found = pods.ending(pod({"terminated": terminated}), where="pod x", hint="")

    assert found is not None
    assert found.at == 1767323045


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        (
            "ErrImagePull",
            "net/http: TLS handshake timeout",
            pods.Hindrance("net/http: TLS handshake timeout", True, False),
        ),
        ("ErrImagePull", "manifest unknown", pods.Hindrance("manifest unknown", True, True)),
        ("ErrImagePull", "", pods.Hindrance("ErrImagePull", True, False)),
        ("ImagePullBackOff", "Back-off pulling image", pods.Hindrance("", True, False)),
        ("ErrImageNeverPull", "is not present", pods.Hindrance("is not present", True, True, True)),
        ("CreateContainerConfigError", "failed to sync", pods.Hindrance("failed to sync", False, False)),
        ("ContainerCreating", "", None),
    ],
)
def test_what_keeps_a_container_from_beginning(reason: str, message: str, expected: pods.Hindrance | None) -> None:
    assert pods.hindrance(pod({"waiting": {"reason": reason, "message": message}})) == expected


def test_a_pod_without_a_node_says_why() -> None:
    conditions = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]

    words = pods.news({"status": {"conditions": conditions}})
    assert words == "no node yet: 0/3 nodes are available"
    error = not_begun(recipe("redis"), words, PodAccess(Cluster("ci", "tests"), "pod"))
    assert "TRITON_K8S_REQUESTS" in error.hint
    assert "kubectl --context ci --namespace tests describe nodes" in error.hint


def test_lines_of_kubectls_own_log_are_not_the_cause() -> None:
    log = 'E1130 22:20:17.166987    6273 memcache.go:381] "Unhandled Error" err="Get https://127.0.0.1"\n'
    last = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"

    assert failure(log * 2 + last, what="look", where="here").cause == last
    assert "Unhandled" in failure(log, what="look", where="here").cause


def test_a_namespace_that_does_not_exist_is_named_with_the_command_that_makes_it() -> None:
    words = 'Error from server (NotFound): error when creating "STDIN": namespaces "nosuch" not found'
    error = failure(words, what="create a lease", where="here")

    assert error.what == "The cluster has no namespace nosuch."
    assert "kubectl create namespace nosuch" in error.hint


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?", 1),
        ("Unable to connect to the server: dial tcp: lookup x: no such host", 1),
        ("Unable to connect to the server: net/http: TLS handshake timeout", 1),
        ("error: You must be logged in to the server (Unauthorized)", 1),
        ('error: context "nowhere" does not exist', 1),
        ("error: cannot locate context nowhere", 1),
        # Longer than a line of an error.
        (f"error: Get https://{60 * 'x'}: dial tcp 127.0.0.1:32016: connect: connection refused", 1),
        ("error: current-context must exist in order to minify", 1),
        ("Unable to connect to the server: getting credentials: exec: executable aws not found", 1),
        ('Error from server (Forbidden): pods is forbidden: User "x" cannot create resource "pods"', 0),
        ('Error from server (NotFound): pods "x" not found', 0),
        ("error: timed out waiting for the condition on pods/x", 0),
        ('The Pod "x" is invalid: spec.containers[0].resources: Invalid value', 0),
        (
            'Error from server (Forbidden): pods "x" is forbidden: exceeded quota: connection refused is not the cause',
            0,
        ),
    ],
)
def test_what_kubectl_says_becomes_a_typed_error(words: str, kind: int) -> None:
    error = failure(words, what="create the pod of Redis", where="here")

    assert isinstance(error, ClusterUnreachable if kind else ClusterFailed)
    assert words.rpartition(": ")[2].split()[-1] in error.cause
    assert error.hint


def test_the_role_of_the_documents_is_the_one_that_is_needed() -> None:
    text = (Path(__file__).parents[2] / "docs/how-to/kubernetes.md").read_text()

    assert text.partition("```yaml\n")[2].partition("\n```")[0] == as_text("default")
