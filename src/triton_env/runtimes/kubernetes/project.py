"""The objects of a cluster that make up the services of a project: they belong to no process, and have fixed names."""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from triton_env.core.model import ServiceRecipe
from triton_env.errors import InvalidSetting
from triton_env.runtimes.kubernetes.objects import (
    GRACE,
    MANAGED_BY,
    Object,
    data_paths,
    environment_of,
    files_of,
    name_of,
    own_volumes,
    pod_spec,
    secret,
    selecting,
    service,
)
from triton_env.runtimes.owner import LABEL, PROJECT_LABEL, SERVICE_LABEL
from triton_env.settings import Settings

CLAIM = "data"
_LASTING_GRACE = 60
"""Seconds that a server gets to write what it holds."""
_LONGEST = 52
"""Characters of a name: a StatefulSet adds a dash and a hash to it, for a label of 63."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_READINESS_PERIOD = 1


class Shape(StrEnum):
    """What services are made of."""

    PODS = "pods"
    """Pods, whose data goes with them."""
    STATEFUL_SETS = "stateful sets"
    """StatefulSets, whose data stays in claims."""
    PODMAN = "podman"
    """Pods as Podman knows them, with the ports of the settings on 127.0.0.1."""


def check_passwords(recipes: Iterable[ServiceRecipe]) -> None:
    """See that others in the cluster cannot connect to a server whose password they know, or that has none.

    Raises:
        InvalidSetting: they could.
    """
    known = [recipe for recipe in recipes if recipe.known_password]
    if known:
        titles, variables = (", ".join(getattr(each, name) for each in known) for name in ("title", "known_password"))
        raise InvalidSetting(
            f"{titles} would be open to every pod of the cluster.",
            where=variables,
            cause="the password is empty or the default",
            hint="set a password of your own there",
        )


def project_objects(recipe: ServiceRecipe, settings: Settings, shape: Shape) -> tuple[Object, ...]:
    """The objects of one service of the project that the settings name.

    Args:
        recipe: made with these settings.

    Raises:
        InvalidSetting: the name of the project cannot be that of an object.
        UsageError: its files are too large for a cluster.
    """
    recipe = _alone(recipe)
    metadata = project_metadata(recipe.name, settings)
    if shape is Shape.PODMAN:
        return _for_podman(recipe, settings, metadata)
    if settings.triton_k8s_namespace:
        metadata["namespace"] = settings.triton_k8s_namespace
    make = _stateful_set if shape is Shape.STATEFUL_SETS else _pod
    return secret(recipe, metadata, settings), service(recipe, metadata), make(recipe, settings, metadata)


def project_metadata(service: str, settings: Settings) -> dict[str, Any]:
    """The name and labels of what belongs to a service of the project.

    Raises:
        InvalidSetting: it cannot be the name of an object.
    """
    project = settings.triton_project
    name = name_of(project, service)
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InvalidSetting(
            f"The project {project} cannot have services in a cluster: {name} would not be the name of an object.",
            where="TRITON_PROJECT",
            cause=f"names there have letters, digits and -, and {_LONGEST} characters at most",
            hint="name it otherwise: TRITON_PROJECT or --project",
        )
    labels = {MANAGED_BY: "triton-env", LABEL: "true", PROJECT_LABEL: project, SERVICE_LABEL: service}
    return {"name": name, "labels": labels}


def _alone(recipe: ServiceRecipe) -> ServiceRecipe:
    """The service where its server has to prepare itself."""
    container = recipe.container
    return replace(
        recipe,
        container=replace(
            container,
            environment={**container.environment, **container.alone.environment},
            files={**container.files, **container.alone.files},
        ),
    )


def _pod(recipe: ServiceRecipe, settings: Settings, metadata: Mapping[str, Any]) -> Object:
    spec = pod_spec(recipe, metadata["name"], settings, own_volumes(recipe))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": _probed(recipe, spec) | {"terminationGracePeriodSeconds": GRACE},
    }


def _stateful_set(recipe: ServiceRecipe, settings: Settings, metadata: Mapping[str, Any]) -> Object:
    mounts = mounts_of(recipe)
    spec = pod_spec(recipe, metadata["name"], settings, (), mounts)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "serviceName": metadata["name"],
            "replicas": 1,
            "selector": {"matchLabels": selecting(metadata["labels"])},
            "template": {
                "metadata": {"labels": metadata["labels"]},
                "spec": _probed(recipe, spec) | {"terminationGracePeriodSeconds": _LASTING_GRACE},
            },
            "volumeClaimTemplates": [_claim(settings, metadata)] if mounts else [],
        },
    }


def mounts_of(recipe: ServiceRecipe) -> list[Object]:
    """Where the container of a service has its claim."""
    # A folder of the claim for each: some file systems have lost+found at their root, where a server may want nothing.
    return [{"name": CLAIM, "mountPath": path, "subPath": path.strip("/")} for path in data_paths(recipe)]


def _claim(settings: Settings, metadata: Mapping[str, Any]) -> Object:
    storage_class = settings.triton_k8s_storage_class
    return {
        "metadata": {"name": CLAIM, "labels": metadata["labels"]},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": settings.triton_k8s_storage}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def _probed(recipe: ServiceRecipe, spec: dict[str, Any]) -> dict[str, Any]:
    """The pod with a probe, for those who wait until it is ready: it does not reach a server on loopback alone."""
    (container,) = spec["containers"]
    probe = {"tcpSocket": {"port": recipe.ports[0].name}, "periodSeconds": _READINESS_PERIOD}
    return spec | {"containers": [container | {"readinessProbe": probe}]}


def _for_podman(recipe: ServiceRecipe, settings: Settings, metadata: Mapping[str, Any]) -> tuple[Object, ...]:
    """ConfigMaps of its files and a pod.

    Podman 4.3 reads no variables from Secrets that are made with the pod, mounts no single file of a volume, names a
    volume by its ConfigMap, and has one volume for all that are called the same. Data is where the image keeps it.
    https://docs.podman.io/en/v4.3/markdown/podman-kube-play.1.html
    """
    folders: dict[str, dict[str, bytes]] = {}
    for path, content, _ in files_of(recipe):
        place = PurePosixPath(path)
        folders.setdefault(str(place.parent), {})[place.name] = content
    names = {folder: f"{metadata['name']}-{number}" for number, folder in enumerate(folders)}
    pod = _pod(recipe, settings, metadata)
    (container,) = pod["spec"]["containers"]
    ports = zip(container["ports"], recipe.ports, strict=True)
    own = {
        "env": [{"name": name, "value": value} for name, value in environment_of(recipe, settings).items()],
        "ports": [each | {"hostPort": port.fixed, "hostIP": "127.0.0.1"} for each, port in ports],
        "volumeMounts": [{"name": names[folder], "mountPath": folder} for folder in folders],
    }
    volumes = [{"name": name, "configMap": {"name": name}} for name in names.values()]
    return (
        *(_config_map({**metadata, "name": names[folder]}, files) for folder, files in folders.items()),
        {**pod, "spec": pod["spec"] | {"containers": [container | own], "volumes": volumes}},
    )


def _config_map(metadata: Mapping[str, Any], files: Mapping[str, bytes]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "binaryData": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
