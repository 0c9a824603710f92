"""The connections of a dashboard: those that are forgotten leave nothing open, and what was counted stays."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from patience import WAIT, until
from triton_env import Settings
from triton_env.dashboard import looking as module
from triton_env.dashboard.looking import Looked, Looking
from triton_env.services.base_insight import Insight, Table, Totals


async def test_a_question_that_outlives_its_environment_closes_what_it_opened() -> None:
    closed: list[bool] = []
    is_asked, may_answer = threading.Event(), threading.Event()
    insight = SimpleNamespace(close=lambda: closed.append(True))
    environment = cast(Any, SimpleNamespace(services={"any": None}))

    def question(insight: object) -> str:
        is_asked.set()
        may_answer.wait(WAIT)
        return "answer"

    looking = Looking(Settings())
    looked = Looked(environment, nullcontext(environment))
    entry = cast(Any, SimpleNamespace(id="id", key="id"))
    looking._open["id"] = asyncio.get_running_loop().create_future()
    looking._open["id"].set_result(looked)
    looking._line(looked, "any").insight = cast(Any, insight)
    asking = asyncio.create_task(looking.ask(entry, "any", question, timeout=WAIT))
    assert await asyncio.to_thread(is_asked.wait, WAIT)
    looking.forget("id")
    assert await asyncio.to_thread(until, lambda: len(closed) == 1)
    may_answer.set()
    assert await asking == "answer"
    assert await asyncio.to_thread(until, lambda: len(closed) == 2)


class Counting(Insight[Any]):
    """What a server counts, which forgets a part that goes."""

    parts: Mapping[str, tuple[float]]

    def _sample(self) -> Mapping[str, float]:
        self._totals = self._totals or Totals(["total"])
        return self._totals.after(self.parts)

    def _table(self, panel: str, argument: str) -> Table:
        raise NotImplementedError

    def _errors(self) -> tuple[type[Exception], ...]:
        return ()


async def test_counters_go_on_after_an_environment_was_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "declared", lambda service: Counting)
    environment = cast(Any, SimpleNamespace(services={"any": None}, service=lambda name: None))
    looking, entry = Looking(Settings()), cast(Any, SimpleNamespace(id="id", key="id"))

    async def counted(**parts: float) -> float:
        monkeypatch.setattr(Counting, "parts", {name: (count,) for name, count in parts.items()}, raising=False)
        if "id" not in looking._open:
            looking._open["id"] = asyncio.get_running_loop().create_future()
            looking._open["id"].set_result(Looked(environment, nullcontext(environment)))
        return (await looking.ask(entry, "any", Insight.sample))["total"]

    assert await counted(kept=5, dropped=3) == 8
    looking.forget("id")
    assert await counted(kept=6) == 9
