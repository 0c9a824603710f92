"""Claims of a project: is their data what a start with these settings would find and be able to read?

What it was made with is an annotation of the claim. Where that is missing, or has another image, a pod of the image
that is to run looks: no server touches the data for the answer.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from triton_env.core.model import ServiceRecipe
from triton_env.core.threads import in_thread
from triton_env.errors import TritonError
from triton_env.persistent.fitting import Mismatch, check_values, is_readable, refusal, unreadable
from triton_env.persistent.kubernetes.claim_files import ClaimFiles, printed
from triton_env.persistent.kubernetes.instances import Found, given
from triton_env.persistent.kubernetes.waiting import Wait
from triton_env.persistent.stamps import Stamp
from triton_env.runtimes.kubernetes import pods
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.objects import MANAGED_BY, Object, name_of, pod_spec
from triton_env.runtimes.kubernetes.project import CLAIM, mounts_of
from triton_env.runtimes.owner import LABEL, PROJECT_LABEL

if TYPE_CHECKING:
    from triton_env.persistent.kubernetes.stack import KubernetesStack

STAMP = "org.triton-env.stamp"
"""Annotation of a claim: what its data was made with; see `Stamp`."""
_LOOKS_FOR = 600
"""Seconds after which the cluster ends a pod that looks, where this process does not."""


class Claims:
    """The claims of a project, looked at in the turn of this process.

    Args:
        stack: the services of the project.
        cancelled: ends what is waited for.
        say: called with what a person should know.
    """

    def __init__(self, stack: "KubernetesStack", cancelled: threading.Event, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._cancelled = cancelled
        self._say = say

    def check(self, names: Sequence[str], found: Found) -> dict[str, Stamp]:
        """See that the data of services fits the settings. Nothing is started on it, or written to it.

        Args:
            found: what the cluster has of the project.

        Returns:
            The stamps of the data, by service.

        Raises:
            VolumeMismatch: it was made with something else, or by a version that the images do not read.
            TritonError: the cluster did not let it be looked at.
        """
        stamps = {name: stamp for name in names if (stamp := _stamp_of(found.claims.get(name)))}
        looks = {}
        for name in names:
            if (claim := found.claims.get(name)) is None:
                continue
            recipe = self._stack.recipe(name)
            if secret := found.secrets.get(name):
                # Clients might not notice: data that was made long ago may ask for no password on the pod's loopback.
                where = f"claim {claim['metadata']['name']}"
                check_values(recipe, given(secret), where=where, lost=self._stack.lost(name))
            stamp = stamps.get(name)
            if stamp is None or stamp.image != recipe.container.image:
                looks[name] = in_thread(self._look, recipe, claim, found.pods.get(name), stamp)
        for look in looks.values():
            # Each removes its pod.
            look.exception()
        results = {found.claims[name]["metadata"]["name"]: look.result() for name, look in looks.items()}
        if mismatches := {claim: (result,) for claim, result in results.items() if result}:
            raise refusal(mismatches, "claim")
        return stamps

    def note(self, name: str, version: str) -> None:
        """Note at a claim what its data is made with, unless it says so already.

        Args:
            name: of the service.
            version: what the server said of its version.

        Raises:
            TritonError: the cluster refused.
        """
        recipe, cluster = self._stack.recipe(name), self._stack.cluster
        if recipe.data is None:
            return
        claim = f"{CLAIM}-{self._stack.access(name).pod}"
        old = _stamp_of(cluster.get("persistentvolumeclaim", claim, what=f"look at {claim}"))
        new = Stamp(
            service=name,
            version=version,
            image=recipe.container.image,
            image_id="",
            checkout=self._stack.checkout,
            facts=dict(recipe.data.init_values),
            written=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if not (old and old.is_like(new) and old.facts == new.facts):
            annotation = f"{STAMP}={new.to_json().decode()}"
            words = ("annotate", "persistentvolumeclaim", claim, annotation, "--overwrite")
            cluster.run(*words, what="note at a claim what its data was made with")

    def _look(
        self, recipe: ServiceRecipe, claim: Object, server: Object | None, stamp: Stamp | None
    ) -> Mismatch | None:
        """What does not fit; None where all does, or where the data says nothing."""
        assert recipe.data is not None
        runs = server is not None and pods.runs(server)
        # While a server runs, it may be that only its node can mount the claim.
        mounts = stamp is None and not runs
        with self._reader(recipe, claim, mounts=mounts) as reader:
            version, left = stamp.version if stamp else "", None
            if stamp is None:
                files = ClaimFiles(self._stack.access(recipe.name) if runs else reader, recipe.data.path)
                if not runs and recipe.data.cut_off and (left := recipe.data.cut_off(files)) and left.files:
                    files.put(left.files)
                    self._say(f"the first start of {recipe.title} was cut off; the claim is completed")
                witness = recipe.data.inspect(files) if recipe.data.inspect else None
                version = witness.version if witness else ""
            program = printed(reader, recipe.data.version_command) if version else ""
        if left and not left.files:
            self._recreate(recipe, claim)
            return None
        fits = not version or is_readable(recipe.data.compatibility, version, program)
        return None if fits else unreadable(recipe, recipe.data, version, program, stamp)

    def _recreate(self, recipe: ServiceRecipe, claim: Object) -> None:
        """Remove a claim whose first start was cut off before anything of a user was in it."""
        name = claim["metadata"]["name"]
        self._stack.delete_and_wait("persistentvolumeclaim", name, what=f"remove the claim {name}")
        self._say(f"the first start of {recipe.title} was cut off; the claim {name} is recreated")

    @contextmanager
    def _reader(self, recipe: ServiceRecipe, claim: Object, *, mounts: bool) -> Iterator[PodAccess]:
        """A pod of the image that is to run, without its server."""
        name = f"{name_of(self._stack.project, recipe.name)}-look"
        reader = PodAccess(self._stack.cluster, name)
        what = f"look at the data of {recipe.title}"
        # That of a process which was killed.
        self._stack.delete_and_wait("pod", name, what=what)
        try:
            self._stack.cluster.create([self._reader_object(recipe, name, claim, mounts=mounts)], what=what)
            self._stack.looks.forget()
            Wait(self._stack, recipe, self._cancelled, reader).for_container(lambda words: None)
            yield reader
        finally:
            # Where that fails, the cluster ends it, and the next look removes it.
            with suppress(TritonError):
                self._stack.delete_and_wait("pod", name, what=what)

    def _reader_object(self, recipe: ServiceRecipe, name: str, claim: Object, *, mounts: bool) -> Object:
        data = mounts_of(recipe)
        spec = pod_spec(recipe, name, self._stack.settings, (), data)
        (container,) = spec["containers"]
        volume = {"name": CLAIM, "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        looking: dict[str, Any] = {
            **{key: container[key] for key in ("name", "image", "imagePullPolicy", "resources", "securityContext")},
            "command": ["sleep", str(_LOOKS_FOR)],
            "volumeMounts": data if mounts else [],
        }
        labels: Mapping[str, str] = {MANAGED_BY: "triton-env", LABEL: "true", PROJECT_LABEL: self._stack.project}
        owner = {"apiVersion": "v1", "kind": claim["kind"], **{key: claim["metadata"][key] for key in ("name", "uid")}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": spec
            | {
                "containers": [looking],
                "volumes": [volume] if mounts else [],
                "restartPolicy": "Never",
                "activeDeadlineSeconds": _LOOKS_FOR,
                "terminationGracePeriodSeconds": 0,
            },
        }


def _stamp_of(claim: Object | None) -> Stamp | None:
    annotations = claim["metadata"].get("annotations") or {} if claim else {}
    return Stamp.from_json(annotations.get(STAMP, "").encode())
