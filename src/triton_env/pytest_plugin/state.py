"""What the plugin knows about the run that it is in."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import Options
from triton_env.pytest_plugin.requirements import Requirements, marks_of

if TYPE_CHECKING:
    from _pytest.nodes import Node

    from triton_env.environment import TritonEnvironment
    from triton_env.pytest_plugin.environments import Environments
    from triton_env.pytest_plugin.spaces import TestNamespaces

KEY = pytest.StashKey["State"]()


class State:
    """One run of pytest in one process: its options, its environments, and the namespaces that live.

    Args:
        config: of the run.
        options: of the run.
        shared_by: the id of the run where its processes share environments, else empty.
        quiet: whether starts are not displayed.
    """

    def __init__(self, config: pytest.Config, options: Options, *, shared_by: str = "", quiet: bool = False) -> None:
        self.config = config
        self.options = options
        self.shared_by = shared_by
        self._quiet = quiet
        self.requirements = Requirements((), options)
        self.exported: TestNamespaces | None = None
        self.live: list[TestNamespaces] = []
        self.facts: list[Mapping[str, Any]] = []
        self.reported: list[str] = []
        self.kept: list[Mapping[str, Any]] = []
        self.died: list[Mapping[str, Any]] = []
        self.died_in: dict[str, str] = {}  # in the report on which test a dead server was first seen
        self.problems: list[str] = []
        self.changed: set[str] = set()
        self.refused: str | None = None  # why no test may run; None before the first one
        self._environments: Environments | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> "State":
        """That of a run, made at the first question."""
        state = config.stash.get(KEY, None)
        if state is None:
            run = getattr(config, "workerinput", {}).get("testrunuid", "")
            quiet = bool(run) or config.option.verbose < 0
            state = cls(config, Options.of(config), shared_by=run, quiet=quiet)
            config.stash[KEY] = state
        return state

    @property
    def environments(self) -> "Environments":
        """Where environments come from. Loads what that takes, but starts nothing."""
        if self._environments is None:
            from triton_env.pytest_plugin.environments import Environments

            self._environments = Environments(self.config, self.options, shared_by=self.shared_by, quiet=self._quiet)
        return self._environments

    @property
    def running(self) -> Sequence["TritonEnvironment"]:
        """The environments that run."""
        return self._environments.running if self._environments else ()

    def configured(self, node: "Node") -> frozenset[str]:
        """What `triton` stands for there."""
        return frozenset(marks_of(node).services or self.options.services)

    def isolated(self, services: frozenset[str]) -> frozenset[str]:
        """Those that a namespace takes: the ones that can; where none can, all, which is then refused by name."""
        from triton_env.pytest_plugin.spaces import able

        return able(services) or services

    def spaces_for(self, node: "Node") -> "TestNamespaces":
        """Namespaces for a test, class, module, package or session, without one yet."""
        from triton_env.pytest_plugin.spaces import TestNamespaces

        template = marks_of(node).template
        if template is None:
            template = self.options.template
        spaces = TestNamespaces(self.environments, node, self.requirements.of(node).namespace, template)
        self.live.append(spaces)
        return spaces

    def end_of(self, spaces: "TestNamespaces") -> None:
        """These namespaces are no longer needed."""
        self.live.remove(spaces)
        spaces.close(keep=self.options.keep and spaces.failed)

    def export(self) -> "TestNamespaces":
        """Make the namespace of this process where there is none, and set its variables."""
        if self.exported is None:
            from triton_env.pytest_plugin.spaces import TestNamespaces

            services = self.isolated(frozenset(self.options.services))
            spaces = TestNamespaces(self.environments, None, services, self.options.template, remember=True)
            spaces.namespace(services)
            self.exported = spaces
        return self.exported

    def used_by(self, item: pytest.Item) -> Iterator["TestNamespaces"]:
        """The namespaces that a test uses, as far as its fixtures show."""
        names = getattr(item, "fixturenames", ())
        if self.exported is not None and ("triton_exported" in names or not self.requirements.of(item)):
            yield self.exported
        for spaces in self.live:
            if spaces.node is item or self.requirements.of(item).namespace:
                yield spaces

    def finish(self) -> None:
        """Note what there is to say of the environments, and remove everything. Workers send what they have noted."""
        if not self.running:
            self.stop()
            return
        from triton_env.errors import TritonError
        from triton_env.pytest_plugin.summary import facts

        try:
            try:
                self.facts += facts(self.running)
            finally:
                self.stop()
        except TritonError as error:
            self.problems.append(str(error))
        output = getattr(self.config, "workeroutput", {})
        output |= {"triton_env_facts": self.facts, "triton_env_problems": self.problems}

    def stop(self) -> None:
        """Remove everything. May be called again."""
        exported, self.exported = self.exported, None
        live, self.live = self.live, []
        with ExitStack() as stack:
            if self._environments is not None:
                stack.callback(self._environments.stop)
            for spaces in (*((exported,) if exported else ()), *live):
                stack.callback(spaces.close, keep=self.options.keep and spaces.failed)
