"""Services are named in the same way in all commands: as arguments or with --services, also by their other names."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from triton_env.cli import command_line, commands
from triton_env.cli.options import file_and_services, named_services

WITHOUT = (
    *("run", "down", "ps", "top", "dashboard", "stop", "psql", "clickhouse-client", "redis-cli", "s3", "prune", "mcp"),
    "doctor",
)
"""Commands that are about no choice of services, or take the command line of a program."""
ABOUT_SERVICES = [name for name in commands() if name not in WITHOUT]
MORE = {"backup": ("file.backup",), "restore": ("file.backup",)}
"""The other arguments that commands need."""


@click.command()
@named_services
def show(services: tuple[str, ...]) -> None:
    click.echo(" ".join(services))


@click.command()
@file_and_services
def show_file(file: Path, services: tuple[str, ...]) -> None:
    click.echo(f"{file}: {' '.join(services)}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", ""),
        ("redis postgres", "redis postgres"),
        ("--services redis,postgres", "redis postgres"),
        ("redis,postgres", "redis postgres"),
        ("redis --services postgres", "redis postgres"),
        ("Redis redis", "redis"),
        ("pg localstack valkey", "postgres s3 redis"),
        ("--services postgresql,s3", "postgres s3"),
    ],
)
def test_ways_to_name_them(arguments: str, expected: str) -> None:
    assert CliRunner().invoke(show, arguments.split()).stdout.strip() == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("a.backup", "a.backup:"),
        ("a.backup postgres pg redis", "a.backup: postgres redis"),
        ("postgres a.backup", "a.backup: postgres"),
        ("a.backup --services redis", "a.backup: redis"),
        ("./postgres", "postgres:"),
    ],
)
def test_ways_to_name_them_beside_a_file(arguments: str, expected: str) -> None:
    assert CliRunner().invoke(show_file, arguments.split()).stdout.strip() == expected


def test_a_service_is_not_taken_for_a_file() -> None:
    result = CliRunner().invoke(show_file, ["postgres"])
    assert result.exit_code == 2
    assert "Missing argument 'FILE': 'postgres' is a service; a file of that name is ./postgres" in result.stderr


@pytest.mark.parametrize("name", ABOUT_SERVICES)
@pytest.mark.parametrize("form", [("redsi",), ("--services", "redsi")])
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(name: str, form: tuple[str, ...]) -> None:
    result = CliRunner().invoke(command_line, [name, *MORE.get(name, ()), *form])
    assert result.exit_code == 2
    words = " ".join(result.stderr.split())
    assert "there is no service 'redsi'; choose from postgres, clickhouse, redis, s3. Did you mean 'redis'?" in words
    assert "Usage:" in words


@pytest.mark.parametrize("name", ABOUT_SERVICES)
def test_help_shows_both_ways(name: str) -> None:
    shown = CliRunner().invoke(command_line, [name, "--help"]).stdout
    assert "SERVICE" in shown.partition("\n")[0]
    assert "--services NAME,..." in shown
