"""The pytest plugin where a server dies in the middle of a run: one report has all about it, the others a line."""

from collections.abc import Iterator

import pytest
from platformdirs import user_cache_path

from faces.plugin_runs import Runs, runs

pytest_plugins = ["pytester"]
# A run of pytest within the test has its own, shorter one.
pytestmark = pytest.mark.timeout(600)

KILLING = """
    import psutil

    def kill(service):
        listening = (each for each in psutil.net_connections("tcp4") if each.status == psutil.CONN_LISTEN)
        (pid,) = (each.pid for each in listening if each.laddr.port == service.port)
        psutil.Process(pid).kill()
        psutil.Process(pid).wait(60) if psutil.pid_exists(pid) else None
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, embedded_packages: None) -> Iterator[Runs]:
    with runs(pytester, monkeypatch, str(user_cache_path())) as project:
        yield project


def test_the_first_report_has_all_and_the_others_a_line(project: Runs) -> None:
    project.pytester.makepyfile(
        test_it=KILLING
        + """
    import redis

    def test_one(triton_redis):
        # A client of the application's own, whose error says nothing of it.
        client = redis.Redis.from_url(triton_redis.url, retry=None)
        client.ping()
        kill(triton_redis)
        client.ping()

    def test_two(triton_redis):
        pass

    def test_three(triton_redis):
        pass

    def test_of_another_service(triton_postgres):
        with triton_postgres.connect() as connection:
            connection.execute("select 1")
    """
    )
    done = project.run()
    done.assert_outcomes(failed=1, errors=2, passed=1)
    text = done.stdout.str()
    # Its log is there once.
    assert text.count("Ready to accept connections tcp") == 1
    assert text.count("triton-env: Redis died -") == 3
    first = text.partition("_ test_one _")[2]
    assert "Redis died at " in first
    assert "cause: ended by signal 9 (SIGKILL)" in first.partition("Ready to accept connections tcp")[0]
    for name in ("test_two", "test_three"):
        report = text.partition(f"ERROR at setup of {name}")[2].partition("\n___")[0]
        assert "triton-env: Redis died at " in report
        assert "seen first in test_it.py::test_one" in report
        assert "no answer within" not in report
    (line,) = [each for each in done.outlines if "2 more failed tests needed it" in each]
    assert "Redis died at " in line
    assert "(ended by signal 9 (SIGKILL)), seen first in test_it.py::test_one" in line


@pytest.mark.long
def test_workers_of_xdist_say_it_once(project: Runs) -> None:
    project.pytester.makepyfile(
        **{
            f"test_{name}": KILLING
            + f"""
    import os, pathlib, time

    def test_it(triton_redis):
        pathlib.Path("ready-{name}").touch()
        deadline = time.monotonic() + 150
        while len(list(pathlib.Path.cwd().glob("ready-*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if {name == "a"}:
            kill(triton_redis)
        while True:
            triton_redis.client().ping()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    """
            for name in ("a", "b")
        }
    )
    done = project.run("-n", "2", "--dist", "loadfile")
    done.assert_outcomes(failed=2)
    (line,) = [each for each in done.outlines if each.startswith("triton-env: Redis died at ")]
    assert line.endswith("; 1 more failed test needed it")
