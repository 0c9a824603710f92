"""One environment for several processes: who gets it, and when it ends."""

import os
import random
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

import forkserver
from patience import WAIT, until
from sharing.users import Sharing, keeper_of, postgres_held_up

LINGER = "600"
"""Seconds for one that is to be there until the test ends it."""


def port_of_its_own() -> int:
    """A free port below those that environments pick, since the other tests' environments do so at the same time."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randrange(10_000, 20_000)))
            except OSError:
                continue
            return int(probe.getsockname()[1])


def test_two_processes_share_one_and_the_last_one_out_stops_it(shared: Sharing) -> None:
    one = shared.join()
    two = shared.join()
    assert one.started == two.started
    assert one.started["runtime"] == "embedded"
    assert "shared" in one.started["reason"]
    one.do("env.redis.client().set('greeting', 'hello')")
    assert two.do("env.redis.client().get('greeting').decode()") == "hello"
    assert one.do("env._mode.has_others()")
    one.stop()
    assert not two.do("env._mode.has_others()")
    assert two.do("env.redis.client().get('greeting').decode()") == "hello"
    two.stop()
    assert shared.is_gone()


def test_one_that_lingers_is_taken_by_the_next(shared: Sharing) -> None:
    """Such as a notebook's kernel after its restart."""
    one = shared.join(TRITON_LINGER=LINGER)
    one.do("env.redis.client().set('greeting', 'hello')")
    one.stop()
    two = shared.join()
    assert two.do("env.redis.client().get('greeting').decode()") == "hello"
    assert two.id == one.id
    shared.keeper().terminate()
    assert shared.is_gone()


@pytest.mark.parametrize("killed", [(0,), (1,), (0, 1)], ids=["starter", "attacher", "both"])
def test_a_holder_that_is_killed_gives_its_lease_back(killed: tuple[int, ...], shared: Sharing) -> None:
    users = [shared.join(), shared.join()]
    for number in killed:
        users[number].kill()
    for number, user in enumerate(users):
        if number not in killed:
            assert user.do("env.redis.client().ping()")
            assert not user.do("env._mode.has_others()")
            user.stop()
    assert shared.is_gone()


def test_other_settings_services_and_words_are_other_environments(shared: Sharing) -> None:
    users = [
        shared.join(),
        shared.join(TRITON_STORAGE="disk"),
        shared.join(reuse={"key_suffix": "run-1"}),
        shared.join(reuse={"key_suffix": "run-2"}),
        shared.join(TRITON_PROGRESS="off", TRITON_REDIS_TIMEOUT="40", LOG_LEVEL="DEBUG"),  # no difference
    ]
    assert len({user.id for user in users}) == 4
    assert users[0].id == users[-1].id
    passwords = {user.started["environ"]["REDIS_PASSWORD"] for user in users}
    assert len(passwords) == 4
    for user in users:
        user.stop()


def test_eight_at_once_start_exactly_one(shared: Sharing) -> None:
    users = [shared.begin() for _ in range(8)]
    assert len({user.wait_until_started().id for user in users}) == 1
    assert len(shared.folders()) == 1
    for user in users:
        user.process.stdin.close()  # type: ignore[union-attr] - all at once, without waiting for each
    for user in users:
        assert user.hear() == {"stopped": True}


def test_one_that_only_lingers_ends_when_settings_were_changed(shared: Sharing) -> None:
    shared.join(TRITON_LINGER=LINGER).stop()
    used = shared.join(TRITON_LINGER=LINGER, TRITON_STORAGE="disk")
    elsewhere = shared.join(TRITON_LINGER=LINGER, POSTGRES_DB="other", cwd=shared.state.parent)
    elsewhere.stop()
    assert until(lambda: {path.name[-8:] for path in shared.folders()} == {used.id, elsewhere.id}), shared.folders()
    # One that is used stays, and so does that of another folder.
    shared.join(POSTGRES_DB="third").stop()
    assert until(lambda: {path.name[-8:] for path in shared.folders()} == {used.id, elsewhere.id}), shared.folders()
    again = shared.join(POSTGRES_DB="other", cwd=shared.state.parent)
    assert again.id == elsewhere.id
    again.stop()
    # Both of them linger, so none is on its way out.
    for folder in shared.folders():
        keeper_of(folder).terminate()
    assert shared.is_gone()


def test_one_that_has_the_ports_ends_first(shared: Sharing) -> None:
    ports = {"TRITON_PORTS": "fixed", "REDIS_PORT": str(port_of_its_own())}
    before = shared.join(TRITON_LINGER=LINGER, **ports)
    before.stop()
    after = shared.join(POSTGRES_DB="other", **ports)
    assert after.id != before.id
    assert after.started["environ"]["REDIS_PORT"] == ports["REDIS_PORT"]
    # One that is used keeps them.
    taken = shared.begin(POSTGRES_DB="third", **ports).wait_until_started()
    assert taken.started["error"] == "PortTaken"
    after.stop()


def test_the_keeper_that_is_asked_to_end_takes_everything_along(shared: Sharing) -> None:
    user = shared.join()
    shared.keeper().terminate()
    assert shared.is_gone()
    other = shared.join()
    assert other.id != user.id
    # The lease of one that is gone can be given back all the same.
    user.stop()
    other.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_keeper_outlives_what_a_terminal_sends(number: signal.Signals, shared: Sharing) -> None:
    user = shared.join()
    keeper = shared.keeper()
    assert os.getsid(keeper.pid) != os.getsid(0)
    keeper.send_signal(number)
    assert user.do("env.redis.client().ping()")
    assert shared.join().id == user.id


def test_after_the_keeper_was_killed_the_next_one_starts_another(shared: Sharing) -> None:
    user = shared.join()
    shared.kill_keeper()
    other = shared.join()
    assert other.id != user.id
    assert other.do("env.redis.client().ping()")
    user.kill()
    other.stop()
    assert shared.is_gone()


def test_a_keeper_that_is_killed_while_it_starts_is_replaced(shared: Sharing, tmp_path: Path) -> None:
    with postgres_held_up(tmp_path / "cache") as variables:
        users = [shared.begin(("redis", "postgres", "s3"), **variables) for _ in range(3)]
        assert until(lambda: bool(shared.folders()))
        first = shared.folders()[0].name[-8:]
        shared.keeper().kill()
    ids = {user.wait_until_started().id for user in users}
    assert len(ids) == 1
    assert ids != {first}
    for user in users:
        assert user.do("env.redis.client().ping()")
        user.stop()
    assert shared.is_gone()


def test_a_start_that_nobody_waits_for_is_called_off(shared: Sharing, tmp_path: Path) -> None:
    with postgres_held_up(tmp_path / "cache") as variables:
        user = shared.begin(("clickhouse", "postgres", "s3"), **variables)
        assert until(lambda: bool(shared.folders()))
        user.process.send_signal(signal.SIGINT)
        assert shared.is_gone()
        assert user.process.wait(WAIT) != 0


def test_a_start_goes_on_for_another_who_waits(shared: Sharing, tmp_path: Path) -> None:
    with postgres_held_up(tmp_path / "cache") as variables:
        one = shared.begin(("postgres", "redis"), **variables)
        assert until(lambda: bool(shared.folders()))
        two = shared.begin(("postgres", "redis"), **variables)
        (folder,) = shared.folders()
        assert until(lambda: len(list(folder.glob("*.lease"))) == 2)
        one.kill()
    two.wait_until_started()
    assert two.id == folder.name[-8:]
    two.stop()


def test_a_failed_start_is_the_same_error_for_all_who_wait(shared: Sharing, tmp_path: Path) -> None:
    # A database that accepts no connections: the server runs, and is never ready.
    variables = {"POSTGRES_DB": "template0", "TRITON_POSTGRES_TIMEOUT": "3"}
    with postgres_held_up(tmp_path / "cache", postgres_db="template0") as held_up:
        users = [shared.begin(("redis", "postgres"), **variables, **held_up) for _ in range(3)]
        assert until(lambda: bool(shared.folders()))
        (folder,) = shared.folders()
        assert until(lambda: len(list(folder.glob("*.lease"))) == 3)
    heard = [user.wait_until_started().started for user in users]
    assert {each["error"] for each in heard} == {"ServiceNotReady"}
    (text,) = {each["text"] for each in heard}
    assert "PostgreSQL was not ready after 3 s." in text
    assert "hint: give it more time with TRITON_POSTGRES_TIMEOUT" in text
    # The error came after the cleanup.
    assert shared.is_gone()


def test_what_does_not_answer_any_more_is_replaced_with_a_word(shared: Sharing) -> None:
    user = shared.join()
    port = int(user.started["environ"]["REDIS_PORT"])
    (server,) = (
        each.pid for each in psutil.net_connections("tcp4") if each.laddr.port == port and each.status == "LISTEN"
    )
    assert server is not None
    process = psutil.Process(server)
    process.kill()
    process.wait(WAIT)  # until then its port is open
    other = shared.join()
    assert other.id != user.id
    died = f"Redis of the shared environment {user.id} no longer responds (ended by signal 9 (SIGKILL))"
    assert died in shared.words()
    # Its earlier users get the same words.
    assert user.do("[env.deaths()['redis'].service, env.deaths()['redis'].status]") == ["redis", -9]
    user.stop()
    other.stop()


def test_a_forked_child_does_not_give_the_lease_back(shared: Sharing) -> None:
    user = shared.join()
    forked = "(lambda pid: os.waitpid(pid, 0)[1] if pid else (env.stop(), os._exit(0)))(os.fork())"
    assert user.do(forked) == 0
    assert user.do("env.redis.client().ping()")
    other = shared.join()
    assert other.id == user.id
    user.stop()
    other.stop()


def test_kept_namespaces_hold_the_environment(shared: Sharing) -> None:
    user = shared.join()
    kept = shared.state / "spaces" / user.id
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    (kept / "triton_ns_1.kept").touch()
    user.stop()
    # As long as it takes the keeper to see that it is not used, twice.
    assert not until(lambda: not shared.folders(), 1.0)
    assert shared.join().id == user.id
    shared.users[-1].stop()
    (kept / "triton_ns_1.kept").unlink()
    assert shared.is_gone()


def test_logs_and_programs_of_a_shared_environment(shared: Sharing) -> None:
    user = shared.join(("redis", "postgres"))
    assert "Ready to accept connections" in user.do("env.logs('redis')")
    run = "__import__('subprocess').run"
    version = f"(lambda p: {run}(p.argv, env=p.environment, capture_output=True, text=True).stdout)"
    assert "pg_dump (PostgreSQL)" in user.do(f"{version}(env.program('postgres', ['pg_dump', '--version']))")
    port = user.started["environ"]["POSTGRES_PORT"]
    assert user.do("env.program('postgres', ['psql', '-p', '{port:postgres}']).argv[-1]") == port
    user.stop()


def test_env_finds_it_from_another_shell(shared: Sharing) -> None:

    user = shared.join()
    command = [sys.executable, "-m", "triton_env", "env", "--format", "json"]
    variables = os.environ | {"TRITON_STATE_DIR": str(shared.state)}
    done = forkserver.run(command, env=variables, cwd=shared.state, capture_output=True, text=True, check=True)
    assert user.started["environ"]["REDIS_URL"] in done.stdout
    user.stop()
    assert shared.is_gone()
    assert not list(Path(shared.state / "environments").glob("*.json"))
