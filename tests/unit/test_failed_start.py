"""Starts that fail, or are cancelled: the right error is raised, and nothing is left."""

import signal
import threading

import pytest

from triton_env import Phase, TritonEnvironment
from triton_env.core import interrupts
from triton_env.errors import (
    CleanupFailed,
    EngineFailed,
    EngineUnreachable,
    NotStarted,
    ResourceExhausted,
    ServiceExited,
    ServiceNotReady,
    TritonError,
)
from triton_env.services import SERVICES
from unit.fakes import FakeRuntime, FakeRuntimes, fails_with, until_cancelled, when_main_waits

EXITED = ServiceExited("Redis exited while it started.")


def send_sigint() -> None:
    """Ctrl-C, as a terminal sends it, for the main thread."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_a_failing_service_calls_off_the_others_and_is_what_is_raised(runtimes: FakeRuntimes) -> None:
    runtimes.behaviours = dict.fromkeys(SERVICES, until_cancelled) | {"redis": fails_with(EXITED)}
    env = TritonEnvironment()
    with pytest.raises(ServiceExited) as caught, env:
        pytest.fail("the block may not begin")
    assert caught.value is EXITED
    assert runtimes.last.stops == 1
    assert sorted(runtimes.last.called_off) == ["clickhouse", "postgres", "s3"]
    with pytest.raises(NotStarted):
        env.postgres  # noqa: B018


def test_after_a_failed_start_the_timeline_tells_how_far_each_service_came(runtimes: FakeRuntimes) -> None:
    runtimes.behaviours = {"redis": fails_with(EXITED), "s3": until_cancelled}
    env = TritonEnvironment(services=("redis", "s3"))
    with pytest.raises(ServiceExited):
        env.start()
    for service in env.services:
        phases = [span.phase for span in env.timeline.of(service)]
        assert phases == [Phase.PULL, Phase.CREATE, Phase.BOOT, Phase.FAILED]
        assert env.timeline.ready_at(service) is None


def test_after_a_failed_start_another_may_succeed(runtimes: FakeRuntimes) -> None:
    runtimes.behaviours = {"redis": fails_with(EXITED)}
    env = TritonEnvironment(services=("redis",))
    with pytest.raises(ServiceExited):
        env.start()
    runtimes.behaviours = {}
    with env:
        assert env.redis.port
    assert [runtime.stops for runtime in runtimes.opened] == [1, 1]


def test_several_failures_raise_one_of_them_and_never_a_cancellation(runtimes: FakeRuntimes) -> None:
    errors = {
        "redis": EXITED,
        "postgres": ServiceNotReady("PostgreSQL was not ready after 60 s."),
        "clickhouse": EngineFailed("The Docker engine failed."),
    }
    runtimes.behaviours = {name: fails_with(error) for name, error in errors.items()} | {"s3": until_cancelled}
    with pytest.raises(TritonError) as caught:
        TritonEnvironment().start()
    assert caught.value in errors.values()
    assert runtimes.last.stops == 1


@pytest.mark.parametrize("error", [EngineUnreachable("No engine."), EngineFailed("It broke."), KeyError("a mistake")])
def test_a_runtime_that_cannot_be_opened(runtimes: FakeRuntimes, error: Exception) -> None:
    runtimes.open_error = error
    env = TritonEnvironment()
    with pytest.raises(type(error)) as caught:
        env.start()
    assert caught.value is error
    assert repr(env).startswith("<TritonEnvironment stopped")


@pytest.mark.parametrize("error", [EngineUnreachable("No engine."), EngineFailed("It broke.")])
def test_a_lazy_environment_raises_it_on_use_and_ends_in_peace(runtimes: FakeRuntimes, error: Exception) -> None:
    runtimes.open_error = error
    with TritonEnvironment(lazy=True) as env:
        for use in (lambda: env.postgres, lambda: env.runtime, lambda: env.environ()):
            with pytest.raises(type(error)) as caught:
                use()
            assert caught.value is error


def test_a_lazy_environment_keeps_what_did_come_up(runtimes: FakeRuntimes) -> None:
    runtimes.behaviours = {"redis": fails_with(EXITED)}
    with TritonEnvironment(services=("redis", "postgres"), lazy=True) as env:
        with pytest.raises(ServiceExited):
            env.redis  # noqa: B018
        assert env.postgres.port


def test_ctrl_c_during_the_start_stops_what_was_started(runtimes: FakeRuntimes) -> None:
    begun = threading.Semaphore(0)

    def begins(runtime: FakeRuntime) -> None:
        begun.release()
        until_cancelled(runtime)

    def interrupt() -> None:
        for _ in SERVICES:
            begun.acquire()
        send_sigint()

    runtimes.behaviours = dict.fromkeys(SERVICES, begins)
    env = TritonEnvironment()
    with pytest.raises(KeyboardInterrupt), when_main_waits(interrupt):
        env.start()
    assert runtimes.last.stops == 1
    assert sorted(runtimes.last.called_off) == sorted(SERVICES)
    assert repr(env).startswith("<TritonEnvironment stopped")


def test_an_impatient_second_ctrl_c_does_not_break_the_cleanup_off(runtimes: FakeRuntimes) -> None:
    begun = threading.Event()
    finished = []

    def begins(runtime: FakeRuntime) -> None:
        begun.set()
        until_cancelled(runtime)

    def interrupt() -> None:
        begun.wait()
        send_sigint()

    def stop_slowly() -> None:
        send_sigint()
        finished.append(True)

    runtimes.behaviours = {"redis": begins}
    runtimes.on_stop = stop_slowly
    with pytest.raises(KeyboardInterrupt), when_main_waits(interrupt):
        TritonEnvironment(services=("redis",)).start()
    assert finished == [True]


def test_a_cleanup_that_fails_after_a_failed_start_becomes_a_note(runtimes: FakeRuntimes) -> None:
    runtimes.behaviours = {"redis": fails_with(ServiceExited("Redis exited."))}
    runtimes.stop_error = CleanupFailed("Containers may be left behind.", hint="docker rm -fv 0123")
    env = TritonEnvironment(services=("redis",))
    with pytest.raises(ServiceExited) as caught:
        env.start()
    assert caught.value.__notes__ == ["Containers may be left behind.\n\nhint: docker rm -fv 0123"]
    runtimes.stop_error = None
    env.stop()
    assert runtimes.last.stops == 2


def test_a_cleanup_that_fails_is_raised_and_tried_again_until_it_succeeds(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    runtimes.stop_error = CleanupFailed("Containers may be left behind.")
    for _ in range(2):
        with pytest.raises(CleanupFailed):
            env.stop()
        assert env in interrupts.living()
    runtimes.stop_error = None
    env.stop()
    assert env not in interrupts.living()
    env.stop()
    assert runtimes.last.stops == 3


def test_what_an_earlier_run_left_is_removed_with_the_next(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    runtimes.stop_error = CleanupFailed("Containers may be left behind.")
    with pytest.raises(CleanupFailed):
        env.stop()
    runtimes.stop_error = None
    with env:
        assert len(runtimes.opened) == 2
    assert [runtime.stops for runtime in runtimes.opened] == [2, 1]


def test_ctrl_c_during_a_cleanup_takes_effect_after_it(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    runtimes.on_stop = send_sigint
    with pytest.raises(KeyboardInterrupt) as caught:
        env.stop()
    assert not hasattr(caught.value, "__notes__")
    assert runtimes.last.stops == 1
    env.stop()
    assert runtimes.last.stops == 1


def test_what_a_cleanup_that_was_interrupted_left_becomes_a_note(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    runtimes.on_stop = send_sigint
    runtimes.stop_error = CleanupFailed("Containers may be left behind.")
    with pytest.raises(KeyboardInterrupt) as caught:
        env.stop()
    assert caught.value.__notes__ == ["Containers may be left behind."]
    runtimes.on_stop, runtimes.stop_error = lambda: None, None
    env.stop()
    assert runtimes.last.stops == 2


def test_without_threads_to_be_had_a_start_fails_instead_of_hanging(
    runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ResourceExhausted, match="no further process or thread can be started"):
        TritonEnvironment().start()
