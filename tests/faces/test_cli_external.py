"""The command line on external servers: it finds them by their variables, and leaves them running."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import forkserver
from triton_env import TritonEnvironment

COMMAND = (sys.executable, "-m", "triton_env")


@pytest.fixture(scope="module")
def theirs(embedded_packages: None) -> Iterator[TritonEnvironment]:
    with TritonEnvironment(runtime="embedded", services=("redis",)) as environment:
        yield environment


@pytest.fixture
def variables(theirs: TritonEnvironment, tmp_path: Path) -> dict[str, str]:
    return os.environ | theirs.environ() | {"TRITON_RUNTIME": "external", "TRITON_STATE_DIR": str(tmp_path)}


def test_run_hands_on_their_variables(theirs: TritonEnvironment, variables: dict[str, str]) -> None:
    done = forkserver.run(
        [*COMMAND, "run", "--services", "redis", "--", "sh", "-c", 'echo "$REDIS_URL"'],
        env=variables,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{theirs.redis.url}\n"), done.stderr


def test_several_may_serve_them_and_they_run_on(theirs: TritonEnvironment, variables: dict[str, str]) -> None:
    serving = [
        forkserver.Popen(
            [*COMMAND, "serve", "--services", "redis", "--json"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        told = [json.loads(process.stdout.readline()) for process in serving if process.stdout]
        assert [each["environ"] for each in told] == [theirs.redis.environ()] * 2
        for each in told:
            found = forkserver.run(
                [*COMMAND, "env", "--id", each["id"]],
                env=variables,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert theirs.redis.url in found.stdout, found.stderr
    finally:
        words = []
        for process in serving:
            process.send_signal(signal.SIGINT)
            words.append(process.communicate(timeout=200)[1])
    assert [process.returncode for process in serving] == [0, 0]
    assert all("The servers keep running." in each and "Nothing is left" not in each for each in words)
    with theirs.redis.client() as client:
        assert client.ping()


def test_their_data_does_not_go_with_the_session(theirs: TritonEnvironment, variables: dict[str, str]) -> None:
    def said(*arguments: str) -> str:
        done = forkserver.run(
            [*COMMAND, *arguments], env=variables, capture_output=True, text=True, timeout=200, check=False
        )
        return done.stderr

    with forkserver.Popen(
        [*COMMAND, "serve", "redis", "--json"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as serving:
        assert serving.stdout
        session = json.loads(serving.stdout.readline())["id"]
        assert "its servers are external, and keep their data" in said("reset", "--session", session)
        assert "The external servers keep running." in said("down", "--session", session)
    with theirs.redis.client() as client:
        assert client.ping()


def test_what_is_wrong_is_said(variables: dict[str, str]) -> None:
    done = forkserver.run(
        [*COMMAND, "serve", "--services", "redis"],
        env=variables | {"REDIS_URL": "", "REDIS_PASSWORD": "something else"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    assert "invalid username-password pair" in done.stderr
    assert "something else" not in done.stderr
