"""Templates on the servers: built once, by one of all threads and processes, and found by the others."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from triton_env.core.redaction import redacted
from triton_env.errors import ServiceDied, SnapshotFailed, TemplateFailed, TritonError, UsageError
from triton_env.isolation.ledger import FrozenSpace
from triton_env.isolation.namespace import Namespace
from triton_env.isolation.reads import Reads, Variant, Variants, recorded
from triton_env.isolation.shelf import TurnLost
from triton_env.isolation.sources import Scope
from triton_env.isolation.spaces import SpaceManager
from triton_env.isolation.template import Template
from triton_env.services.base_isolation import TEMPLATE, Beside, ContentLost
from triton_env.settings import Settings

_FORMAT = 3
"""Goes up when templates are built in another way than before."""
_SHORT = 12
"""Digits of a digest that go into the names of databases."""
_LINES, _WIDTH = 3, 100
"""How much of a cause is shown in a message."""


_EXISTS = r"\b({})\b.* already exists(?! with same)"
"""What servers say of a thing that is there already. Those of a space differ from it by what they are the same with."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A template on the servers, and what its build read."""

    finished: FrozenSpace
    reads: Reads


class TemplateBuilder:
    """The templates of an environment, as one process sees them."""

    def __init__(self, spaces: SpaceManager) -> None:
        self._spaces = spaces
        self._known: dict[str, _Known] = {}

    def finished(self, template: Template) -> FrozenSpace:
        """The template on the servers. It is built where it is not there yet; others that ask for it wait.

        Raises:
            TemplateFailed: it could not be built. Nothing of it is left.
        """
        content = f"{template.digest()} {template._token}"
        if (known := self._known.get(content)) and (reads := known.reads.renewed(template.root)):
            self._known[content] = replace(known, reads=reads)
            return known.finished
        while True:
            key = self._digest(template.digest())
            try:
                with self._spaces.shelf().making(key):
                    found = self._found(key, template) or self._build(template, key)
            except TurnLost:
                continue  # the other one has built it by now, or is at it
            self._known[content] = found
            return found.finished

    def _found(self, key: str, template: Template) -> "_Known | None":
        """The one whose build read what is there today, and that the servers still have."""
        shelf = self._spaces.shelf()
        for variant in shelf.variants(key).known:
            if template._token not in ("", variant.token) or (reads := variant.reads.renewed(template.root)) is None:
                continue
            with shelf.making(variant.digest):
                if (finished := shelf.template(variant.digest)) is None:
                    continue
                if self._is_intact(finished) and self._are_there(variant.beside):
                    shelf.use(variant.digest, finished)
                    return _Known(finished, reads)
                self._remove(variant.digest, finished)  # what is left of what the servers have lost
        return None

    def forget(self, finished: FrozenSpace) -> None:
        """Look at the servers again before it is next used: something has wiped it."""
        for content in [content for content, known in self._known.items() if known.finished == finished]:
            del self._known[content]

    def _is_intact(self, finished: FrozenSpace) -> bool:
        """Whether the servers still hold what it held. One of another version, without records, is built again."""
        services = [name for name in finished.services if name in self._spaces.services]
        try:
            self._spaces.verify(finished, services)
        except ContentLost:
            return False
        return finished.records.keys() >= set(services)

    def expire(self) -> None:
        """Remove those that were not used for a while, on servers that stay, where this environment has their services.

        Those of other machines may have more.
        """
        shelf = self._spaces.shelf()
        for digest, unused in shelf.unused().items():
            if not set(unused.services) <= set(self._spaces.services):
                continue
            with shelf.making(digest):
                if finished := shelf.unused().get(digest):
                    self._remove(digest, finished)

    def _remove(self, digest: str, finished: FrozenSpace) -> None:
        if held := self._spaces.ledger.take(finished.space.id, finished.services):
            self._spaces.shelf().forget(digest)
            self._spaces.remove(finished.space, finished.services, held)

    def _digest(self, content: str) -> str:
        facts = {"format": _FORMAT, "content": content, "servers": dict(self._spaces.facts())}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_SHORT]

    def _beside(self) -> Mapping[str, Beside]:
        environment = self._spaces.environment
        alone = not environment.lasting and not environment.is_shared()
        return {each.name: each.beside(alone=alone) for each in self._spaces.isolations()}

    def _are_there(self, names: Mapping[str, Sequence[str]]) -> bool:
        beside = self._beside()
        return all(beside[service].are_there(made) for service, made in names.items() if service in beside)

    def _build(self, template: Template, key: str) -> "_Known":
        beside = self._beside()
        with ExitStack() as stack:
            for each in beside.values():
                stack.enter_context(each)
            while True:
                try:
                    return self._built(template, key, beside)
                except TemplateFailed as error:
                    if any(each.make_way(error) for each in beside.values()):
                        continue
                    error.hint = self._how_to_replace(error) or error.hint
                    raise

    def _how_to_replace(self, error: TemplateFailed) -> str:
        """What to do where a thing is there already that is of no space."""
        for each in self._spaces.isolations():
            pattern = _EXISTS.format("|".join(each.shared_kinds))
            if each.shared_kinds and re.search(pattern, error.cause, re.IGNORECASE):
                return f"it is the server's, and perhaps of an earlier build: {each.how_to_replace}"
        return ""

    def _built(self, template: Template, key: str, beside: Mapping[str, Beside]) -> "_Known":
        spaces, services = self._spaces, self._spaces.services
        shelf = spaces.shelf()
        variants, before = shelf.variants(key), template.digest()
        digest = hashlib.sha256(f"{key} {variants.count}".encode()).hexdigest()[:_SHORT]
        space, held = spaces.make(TEMPLATE + digest + spaces.suffix, services, None)
        namespace = Namespace(_Builder(spaces), space, spaces.bound(space, services), None, held)
        try:
            reads = self._fill(template, namespace)
            try:
                finished = spaces.finish(space, services)
            except SnapshotFailed as error:
                raise TemplateFailed(
                    "The template was built, and left a transaction open.",
                    where=f"{template.title}: {error.where}",
                    cause=error.cause,
                    hint="commit it, and close the connection",
                ) from error
            shelf.publish(digest, finished, key)
        except BaseException as error:
            try:
                spaces.remove(space, services, held)
            except ServiceDied as died:
                # What it took the server to fail with hides why it did.
                if isinstance(error, Exception | SystemExit):
                    raise died from error
            except TritonError as another:
                error.add_note(f"What was made of it could not be removed: {another}")
            raise
        held.release(remove=True)
        # Not for others where it changed while it was built: it is built anew when it is asked for again.
        is_certain = reads.is_certain and template.digest() == before
        there = [each for each in variants.known if shelf.template(each.digest)]
        made = {name: names for name, each in beside.items() if (names := each.made())}
        new = [Variant(digest, template._token, reads, made)] if is_certain else []
        shelf.note_variants(key, Variants(variants.count + 1, (*new, *there)))
        return _Known(finished, reads)

    def _fill(self, template: Template, namespace: Namespace) -> Reads:
        from triton_env.isolation.loading import load

        if isinstance(template.build, Path):
            load(template.build, namespace)
            return Reads()
        build: Callable[[Namespace], object] = template.build
        try:
            with recorded() as recording:
                build(namespace)
        except TritonError:
            raise
        except (Exception, SystemExit) as error:  # command lines that are called as functions end by SystemExit
            raise TemplateFailed(
                "The function that fills the template failed.",
                where=template.title,
                cause=redacted(_cause(error), _secrets(namespace)),
                log_tail=redacted(_output(error), _secrets(namespace)),
                hint="its traceback is above this one",
            ) from error
        scope = Scope(template.root, (self._spaces.ledger.path.parent,))
        return recording.finished(scope, template._source, programs=not template.inputs)


def _cause(error: BaseException) -> str:
    """What went wrong, in three lines: the beginning of the words, which names it, and not their end."""
    if isinstance(error, subprocess.CalledProcessError):
        words = [error.cmd] if isinstance(error.cmd, (str, bytes)) else list(error.cmd)
        program, *arguments = [os.fsdecode(word) for word in words]
        command = program if isinstance(error.cmd, (str, bytes)) else shlex.join([Path(program).name, *arguments])
        how = f"signal {-error.returncode}" if error.returncode < 0 else f"exit status {error.returncode}"
        text = f"{how} of: {command}"
    else:
        text = f"{type(error).__name__}: {error}"
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, _WIDTH, break_on_hyphens=False)]
    return "\n".join(lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"{lines[_LINES - 1][: _WIDTH - 2]} …"])


def _output(error: BaseException) -> str:
    """What a program wrote that failed, as far as it was caught: its errors, else its output."""
    for name in ("stderr", "stdout"):
        if text := getattr(error, name, None):
            return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return ""


def _secrets(namespace: Namespace) -> list[str]:
    """What a program may have been given, and shows where it fails."""
    return [value for name, value in namespace.environ().items() if name.endswith(("_PASSWORD", "_SECRET_ACCESS_KEY"))]


class _Builder:
    """Keeps a namespace that is to become a template."""

    def __init__(self, spaces: SpaceManager) -> None:
        self._spaces = spaces

    @property
    def settings(self) -> Settings:
        return self._spaces.environment.settings

    def verify_namespace(self, namespace: Namespace, services: tuple[str, ...]) -> None:
        """It is new."""

    def reset_namespace(self, namespace: Namespace) -> None:
        self._spaces.replace(namespace.space, None, namespace.services, "reset a template")

    def keep_namespace(self, namespace: Namespace) -> None:
        raise UsageError("A template that is being built cannot be kept: it is kept once it is built.")

    def close_namespace(self, namespace: Namespace) -> bool:
        return False  # it is still to become a template
