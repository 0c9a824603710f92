"""What `manifests` prints: the services of a project for those who apply it, in a cluster or with Podman."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from triton_env import Settings
from triton_env.cli import command_line
from triton_env.core.model import ServiceRecipe, Storage
from triton_env.errors import InvalidSetting
from triton_env.runtimes.kubernetes import documents
from triton_env.runtimes.kubernetes.documents import as_yaml
from triton_env.runtimes.kubernetes.project import Shape, project_objects
from triton_env.services import SERVICES

Object = Mapping[str, Any]

SERVICES_HERE = list(SERVICES)
SHAPES = list(Shape)


def settings(**values: Any) -> Settings:
    return Settings.model_construct(triton_project="shop", **values)


def made(name: str, shape: Shape, recipe: ServiceRecipe | None = None, **values: Any) -> tuple[Object, ...]:
    its = settings(**values)
    return project_objects(recipe or SERVICES[name].recipe(its), its, shape)


def of_kind(kind: str, objects: tuple[Object, ...]) -> Object:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def encoded(found: Object) -> Object:
    """An object with its texts as base64, as those that are printed have been."""
    plain, bytes_ = {"Secret": ("stringData", "data"), "ConfigMap": ("data", "binaryData")}.get(found["kind"], ("", ""))
    if plain not in found:
        return found
    others = {name: value for name, value in found.items() if name not in (plain, bytes_)}
    texts = {name: base64.b64encode(text.encode()).decode() for name, text in found[plain].items()}
    return {**others, bytes_: {**texts, **found.get(bytes_, {})}}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SERVICES_HERE)
def test_what_is_printed_is_what_was_made(name: str, shape: Shape) -> None:
    objects = made(name, shape, triton_storage=Storage.DISK)

    assert [encoded(each) for each in yaml.safe_load_all(as_yaml(objects))] == list(objects)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SERVICES_HERE)
def test_it_belongs_to_no_process_and_nothing_ends_it(name: str, shape: Shape) -> None:
    text = as_yaml(made(name, shape))

    for word in ("Lease", "ownerReferences", "org.triton-env.owner", "org.triton-env.environment", "activeDeadline"):
        assert word not in text
    assert "restartPolicy" not in text


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_it_has_the_name_of_its_project(name: str) -> None:
    for shape in SHAPES:
        for each in made(name, shape):
            metadata = each["metadata"]
            assert metadata["name"].startswith(f"triton-shop-{name}")
            assert metadata["labels"]["org.triton-env.project"] == "shop"
            assert metadata["labels"]["org.triton-env.service"] == name
            assert "namespace" not in metadata
    assert {each["metadata"]["namespace"] for each in made(name, Shape.PODS, triton_k8s_namespace="ci")} == {"ci"}


@pytest.mark.parametrize("project", ["two_words", "a" * 40])
def test_a_project_whose_name_no_cluster_takes_is_refused(project: str) -> None:
    its = Settings.model_construct(triton_project=project)

    with pytest.raises(InvalidSetting, match="cannot have services in a cluster"):
        project_objects(SERVICES["clickhouse"].recipe(its), its, Shape.PODS)


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_the_service_leads_to_its_pod(name: str) -> None:
    pods = made(name, Shape.PODS)
    sets = made(name, Shape.STATEFUL_SETS)
    stateful = of_kind("StatefulSet", sets)["spec"]

    wanted = of_kind("Service", pods)["spec"]["selector"].items()
    assert wanted <= of_kind("Pod", pods)["metadata"]["labels"].items()
    assert wanted == of_kind("Service", sets)["spec"]["selector"].items() == stateful["selector"]["matchLabels"].items()
    assert wanted <= stateful["template"]["metadata"]["labels"].items()
    assert stateful["serviceName"] == of_kind("Service", sets)["metadata"]["name"]


@pytest.mark.parametrize("name", SERVICES_HERE)
def test_data_that_stays_is_in_a_claim(name: str) -> None:
    given = {"triton_storage": Storage.DISK, "triton_k8s_storage": "7Gi", "triton_k8s_storage_class": "fast"}
    spec = of_kind("StatefulSet", made(name, Shape.STATEFUL_SETS, **given))["spec"]
    data = SERVICES[name].recipe(settings()).data

    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "7Gi"}}
    assert claim["spec"]["storageClassName"] == "fast"
    mounts = {each["mountPath"]: each for each in spec["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert data is not None
    # Not its root, which may hold lost+found.
    assert mounts[data.path] == {"name": "data", "mountPath": data.path, "subPath": data.path[1:]}
    assert all(each["name"] != "data" for each in spec["template"]["spec"]["volumes"])
    (default,) = of_kind("StatefulSet", made(name, Shape.STATEFUL_SETS))["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in default["spec"]


def test_servers_make_by_themselves_what_clients_look_for() -> None:
    def variables(name: str) -> Mapping[str, str]:
        pod = of_kind("Pod", made(name, Shape.PODMAN))
        return {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}

    assert variables("postgres")["POSTGRES_DB"] == settings().postgres_db
    assert variables("postgres")["PGDATA"] == "/var/lib/postgresql/data"
    assert variables("clickhouse")["CLICKHOUSE_DB"] == settings().clickhouse_db
    assert variables("s3")["S3_BUCKET"] == settings().s3_bucket
    paths = [
        each["mountPath"] for each in of_kind("Pod", made("s3", Shape.PODS))["spec"]["containers"][0]["volumeMounts"]
    ]
    assert {"/etc/localstack/init/ready.d/10-bucket.py", "/etc/triton-env/10-bucket.sh"} <= set(paths)


def test_podman_gets_what_it_knows() -> None:
    everything = [(name, made(name, Shape.PODMAN)) for name in SERVICES_HERE]
    volumes = [each["name"] for _, objects in everything for each in of_kind("Pod", objects)["spec"]["volumes"]]

    assert {each["kind"] for _, objects in everything for each in objects} == {"Pod", "ConfigMap"}
    # Podman 4.3 has one volume of a name for all pods.
    assert len(set(volumes)) == len(volumes) > 0
    for name, objects in everything:
        (container,) = of_kind("Pod", objects)["spec"]["containers"]
        ports = {each["containerPort"]: (each["hostPort"], each["hostIP"]) for each in container["ports"]}
        recipe = SERVICES[name].recipe(settings())
        assert ports == {port.number: (port.fixed, "127.0.0.1") for port in recipe.ports}
        assert all("subPath" not in each for each in container["volumeMounts"])


def test_files_that_are_not_text_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one\ntwo\n")
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    described = SERVICES["redis"].recipe(settings())
    described = replace(described, container=replace(described.container, files={"/etc/x": tmp_path}))

    text = as_yaml(made("redis", Shape.PODS, described))
    assert "files.1: |\n    one\n    two\n" in text
    (secret,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "Secret")
    assert base64.b64decode(secret["data"]["files.0"]) == b"\xff\x00"


@pytest.mark.parametrize("word", ["y", "no", "1e3", "0o14", "1_000", "12:30:45", "", "null", "~", "- a", "2026-01-01"])
def test_text_is_text_for_every_reader_of_yaml(word: str) -> None:
    described = SERVICES["redis"].recipe(settings())
    described = replace(described, container=replace(described.container, environment={"WORD": word}))

    assert f"env.WORD: '{word}'" in as_yaml(made("redis", Shape.PODS, described))


@pytest.fixture(autouse=True)
def _settings_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_PROJECT", "shop")
    for name in ("POSTGRES", "CLICKHOUSE", "REDIS"):
        monkeypatch.setenv(f"{name}_PASSWORD", "mine")


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, ("manifests", *arguments))


def test_the_command_prints_those_services_that_are_named() -> None:
    printed = cli("--persistent", "redis", "pg", "--project", "other")

    assert printed.exit_code == 0, printed.output
    found = [(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(printed.stdout)]
    kinds = ("Secret", "Service", "StatefulSet")
    assert found == [(kind, f"triton-other-{name}") for name in ("redis", "postgres") for kind in kinds]
    # The data stays, so it is written.
    assert "fsync=off" not in printed.stdout


def test_passwords_that_other_pods_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "development_password_change_in_prod")
    monkeypatch.delenv("REDIS_PASSWORD")

    refused = cli()
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert "where: POSTGRES_PASSWORD, REDIS_PASSWORD\n" in refused.stderr
    assert "mine" in cli("clickhouse").stdout
    # On 127.0.0.1 alone, as in the persistent mode.
    assert cli("--podman").exit_code == 0


def test_podman_has_no_stateful_sets() -> None:
    assert cli("--podman", "--persistent").exit_code == 2


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "find_spec", lambda name: None)

    failed = cli()
    assert failed.exit_code == 1
    assert "pyyaml" in failed.stderr
    assert "[kubernetes]" in failed.stderr
