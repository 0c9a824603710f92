"""A namespace of a cluster, asked through `kubectl`, so that kubeconfigs and login plugins work as they do there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triton_env.errors import ClusterFailed, ClusterUnreachable, RuntimeUnavailable, TritonError
from triton_env.settings import Settings, process_environment

_REQUEST_TIMEOUT = 20
"""Seconds that the cluster gets for one request."""
_PROCESS_TIMEOUT = 60
"""Seconds that `kubectl` gets, which may have to log in first."""
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""In a pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""
_NO_ANSWER = re.compile(
    "unable to connect to the server|connection to the server|connection refused|no such host|i/o timeout|EOF|x509:"
    "|handshake timeout|deadline exceeded|timed out(?! waiting)|network is unreachable|no route to host"
    "|service unavailable|etcdserver:|apiserver is shutting down",
    re.IGNORECASE,
)
_USUAL = Path.home() / ".kube" / "config"
"""The kubeconfig where KUBECONFIG is not set."""
_OF_ITS_LOG = re.compile(r"^[EWI][0-9]{4} [0-9:.]+ .*\n?", re.MULTILINE)
_PREFIX = re.compile(r'^(Error from server( \([A-Za-z]+\))?|error): (error when creating "STDIN": )?')
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a failure of `kubectl` is known by, and the error that it becomes.

    Attributes:
        words: what it writes.
        kind: of the error.
        sentence: what went wrong, with {what} for what was to be done and the named groups of `words`.
        hint: what to do next, with the same, and {kubectl} for how that is run there.
    """

    words: re.Pattern[str]
    kind: type[ClusterFailed | ClusterUnreachable]
    sentence: str
    hint: str


_FAILURES = (
    _Failure(
        re.compile(r'namespaces "(?P<namespace>[^"]+)" not found'),
        ClusterFailed,
        "The cluster has no namespace {namespace}.",
        "{kubectl} create namespace {namespace}, or set TRITON_K8S_NAMESPACE to one that exists",
    ),
    _Failure(
        re.compile(r"forbidden: User .* cannot", re.IGNORECASE | re.DOTALL),
        ClusterFailed,
        "The cluster does not allow this user to {what}.",
        "python -m triton_env doctor prints the Role that is needed; have it bound to this user",
    ),
    _Failure(
        re.compile("violates PodSecurity|unable to validate against any (pod )?security", re.IGNORECASE),
        ClusterFailed,
        "The namespace does not admit pods that begin as root.",
        "set TRITON_K8S_SECURITY=restricted, or use another namespace: TRITON_K8S_NAMESPACE",
    ),
    _Failure(
        re.compile(
            r"(?:maximum|minimum) \w+ (?:usage|limit) per|max limit to request ratio per|must be less than or equal to"
            r" \w+ limit"
        ),
        ClusterFailed,
        "The limits of the namespace do not let this user {what}.",
        "{kubectl} describe limitrange shows them; set TRITON_K8S_REQUESTS and TRITON_K8S_LIMITS",
    ),
    _Failure(
        re.compile(r'admission webhook "(?P<webhook>[^"]+)" denied the request'),
        ClusterFailed,
        "A policy of the cluster does not let this user {what}.",
        "it is that of {webhook}; TRITON_K8S_SECURITY=restricted, TRITON_K8S_REQUESTS and TRITON_K8S_LIMITS meet most",
    ),
    _Failure(
        re.compile("exceeded quota|must specify (limits|requests)|failed quota", re.IGNORECASE),
        ClusterFailed,
        "The quota of the namespace does not let this user {what}.",
        "{kubectl} describe quota shows it; set TRITON_K8S_REQUESTS and TRITON_K8S_LIMITS",
    ),
    _Failure(
        re.compile(
            r'(cannot locate context|not found for specified context:|context(?= "[^"]+" does not exist))'
            r' "?(?P<context>[^"\s]+)'
        ),
        ClusterUnreachable,
        "The kubeconfig has no context {context}.",
        "kubectl config get-contexts lists those that it has; set TRITON_K8S_CONTEXT to one of them",
    ),
    _Failure(
        re.compile("current-context must exist|no configuration has been provided|error loading config"),
        ClusterUnreachable,
        "The kubeconfig leads to no cluster.",
        "kubectl config get-contexts lists what there is; set TRITON_K8S_CONTEXT or KUBECONFIG",
    ),
    _Failure(
        re.compile("must be logged in|unauthorized|getting credentials|exec plugin", re.IGNORECASE),
        ClusterUnreachable,
        "The cluster does not know this user.",
        "log in to it; {kubectl} get pods shows whether that has worked",
    ),
)
"""The first that fits is taken: what the cluster answers may quote anything."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A namespace of a cluster. It is plain data, which another process of this user can use.

    Attributes:
        context: of the kubeconfig; empty in a pod, whose cluster is its own.
        namespace: its name.
        kubeconfig: the value of KUBECONFIG; empty for the default.
    """

    context: str
    namespace: str
    kubeconfig: str = ""

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.context or 'this cluster'}, namespace {self.namespace}"

    @property
    def kubectl(self) -> str:
        """How people run `kubectl` for something in it: the beginning of a command line."""
        context = ("--context", self.context) if self.context else ()
        return shlex.join(("kubectl", *context, "--namespace", self.namespace))

    def command(self, *words: str, timeout: int | None = _REQUEST_TIMEOUT) -> tuple[str, ...]:
        """The command line of `kubectl` for something in it.

        Args:
            timeout: seconds for a request; None for one that goes on, such as a log that is followed.

        Raises:
            RuntimeUnavailable: there is no `kubectl`.
        """
        context = ("--context", self.context) if self.context else ()
        # With it, kubectl does not look for a service account: https://github.com/kubernetes/kubernetes/issues/93474
        limit = ("--request-timeout", f"{timeout}s") if timeout and self.context else ()
        return (kubectl(), *context, "--namespace", self.namespace, *limit, *words)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of `kubectl`."""
        return environment_with(self.kubeconfig)

    def run(self, *words: str, content: str = "", what: str) -> str:
        """Run `kubectl`, and return what it prints.

        Args:
            content: its standard input.
            what: what it does, for the error message: "create a pod".

        Raises:
            ClusterUnreachable: the cluster does not answer, or does not know this user.
            ClusterFailed: it refused the request.
        """
        return self.run_command(self.command(*words), content=content, what=what)

    def run_command(
        self, command: Sequence[str], *, content: str = "", what: str, timeout: float = _PROCESS_TIMEOUT
    ) -> str:
        """Run a command line of `command`, for `timeout` seconds at most. See `run`."""
        return run(
            command,
            self.environment,
            content=content,
            what=what,
            where=self.title,
            kubectl=self.kubectl,
            timeout=timeout,
        )

    def create(self, objects: Iterable[Mapping[str, Any]], *, what: str) -> list[Mapping[str, Any]]:
        """Create objects, in this order; returns them as the cluster has them. Raises as `run` does."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        # To validate it here, kubectl would fetch a description of all that the cluster knows, each time.
        return _items(self.run("create", "-f", "-", "-o", "json", "--validate=false", content=content, what=what))

    def list(self, kinds: str, selector: str, *, what: str) -> list[Mapping[str, Any]]:
        """The objects of some kinds with these labels. Raises as `run` does."""
        # As JSON, `kubectl` leaves out `managedFields`, which say when an object was changed.
        text = self.run("get", kinds, "--selector", selector, "-o", "jsonpath={.items}", what=what)
        found: list[Mapping[str, Any]] = json.loads(text)
        return found

    def get(self, kind: str, name: str, *, what: str) -> Mapping[str, Any] | None:
        """One object; None where it does not exist. Raises as `run` does."""
        text = self.run("get", kind, name, "--ignore-not-found", "-o", "json", what=what)
        found: Mapping[str, Any] | None = json.loads(text) if text.strip() else None
        return found


def cluster_of(settings: Settings) -> Cluster:
    """The namespace that the settings, the kubeconfig and, in a pod, its service account lead to.

    Raises:
        RuntimeUnavailable: there is no `kubectl`.
        ClusterUnreachable: the context does not exist, or no kubeconfig does.
    """
    variables = process_environment()
    kubeconfig = _absolute(variables.get("KUBECONFIG", ""))
    asked = ("--context", settings.triton_k8s_context) if settings.triton_k8s_context else ()
    command = (kubectl(), *asked, "config", "view", "--minify", "-o", "json")
    try:
        text = run(
            command, environment_with(kubeconfig), what="read the kubeconfig", where=kubeconfig or "~/.kube/config"
        )
    except TritonError as error:
        if not asked and in_pod():
            text = "{}"
        elif _is_missing(kubeconfig):
            raise ClusterUnreachable(
                "The kubeconfig does not exist.",
                where=f"KUBECONFIG={kubeconfig}" if kubeconfig else str(_USUAL),
                hint="set KUBECONFIG to the file that leads to the cluster",
            ) from error
        else:
            raise
    config = json.loads(text)
    contexts = config.get("contexts") or [{}]
    namespace = settings.triton_k8s_namespace or (contexts[0].get("context") or {}).get("namespace") or ""
    if not namespace and in_pod():
        namespace = _OWN_NAMESPACE.read_text().strip()
    return Cluster(config.get("current-context", ""), namespace or "default", kubeconfig)


def _is_missing(kubeconfig: str) -> bool:
    """Whether none of its files exists."""
    paths = kubeconfig.split(os.pathsep) if kubeconfig else (_USUAL,)
    return not any(path and os.path.exists(path) for path in paths)


def in_pod() -> bool:
    """Whether this process runs in a pod that has a service account: it reaches services by their names."""
    return "KUBERNETES_SERVICE_HOST" in process_environment() and _OWN_NAMESPACE.exists()


def kubectl() -> str:
    """The path of `kubectl`: that on PATH, or that of the extra.

    Raises:
        RuntimeUnavailable: there is none.
    """
    beside = Path(sys.executable).parent / "kubectl"
    if found := shutil.which("kubectl"):
        return os.path.abspath(found)
    if beside.exists():
        return str(beside)
    raise RuntimeUnavailable(
        "The program kubectl is needed for services in a cluster, and is not on PATH.",
        where="TRITON_RUNTIME=kubernetes",
        hint="pip install 'triton-env[kubernetes]', or install the one of your cluster's version",
    )


def _absolute(kubeconfig: str) -> str:
    """That value of KUBECONFIG for processes that work in other folders."""
    return os.pathsep.join(path and os.path.abspath(path) for path in kubeconfig.split(os.pathsep))


def environment_with(kubeconfig: str) -> dict[str, str]:
    """The environment variables of a `kubectl` with that value of KUBECONFIG."""
    variables = process_environment()
    variables.pop("KUBECONFIG", None)
    return variables | ({"KUBECONFIG": kubeconfig} if kubeconfig else {})


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    content: str = "",
    what: str,
    where: str,
    kubectl: str = "kubectl",
    timeout: float = _PROCESS_TIMEOUT,
) -> str:
    """Run a command line of `kubectl`; see `Cluster.run` and `failure`."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's kubectl
            command,
            env=dict(environment),
            input=content,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            # Ctrl-C is for this process, which may be about to clean up by it.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreachable(where, f"kubectl has not answered within {timeout:g} s", kubectl) from error
    except OSError as error:
        raise ClusterFailed(f"kubectl cannot be run to {what}.", where=command[0], cause=str(error)) from error
    if done.returncode == 0:
        return done.stdout
    words = done.stderr.strip() or f"kubectl ended with status {done.returncode}"
    raise failure(words, what=what, where=where, kubectl=kubectl)


def failure(words: str, *, what: str, where: str, kubectl: str = "kubectl") -> TritonError:
    """The error for what `kubectl` wrote before it failed.

    Args:
        what: what it was to do: "create a pod".
        where: the cluster, for people.
        kubectl: how people run it there, for hints.
    """
    # Its own log repeats what it says in the end.
    words = _OF_ITS_LOG.sub("", words).strip() or words
    # In lines as wide as an error shows them, so that nothing of it is cut.
    shown = "\n".join(textwrap.fill(_PREFIX.sub("", line), _WIDTH) for line in words.splitlines())
    for known in _FAILURES:
        if match := known.words.search(words):
            parts = {"what": what, "kubectl": kubectl, **match.groupdict()}
            return known.kind(known.sentence.format(**parts), where=where, cause=shown, hint=known.hint.format(**parts))
    if _NO_ANSWER.search(words):
        return _unreachable(where, shown, kubectl)
    hint = f"{kubectl} get events shows more"
    return ClusterFailed(f"The cluster could not {what}.", where=where, cause=shown, hint=hint)


def _unreachable(where: str, cause: str, kubectl: str) -> ClusterUnreachable:
    return ClusterUnreachable(
        "No Kubernetes cluster answers.", where=where, cause=cause, hint=f"{kubectl} get pods shows whether it does"
    )


def _items(text: str) -> list[Mapping[str, Any]]:
    """The objects that `kubectl` printed as JSON: a list, or one after another."""
    decoder, found, at = json.JSONDecoder(), list[Mapping[str, Any]](), 0
    text = text.strip()
    while at < len(text):
        item, at = decoder.raw_decode(text, at)
        found += item["items"] if item["kind"].endswith("List") else [item]
        while at < len(text) and text[at].isspace():
            at += 1
    return found
