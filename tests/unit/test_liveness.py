"""What counts as the death of a server."""

from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from triton_env.core.ending import Ending
from triton_env.liveness import Liveness


def test_one_whose_restart_begins_while_its_engine_is_asked_has_not_died() -> None:
    restart = ExitStack()

    class Engine:
        begins = False

        def ending(self, service: str, *, look: bool = True) -> Ending:
            if self.begins:
                restart.enter_context(liveness.restarting(service))
            return Ending("a container", "", reason="it was ended")

    runtime: Future[Any] = Future()
    runtime.set_result(engine := Engine())
    liveness = Liveness(runtime, {})
    assert liveness.ending("redis") is not None
    engine.begins = True
    assert liveness.ending("redis") is None
    assert liveness.is_restarting("redis")
    restart.close()
    engine.begins = False
    assert liveness.ending("redis") is not None
