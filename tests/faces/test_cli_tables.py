"""Every table of the command line on terminals of several widths: nothing is cut, and what is to be copied is whole."""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import click
import pytest
from rich.cells import cell_len

from triton_env import Settings
from triton_env.cli import connections, doctor, prune, status
from triton_env.cli.tables import print_table
from triton_env.core.findings import Finding, Verdict
from triton_env.core.model import Endpoint, Placement
from triton_env.persistent.docker.containers import ProjectContainer
from triton_env.prune import Leftover
from triton_env.runtimes.docker.usage import Usage
from triton_env.services import SERVICES
from triton_env.status import ServiceStatus

HOST = "2001:db8:85a3:8d3:1319:8a2e:370:7348"
"""Long, with colons, which an address in a URL has in brackets."""
PORTS = {
    "postgres": {"postgres": 45432},
    "clickhouse": {"http": 48123, "native": 49000},
    "redis": {"redis": 46379},
    "s3": {"s3": 44566},
}
VERSIONS = {
    "postgres": "15.14",
    "clickhouse": "26.9.1.1234",
    "redis": "7.0.15",
    "s3": "LocalStack 4.14.0",
}
PROBLEM = 'connection to server at "2001:db8:85a3:8d3:1319:8a2e:370:7348", port 45432 failed: server closed it'
PROJECT = "/home/ärztinnen/プロジェクト/claims-and-payments-of-the-third-quarter"
NAME = "triton-env-redis-0123abcd_and_what_else_a_name_can_have_to_be_as_long_as_this"
WIDTHS = (200, 120, 100, 80, 60, 50, 40)


def on_terminal(width: int, show: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *, is_one: bool = True) -> str:
    """What a command writes to a terminal of so many columns, or to a file on a machine with one."""

    class Stream(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return is_one

    with monkeypatch.context() as patched:
        patched.setenv("COLUMNS", str(width))
        patched.setenv("TERM", "xterm")
        patched.setenv("NO_COLOR", "1")
        stream = Stream()
        patched.setattr(sys, "stdout", stream)
        show()
    return click.unstyle(stream.getvalue())


def statuses() -> list[ServiceStatus]:
    rows: list[ServiceStatus] = []
    for name, kind in SERVICES.items():
        container = ProjectContainer(
            id="1",
            name=f"triton-{name}-1",
            service=name,
            image="registry.example.com:5000/a/long/name/of/an/image@sha256:" + "0" * 64,
            status="restarting" if name == "s3" else "running",
            health="unhealthy",
            exit_code=0,
            out_of_memory=False,
            restarts=3,
            started=datetime.now(UTC) - timedelta(days=12, hours=13),
            published={},
            environment={},
            file="",
            ours=True,
        )
        placement = Placement({protocol: Endpoint(HOST, port) for protocol, port in PORTS[name].items()}, None)
        service = kind(Settings(), placement)
        rows.append(ServiceStatus(name, kind.title, container, service, VERSIONS[name], "", Usage(123.4, 2**28, 2**34)))
    rows[0] = replace(rows[0], problem=PROBLEM)
    return rows


def show_status() -> None:
    print_table(status._COLUMNS, status._rows(statuses()), "project a-project-with-a-name-of-forty-letters-x")


def show_prune() -> None:
    why = "another machine made it, so this one cannot decide whether its process is still there"
    rows = [
        (Leftover("container", NAME, "0123abcd", why, True, 4194304, "a-host", PROJECT), "stays", ""),
        (Leftover("shared environment", PROJECT, "4567cdef", why, False), "failed", "Permission denied"),
    ]
    print_table(prune._COLUMNS, prune._cells(rows))


def show_connections() -> None:
    connections.print_table([row.service for row in statuses() if row.service], VERSIONS)


def words_of(text: str) -> set[str]:
    return {word.strip(",;:()") for word in text.split()}


class TestStatus:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_state_health_and_ports_are_whole(self, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        text = on_terminal(width, show_status, monkeypatch)
        assert "…" not in text
        expected = {kind.title for kind in SERVICES.values()} | {"running", "restarting", "healthy", "unhealthy"}
        expected |= {str(port) for ports in PORTS.values() for port in ports.values()}
        expected |= words_of(PROBLEM)
        assert expected <= words_of(text)
        title, *lines = text.splitlines()
        assert "project a-project-with-a-name" in title
        assert all(cell_len(line.rstrip()) <= width for line in lines if HOST not in line)

    def test_80_columns_have_a_row_for_each_healthy_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def show() -> None:
            rows = [replace(row, problem="") for row in statuses()]
            # As it most often is.
            usual = {"health": "healthy", "restarts": 0, "status": "running"}
            rows = [replace(row, instance=replace(row.instance, **usual)) for row in rows if row.instance]
            print_table(status._COLUMNS, status._rows(rows))

        lines = on_terminal(80, show, monkeypatch).splitlines()
        assert len(lines) == 1 + len(SERVICES)
        for version in VERSIONS.values():
            assert any(version in line for line in lines)


class TestPrune:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_names_and_results_are_whole(self, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        text = on_terminal(width, show_prune, monkeypatch)
        assert "…" not in text
        assert {"container", "stays", "failed", "denied", NAME, PROJECT} <= words_of(text)


class TestConnections:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_urls_are_whole(self, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        text = on_terminal(width, show_connections, monkeypatch)
        assert "…" not in text
        for row in statuses():
            assert row.service is not None
            assert row.service.url in words_of(text)


class TestDoctor:
    WORDS = f"{PROJECT}/docker-compose.yml is used, and so is {PROJECT}/.env, which other programs read as well"
    HINT = "export LOCALSTACK_IMAGE=localstack/localstack:4.14.0, or set LOCALSTACK_AUTH_TOKEN to that of your account"
    COMMAND = f"docker compose --project-directory {PROJECT} up --wait"

    @pytest.mark.parametrize("width", WIDTHS)
    def test_words_paths_and_commands_are_whole(self, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        findings = [
            Finding("compose file", Verdict.WARNING, self.WORDS, self.HINT),
            Finding("engine", Verdict.BAD, "No engine answers.", f"start it with: {self.COMMAND}, then look again"),
        ]
        for finding in findings:
            text = on_terminal(width, lambda finding=finding: doctor._print(finding), monkeypatch)
            # Nothing but the places of line breaks differs.
            assert " ".join(text.split()) == f"! {finding.subject} {finding.words} → {finding.hint}".replace(
                "!", "!" if finding.verdict is Verdict.WARNING else "✗"
            )
            whole = (PROJECT, self.COMMAND, "export LOCALSTACK_IMAGE=localstack/localstack:4.14.0")
            for line in text.splitlines():
                assert len(line) <= width or any(each in line for each in whole)
        assert self.COMMAND in text


@pytest.mark.parametrize("show", [show_status, show_prune, show_connections])
def test_elsewhere_it_is_the_same_whatever_the_width(show: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = {on_terminal(width, show, monkeypatch, is_one=False) for width in WIDTHS}
    assert "…" not in text
    # A line for each row, however long it is.
    assert PROBLEM in text or PROJECT in text or HOST in text
