"""Templates on the servers: built once, by one of all threads and processes, and found by the others."""

import hashlib
import json
import os
import shlex
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

from triton_env.errors import SnapshotFailed, TemplateFailed, TritonError, UsageError
from triton_env.isolation.base import TEMPLATE, Space
from triton_env.isolation.folder import Finished
from triton_env.isolation.namespace import Namespace
from triton_env.isolation.spaces import Spaces
from triton_env.isolation.template import Template

_FORMAT = 1
"""Goes up when templates are built in another way than before."""
_UNUSED_FOR = 7 * 24 * 3600
"""Seconds after which a template goes that no process has begun to use."""
_SHORT = 12
"""Digits of a digest that go into the names of databases."""
_LINES, _WIDTH = 3, 100
"""How much of a cause is shown in a message."""


class Templates:
    """The templates of an environment, as one process sees them."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._known: dict[str, Space] = {}

    def space(self, template: Template) -> Space:
        """Where the template is. It is built where it is not there yet; who comes meanwhile waits.

        Raises:
            TemplateFailed: it could not be built. Nothing of it is left.
        """
        content = template.digest()
        if content in self._known:
            return self._known[content]
        folder = self._spaces.folder
        digest = self._digest(content)
        with folder.making(digest):
            finished = folder.template(digest)
            if finished and self._spaces.is_there(finished):
                space = finished.space
                folder.use_template(digest)
            else:
                if finished:  # the record of what the servers have lost
                    folder.forget_template(digest)
                space = self._build(template, digest)
        self._known[content] = space
        return space

    def expire(self) -> None:
        """Remove those that nobody has used for a while, on servers that nobody removes."""
        folder = self._spaces.folder
        for digest in folder.unused_templates(_UNUSED_FOR):
            with folder.making(digest):
                finished = folder.unused_templates(_UNUSED_FOR).get(digest)
                held = folder.take(finished.space.id, finished.services) if finished else None
                if finished is None or held is None:
                    continue
                folder.forget_template(digest)
                self._spaces.remove(finished.space, finished.services, held)

    def _digest(self, content: str) -> str:
        settings = self._spaces.environment.settings
        facts = {
            "format": _FORMAT,
            "content": content,
            "versions": dict(self._spaces.versions()),
            "roles": [settings.postgres_user, settings.clickhouse_user],
            "names": [settings.postgres_db, settings.clickhouse_db, settings.s3_bucket],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_SHORT]

    def _build(self, template: Template, digest: str) -> Space:
        spaces, services = self._spaces, self._spaces.services
        space, held = spaces.make(TEMPLATE + digest, services, None)
        namespace = Namespace(_Builder(spaces), space, spaces.bound(space, services), None, held)
        try:
            self._fill(template, namespace)
            try:
                spaces.freeze(space, services)
            except SnapshotFailed as error:
                raise TemplateFailed(
                    "The template was built, and left a transaction open.",
                    where=f"{template.title}: {error.where}",
                    cause=error.cause,
                    hint="commit it, and close the connection",
                ) from error
            spaces.folder.publish_template(digest, Finished(space, services))
        except BaseException as error:
            try:
                spaces.remove(space, services, held)
            except TritonError as another:
                error.add_note(f"What was made of it could not be removed: {another}")
            raise
        held.release(remove=True)
        return space

    def _fill(self, template: Template, namespace: Namespace) -> None:
        from triton_env.isolation.loading import load

        if isinstance(template.build, Path):
            load(template.build, namespace)
            return
        build: Callable[[Namespace], object] = template.build
        try:
            build(namespace)
        except TritonError:
            raise
        except (Exception, SystemExit) as error:  # command lines that are called as functions end by SystemExit
            raise TemplateFailed(
                "The function that fills the template failed.",
                where=template.title,
                cause=_cause(error),
                log_tail=_output(error),
                hint="its traceback is above this one",
            ) from error


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


class _Builder:
    """Keeps a namespace that is to become a template."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces

    def reset_namespace(self, namespace: Namespace) -> None:
        self._spaces.replace(namespace.space, None, namespace.services, "reset a template")

    def keep_namespace(self, namespace: Namespace) -> None:
        raise UsageError("A template that is being built cannot be kept: it is kept once it is built.")

    def close_namespace(self, namespace: Namespace) -> bool:
        return False  # it is still to become a template
