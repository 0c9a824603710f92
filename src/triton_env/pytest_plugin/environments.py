"""The environments of one pytest process: started when they are first needed, stopped at its end."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import Options, in_order

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.isolation.namespace import Namespace
    from triton_env.isolation.template import Template


class Environments:
    """Starts environments and makes namespaces in them.

    Args:
        config: of the run.
        options: of the run.
        shared_by: the id of the run, where its processes share their environments; empty where there is one process.
        quiet: whether starts are not displayed.
    """

    def __init__(self, config: pytest.Config, options: Options, *, shared_by: str = "", quiet: bool = False) -> None:
        self._config = config
        self._options = options
        # What is kept has to outlive this process, so another process has to hold its environment.
        self._shared_by = shared_by or (f"kept-{token_hex(4)}" if options.keep else "")
        # The same in all processes of the run: each template is built anew once.
        self._token = (shared_by or token_hex(8)) if options.rebuild else ""
        self._templates: list[tuple[object, Template]] = []
        self._quiet = quiet
        self._failures: dict[frozenset[str], Exception] = {}
        self.running: list[TritonEnvironment] = []

    def of(self, services: frozenset[str]) -> "TritonEnvironment":
        """An environment with these services, started where there is none.

        Raises:
            TritonError: it does not start. It is not tried a second time.
        """
        for environment in self.running:
            if services <= set(environment.services):
                return environment
        for asked, failure in self._failures.items():
            if services <= asked:
                raise failure.with_traceback(None)
        try:
            environment = self._started(services)
        except Exception as error:
            self._failures[services] = error
            raise
        self.running.append(environment)
        return environment

    def namespace(self, services: frozenset[str], template: Any) -> "Namespace":
        """A fresh namespace of these services, from a template or empty (None)."""
        environment = self.of(services)
        names = in_order(services)
        with self._importable():
            return environment.namespace(template=self._to_build(_loaded(template)), services=names)

    def stop(self) -> None:
        """Stop what was started. May be called again."""
        running, self.running = self.running, []
        with contextlib.ExitStack() as stack:
            for environment in running:
                stack.callback(environment.stop)

    def _started(self, services: frozenset[str]) -> "TritonEnvironment":
        from triton_env.environment import TritonEnvironment
        from triton_env.settings import dotenv_file, settings_in
        from triton_env.sharing.reuse import Reuse

        # That of the project, in whichever of its folders pytest is called.
        root = self._config.rootpath
        settings = settings_in(root if dotenv_file.find(root) else Path.cwd())
        if self._quiet:
            settings = settings.updated(triton_progress="off")
        reuse: bool | Reuse = self._options.reuse
        if reuse:
            # Those who share an environment ask for the same services, whichever tests they select.
            services |= frozenset(self._options.services)
        if not reuse and self._shared_by:
            reuse = Reuse(key_suffix=f"pytest-{self._shared_by}", linger=0)
        environment = TritonEnvironment(
            settings,
            services=tuple(services),
            runtime=self._options.runtime,
            reuse=reuse,
            isolated=self._options.isolated,
        )
        with self._uncaptured():
            return environment.start()

    def _to_build(self, template: Any) -> Any:
        """The template, or one that is built anew in this run."""
        if not self._token or template is None:
            return template
        from triton_env.isolation.template import Template

        # Not a mapping: a callable need not be hashable.
        made = next((made for known, made in self._templates if known is template), None)
        if made is None:
            made = template if isinstance(template, Template) else Template(template)
            made._token = self._token
            self._templates.append((template, made))
        return made

    @contextmanager
    def _uncaptured(self) -> Iterator[None]:
        """The display of a start belongs to no test."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            yield

    @contextmanager
    def _importable(self) -> Iterator[None]:
        """Templates may be needed before pytest has put the folders of `pythonpath` where modules are looked for."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            for folder in reversed(self._config.getini("pythonpath")):
                monkeypatch.syspath_prepend(folder)
            yield


def _loaded(template: Any) -> Any:
    """The template itself where `module:callable` names it.

    Raises:
        UsageError: it does not exist.
    """
    if not isinstance(template, str):
        return template
    from importlib import import_module

    from triton_env.errors import UsageError

    module, _, path = template.partition(":")
    try:
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"The template {template!r} cannot be imported.",
            where="triton_template, --triton-template or @pytest.mark.triton(template=)",
            cause=f"{type(error).__name__}: {error}",
            hint="the folder of the module has to be in pythonpath (an ini option of pytest)",
        ) from error
    return found
