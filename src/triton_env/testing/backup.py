"""What backup and restore are in each service that offers them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from triton_env import backup
from triton_env.backup import restoration
from triton_env.backup.parts import restorer_of
from triton_env.core.model import TakesOver
from triton_env.environment import TritonEnvironment
from triton_env.errors import NotOffered, RestoreFailed
from triton_env.services import Service
from triton_env.testing.contents import Contents, everywhere, look, put


def _remains(service: Service) -> list[str]:
    found: list[str] = service.parts.load("remains")(service)
    return found


class BackupContract:
    """The tests of backup and restore in a running environment whose services can be reset.

    Fixtures of the module: `env`, a `TritonEnvironment` that runs and whose services hold nothing; `contents`, by the
    names of services; `service_name`.
    """

    @pytest.fixture(autouse=True)
    def _cleared(self, env: TritonEnvironment) -> Iterator[None]:
        """The environment's own is empty after each test."""
        yield
        env.reset()

    def test_a_backup_has_what_the_user_put_and_nothing_of_namespaces(
        self, env: TritonEnvironment, contents: Mapping[str, Contents], tmp_path: Path
    ) -> None:
        put(env, contents, "before")
        with env.namespace() as namespace:
            put(namespace, contents, "mine")
            manifest = backup.create(env, tmp_path / "backup")
            able = {name for name in env.services if env.service(name).parts.saver}
            assert manifest.services.keys() == able
            assert all(manifest.services[name].version == env.service(name).server_version() for name in able)
            assert [note for name in contents for note in manifest.services[name].notes] == []
            put(env, contents, "after")
            backup.restore(env, tmp_path / "backup", replace=True)
            assert look(env, contents) == everywhere(env, contents, "before")
            assert look(namespace, contents) == everywhere(namespace, contents, "mine")
        assert [left for name in able for left in _remains(env.service(name))] == []

    def test_what_is_there_is_replaced_only_where_that_is_asked_for(
        self, env: TritonEnvironment, contents: Mapping[str, Contents], tmp_path: Path
    ) -> None:
        put(env, contents, "before")
        backup.create(env, tmp_path / "backup")
        with pytest.raises(RestoreFailed, match="Nothing was changed"):
            backup.restore(env, tmp_path / "backup")
        env.reset()
        backup.restore(env, tmp_path / "backup")
        assert look(env, contents) == everywhere(env, contents, "before")

    def test_a_restore_that_fails_anywhere_is_taken_back(
        self,
        env: TritonEnvironment,
        service_name: str,
        contents: Mapping[str, Contents],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        service, own = env.service(service_name), contents[service_name]
        if not service.parts.saver:
            with pytest.raises(NotOffered, match=service.title):
                backup.create(env, tmp_path / "backup", services=(service_name,))
            return
        own.put(service, "before")
        backup.create(env, tmp_path / "backup", services=(service_name,))
        own.put(service, "after")
        for point in ("stage", "swap"):
            for is_late in (False, True):
                if point == "swap" and is_late and service.takes_over is TakesOver.FOR_GOOD:
                    continue  # what has happened by then counts
                with monkeypatch.context() as patch:
                    patch.setattr(restoration, "restorer_of", lambda each, at=(point, is_late): _breaking(each, *at))
                    with pytest.raises(RestoreFailed, match="Nothing was changed") as caught:
                        backup.restore(env, tmp_path / "backup", services=(service_name,), replace=True)
                assert "the connection broke" in str(caught.value)
                assert own.look(service) == "after", f"{point}, {'after' if is_late else 'before'} it was done"
                assert _remains(service) == []
        backup.restore(env, tmp_path / "backup", services=(service_name,), replace=True)
        assert own.look(service) == "before"
        assert _remains(service) == []


def _breaking(service: Service, point: str, is_late: bool) -> Callable[..., Any]:
    """What makes a restorer whose connection breaks at one of its steps: before it is done, or when it just was."""
    make = restorer_of(service)

    def made(*arguments: Any) -> Any:
        restorer = make(*arguments)
        step = getattr(restorer, point)

        def breaks() -> None:
            if is_late:
                step()
            raise ConnectionError("the connection broke")

        # An object of its own: those of some services have slots.
        return _With(restorer, point, breaks)

    return made


class _With:
    """An object with another method in the place of one of its own."""

    def __init__(self, of: Any, name: str, method: Callable[[], None]) -> None:
        self._of = of
        setattr(self, name, method)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)
