"""What the files of a container take: an engine is asked for no more than it has at hand."""

from contextlib import nullcontext
from typing import Any

import pytest

from triton_env.runtimes.docker.usage import disk_of


class Engine:
    """An engine with one container, which has written 5 bytes beside its volumes and has none of these."""

    def __init__(self, driver: str, *, is_running: bool = True) -> None:
        self.container = {"Driver": driver, "State": {"Running": is_running}, "Mounts": [], "HostConfig": {}}
        self.asked: list[dict[str, Any]] = []

    def translated(self, *_: str) -> nullcontext[None]:
        return nullcontext()

    def ask(self, question: str, **query: Any) -> dict[str, Any]:
        assert question == "/containers/c/json"
        self.asked.append(query)
        return self.container | ({"SizeRw": 5} if query.get("size") else {})


def disk(engine: Any) -> int | None:
    return disk_of(engine, "c")


@pytest.mark.parametrize("driver", ["overlay2", "overlayfs", "overlay"])
def test_what_a_container_wrote_is_added_up(driver: str) -> None:
    assert disk(Engine(driver)) == 5


@pytest.mark.parametrize("driver", ["btrfs", "fuse-overlayfs", "vfs", "zfs"])
def test_files_are_not_compared_with_those_of_the_image(driver: str) -> None:
    engine = Engine(driver)
    assert disk(engine) == 0
    assert engine.asked == [{}]
    # What is in volumes could be found in a running container alone.
    assert disk(Engine(driver, is_running=False)) is None
