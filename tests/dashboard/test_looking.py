"""The connections of a dashboard: what is asked while an environment is forgotten leaves none open."""

import asyncio
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

from patience import WAIT, until
from triton_env import Settings
from triton_env.dashboard.looking import Looked, Looking


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
