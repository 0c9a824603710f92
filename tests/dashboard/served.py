"""A dashboard that serves in this process, and what its clients see."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

from patience import SECONDS, WAIT
from triton_env import Settings
from triton_env.dashboard.guard import OURS
from triton_env.dashboard.serving import Serving


class Client:
    """A browser with the page open.

    Args:
        serving: the dashboard.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{serving.key.port}", timeout=WAIT, trust_env=False)
        assert self.http.get("/", params={"token": serving.key.token}).status_code == 200

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        """The data of an answer."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        """The data of the answer to a change."""
        answer = self.http.post(path, json=body, headers={OURS: "1"})
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    @contextmanager
    def events(self, path: str, **query: Any) -> "Iterator[Iterator[tuple[str, Any]]]":
        """The events of a stream, each with its name."""
        with self.http.stream("GET", path, params=query) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _events(answer.iter_lines())

    def first(self, path: str, wanted: Callable[[str, Any], Any], **query: Any) -> Any:
        """What comes first of a stream that is wanted."""
        with self.events(path, **query) as events:
            return next(content for name, content in events if wanted(name, content))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the page, in the block."""
        with self.events("/api/events") as events:
            thread = threading.Thread(target=lambda: [None for _ in _until_closed(events)])
            thread.start()
            yield
        thread.join()


@contextmanager
def without_engine() -> Iterator[None]:
    """No Docker engine in the block: it would show the persistent services of other tests, and wait for it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        yield


@contextmanager
def served(settings: Settings, timeout: float = SECONDS) -> Iterator[Client]:
    """A dashboard of the environments that are listed there, whose servers have so many seconds for an answer."""
    with Serving(settings, timeout=timeout) as serving:
        client = Client(serving)
        with closing(client.http):
            yield client


def path_of(environment: str, service: str = "", rest: str = "") -> str:
    """The address of what is asked about an environment or its service."""
    return f"/api/environments/{environment}" + (f"/services/{service}" if service else "") + rest


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], json.loads(fields["data"])
            fields = {}


def _until_closed(events: Iterator[tuple[str, Any]]) -> Iterator[Mapping[str, Any]]:
    try:
        for _, content in events:
            yield content
    except httpx.HTTPError:
        return
