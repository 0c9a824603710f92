"""Environments that change while the dashboard shows them: what it does to them, and what happens without it."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psutil
import psycopg
import pytest
from redis import Redis

import forkserver
from dashboard.served import Client, path_of, served, without_engine
from faces.served import PROGRAM, Machine
from patience import WAIT, until
from triton_env import Settings
from triton_env.state.folders import private_folder

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("embedded_packages")]


@pytest.fixture
def machine(callers_choice: Mapping[str, str], tmp_path: Path) -> Machine:
    return Machine(tmp_path, os.environ | dict(callers_choice) | {"TRITON_RUNTIME": "embedded"})


@pytest.fixture
def client(machine: Machine) -> Iterator[Client]:
    with without_engine(), served(Settings(triton_state_dir=str(machine.state))) as client:
        yield client


def keys_of(client: Client, environment: str) -> set[str]:
    rows = client.get(path_of(environment, "redis", "/panels/keys"))["rows"]
    return {row["cells"][0] for row in rows}


def redis_of(client: Client, environment: str) -> "Redis":
    return Redis.from_url(url_of(client, environment, "redis"))


def url_of(client: Client, environment: str, service: str) -> str:
    url = client.get(path_of(environment, rest="/snippets"))[service][0]["text"]
    assert isinstance(url, str)
    return url


def sql(client: Client, environment: str, statement: LiteralString) -> None:
    with psycopg.connect(url_of(client, environment, "postgres")) as connection:
        connection.execute(statement)


def act(client: Client, environment: str, action: str, status: int = 200, **values: str) -> Any:
    return client.post(path_of(environment, rest=f"/actions/{action}"), status, **values)


def listed(client: Client) -> set[str]:
    """The environments of the machine, without persistent services: those may be others' on this engine."""
    found = client.get("/api/inspection")["environments"]
    return {each["id"] for each in found if each["mode"] != "persistent"}


def samples_of(environment: str, machine: Machine) -> list[Path]:
    folder = private_folder(Settings(triton_state_dir=str(machine.state)), "dashboard")
    return sorted(folder.glob(f"{environment}.*"))


def test_a_backup_gets_the_name_that_is_given_and_else_one_of_its_own(
    client: Client, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of them within the same second.
    monkeypatch.setattr("triton_env.steering.time.strftime", lambda form: "20260102-030405")
    monkeypatch.chdir(tmp_path)
    with machine.serving("redis") as session:
        assert f" {tmp_path}/monday.backup " in act(client, session, "backup", name="monday")["words"]
        assert "already exists" in str(act(client, session, "backup", 502, name="monday.backup"))
        assert "without a folder" in str(act(client, session, "backup", 400, name="../monday"))
        assert "takes no name" in str(act(client, session, "restart", 400, service="redis", name="monday"))
        with ThreadPoolExecutor() as pool:
            saved = [pool.submit(act, client, session, "backup") for _ in range(3)]
        assert all("Saved Redis" in each.result()["words"] for each in saved)
    begin = f"{session}-20260102-030405"
    names = {"monday.backup", f"{begin}.backup", f"{begin}-2.backup", f"{begin}-3.backup"}
    assert {path.name for path in tmp_path.glob("*.backup")} == names


@contextmanager
def dashboard_of(machine: Machine) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """The command, and the URL that it prints."""
    with forkserver.Popen(
        [*PROGRAM, "dashboard"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=machine.project,
        env=machine.variables,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_actions_do_what_they_say_while_the_page_is_open(machine: Machine, client: Client) -> None:
    with machine.serving("postgres", "redis") as session, client.watching():
        with redis_of(client, session) as redis:
            redis.set("before", 1)
        sql(client, session, "CREATE TABLE before (n int)")
        # The panels have connections of their own, which are in nobody's way.
        assert keys_of(client, session) == {"before"}
        offered = {each["name"]: each for each in client.get(path_of(session, rest="/actions"))}
        assert "words" in act(client, session, "snapshot", name="one")
        with redis_of(client, session) as redis:
            redis.set("after", 1)
        sql(client, session, "DROP TABLE before")
        assert keys_of(client, session) == {"before", "after"}

        assert "one" in act(client, session, "restore", name="one")["words"]
        assert keys_of(client, session) == {"before"}
        assert "before" in str(client.get(path_of(session, "postgres", "/panels/tables"))["rows"])

        act(client, session, "reset")
        assert keys_of(client, session) == set()
        assert client.get(path_of(session, "postgres", "/panels/tables"))["rows"] == []
        assert all(offered[name]["loses"] for name in ("reset", "restore", "restart", "stop"))

        refused = act(client, session, "restart", 400)
        assert "one service" in refused["error"]["what"]


def test_one_of_two_ends_and_the_other_is_shown_on(machine: Machine, client: Client) -> None:
    with machine.serving("redis") as one, machine.serving("redis", folder=machine.other) as other:
        with redis_of(client, one) as redis:
            redis.set("of", 1)
        with client.events("/api/events") as events:
            for environment in (one, other):
                next(each for name, each in events if name == "samples" and each["environment"] == environment)
            assert (keys_of(client, one), keys_of(client, other)) == ({"of"}, set())
            assert until(lambda: samples_of(one, machine) and samples_of(other, machine))

            ended = threading.Event()
            logs = threading.Thread(target=_follow, args=(client, one, ended))
            logs.start()
            assert "ended" in act(client, one, "stop")["words"]
            assert ended.wait(WAIT)
            logs.join()
            shown = next(
                each for name, each in events if name == "inspection" and one not in _ids(each) and other in _ids(each)
            )
        assert shown["version"] == 2
        assert client.get(path_of(one, "redis", "/panels/keys"), 404)["error"]["hint"]
        assert keys_of(client, other) == set()
        assert until(lambda: not samples_of(one, machine))
        assert samples_of(other, machine)


def _follow(client: Client, environment: str, ended: threading.Event) -> None:
    with client.events(path_of(environment, rest="/logs")) as events:
        for _ in events:
            pass
    ended.set()


def _ids(inspection: Mapping[str, Any]) -> set[str]:
    return {each["id"] for each in inspection["environments"]}


def test_a_server_that_hangs_holds_up_no_other(machine: Machine) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(machine.serving("redis"))
        other = stack.enter_context(machine.serving("redis", folder=machine.other))
        stack.enter_context(without_engine())
        client = stack.enter_context(served(Settings(triton_state_dir=str(machine.state)), timeout=5))
        path = path_of(one, "redis", "/panels/keys")
        client.get(path)
        client.get(path_of(other, "redis", "/panels/keys"))
        (server,) = _servers_at(client, one)
        server.suspend()
        try:
            answers: list[httpx.Response] = []
            asking = [threading.Thread(target=lambda: answers.append(client.http.get(path))) for _ in range(4)]
            for thread in asking:
                thread.start()
            # Each is answered in its time, and meanwhile the other's panels are.
            assert keys_of(client, other) == set()
            for thread in asking:
                thread.join()
            assert {answer.status_code for answer in answers} <= {502, 503, 504}
            assert all(answer.json()["error"]["what"] for answer in answers)
        finally:
            server.resume()
        assert until(lambda: client.http.get(path).status_code == 200)


def _servers_at(client: Client, environment: str) -> list[psutil.Process]:
    (entry,) = (each for each in client.get("/api/inspection")["environments"] if each["id"] == environment)
    ports = {port for service in entry["services"] for port in service["ports"].values()}
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN and each.pid]
    return [psutil.Process(each.pid) for each in listening if each.laddr.port in ports]


def test_the_command_ends_at_once_while_browsers_look(machine: Machine) -> None:
    with machine.serving("redis") as session, dashboard_of(machine) as (process, url):
        with httpx.Client(trust_env=False, timeout=WAIT) as http:
            assert "<!doctype html>" in http.get(url).text.lower()
            base = url.partition("/?")[0]
            assert session in http.get(f"{base}/api/inspection").text
            with (
                http.stream("GET", f"{base}/api/events") as events,
                http.stream("GET", f"{base}/api/environments/{session}/logs") as logs,
            ):
                lines = events.iter_lines()
                assert "inspection" in next(line for line in lines if line.startswith("event"))
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=WAIT)
                # Both streams are ended in an orderly way.
                for _ in lines:
                    pass
                for _ in logs.iter_lines():
                    pass
        assert (process.returncode, out) == (0, "")
        assert "keeps running" in err
        assert "Traceback" not in err
        assert session in machine.good("ps", "--quiet").split()


def test_what_a_killed_dashboard_leaves_is_removed_with_what_it_showed(machine: Machine) -> None:
    settings = Settings(triton_state_dir=str(machine.state))
    with machine.serving("redis") as session:
        with dashboard_of(machine) as (process, url), httpx.Client(trust_env=False, timeout=WAIT) as http:
            http.get(url)
            with http.stream("GET", url.partition("/?")[0] + "/api/events"):
                assert until(lambda: samples_of(session, machine))
                process.kill()
        # Its environment runs, so the last hour is of use to the next dashboard.
        assert f"{session}.redis" not in machine.good("prune", "--dry-run", "--json")
        with served(settings) as client:
            assert until(lambda: session in listed(client))
            assert samples_of(session, machine)
    assert samples_of(session, machine)

    assert f"{session}.redis" in machine.good("prune", "--dry-run", "--json")
    assert samples_of(session, machine)
    machine.good("prune")
    assert samples_of(session, machine) == []


def test_serve_brings_the_page_along(machine: Machine) -> None:
    with forkserver.Popen(
        [*PROGRAM, "serve", "--json", "--dashboard", "redis"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=machine.project,
        env=machine.variables,
    ) as process:
        assert process.stdout is not None
        data = json.loads(process.stdout.readline())
        with httpx.Client(trust_env=False, timeout=WAIT) as http:
            page = http.get(data["dashboard"])
            found = http.get(data["dashboard"].partition("/?")[0] + "/api/inspection").json()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT)
    assert page.status_code == 200
    assert data["id"] in _ids(found)
    assert data["dashboard"] in err
    assert process.returncode == 0
    assert "Nothing is left" in err
