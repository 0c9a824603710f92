"""How much processor and memory servers use, as the difference of two readings: nothing waits between them."""

from typing import TYPE_CHECKING

from triton_env.core.forms import Form, form_of
from triton_env.core.usage import Reading, Usage
from triton_env.inspection import EnvironmentEntry, ServiceEntry
from triton_env.inspection.ways import pod_of
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.runtimes.docker.engine import Engine


class Meter:
    """Measures one server, again and again. It is for one thread at a time.

    Args:
        settings: where state is kept.
        environment: that has the server. External ones cannot be measured.
    """

    def __init__(self, settings: Settings, environment: EnvironmentEntry) -> None:
        self._settings = settings
        self._environment = environment
        self._form = form_of(environment.runtime)
        self._before: Reading | None = None
        self._pid: int | None = None
        self._engine: Engine | None = None

    def usage(self, entry: ServiceEntry) -> Usage | None:
        """What the server has used since this was asked for last; None at first, and where that is not known.

        Args:
            entry: the service as it is seen now.

        Raises:
            TritonError: the engine failed.
        """
        if self._form is Form.POD:
            from triton_env.runtimes.kubernetes.usage import usage_of

            pod = pod_of(self._settings, self._environment, entry.name)
            return usage_of(pod) if pod else None
        reading = self._reading(entry) if self._form in (Form.CONTAINER, Form.PROCESS) else None
        before, self._before = self._before, reading
        return reading.since(before) if reading and before else None

    def close(self) -> None:
        """Close the connection to the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _reading(self, entry: ServiceEntry) -> Reading | None:
        if entry.container:
            # Each loads a library that the other does not need.
            from triton_env.runtimes.docker.engine import Engine
            from triton_env.runtimes.docker.usage import reading_of

            self._engine = self._engine or Engine()
            return reading_of(self._engine, entry.container)
        from triton_env.runtimes.embedded import usage

        # Whose port it is takes long to find out.
        found = usage.reading_of(self._pid) if self._pid else None
        if found is None:
            self._pid = next(filter(None, map(usage.listener_at, entry.ports.values())), None)
            found = usage.reading_of(self._pid) if self._pid else None
        return found
