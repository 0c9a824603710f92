"""The objects of a cluster that make up a session, worked out from the recipes of its services."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from triton_env.core.model import ServiceRecipe, Storage, Unprivileged
from triton_env.errors import NotOffered, UsageError
from triton_env.runtimes.kubernetes.pods import CONTAINER
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, LABEL, PROJECT_LABEL, SERVICE_LABEL, Owner
from triton_env.settings import Settings

Object = Mapping[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = f"{MANAGED_BY}=triton-env,{LABEL}=true"
"""The labels by which everything of ours is found."""
LEASE_SECONDS = 900
"""Seconds for which the owner of an environment claims it. It renews the claim many times in this time; after it,
others may remove what a machine left that is gone."""
KINDS = "pods,services,secrets,leases.coordination.k8s.io"
"""What sessions have, in the order in which it is removed."""
_LARGEST = 900_000
"""Bytes of files that a Secret has room for, which has 1 MiB with all that it holds."""
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_REPLACED = re.compile(r"\$\$|\$\([-._a-zA-Z][-._a-zA-Z0-9]*\)|(\$\([^)]*\))")
"""What a cluster replaces in a command: `$$`, and `$(NAME)` where there is such a variable; the group is left alone."""
_FILES = "files"
GRACE = 1
"""Seconds that a server gets for its end: its data goes with it."""


def name_of(environment: str, service: str = "") -> str:
    """The name of the objects of a service, or of the lease that they all belong to."""
    return f"triton-{environment}-{service}" if service else f"triton-{environment}"


def selector(environment: str) -> str:
    """The labels by which everything of an environment is found."""
    return f"{OURS},{ENVIRONMENT_LABEL}={environment}"


def lease(owner: Owner) -> Object:
    """The object that all others of an environment belong to: they go with it, and it says whether the owner lives."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": _metadata(owner, ""),
        "spec": {
            "holderIdentity": f"{owner.host}_{owner.pid}"[:250],
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": renew_time(),
        },
    }


def _literal(word: str) -> str:
    """A word of a command, as it has to be written.

    `podman kube play` takes `$$` as it stands, so that only what a cluster would replace is written differently.
    """
    return _REPLACED.sub(lambda found: found[1] or found[0].replace("$", "$$"), word)


def renew_time() -> str:
    """Now, as a lease has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def session_objects(recipe: ServiceRecipe, owner: Owner, lease: Object, settings: Settings) -> tuple[Object, ...]:
    """The objects of one service of a session: its secret, its service and its pod.

    Args:
        lease: as the cluster has it: the others belong to it.

    Raises:
        NotOffered: it cannot run there.
        UsageError: its files are too large for a cluster.
    """
    name = name_of(owner.environment, recipe.name)
    if not _LABEL.fullmatch(name):
        raise NotOffered(
            f"{recipe.title} cannot run in a cluster: {name} would not be the name of a Service.",
            where="TRITON_RUNTIME=kubernetes",
            cause="names there have lower-case letters, digits and -, and 63 characters at most",
            hint="leave it out, or choose another runtime",
        )
    belonging = {
        "apiVersion": lease["apiVersion"],
        "kind": lease["kind"],
        "name": lease["metadata"]["name"],
        "uid": lease["metadata"]["uid"],
    }
    metadata = _metadata(owner, recipe.name) | {"ownerReferences": [belonging]}
    return (
        secret(recipe, metadata, settings),
        service(recipe, metadata),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": pod_spec(recipe, metadata["name"], settings, own_volumes(recipe))
            | {
                # One that has died stays as it is, with its log and its exit status.
                "restartPolicy": "Never",
                "activeDeadlineSeconds": settings.triton_k8s_ttl,
                "terminationGracePeriodSeconds": GRACE,
            },
        },
    )


def secret(recipe: ServiceRecipe, metadata: Object, settings: Settings) -> Object:
    """The environment variables and files of a service, which may be secret."""
    variables = {f"env.{name}": value.encode() for name, value in environment_of(recipe, settings).items()}
    files = {f"{_FILES}.{number}": content for number, (_, content, _) in enumerate(files_of(recipe))}
    if sum(map(len, files.values())) > _LARGEST:
        raise UsageError(
            f"The files that {recipe.title} is given are too large for a cluster: a Secret has room for 1 MiB.",
            where=", ".join(str(source) for source in recipe.container.files.values()),
            hint="give it less, or have them in an image of your own: set " + recipe.container.image_variable,
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {name: base64.b64encode(content).decode() for name, content in (variables | files).items()},
    }


def service(recipe: ServiceRecipe, metadata: Object) -> Object:
    """The name and ports by which other pods reach it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": selecting(metadata["labels"]),
            "ports": [{"name": port.name, "port": port.number, "targetPort": port.number} for port in recipe.ports],
            # Whether it is ready is found out by a client; until then it is asked as well.
            "publishNotReadyAddresses": True,
        },
    }


def pod_spec(
    recipe: ServiceRecipe, name: str, settings: Settings, volumes: Sequence[Object], mounts: Sequence[Object] = ()
) -> dict[str, Any]:
    """The pod of a service.

    Args:
        name: of its secret.
        volumes: for its data paths, in their order; see `data_paths`.
        mounts: of its data paths, where these are in no volume of the pod's own.
    """
    container, unprivileged = recipe.container, _unprivileged(recipe, settings)
    files = [
        {"name": _FILES, "mountPath": path, "subPath": f"{number}", "readOnly": True}
        for number, (path, _, _) in enumerate(files_of(recipe))
    ]
    items = [
        {"key": f"{_FILES}.{number}", "path": f"{number}", "mode": mode}
        for number, (_, _, mode) in enumerate(files_of(recipe))
    ]
    data = mounts or [
        {"name": volume["name"], "mountPath": path} for volume, path in zip(volumes, data_paths(recipe), strict=True)
    ]
    resources = {
        "requests": _quantities(settings.triton_k8s_requests),
        "limits": _quantities(settings.triton_k8s_limits),
    }
    pull_secrets = [{"name": each} for each in settings.triton_k8s_pull_secrets.split(",") if each]
    return {
        "containers": [
            {
                "name": CONTAINER,
                "image": container.image,
                "imagePullPolicy": {"missing": "IfNotPresent", "never": "Never"}[settings.triton_pull],
                **({"args": [_literal(word) for word in container.command]} if container.command else {}),
                "env": [
                    {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": f"env.{variable}"}}}
                    for variable in environment_of(recipe, settings)
                ],
                "ports": [{"name": port.name, "containerPort": port.number} for port in recipe.ports],
                "resources": {kind: values for kind, values in resources.items() if values},
                "volumeMounts": [*data, *files],
                "securityContext": _security(unprivileged),
            }
        ],
        "volumes": [*volumes, *([{"name": _FILES, "secret": {"secretName": name, "items": items}}] if items else [])],
        "securityContext": {
            "seccompProfile": {"type": "RuntimeDefault"},
            **({"runAsUser": unprivileged.user, "fsGroup": unprivileged.user} if unprivileged else {}),
        },
        # The images take no part in the cluster, and take variables that it would set for others of their own.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
    }


def data_paths(recipe: ServiceRecipe) -> tuple[str, ...]:
    """The folders of its container that hold data."""
    kept = (recipe.data.path,) if recipe.data else ()
    return tuple(dict.fromkeys((*kept, *recipe.container.data_paths)))


def own_volumes(recipe: ServiceRecipe) -> tuple[Object, ...]:
    """A volume for each of its data paths, which goes with the pod."""
    kind = {"medium": "Memory"} if recipe.container.storage is Storage.MEMORY else {}
    return tuple({"name": f"data-{number}", "emptyDir": kind} for number, _ in enumerate(data_paths(recipe)))


def _metadata(owner: Owner, service: str) -> dict[str, Any]:
    labels = {MANAGED_BY: "triton-env", LABEL: "true", ENVIRONMENT_LABEL: owner.environment}
    return {
        "name": name_of(owner.environment, service),
        "labels": labels | ({SERVICE_LABEL: service} if service else {}),
        # Labels have no room for a path.
        "annotations": owner.labels(service),
    }


def selecting(labels: Mapping[str, str]) -> dict[str, str]:
    """Those of its labels by which one pod is found."""
    return {name: value for name, value in labels.items() if name in (ENVIRONMENT_LABEL, PROJECT_LABEL, SERVICE_LABEL)}


def _unprivileged(recipe: ServiceRecipe, settings: Settings) -> Unprivileged | None:
    """How a service is started without root; None where it may begin as root.

    Raises:
        NotOffered: it has to.
    """
    if settings.triton_k8s_security == "baseline":
        return None
    if recipe.container.unprivileged is None:
        raise NotOffered(
            f"{recipe.title} cannot run without root: its image {recipe.container.image} has to begin as root.",
            where="TRITON_K8S_SECURITY=restricted",
            hint=f"{recipe.container.instead_of_root or 'leave it out'}, or use a namespace that admits root",
        )
    return recipe.container.unprivileged


def environment_of(recipe: ServiceRecipe, settings: Settings) -> dict[str, str]:
    """The variables of its container."""
    data, unprivileged = recipe.data, _unprivileged(recipe, settings)
    where = {data.path_variable: data.path} if data and data.path_variable else {}
    return {**recipe.container.environment, **where, **(unprivileged.environment if unprivileged else {})}


def _security(unprivileged: Unprivileged | None) -> dict[str, Any]:
    """What a container may do, by the baseline and the restricted Pod Security Standard.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if unprivileged is None:
        # What an image needs that begins as root: to give its data to the user of its server, to become that user, and
        # to end the server of a first start.
        capabilities["add"] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": capabilities,
        **({"runAsNonRoot": True} if unprivileged else {}),
    }


def _quantities(words: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words.split(",") if word)


def files_of(recipe: ServiceRecipe) -> Iterator[tuple[str, bytes, int]]:
    """Its files: their paths in the container, what they hold, and their modes."""
    for path, source in sorted(recipe.container.files.items()):
        for file in [source] if source.is_file() else sorted(source.rglob("*")):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            yield (Path(path) / file.relative_to(source)).as_posix(), file.read_bytes(), mode
