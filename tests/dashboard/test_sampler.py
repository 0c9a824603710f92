"""The numbers of services that stop, end, or cannot be seen for a while."""

import asyncio
import re
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import pytest

from triton_env import Settings
from triton_env.dashboard.looking import Looking
from triton_env.dashboard.sampler import MEMORY, Sampler
from triton_env.dashboard.watch import Watch
from triton_env.inspection import EnvironmentEntry, Inspection, ServiceEntry

KEY = "persistent@docker"


def seen(*modes: str, state: str = "running", problem: str | None = None) -> Inspection:
    """An inspection of environments with Redis on Docker, whose ids are their modes."""
    service: Any = ServiceEntry.model_construct(name="redis", state=state, ports={}, container=None)
    of_mode = partial(EnvironmentEntry.model_construct, runtime="docker", services=(service,))
    entries: Any = [of_mode(id=mode, mode=mode) for mode in modes]
    return Inspection.model_construct(environments=tuple(entries), engine_problem=problem)


async def test_numbers_go_with_a_server_and_samples_with_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing answers for what is seen.
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    settings = Settings(triton_state_dir=str(tmp_path))
    watch, looking = Watch(settings), Looking(settings)
    sampler = Sampler(settings, watch, looking)

    async def after(inspection: Inspection) -> set[str]:
        """The modes of the environments that have samples then."""
        watch.inspection = inspection
        sampler.round()
        if tasks := [each.task for each in sampler._sampled.values() if each.task]:
            await asyncio.wait(tasks)
        return {re.split("[.%]", path.name)[0] for path in tmp_path.glob("dashboard/*.samples")}

    await after(seen("persistent", "session"))
    for sampled in sampler._sampled.values():
        assert sampled.file is not None
        sampled.values = {MEMORY: 1.0}
        sampled.file.add(time(), sampled.values)

    # Those on Docker are missing while their engine does not answer.
    assert await after(seen(problem="no engine answers")) == {"persistent"}
    await after(seen("persistent"))
    assert [values for _, values in sampler.since(KEY, "redis", 60)] == [{MEMORY: 1.0}]
    sampled = sampler._sampled[KEY, "redis"]
    assert sampled.file is not None
    sampled.values = {MEMORY: 1.0}
    sampled.file.add(time(), sampled.values)
    assert await after(seen("persistent", state="exited")) == {"persistent"}
    assert list(sampler.latest()) == [(KEY, "redis", {})]
    assert await after(seen()) == set()
    sampler.close()
    looking.close()
