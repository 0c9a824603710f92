"""The namespaces of one test, or of all tests of a class, a module, a package or a session."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_env.pytest_plugin.options import in_order

if TYPE_CHECKING:
    from _pytest.nodes import Node

    from triton_env.environment import TritonEnvironment
    from triton_env.isolation.namespace import Namespace
    from triton_env.pytest_plugin.environments import Environments
    from triton_env.pytest_plugin.variables import Exported
    from triton_env.services import Service


@dataclass(frozen=True, slots=True)
class Part:
    """A namespace, and where it is.

    Attributes:
        environment: in which it is.
        namespace: it.
        exported: its variables, while they are in the environment of this process.
    """

    environment: "TritonEnvironment"
    namespace: "Namespace"
    exported: "Exported"


class TestNamespaces:
    """One namespace with all that was known to be needed; more where a test asks for more while it runs.

    Args:
        environments: where they are made.
        node: the test, class, module, package or session whose namespaces they are; None for the whole process.
        services: that are known to be needed there.
        template: of each of them.
        remember: whether processes that are started in the block learn which variables were there before.
    """

    def __init__(
        self,
        environments: "Environments",
        node: "Node | None",
        services: frozenset[str],
        template: Any,
        *,
        remember: bool = False,
    ) -> None:
        self.node = node
        self.failed = False
        self.parts: list[Part] = []
        self._environments = environments
        self._services = able(services)
        self._template = template
        self._remember = remember

    def namespace(self, services: frozenset[str]) -> "Namespace":
        """A namespace that has all these services.

        Raises:
            UsageError: some of them are in a namespace already that lacks the others.
        """
        if not self.parts:
            return self._make(services | self._services)
        for part in self.parts:
            if services <= set(part.namespace.services):
                return part.namespace
        taken = frozenset(name for part in self.parts for name in part.namespace.services)
        if not services & taken:
            return self._make(services)
        from triton_env.errors import UsageError

        raise UsageError(
            f"This test already has a namespace with {_listed(taken)}; it cannot also request {_listed(services)}.",
            where=self.node.nodeid if self.node else "",
            hint="ask for `triton` among the arguments of the test, or mark it: @pytest.mark.triton(services=...)",
        )

    def service(self, name: str) -> "Service":
        """The service of that name in the namespace that has it."""
        return self.namespace(frozenset((name,))).service(name)

    def close(self, *, keep: bool = False) -> None:
        """Remove the namespaces, unless they are to be kept, and put the variables back."""
        parts, self.parts = self.parts, []
        with ExitStack() as stack:
            for part in parts:
                stack.callback(part.namespace.close)
                if keep:
                    stack.callback(part.namespace.keep)
                stack.callback(part.exported.put_back)

    def _make(self, services: frozenset[str]) -> "Namespace":
        from triton_env.pytest_plugin.variables import Exported

        namespace = self._environments.namespace(services, self._template)
        without = {name for service in namespace.services for name in namespace.service(service).misleading}
        exported = Exported(namespace.environ(), without=without, remember=self._remember)
        self.parts.append(Part(self._environments.of(services), namespace, exported))
        return namespace


def able(services: frozenset[str]) -> frozenset[str]:
    """Those of some services that a namespace can have."""
    from triton_env.services import SERVICES

    return frozenset(name for name in services if SERVICES[name].parts.isolation)


def _listed(services: frozenset[str]) -> str:
    return ", ".join(in_order(services))
