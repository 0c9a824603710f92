"""Ryuk is asked for once in a process, without a race, and an environment works without it."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound
from testcontainers.core.config import testcontainers_config

from triton_env.runtimes import containers


class FakeReaper:
    """Like Testcontainers' own: no lock, and slow to start."""

    _instance: "FakeReaper | None" = None
    created = 0
    deleted = 0
    error: Exception | None = None

    @classmethod
    def get_instance(cls) -> "FakeReaper":
        if cls._instance is None:
            time.sleep(0.02)
            cls.created += 1
            if cls.error:
                raise cls.error
            cls._instance = cls()
        return cls._instance

    @classmethod
    def delete_instance(cls) -> None:
        cls.deleted += 1


def engine(*, has_image: bool = True) -> Any:
    def get(image: str) -> None:
        if not has_image:
            raise ImageNotFound(image)

    return SimpleNamespace(client=SimpleNamespace(images=SimpleNamespace(get=get)))


@pytest.fixture
def reaper(monkeypatch: pytest.MonkeyPatch) -> type[FakeReaper]:
    class Reaper(FakeReaper):
        pass

    monkeypatch.setattr(containers, "Reaper", Reaper)
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", False)
    return Reaper


def test_many_environments_start_one(reaper: type[FakeReaper]) -> None:
    threads = [threading.Thread(target=containers._ensure_reaper, args=(engine(),)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reaper.created == 1


def test_it_is_not_started_where_its_image_is_absent(reaper: type[FakeReaper]) -> None:
    containers._ensure_reaper(engine(has_image=False))
    assert reaper.created == 0


def test_it_is_not_started_where_it_is_disabled(reaper: type[FakeReaper], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", True)
    containers._ensure_reaper(engine())
    assert reaper.created == 0


def test_one_that_does_not_start_is_removed_and_no_error(
    reaper: type[FakeReaper], caplog: pytest.LogCaptureFixture
) -> None:
    reaper.error = OSError("no route to Ryuk")
    containers._ensure_reaper(engine())
    assert reaper.deleted == 1
    assert "no route to Ryuk" in caplog.text
