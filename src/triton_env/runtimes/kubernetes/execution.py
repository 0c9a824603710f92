"""Programs in pods, run by `kubectl exec`."""

import sys
from collections.abc import Mapping, Sequence

from triton_env.core.model import Program
from triton_env.runtimes.kubernetes import with_variables
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.pods import CONTAINER


def in_pod(
    cluster: Cluster,
    pod: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    terminal: bool = False,
) -> Program:
    """How to run a program in a pod that runs; see `ImageAccess.program_inside`.

    Args:
        argv: the program and its arguments.
        terminal: whether it gets a terminal, which is this process's.
    """
    kubectl = cluster.command(timeout=None)
    # Under other names, so that kubectl and its login plugins do not take them for their own.
    variables = cluster.environment | {with_variables.PREFIX + name: value for name, value in environment.items()}
    if environment:
        script = (sys.executable, "-I", "-S", with_variables.__file__)
        how = ("terminal" if terminal else "plain", str(len(kubectl)))
        lead = (*script, ",".join(environment), pod, CONTAINER, *how, *kubectl)
    else:
        given = ("--stdin", "--tty") if terminal else ("--stdin",)
        lead = (*kubectl, "exec", *given, pod, "--container", CONTAINER, "--")
    return Program((*lead, *argv), variables, lead=len(lead))
