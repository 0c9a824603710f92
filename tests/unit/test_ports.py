"""Host ports that are really free, and who holds those that are not."""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from triton_env.runtimes import ports
from triton_env.runtimes.ports import free_port, listener_on

LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server


@pytest.fixture
def same_dice() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


@pytest.mark.parametrize("bind", [LOOPBACK, "0.0.0.0"])
def test_a_taken_port_is_not_given(bind: str, same_dice: None) -> None:
    random.seed(1)
    first = free_port(bind)
    with socket.create_server((bind, first)):
        random.seed(1)  # the same number comes up first
        assert free_port(bind) != first


@pytest.mark.parametrize("bind", [LOOPBACK, "0.0.0.0", "::1"])
def test_a_given_port_can_be_listened_on(bind: str) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    if ":" in bind and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with socket.create_server((bind, free_port(bind)), family=family) as server:
        assert server.getsockname()[1] >= 20_000


def test_an_address_of_another_machine_is_left_to_the_engine() -> None:
    # 203.0.113.0/24 is reserved for documentation (RFC 5737).
    assert 20_000 <= free_port("203.0.113.7") < 65_536


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("32768\t60999\n", 32_768),
        ("49152 65535", 49_152),
        # Too little room below: better a port of that range than none.
        ("1024 65535", 65_000),
        ("nonsense", 32_768),
        ("", 32_768),
    ],
)
def test_ports_lie_below_those_of_outgoing_connections(
    text: str, end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text(text)
    monkeypatch.setattr(ports, "_EPHEMERAL_RANGE", tmp_path / "range")
    assert ports._first_ephemeral_port() == end
    assert all(20_000 <= free_port(LOOPBACK) < end for _ in range(50))


def test_without_proc_the_usual_range_is_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_EPHEMERAL_RANGE", tmp_path / "missing")
    assert ports._first_ephemeral_port() == 32_768


def test_a_listener_is_named(listener: socket.socket) -> None:
    assert listener_on(listener.getsockname()[1]) == f"process {os.getpid()} ({psutil.Process().name()})"


def test_of_a_free_port_nothing_is_said() -> None:
    assert listener_on(free_port(LOOPBACK)) == ""


def test_a_connection_is_no_listener(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        assert listener_on(client.getsockname()[1]) == ""
