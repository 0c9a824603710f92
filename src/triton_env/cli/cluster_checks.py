"""What `doctor` looks at where the services run in a cluster."""

from collections.abc import Iterator, Sequence

from triton_env.core.findings import Finding, Verdict
from triton_env.core.printable import in_one_line
from triton_env.errors import TritonError
from triton_env.runtimes.kubernetes import role
from triton_env.runtimes.kubernetes.cluster import Cluster, cluster_of, kubectl
from triton_env.runtimes.kubernetes.leftovers import now_of
from triton_env.settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at the way to the cluster, and at what this user may do there."""
    yield Finding("runtime", Verdict.GOOD, "kubernetes, since TRITON_RUNTIME says so; Docker was not checked")
    try:
        yield Finding("kubectl", Verdict.GOOD, kubectl())
        cluster = cluster_of(settings)
        missing, lacking = (role.not_allowed(cluster, rules) for rules in (role.RULES, role.LASTING))
        if not missing:
            # Whether the namespace exists, which only a request in it shows to a user who may not list them.
            now_of(cluster)
    except TritonError as error:
        yield Finding("cluster", Verdict.BAD, in_one_line(error), error.hint)
        return
    yield Finding("cluster", Verdict.GOOD, cluster.title)
    yield _rights(cluster, missing, "sessions", role.NAME, role.RULES, Verdict.BAD)
    yield _rights(cluster, lacking, "persistent services", role.LASTING_NAME, role.LASTING, Verdict.WARNING)


def _rights(
    cluster: Cluster, missing: tuple[str, ...], purpose: str, name: str, rules: Sequence[role.Rule], verdict: Verdict
) -> Finding:
    if not missing:
        return Finding("rights", Verdict.GOOD, f"this user may do all that {purpose} need there")
    words = f"{purpose} need more: this user may not {'; '.join(missing)}"
    bind = f"{cluster.kubectl} create rolebinding {name} --role {name} --user NAME"
    hint = f"have the Role {name} applied that is printed below, and bound to this user: {bind}"
    return Finding("rights", verdict, words, hint, role.as_text(cluster.namespace, name, rules))
