"""The Docker engine: reaching it, its images, and its errors in our words."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triton_env.ending import Ending, ending_of_container
from triton_env.errors import (
    EngineFailed,
    EnginePermissionDenied,
    EngineTooOld,
    EngineUnreachable,
    ImageUnavailable,
    StartCancelled,
    TritonError,
)
from triton_env.model import Placement
from triton_env.readiness import refuses
from triton_env.runtimes.address import (
    AddressPlan,
    plan_addresses,
    possible_own_container_ids,
)
from triton_env.runtimes.engine_socket import (
    Absent,
    Refusal,
    Unanswered,
    as_text,
    decoded,
    engine_url,
    fetch,
    refusal,
    socket_path,
)
from triton_env.runtimes.owner import LABEL
from triton_env.settings import HUB_PREFIX, Settings, process_environment
from triton_env.threads import in_thread

if TYPE_CHECKING:
    import docker

OLDEST_API = (1, 41)
"""API of engine 20.10, the oldest that Compose v2 supports."""
OLDEST_ENGINE = "20.10"
ANSWER_TIMEOUT = 15
"""Seconds within which an engine has to say that it is there."""
_TIMEOUT = 60
"""Seconds for all later requests, as in the SDK."""
_LOOK_TIMEOUT = 3
"""Seconds that the engine gets to tell why a server does not answer: its client waits for that."""
_LOOK_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself."""

    version: str
    api: str
    url: str


class Engine:
    """A Docker engine that answers.

    It is found as Testcontainers finds it: its properties file, DOCKER_HOST, the current Docker context, the
    default socket.

    Raises:
        EngineUnreachable, EnginePermissionDenied, EngineTooOld: why it cannot be used.
    """

    def __init__(self) -> None:
        self.url = engine_url()
        self._socket = socket_path(self.url)
        self._client: docker.DockerClient | None = None
        self._lock = threading.Lock()
        try:
            answer: Mapping[str, Any] = decoded(self._fetched("/version", {}, ANSWER_TIMEOUT))
            self.info = EngineInfo(version=answer["Version"], api=answer["ApiVersion"], url=self.url)
        except _foreign(ValueError) as error:  # ValueError: a DOCKER_HOST that is not a URL
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
        with self._lock:
            if self._client is None:
                from testcontainers.core.docker_client import DockerClient

                self._client = DockerClient(timeout=_TIMEOUT).client
            return self._client

    def ask(self, question: str, **query: Any) -> Any:
        """What the engine answers to a GET request, from JSON.

        Args:
            question: the path of the request, without the version.
            query: its parameters; those that are not text go as JSON.

        Raises:
            Absent: the engine does not have it.
            Refusal, Unanswered: it failed; see `translated`.
        """
        return decoded(self.fetch(question, **query))

    def fetch(self, question: str, **query: Any) -> bytes:
        """The same for an answer that is not JSON, such as an archive."""
        return self._fetched(f"/v{self.info.api}{question}", query, _TIMEOUT)

    def _fetched(self, question: str, query: dict[str, Any], timeout: float) -> bytes:
        if self._socket:
            return fetch(self._socket, question, query, timeout)
        # Engines behind TLS or SSH are reached by the SDK alone.
        api = self.client.api
        response = api.get(api.base_url + question, params=as_text(query), timeout=timeout)
        if not response.ok:
            raise refusal(response.status_code, response.text)
        return bytes(response.content)

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, as far as its address tells."""
        return self.url.startswith(("unix://", "npipe://"))

    def close(self) -> None:
        """Close the connections to the engine."""
        if self._client is not None:
            self._client.close()

    @contextmanager
    def translated(self, doing: str, where: str = "") -> Iterator[None]:
        """Turn the SDK's exceptions into ours. `doing` completes "The engine failed to"."""
        try:
            yield
        except TritonError:
            raise
        except _cut_off() as error:
            raise EngineUnreachable(
                f"The Docker engine stopped answering while it was asked to {doing}.",
                where=where or self.url,
                cause=innermost(error),
                hint="docker info",
            ) from error
        except _foreign() as error:
            raise EngineFailed(
                f"The Docker engine failed to {doing}.",
                where=where or self.url,
                cause=explanation(error),
                hint=_hint_for(explanation(error)),
            ) from error

    def addresses(self, settings: Settings) -> AddressPlan:
        """At which address containers publish their ports, and at which this process reaches them."""
        variables = process_environment()
        return plan_addresses(
            engine_url=self.url,
            bind_override=settings.triton_bind_address,
            host_override=variables.get("TC_HOST", variables.get("TESTCONTAINERS_HOST_OVERRIDE", "")),
            own_gateway=self._own_gateway(),
        )

    def ensure_image(
        self,
        image: str,
        variable: str,
        settings: Settings,
        on_progress: Callable[[str], None],
        cancelled: threading.Event,
    ) -> tuple[str, ...]:
        """Pull `image` unless it is there.

        Args:
            image: the reference.
            variable: the setting that names it, for the error message.
            settings: pull policy and timeout.
            on_progress: called with words such as "12 of 80 MB".
            cancelled: ends the pull when set.

        Returns:
            The paths that the image declares as volumes.

        Raises:
            ImageUnavailable: it is not there and cannot be pulled.
        """
        with self.translated(f"look up the image {image}", variable):
            found = self.image(image)
            if not found:
                if settings.triton_pull == "never":
                    raise _no_image(image, variable, "TRITON_PULL is never, so it was not pulled")
                self._pull(image, variable, settings.triton_pull_timeout, on_progress, cancelled)
                found = self.ask(f"/images/{image}/json")
        return tuple(sorted((found.get("Config") or {}).get("Volumes") or {}))

    def image(self, image: str) -> Mapping[str, Any]:
        """What the engine says of an image; empty where it does not have it."""
        try:
            found: Mapping[str, Any] = self.ask(f"/images/{image}/json")
        except Absent:
            return {}
        return found

    def _pull(
        self,
        image: str,
        variable: str,
        timeout: float,
        on_progress: Callable[[str], None],
        cancelled: threading.Event,
    ) -> None:
        from docker.utils import parse_repository_tag

        deadline = time.monotonic() + timeout
        layers: dict[str, tuple[int, int]] = {}
        on_progress(f"pulling {image}")
        try:
            repository, tag = parse_repository_tag(image)
            for message in self.client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in message:
                    raise _no_image(image, variable, str(message["error"]))
                if cancelled.is_set():
                    raise StartCancelled(f"Pulling {image} was called off.")
                if time.monotonic() > deadline:
                    raise _no_image(
                        image,
                        variable,
                        f"pulling took longer than TRITON_PULL_TIMEOUT ({timeout:g} s)",
                    )
                detail = message.get("progressDetail") or {}
                if message.get("status") == "Downloading" and detail.get("total"):
                    layers[message["id"]] = (detail["current"], detail["total"])
                    done, total = (sum(column) / 1e6 for column in zip(*layers.values(), strict=True))
                    on_progress(f"pulled {done:.0f} of {total:.0f} MB")
        except _foreign() as error:
            raise _no_image(image, variable, explanation(error)) from error

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
        """How a container has ended; None while it runs, and where the engine does not tell it in a few seconds."""
        deadline = time.monotonic() + _LOOK_TIMEOUT
        try:
            while True:
                attributes = in_thread(self.ask, f"/containers/{container}/json").result(_LOOK_TIMEOUT)
                ending = ending_of_container(attributes, where=where, hint=hint)
                # Its ports are closed before the engine has heard of its end.
                if ending or not refuses(placement) or time.monotonic() > deadline:
                    return ending
                time.sleep(_LOOK_INTERVAL)
        except Absent:
            return Ending(where, hint, reason="its container was removed")
        except _foreign(TimeoutError):
            return None

    def publisher_of(self, port: int) -> str:
        """The container that publishes `port` on this engine, in words; empty if none does or it cannot be told."""
        try:
            publishers = self.ask("/containers/json", filters={"publish": [str(port)]})
        except _foreign():
            return ""
        for container in publishers:
            name = (container.get("Names") or [container["Id"][:12]])[0].lstrip("/")
            ours = ", of triton-env" if LABEL in (container.get("Labels") or {}) else ""
            return f"the container {name} (image {container.get('Image')}{ours})"
        return ""


def explanation(error: BaseException) -> str:
    """What the engine said, without the SDK's wrapping."""
    if isinstance(error, Refusal):
        return str(error)
    # What the SDK raises is among those of its exceptions that are loaded.
    if isinstance(error, _foreign()) and (words := getattr(error, "explanation", None)):
        text = str(words)
        with suppress(ValueError, KeyError, TypeError):
            text = str(json.loads(text)["message"])
        return text.strip()
    return innermost(error)


def innermost(error: BaseException) -> str:
    """The words of the first cause in a chain of exceptions."""
    for nested in _chain(error):
        error = nested
    return str(error) or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what lies under it: its causes, and those that urllib3 and requests keep as arguments."""
    seen: set[int] = set()
    following: list[BaseException] = [error]
    while following:
        current = following.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        # What was being handled is of interest only where nothing was named as the cause.
        below = current.__cause__ or current.__context__
        following += [below] if below is not None else []
        following += [nested for nested in current.args if isinstance(nested, BaseException)]


def _foreign(*besides: type[Exception]) -> tuple[type[Exception], ...]:
    """What is raised for an engine: by us and, where it is loaded by then, by the SDK and what that uses."""
    if "docker" not in sys.modules:
        return (OSError, Refusal, Unanswered, *besides)
    import urllib3
    from docker.errors import DockerException

    # Those of requests are of OSError.
    return (OSError, Refusal, Unanswered, DockerException, urllib3.exceptions.HTTPError, *besides)


def _cut_off() -> tuple[type[Exception], ...]:
    if "docker" not in sys.modules:
        return (Unanswered,)
    import requests

    return (Unanswered, requests.ConnectionError, requests.Timeout)


def _unreachable(url: str, error: BaseException) -> TritonError:
    chain = tuple(_chain(error))
    if any(isinstance(nested, PermissionError) for nested in chain):
        return EnginePermissionDenied(
            "The Docker engine is there, but this user may not use it.",
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


def _no_image(image: str, variable: str, cause: str) -> ImageUnavailable:
    prefix = process_environment().get(HUB_PREFIX, "")
    return ImageUnavailable(
        f"The image {image} is not on the engine and could not be pulled.",
        where=variable + (f", with {HUB_PREFIX}={prefix}" if prefix and image.startswith(prefix) else ""),
        cause=cause,
        hint=f"docker pull {image}, or set {variable} to an image that is there (docker image ls)",
    )


def _hint_for(cause: str) -> str:
    if "address pool" in cause or "non-overlapping" in cause:
        return "the engine has no room for another network; list those in use with: docker network ls"
    if "no space left" in cause:
        return "docker system df"
    return "docker info"
