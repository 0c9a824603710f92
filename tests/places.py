"""Where services can run, and what differs there: one entry for each place, one attribute for each line of a table.

`scripts/places_table.py` writes the table of docs/how-to/choose-where-it-runs.md from here. What the code can say is
taken from it. The rest is checked as far as it can be asked for: by `tests/unit/test_places_table.py`, and with `check`
by the contracts of the places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triton_env import TritonEnvironment
from triton_env.core.forms import Form, form_of, forms_for
from triton_env.errors import RuntimeUnavailable

_TESTS = Path(__file__).parent
_SAME = "as on Docker"


def _line(subject: str) -> Any:
    """An attribute that is a line of the table. An empty value is a plain no."""
    return field(metadata={"subject": subject})


@dataclass(frozen=True, kw_only=True)
class Place:
    """One column of the table.

    Attributes:
        title: its headline, in Markdown.
        runtime: the value of TRITON_RUNTIME.
        tests: the module that has it, below tests/contract; empty where none does.
        engine: what else has to be set.
    """

    title: str
    runtime: str
    tests: str = ""
    engine: str = ""
    needs: str = _line("Needs")
    first_start: str = _line("The first start")
    servers: str = _line("Servers")
    reached: str = _line("Reached at")
    internal: str = _line("Reached by other containers: `internal_url`")
    isolation: str = _line("[Namespaces, templates, snapshots](isolation.md), `reset`")
    shared: str = _line("[Shared between processes](share-an-environment.md)")
    persistent: str = _line("[Persistent services](../persistent-mode.md), `up`")
    data: str = _line("Data of a session")
    after_kill: str = _line("After SIGKILL of the owner")
    limits: str = _line("To know")

    @property
    def form(self) -> Form:
        """In which form it has services."""
        return form_of(self.runtime)

    @property
    def chosen_by(self) -> str:
        """The settings that lead there."""
        named = f"`TRITON_RUNTIME={self.runtime}`"
        named = f"{named}, or found by `auto`" if self.form in forms_for("auto") else named
        return f"{self.engine}, with {named}" if self.engine else named

    @property
    def images(self) -> str:
        """Whether the settings of images, registries and pulls mean anything there."""
        return "those of the settings" if self.form.has_image else ""

    @property
    def programs(self) -> str:
        """Whether there is more of a server to get at than its address."""
        return "yes" if self.form.is_started_by_us else ""

    @property
    def tested(self) -> str:
        """What runs there in this project's tests."""
        if not self.tests:
            return ""
        has_contract = "ServiceContract" in (_TESTS / "contract" / self.tests).read_text("utf-8")
        return "the contract of all services" if has_contract else "starts, and what is particular to it"


LINES: Mapping[str, Callable[[Place], str]] = {
    "Chosen by": lambda place: place.chosen_by,
    **{
        each.metadata["subject"]: lambda place, name=name: getattr(place, name)  # type: ignore[misc]
        for name, each in Place.__dataclass_fields__.items()
        if "subject" in each.metadata
    },
    "Images, registries, `TRITON_PULL`": lambda place: place.images,
    "Logs, `restart`, programs such as `pg_dump`": lambda place: place.programs,
    "Tests of this project": lambda place: place.tested,
}
"""The lines of the table by what they are about."""

DOCKER = Place(
    title="Docker on this machine",
    runtime="docker",
    tests="test_services.py",
    needs="an engine from 20.10 on; for `up` Compose from 2.20 on",
    first_start="pulls the images",
    servers="those of the images",
    reached="127.0.0.1",
    internal="containers on the network `triton-network-ID`",
    isolation="yes",
    shared="yes",
    persistent="yes, in named volumes",
    data="memory; a volume with `TRITON_STORAGE=disk`, and for ClickHouse",
    after_kill="a process beside it removes everything within seconds",
    limits="LocalStack does not check keys",
)
OVER_SSH = Place(
    title="[Docker behind ssh](engines.md#an-engine-behind-ssh)",
    runtime="docker",
    tests="test_ssh_contract.py",
    engine="`DOCKER_HOST=ssh://...`",
    needs="`ssh` here; an engine and sshd there",
    first_start=_SAME,
    servers=_SAME,
    reached="127.0.0.1, through the connection",
    internal="containers of that engine",
    isolation="yes",
    shared="yes",
    persistent="",
    data=f"{_SAME}, on that machine",
    after_kill=_SAME,
    limits="while the connection is interrupted, so are the services",
)
OVER_TCP = Place(
    title="[Docker over TCP](engines.md#an-engine-over-tcp)",
    runtime="docker",
    tests="test_docker_addresses.py",
    engine="`DOCKER_HOST=tcp://...`",
    needs="an engine that listens there",
    first_start=_SAME,
    servers=_SAME,
    reached="the engine's address",
    internal="containers of that engine",
    isolation="yes",
    shared="yes",
    persistent="where that engine has the files of this machine",
    data=f"{_SAME}, on that machine",
    after_kill=_SAME,
    limits="what reaches the engine reaches the services",
)
PODMAN = Place(
    title="[Podman](engines.md#podman)",
    runtime="docker",
    tests="test_podman.py",
    engine="`DOCKER_HOST=unix://...`",
    needs="its socket, netavark and aardvark-dns; `up` also catatonit and Compose",
    first_start="pulls the images, once a registry is configured or named",
    servers=_SAME,
    reached="127.0.0.1",
    internal=_SAME,
    isolation="yes",
    shared="yes",
    persistent="yes; ClickHouse not as root where root may not raise limits",
    data=_SAME,
    after_kill=_SAME,
    limits="anonymous volumes have no labels",
)
EMBEDDED = Place(
    title="[Embedded](embedded.md)",
    runtime="embedded",
    tests="test_services.py",
    needs="Linux or macOS, and the extra `embedded`",
    first_start="makes a data directory of PostgreSQL, which later starts copy",
    servers="PostgreSQL of this machine, else 18; ClickHouse of this machine, else 26.9 (chdb); Valkey 9; moto 5 or"
    " SeaweedFS 4",
    reached="127.0.0.1",
    internal="",
    isolation="yes",
    shared="yes",
    persistent="yes, in a folder; S3 with SeaweedFS",
    data="`/dev/shm` or the folder for temporary files; S3 in memory of its server",
    after_kill="the servers end, and their data goes",
    limits="[other versions](../reference/runtimes.md#differences) than the images'",
)
KUBERNETES = Place(
    title="[Kubernetes](kubernetes.md)",
    runtime="kubernetes",
    tests="test_kubernetes.py",
    needs="the extra `kubernetes` or `kubectl`, and [rights in a namespace](kubernetes.md#what-it-needs-to-be-allowed)",
    first_start="the nodes pull the images",
    servers="those of the images",
    reached="127.0.0.1, by forwarded ports; in a pod by name",
    internal="pods of the cluster",
    isolation="yes",
    shared="yes",
    persistent="yes, [in claims](kubernetes.md#services-that-stay)",
    data="memory; the disk of the node with `TRITON_STORAGE=disk`",
    after_kill="a process beside it removes everything; if that is gone too, [the cluster](kubernetes.md#when-it-ends)",
    limits="a pod that is recreated has no data",
)
EXTERNAL = Place(
    title="[External](../reference/runtimes.md#external-servers)",
    runtime="external",
    tests="test_external.py",
    needs="servers, and the variables that lead there",
    first_start="nothing is started",
    servers="yours",
    reached="the hosts of the settings",
    internal="",
    isolation="with `TRITON_NAMESPACES=everywhere`; `reset` is refused",
    shared="always",
    persistent="",
    data="yours",
    after_kill="nothing changes",
    limits="no encrypted connections",
)
PLACES = (DOCKER, OVER_SSH, OVER_TCP, PODMAN, EMBEDDED, KUBERNETES, EXTERNAL)
"""The columns of the table."""


def check(place: Place, environment: TritonEnvironment) -> None:
    """Assert that a running environment there is as the table has it."""
    assert environment.runtime == place.runtime
    for name in environment.services:
        assert bool(environment.service(name).internal_url) == bool(place.internal), name
    try:
        environment.program("postgres", ["pg_dump"])
    except RuntimeUnavailable:
        assert not place.programs
    else:
        assert place.programs
