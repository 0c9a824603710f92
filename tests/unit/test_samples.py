"""The last hour of a service's numbers on disk."""

import os
import stat
from pathlib import Path

import pytest

from triton_env.settings import Settings
from triton_env.state import samples
from triton_env.state.samples import HOUR, Samples

NOW = 1_800_000_000.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(triton_state_dir=str(tmp_path / "state"))


def of(settings: Settings, *names: str, environment: str = "0123abcd") -> Samples:
    return Samples(settings, environment, "redis", names or ("keys", "memory"))


def test_what_was_kept_is_read_in_its_order(settings: Settings) -> None:
    kept = of(settings)
    for second in (20, 0, 10):
        kept.add(NOW + second, {"keys": float(second)})

    assert kept.since(NOW, NOW + 20) == [(NOW + second, {"keys": float(second)}) for second in (0, 10, 20)]
    assert kept.since(NOW + 5, NOW + 20) == [(NOW + 10, {"keys": 10.0}), (NOW + 20, {"keys": 20.0})]


def test_the_file_is_private_and_never_grows(settings: Settings) -> None:
    kept = of(settings)
    kept.add(NOW, {"keys": 1.0})
    ((_, path),) = self_left(settings, kept)
    size = path.stat().st_size
    for second in range(0, 3 * HOUR, 2):
        kept.add(NOW + second, {"keys": 1.0, "memory": 2.0})

    assert path.stat().st_size == size < 30_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    end = NOW + 3 * HOUR
    found = kept.since(0, end)
    assert 800 < len(found) <= 900
    assert min(at for at, _ in found) >= end - HOUR


def self_left(settings: Settings, kept: Samples) -> list[tuple[str, Path]]:
    kept.close()
    return list(samples.left(settings, ()))


def test_another_process_reads_it_and_writes_it_once_it_is_free(settings: Settings) -> None:
    writer, reader = of(settings), of(settings)
    writer.add(NOW, {"keys": 1.0})
    reader.add(NOW + 10, {"keys": 2.0})
    assert reader.since(0, NOW + 10) == [(NOW, {"keys": 1.0})]

    writer.close()
    reader.add(NOW + 10, {"keys": 2.0})
    assert reader.since(0, NOW + 10) == [(NOW, {"keys": 1.0}), (NOW + 10, {"keys": 2.0})]


@pytest.mark.parametrize("damage", [b"", b"{", b"x" * 5000])
def test_a_file_of_another_form_is_made_anew(settings: Settings, damage: bytes) -> None:
    kept = of(settings)
    kept.add(NOW, {"keys": 1.0})
    ((_, path),) = self_left(settings, kept)
    path.write_bytes(damage)

    assert kept.since(0, NOW) == []
    kept.add(NOW + 8, {"keys": 2.0})
    assert kept.since(0, NOW + 8) == [(NOW + 8, {"keys": 2.0})]
    assert of(settings, "other").since(0, NOW + 8) == []


def test_those_of_ended_environments_are_left_until_they_are_removed(settings: Settings) -> None:
    names = ("0123abcd", "my.project", "../..")
    for name in names:
        one = of(settings, environment=name)
        one.add(NOW, {"keys": 1.0})
        one.close()
    held = of(settings, environment="held")
    held.add(NOW, {"keys": 1.0})

    assert {name for name, _ in samples.left(settings, ())} == set(names)
    (found,) = samples.left(settings, {"0123abcd", "../.."})
    assert found[0] == "my.project"
    assert samples.remove(found[1]) == ""
    assert not found[1].exists()
    assert {path.parent for _, path in samples.left(settings, ())} == {found[1].parent}
    held.close(remove=True)
    assert "held" not in {name for name, _ in samples.left(settings, ())}


def test_one_that_is_opened_again_is_not_removed(settings: Settings) -> None:
    first = of(settings)
    first.add(NOW, {"keys": 1.0})
    ((_, path),) = self_left(settings, first)
    again = of(settings)
    again.add(NOW, {"keys": 1.0})

    assert samples.remove(path)
    assert path.exists()
    assert os.listdir(path.parent) == [path.name]
