"""What an environment offers besides its services: parts that share nothing, snapshots, and the way back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triton_env.core.shortages import explained

if TYPE_CHECKING:
    from triton_env.isolation.isolator import Isolator, TemplateLike
    from triton_env.isolation.namespace import Namespace


class Isolated(ABC):
    """An environment whose services can be divided, saved and put back."""

    @abstractmethod
    def _isolation(self) -> "Isolator":
        """What does it, in this process."""

    @explained("The namespace could not be made.")
    def namespace(
        self,
        name: str | None = None,
        template: "TemplateLike | None" = None,
        *,
        services: Sequence[str] | None = None,
        keep_on_error: bool = False,
    ) -> "Namespace":
        """A part of the environment that shares nothing with others: databases and buckets of its own.

        >>> with env.namespace("orders") as namespace:
        ...     namespace.id
        'triton_ns_orders'

        Args:
            name: 1 to 24 of a to z, 0 to 9 and, between these, _; made up where it is None. One that a living process
                uses is an error.
            template: what it begins with: a `Template`, a function that is called with a namespace to fill, a folder,
                or the name of a snapshot; it is built once. None: empty, as the environment is after its start.
            services: those that it is to have; by default all that offer isolation.
            keep_on_error: keep it, and print how to get in, where its block ends by an exception.

        Raises:
            UsageError: the name is taken, or the template does not exist.
            NotOffered: a service that is named, or each of the environment's, does not offer isolation.
            InvalidSetting: the servers hold your data, and TRITON_NAMESPACES does not allow it.
            TemplateFailed: the template could not be built.
            IsolationFailed: a server refused.
        """
        return self._isolation().namespace(name, template, services=services, keep_on_error=keep_on_error)

    @explained("The services could not be reset.")
    def reset(self) -> None:
        """Bring all services back to the state after the start. Namespaces, templates and snapshots stay.

        A service that does not offer isolation stays as it is.

        Raises:
            UsageError: the servers hold your data, or other processes use the environment.
            IsolationFailed: a server refused.
        """
        self._isolation().reset()

    @explained("The snapshot could not be taken.")
    def snapshot(self, name: str) -> None:
        """Remember what all services hold, under a name. One of the same name is replaced.

        It is consistent where no client writes at the same time. Idle connections are ended where a server copies no
        database that has any. It holds nothing of services that do not offer isolation.

        Raises:
            SnapshotFailed: a client is in a transaction, and stays in it.
            IsolationFailed: a server refused.
            RestoreFailed, RestoreUnfinished: a restore goes on, or is neither finished nor taken back.
        """
        self._isolation().snapshot(name)

    @explained("The snapshot could not be restored.")
    def restore(self, name: str) -> None:
        """Have all services hold what they held at a snapshot. Clients may have to connect again.

        Raises:
            UsageError: the snapshot does not exist, the servers hold your data, or other processes use the environment.
            IsolationFailed: a server refused.
        """
        self._isolation().restore(name)

    @explained("The snapshots could not be listed.")
    def snapshots(self) -> tuple[str, ...]:
        """The names of the snapshots, in alphabetical order.

        Raises:
            InvalidSetting: the servers hold your data, and TRITON_NAMESPACES does not allow any.
        """
        return self._isolation().snapshots()

    @explained("The snapshot could not be deleted.")
    def delete_snapshot(self, name: str) -> None:
        """Remove a snapshot from the servers. Namespaces that were made from it stay.

        Raises:
            UsageError: the snapshot does not exist.
            IsolationFailed: a server refused.
        """
        self._isolation().delete_snapshot(name)
