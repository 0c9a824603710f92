"""The tools for agents, as plain functions: each answers with data that JSON can hold, and raises what is ours."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_env.agents.held import HeldEnvironments
from triton_env.errors import NotOffered, UsageError
from triton_env.inspection import inspect, without_password
from triton_env.services.base_insight import cut
from triton_env.services.selection import check_selected, known_name, title_of
from triton_env.settings import Settings
from triton_env.steering import act, actions, connect

if TYPE_CHECKING:
    from triton_env.attached import AttachedEnvironment, AttachedProject
    from triton_env.inspection import EnvironmentEntry
    from triton_env.services import Service

Answer = dict[str, Any]

_LINES = 1000
"""Lines of a log that are read at most."""
_SECONDS = 10.0
"""Seconds that a server gets for one question."""


class Tools:
    """What an agent may ask for.

    Args:
        settings: where this user's state is kept.
        held: the environments that were started here.
        show_secrets: whether connection data has passwords.
    """

    def __init__(self, settings: Settings, held: HeldEnvironments, *, show_secrets: bool = False) -> None:
        self._settings = settings
        self._held = held
        self._show_secrets = show_secrets

    @property
    def reading(self) -> tuple[Callable[..., Answer], ...]:
        """Those that change nothing."""
        return (
            self.list_environments,
            self.inspect_environment,
            self.service_logs,
            self.service_panel,
            self.run_query,
            self.connection_info,
        )

    @property
    def changing(self) -> tuple[Callable[..., Answer], ...]:
        """Those that change something."""
        return (
            self.start_environment,
            self.stop_environment,
            self.restart_service,
            self.reset_environment,
            self.take_snapshot,
            self.restore_snapshot,
            self.backup_environment,
        )

    def list_environments(self) -> Answer:
        """List every running environment of this user with its services: sessions of programs and test runs, shared
        environments, and the persistent services of each project. Begin here: other tools need an id of this list."""
        found = inspect(self._settings)
        shown = found.model_copy(update={"environments": tuple(map(self._shown, found.environments))})
        return shown.model_dump(mode="json")

    def inspect_environment(self, environment: str, runtime: str = "") -> Answer:
        """Ask the servers of one environment how they are: health, version, CPU, memory, connections, how the start
        went, namespaces and snapshots. `actions` says what can be done to it, and what each action loses."""
        listed = inspect(self._settings).environments
        there = [entry for entry in listed if runtime in ("", entry.runtime)]
        found = [entry for entry in there if entry.id == environment] or [
            entry for entry in there if not entry.is_persistent and environment and entry.id.startswith(environment)
        ]
        if not found:
            raise UsageError(f"No environment has the id {environment!r}.", hint="list_environments has their ids")
        if len(found) > 1:
            raise UsageError(f"{environment!r} names several environments.", hint="name its whole id, and the runtime")
        offered = [action.model_dump() for action in actions(found[0], listed)]
        asked = inspect(self._settings, ask=True, only=found[0].key, show_secrets=self._show_secrets).environments
        seen = next((entry for entry in asked if entry.key == found[0].key), found[0])  # it may have just ended
        return self._shown(seen).model_dump(mode="json") | {"actions": offered}

    def service_logs(self, environment: str, service: str, lines: int = 100, runtime: str = "") -> Answer:
        """Read the last lines (at most 1000) that a service has written, without passwords."""
        with self._connected(environment, service, runtime) as (seen, found):
            text = seen.log_lines(found.name, max(1, min(lines, _LINES)), follow=False)
            return {"service": found.name, "lines": [cut(line.rstrip("\n")) for line in text]}

    def service_panel(
        self, environment: str, service: str, panel: str = "", argument: str = "", runtime: str = ""
    ) -> Answer:
        """Read a table about what a service does or holds: sessions and slow statements, tables and their first rows,
        keys with their values, buckets and objects. Without `panel`: the panels that the service has, with the
        argument that each takes, such as a prefix or the name of a table."""
        with self._connected(environment, service, runtime) as (_, found):
            kind = type(found).parts.load("insight")
            if kind is None:
                raise NotOffered(f"{found.title} reports nothing about itself.")
            tables = [each for each in kind.panels if not each.is_stream]
            if not panel:
                return {"service": found.name, "panels": [asdict(each) for each in tables]}
            with closing(kind(found, _SECONDS)) as insight:
                return _as_data(insight.table(panel, argument))

    def run_query(self, environment: str, service: str, statement: str, runtime: str = "") -> Answer:
        """Run one SQL statement that reads (SELECT, SHOW, EXPLAIN, ...) and get its first 200 rows. It runs read-only,
        which protects from mistakes alone. Not every service has SQL."""
        with self._connected(environment, service, runtime) as (_, found):
            sql = type(found).parts.load("sql")
            if sql is None or sql.read is None:
                raise NotOffered(f"{found.title} takes no SQL.", hint="service_panel shows what it holds")
            return _as_data(sql.read(found, statement, _SECONDS))

    def connection_info(self, environment: str, service: str = "", runtime: str = "") -> Answer:
        """Get the addresses of an environment's services for clients and, where this server was started with
        --show-secrets, the environment variables with their passwords."""
        name = known_name(service)
        with connect(self._settings, environment, runtime) as seen:
            if name:
                check_selected(name, seen.services)
            services = {each: self._described(seen.service(each)) for each in ([name] if name else seen.services)}
            if not self._show_secrets:
                return {"services": services}
            return {"services": services, "environ": seen.service(name).environ() if name else seen.environ()}

    def start_environment(self, services: list[str] | None = None, runtime: str | None = None) -> Answer:
        """Start a fresh environment with all services, or with those named. It is held by this server, and ends
        with it at the latest; stop_environment ends it before. `runtime` is docker or embedded; by default the settings
        decide."""
        return {"environment": self._held.start(self._settings, services, runtime)}

    def stop_environment(self, environment: str, runtime: str = "") -> Answer:
        """End an environment. The data of a session or shared environment is gone then, and so is the program or test
        run that started one for itself. Persistent services keep their data."""
        if self._held.stop(environment):
            return {"done": f"The environment {environment} has ended. Its data is gone."}
        return self._act(environment, "stop", runtime=runtime)

    def restart_service(self, environment: str, service: str, runtime: str = "") -> Answer:
        """Restart one service at the same address, with the same passwords. Clients lose their connections. What the
        server of a session has in memory alone is gone, as in a crash; in a cluster that is all."""
        return self._act(environment, "restart", runtime=runtime, service=service)

    def reset_environment(self, environment: str, runtime: str = "") -> Answer:
        """Bring the services of an environment back to the state after the start: what they hold is gone. For the
        persistent services of a project, all their data is destroyed, and they are removed."""
        return self._act(environment, "reset", runtime=runtime)

    def take_snapshot(self, environment: str, name: str, runtime: str = "") -> Answer:
        """Remember what the services of an environment hold, under a name. One of the same name is replaced."""
        return self._act(environment, "snapshot", runtime=runtime, name=name)

    def restore_snapshot(self, environment: str, name: str, runtime: str = "") -> Answer:
        """Have the services hold what they held at a snapshot. What they hold at present is gone."""
        return self._act(environment, "restore", runtime=runtime, name=name)

    def backup_environment(self, environment: str, file: str, service: str = "", runtime: str = "") -> Answer:
        """Save what the services (or one of them) hold to a file on this machine, which must not exist yet."""
        return self._act(environment, "backup", runtime=runtime, service=service, path=Path(file))

    def _shown(self, entry: "EnvironmentEntry") -> "EnvironmentEntry":
        """An environment without its owner's command line, in which a password may be, where secrets are not shown."""
        if self._show_secrets or entry.owner is None:
            return entry
        return entry.model_copy(update={"owner": entry.owner.model_copy(update={"command": ""})})

    def _act(self, environment: str, action: str, **details: Any) -> Answer:
        return {"done": act(self._settings, environment, action, **details)}

    @contextmanager
    def _connected(
        self, environment: str, service: str, runtime: str
    ) -> "Iterator[tuple[AttachedEnvironment | AttachedProject, Service]]":
        with connect(self._settings, environment, runtime) as seen:
            name = known_name(service)
            check_selected(name, seen.services)
            yield seen, seen.service(name)

    def _described(self, service: "Service") -> Answer:
        return {
            "title": title_of(service.name),
            "url": service.url if self._show_secrets else without_password(service.url),
            "host": service.host,
            "ports": {name: endpoint.port for name, endpoint in service.placement.endpoints.items()},
        }


def _as_data(table: Any) -> Answer:
    """A table, with each row as a list of its cells. The key of a row that has one leads to another panel."""
    rows: Sequence[Any] = table.rows
    return {
        "columns": [column.name for column in table.columns],
        "rows": [list(row.cells) for row in rows],
        "opens": [{"panel": row.opens, "argument": row.key} if row.opens else None for row in rows]
        if any(row.opens for row in rows)
        else [],
        "is_cut": table.is_cut,
        "note": table.note,
    }
