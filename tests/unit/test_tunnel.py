"""What the connection to an engine behind ssh is made of; tests/contract/test_ssh_engine.py has it connect."""

import gc
import sys
import tempfile
from pathlib import Path

import pytest

from triton_env.errors import EngineUnreachable
from triton_env.runtimes.docker import tunnel


@pytest.mark.parametrize(
    ("netloc", "words"),
    [
        ("BuildBox", "BuildBox"),
        ("Me@BuildBox:2222", "Me@BuildBox"),
        ("[FE80::1]:22", "FE80::1"),
        ("me@[::1]", "me@::1"),
    ],
)
def test_ssh_gets_the_host_as_it_is_written(netloc: str, words: str) -> None:
    assert tunnel._destination(netloc) == words


def test_one_that_does_not_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nonexistent"))
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with pytest.raises(FileNotFoundError):
            tunnel.Tunnel("ssh://build.example")
        # Its sockets as well: pytest takes a warning about an open one for a failure.
        gc.collect()
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_one_that_cannot_connect_says_why_after_one_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    ssh, tries = tmp_path / "ssh", tmp_path / "tries"
    ssh.write_text(f"#!/bin/sh\necho >> {tries}\n/bin/sleep {seconds}\necho Connection timed out >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnreachable) as caught:
        tunnel.Tunnel("ssh://build.example")
    assert caught.value.cause == "Connection timed out"
    assert tries.read_text() == "\n"
