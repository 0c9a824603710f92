"""The Docker engine: reaching it, its images, and its errors in our words."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from triton_env.core.ending import Ending, ending_of_container, ending_of_stopped_container
from triton_env.core.model import Placement
from triton_env.core.readiness import refuses
from triton_env.core.threads import in_thread
from triton_env.errors import (
    EngineFailed,
    EnginePermissionDenied,
    EngineTooOld,
    EngineUnreachable,
    TritonError,
)
from triton_env.runtimes.docker import engine_errors, tunnel
from triton_env.runtimes.docker.address import (
    AddressPlan,
    address_of,
    plan_addresses,
    possible_own_container_ids,
)
from triton_env.runtimes.docker.engine_errors import (
    asked,
    asked_to,
    chain,
    failure,
    failures,
    foreign,
    innermost,
)
from triton_env.runtimes.docker.engine_socket import (
    SSH,
    Absent,
    Unanswered,
    as_text,
    decoded,
    engine_url,
    fetch,
    refusal,
    socket_path,
)
from triton_env.runtimes.owner import LABEL
from triton_env.runtimes.ports import free_port, is_listened_on
from triton_env.settings import Settings, process_environment

if TYPE_CHECKING:
    import docker
    from testcontainers.core.docker_client import DockerClient

_Answer = TypeVar("_Answer")

OLDEST_API = (1, 41)
"""API of engine 20.10, the oldest that Compose v2 supports."""
OLDEST_ENGINE = "20.10"
ANSWER_TIMEOUT = 15
"""Seconds within which an engine has to say that it is there."""
_TIMEOUT = 60
"""Seconds for all later requests, as in the SDK."""
_LOOK_TIMEOUT = 3
"""Seconds that the engine gets to report why a server does not answer: its client waits for that."""
_LOOK_INTERVAL = 0.05
_PROCESSES = {"Docker": "-eo pid,stat", "Podman": "hpid,state"}
"""What asks for the processes of a container, as the engine's machine numbers them, and their states."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself.

    Attributes:
        name: "Docker" or "Podman".
    """

    version: str
    api: str
    url: str
    name: str = "Docker"


class Engine:
    """A Docker engine that answers.

    It is found as Testcontainers finds it: its properties file, DOCKER_HOST, the current Docker context, the
    default socket.

    Raises:
        EngineUnreachable, EnginePermissionDenied, EngineTooOld: why it cannot be used.
    """

    def __init__(self) -> None:
        self.url = engine_url()
        self._tunnel: tunnel.Tunnel | None = None
        self._forwards: set[str] = set()
        self._testcontainers: DockerClient | None = None
        self._lock, self._way_lock = threading.Lock(), threading.Lock()
        self._is_silent = False
        # What ssh fails with says more than that no engine answers.
        _ = self.way
        try:
            answer: Mapping[str, Any] = decoded(self._fetched("/version", {}, ANSWER_TIMEOUT))
            names = " ".join(str(each.get("Name")) for each in answer.get("Components") or ())
            name = "Podman" if "Podman" in names else "Docker"
            self.info = EngineInfo(answer["Version"], answer["ApiVersion"], self.url, name)
        except failures(ValueError) as error:  # ValueError: a DOCKER_HOST that is not a URL
            self.close()
            raise _unreachable(self.url, error) from error
        if tuple(int(part) for part in self.info.api.split(".")[:2]) < OLDEST_API:
            self.close()
            raise EngineTooOld(
                f"The Docker engine {self.info.version} is too old.",
                where=self.url,
                cause=f"it speaks API {self.info.api}; {OLDEST_ENGINE} (API 1.41) is the oldest that is supported",
                hint="upgrade the engine: https://docs.docker.com/engine/install/",
            )

    @property
    def client(self) -> "docker.DockerClient":
        """The Docker SDK on this engine, which takes a tenth of a second to load: for what `ask` cannot do."""
        return self.testcontainers.client

    @property
    def testcontainers(self) -> "DockerClient":
        """Testcontainers' client of this engine, with our errors."""
        with self._lock:
            if self._testcontainers is None:
                from testcontainers.core.docker_client import DockerClient

                from triton_env.runtimes.docker.transport import Api

                doing, where = asked()
                with self.translated(doing or "say what it is", where):
                    # It makes the SDK's client, from all that it knows of hosts, contexts and logins.
                    made = DockerClient(timeout=ANSWER_TIMEOUT, **self.sdk_options)
                made.client.api.timeout = _TIMEOUT
                Api.take_over(made.client, self.url, self._trouble)
                self._testcontainers = made
            return self._testcontainers

    def ask(self, question: str, **query: Any) -> Any:
        """What the engine answers to a GET request, from JSON.

        Args:
            question: the path of the request, without the version.
            query: its parameters; those that are not text go as JSON.

        Raises:
            Absent: the engine does not have it.
            EngineUnreachable, EngineFailed: it does not answer as it should.
        """
        return self._answer(question, query, decoded)

    def ping(self) -> None:
        """Ask the engine whether it is there.

        Raises:
            EngineUnreachable, EngineFailed: it is not.
        """
        self.ask("/version")

    def fetch(self, question: str, **query: Any) -> bytes:
        """The same for an answer that is not JSON, such as an archive."""
        return self._answer(question, query, bytes)

    def _answer(self, question: str, query: dict[str, Any], read: Callable[[bytes], _Answer]) -> _Answer:
        timeout = engine_errors.SILENT_TIMEOUT if self._is_silent else engine_errors.QUESTION_TIMEOUT
        try:
            answer = read(self._fetched(f"/v{self.info.api}{question}", query, timeout))
        except Absent:
            raise
        except foreign(ValueError) as error:
            self._is_silent = isinstance(error.__cause__, TimeoutError)
            doing, where = asked()
            raise failure(error, doing or f"answer GET {question}", where or self.url) from error
        self._is_silent = False
        return answer

    def _fetched(self, question: str, query: dict[str, Any], timeout: float) -> bytes:
        if path := socket_path(self.way):
            try:
                return fetch(path, question, query, timeout)
            except Unanswered as error:
                unanswered = error
            words = self._trouble()
            if self._tunnel and not words and not isinstance(unanswered.__cause__, TimeoutError):
                words = self._tunnel.refusal()
            raise Unanswered(words) if words else unanswered
        # Engines behind TLS are reached by the SDK alone.
        api = self.client.api
        response = api.get(api.base_url + question, params=as_text(query), timeout=timeout)
        if not response.ok:
            raise refusal(response.status_code, response.text)
        return bytes(response.content)

    @property
    def way(self) -> str:
        """The URL by which programs of this machine reach it, as DOCKER_HOST: one behind ssh has a socket here.

        Raises:
            EngineUnreachable: ssh cannot connect.
        """
        if not self.url.startswith(SSH):
            return self.url
        with self._way_lock:
            if self._tunnel is None:
                self._tunnel = tunnel.take(self.url)
            return f"unix://{self._tunnel.socket}"

    def _trouble(self) -> str:
        """Why nothing of this engine is reached, where that is known."""
        return self._tunnel.trouble() if self._tunnel else ""

    @property
    def sdk_options(self) -> dict[str, Any]:
        """What the Docker SDK needs besides what it knows of its own accord, to reach this engine."""
        return {"environment": {"DOCKER_HOST": self.way}} if self.way != self.url else {}

    def reach(self, plan: AddressPlan, ports: Iterable[int], *, same: bool) -> dict[int, int]:
        """Have this process reach ports that containers publish; the number of each where it is reached.

        Args:
            ports: their numbers at `plan.bind`.
            same: whether they have to have the same numbers here.

        Raises:
            EngineFailed: a port is in use here, or the connection to the engine is interrupted.
        """
        if not plan.beyond:
            return {port: port for port in ports}
        reached: dict[int, int] = {}
        for port in ports:
            reached[port] = here = port if same else free_port(plan.host)
            self._forward(f"{plan.host}:{here}:{plan.beyond}:{port}", is_listened_on(plan.host, here))
        return reached

    def _forward(self, forward: str, is_taken: bool) -> None:
        with self._lock:
            assert self._tunnel is not None
            problem = "address already in use" if is_taken else self._tunnel.add(forward)
            if problem:
                raise EngineFailed(
                    "A port of the engine's machine cannot be forwarded.",
                    where=f"{self.url}, ssh -L {forward}",
                    cause=problem,
                    hint="docker info",
                )
            self._forwards.add(forward)

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, as far as its address shows."""
        return self.url.startswith(("unix://", "npipe://"))

    def close(self) -> None:
        """Close the connections to the engine. What is asked afterwards makes new ones."""
        with self._lock:
            if self._testcontainers is not None:
                self._testcontainers.client.close()
            if self._tunnel is not None:
                for forward in self._forwards:
                    self._tunnel.drop(forward)
                self._forwards.clear()
                tunnel.give_back(self._tunnel)
                # The SDK's client knows the socket of that one.
                self._tunnel = self._testcontainers = None

    @contextmanager
    def translated(self, doing: str, where: str = "") -> Iterator[None]:
        """Turn the SDK's exceptions into ours. `doing` completes "The engine failed to"."""
        # Whose name alone is known says nothing of where that is.
        where = where if self.is_local or not where else f"{where} at {self.url}"
        where = where or self.url
        with asked_to(doing, where):
            try:
                yield
            except foreign() as error:
                raise failure(error, doing, where) from error

    def addresses(self, settings: Settings) -> AddressPlan:
        """At which address containers publish their ports, and at which this process reaches them."""
        variables = process_environment()
        return plan_addresses(
            engine_url=self.url,
            bind_override=settings.triton_bind_address,
            host_override=variables.get("TC_HOST", variables.get("TESTCONTAINERS_HOST_OVERRIDE", "")),
            own_gateway=self._own_gateway(),
            engine_address=address_of(self.url),
        )

    def image(self, image: str) -> Mapping[str, Any]:
        """What the engine says of an image; empty where it does not have it."""
        try:
            found: Mapping[str, Any] = self.ask(f"/images/{image}/json")
        except Absent:
            return {}
        return found

    def _own_gateway(self) -> str:
        """The gateway of this process's own container, if the engine knows that container; else empty."""
        for container_id in possible_own_container_ids():
            try:
                attributes = self.ask(f"/containers/{container_id}/json")
            except Absent:
                continue
            if attributes["HostConfig"]["NetworkMode"] == "host":
                return ""
            for network in attributes["NetworkSettings"]["Networks"].values():
                if network.get("Gateway"):
                    return str(network["Gateway"])
        return ""

    def ending(self, container: str, placement: Placement, *, where: str, hint: str) -> Ending | None:
        """How a container has ended, or that it is held up; None if it runs, or the engine takes more than seconds."""
        deadline = time.monotonic() + _LOOK_TIMEOUT
        try:
            while True:
                attributes = self._asked_soon(f"/containers/{container}/json")
                ending = ending_of_container(attributes, where=where, hint=hint)
                # Its ports are closed before the engine has heard of its end.
                if ending or time.monotonic() > deadline:
                    return ending
                if not refuses(placement):
                    processes = self._asked_soon(f"/containers/{container}/top", ps_args=_PROCESSES[self.info.name])
                    return ending_of_stopped_container(attributes, processes, where=where)
                time.sleep(_LOOK_INTERVAL)
        except Absent:
            return Ending(where, hint, reason="its container was removed")
        except failures(TimeoutError):
            return None

    def _asked_soon(self, question: str, **query: Any) -> Any:
        """What the engine answers within a few seconds; TimeoutError where it takes longer."""
        return in_thread(partial(self.ask, question, **query)).result(_LOOK_TIMEOUT)

    def publisher_of(self, port: int) -> str:
        """The container that publishes `port` on this engine, in words; empty if none does or it is not known."""
        try:
            publishers = self.ask("/containers/json", filters={"publish": [str(port)]})
        except failures():
            return ""
        for container in publishers:
            name = (container.get("Names") or [container["Id"][:12]])[0].lstrip("/")
            ours = ", of triton-env" if LABEL in (container.get("Labels") or {}) else ""
            return f"the container {name} (image {container.get('Image')}{ours})"
        return ""


def _unreachable(url: str, error: BaseException) -> TritonError:
    if any(isinstance(nested, PermissionError) for nested in chain(error)):
        return EnginePermissionDenied(
            "The Docker engine runs, but this user may not use it.",
            where=url,
            cause=innermost(error),
            hint="sudo usermod -aG docker $USER, then log in again (members of that group are as good as root)",
        )
    return EngineUnreachable(
        "No Docker engine answers.",
        where=url,
        cause=innermost(error),
        hint="start it (sudo systemctl start docker, or Docker Desktop), or set DOCKER_HOST to where it is",
    )
