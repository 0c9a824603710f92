"""What a user has to be allowed in a namespace: for the documents, and for `doctor`, which asks about it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from triton_env.runtimes.kubernetes.cluster import Cluster

NAME: Final = "triton-env"
_KEPT = ("get", "list", "watch", "create", "delete")


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs that are allowed for resources of a group, as a Role has them.

    Attributes:
        group: empty for the core group.
        resources: their names, in the plural.
        verbs: what may be done with them.
        why: what that is for.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str


RULES: Final = (
    Rule("", ("pods", "services", "secrets"), _KEPT, "to run the services, and to remove them"),
    Rule("coordination.k8s.io", ("leases",), (*_KEPT, "patch"), "to own and to claim an environment"),
    Rule("", ("pods/log",), ("get",), "to read logs"),
    # With `get`, too: https://kubernetes.io/docs/reference/access-authn-authz/authorization/ on WebSocket requests.
    Rule("", ("pods/portforward", "pods/exec"), ("get", "create"), "to reach the services, and to run their programs"),
)

LASTING: Final = (
    Rule("apps", ("statefulsets",), _KEPT, "to run persistent services, and to stop them"),
    Rule(
        *("", ("persistentvolumeclaims",), ("get", "list", "watch", "patch", "delete")),
        "to find their data, to note what it was made with, and to destroy it",
    ),
)
"""What persistent services need besides."""
LASTING_NAME: Final = f"{NAME}-persistent"


def as_text(namespace: str, name: str = NAME, rules: Sequence[Rule] = RULES) -> str:
    """A Role as YAML, with a line for each part of a rule."""
    lines = [
        "apiVersion: rbac.authorization.k8s.io/v1",
        "kind: Role",
        "metadata:",
        f"  name: {name}",
        f"  namespace: {namespace}",
        "rules:",
    ]
    for rule in rules:
        lines += [
            f"- apiGroups: [{rule.group or json.dumps('')}]  # {rule.why}",
            f"  resources: [{', '.join(rule.resources)}]",
            f"  verbs: [{', '.join(rule.verbs)}]",
        ]
    return "\n".join(lines)


def not_allowed(cluster: Cluster, rules: Sequence[Rule] = RULES) -> tuple[str, ...]:
    """What of these rules this user may not do in a namespace, such as "create, delete pods".

    Raises:
        ClusterUnreachable, ClusterFailed: the cluster does not say.
    """
    asked = tuple(_asked(rules))
    answers = cluster.create([_review(cluster.namespace, *each) for each in asked], what="ask what this user may do")
    missing: dict[str, list[str]] = {}
    for (_, resource, verb), answer in zip(asked, answers, strict=True):
        if not answer.get("status", {}).get("allowed"):
            missing.setdefault(resource, []).append(verb)
    return tuple(f"{', '.join(verbs)} {resource}" for resource, verbs in missing.items())


def _asked(rules: Sequence[Rule]) -> Iterator[tuple[str, str, str]]:
    for rule in rules:
        for resource in rule.resources:
            for verb in rule.verbs:
                yield rule.group, resource, verb


def _review(namespace: str, group: str, resource: str, verb: str) -> Mapping[str, Any]:
    name, _, subresource = resource.partition("/")
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
