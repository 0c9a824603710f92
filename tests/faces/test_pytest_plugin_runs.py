"""The pytest plugin over a whole run: exported variables, pytest-xdist, kept namespaces, and however a run ends."""

import os
import re
import signal
import sys
from collections.abc import Iterator

import docker
import psycopg
import pytest
import redis
from platformdirs import user_cache_path

import forkserver
from faces.plugin_runs import Runs, runs
from patience import until
from triton_env import TritonEnvironment
from triton_env.runtimes.owner import LABEL

pytest_plugins = ["pytester"]
# A run of pytest within the test has its own, shorter one.
pytestmark = pytest.mark.timeout(600)

CACHE = str(user_cache_path())

CONFTEST = """
    import glob
    import os
    import time

    import pytest

    def tell_that_it_has_joined(config):
        worker = getattr(config, "workerinput", {})
        if worker:
            open(f"joined-{worker['workerid']}", "w").close()
        return worker.get("workercount", 0)

    # Before its first test a worker has joined the environment, which ends with the last of its users: were one
    # through with its tests before the next one is there, that one would get another environment.
    def pytest_runtest_protocol(item):
        workers = tell_that_it_has_joined(item.config)
        deadline = time.monotonic() + 150
        while len(glob.glob("joined-*")) < workers:
            assert time.monotonic() < deadline, "a worker did not come"
            time.sleep(0.01)

    # One that has got no test has joined too.
    def pytest_sessionfinish(session):
        tell_that_it_has_joined(session.config)

    @pytest.fixture
    def note(triton_env):
        with open("ids", "a") as file:
            print(triton_env.id, file=file)
"""

PATIENT = """
    from triton_env.pytest_plugin import evidence

    # A person does not wait longer for a report. Here every answer is looked at, however slow the machine is.
    evidence.TIMEOUT = evidence._CONNECT_TIMEOUT = 100
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, embedded_packages: None) -> Iterator[Runs]:
    pytester.makeconftest(CONFTEST)
    with runs(pytester, monkeypatch, CACHE) as project:
        project.ini("triton_services = redis")
        yield project


# --- Variables before the application is imported --------------------------------------------------------------------


@pytest.fixture
def application(project: Runs) -> Runs:
    """A project whose settings are read when its modules are imported."""
    project.ini("triton_services = postgres redis", "triton_template = fills:fill", "pythonpath = src")
    project.pytester.mkdir("src")
    project.pytester.makepyfile(
        **{
            "src/application": """
            import os

            DATABASE_URL = os.environ["DATABASE_URL"]
            """,
            "src/fills": """
            import os

            def fill(namespace):
                assert "DATABASE_URL" not in os.environ, "the settings of triton-env have been read already"
                with namespace.postgres.connect() as connection:
                    connection.execute("create table notes (text text primary key)")
            """,
        }
    )
    project.pytester.makeconftest("import application")
    project.pytester.makepyfile(
        """
        import os
        import application
        import psycopg
        import pytest

        @pytest.mark.parametrize("attempt", [1, 2])
        def test_the_application_has_the_namespace_of_this_process(attempt, worker_id, triton_exported):
            assert application.DATABASE_URL == os.environ["DATABASE_URL"] == triton_exported.postgres.url
            with psycopg.connect(application.DATABASE_URL) as connection:
                # The first and only one of this process to do so.
                connection.execute("insert into notes values (%s) on conflict do nothing", [worker_id])
                assert connection.execute("select text from notes").fetchall() == [(worker_id,)]
            with open("ids", "a") as file:
                print(application.DATABASE_URL.rpartition("/")[0], file=file)

        def test_that_of_the_test_has_its_own(triton_postgres):
            assert os.environ["DATABASE_URL"] == triton_postgres.url != application.DATABASE_URL

        def test_which_is_put_back():
            assert os.environ["DATABASE_URL"] == application.DATABASE_URL
        """
    )
    return project


def test_variables_before_the_application_is_imported(application: Runs) -> None:
    done = application.run("--triton-export-env")
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines(
        ["triton-env *", "triton-env: embedded, since it was asked for; ready after: *", "triton-env: PostgreSQL *"]
    )
    # Said once.
    assert sum("ready after: " in line for line in done.outlines) == 1


def test_variables_of_workers_are_their_own(application: Runs) -> None:
    done = application.run("-n2", "-o", "triton_export_env=true", "--dist=each")
    done.assert_outcomes(passed=8)
    assert len(set(application.ids())) == 1, "there was more than one server"


def test_without_them_such_an_application_is_not_even_imported(application: Runs) -> None:
    done = application.run()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines("*KeyError: 'DATABASE_URL'*")


DEVELOPERS = """
    import os
    os.environ["DATABASE_URL"] = "postgresql://me:hunter2@localhost:5432/mine"
"""


def test_an_application_is_not_left_with_the_developers_database(application: Runs) -> None:
    """Which is set as pytest-env and pytest-dotenv do it: in the hook of a plugin."""
    makes = application.pytester
    plugin = DEVELOPERS.replace("os.environ", "def pytest_load_initial_conftests():\n        os.environ")
    makes.makepyfile(**{"src/overrides": plugin})
    done = application.run("--triton-export-env", "-p", "overrides")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        [
            "ERROR: triton-env: DATABASE_URL changed after the export*",
            "*where: DATABASE_URL is postgresql://localhost:5432/mine, and was exported as*",
            "hint: *",
        ]
    )
    assert "hunter2" not in done.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "ret"),
    [((), pytest.ExitCode.USAGE_ERROR), pytest.param(("-n1",), None, marks=pytest.mark.long)],
    ids=["this process", "a worker"],
)
def test_nor_by_a_conftest_file_that_is_imported_with_its_tests_alone(
    application: Runs, arguments: tuple[str, ...], ret: int | None
) -> None:
    makes = application.pytester
    makes.mkdir("below")
    makes.makepyfile(**{"below/conftest": DEVELOPERS, "below/test_below": "def test_never(): open('ran', 'w')"})
    done = application.run("--triton-export-env", *arguments)
    assert ret is None or done.ret == ret
    assert done.ret != pytest.ExitCode.OK
    assert "DATABASE_URL changed after the export" in done.stdout.str() + done.stderr.str()
    assert done.parseoutcomes().get("passed") is None
    assert not (makes.path / "ran").exists()


def test_nor_in_workers_alone(application: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before their tests are collected: the tests fail, and no worker ends and is started again."""
    # By which it tells workers: this test may run in one itself.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    application.pytester.makeconftest(f"import os\nif 'PYTEST_XDIST_WORKER' in os.environ:{DEVELOPERS}")
    done = application.run("--triton-export-env", "-n1")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert done.parseoutcomes().keys() == {"errors"}


def test_variables_that_are_changed_on_purpose_are_nobodys_mistake(application: Runs) -> None:
    application.pytester.makeconftest(
        """
        import os
        import application
        import pytest

        # Another driver, and options of it, lead to the same database.
        os.environ["DATABASE_URL"] = os.environ["DATABASE_URL"].replace("://", "+psycopg://") + "?sslmode=disable"
        os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"

        @pytest.fixture(scope="module", autouse=True)
        def cache():
            with pytest.MonkeyPatch.context() as monkeypatch:
                monkeypatch.delenv("REDIS_URL")
                yield
        """
    )
    application.pytester.makepyfile(
        """
        def test_a_test_may_do_so(monkeypatch):
            monkeypatch.setenv("POSTGRES_HOST", "elsewhere")

        def test_and_it_is_over():
            pass

        def test_once():
            pass
        """
    )
    done = application.run("--triton-export-env")
    done.assert_outcomes(passed=3)
    told = [line for line in done.outlines if "no longer had the exported value" in line]
    assert len(told) == 1
    assert "REDIS_URL no longer" in told[0]
    assert "test_and_it_is_over" in told[0]


def test_variables_of_an_environment_that_does_not_start(application: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_BIND_ADDRESS", "8.8.8.8")
    done = application.run("--triton-export-env")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: triton-env: The embedded runtime listens on*", "hint: *"])


# --- Workers ---------------------------------------------------------------------------------------------------------

WAITS = """
    import time

    def test_waits(triton_redis, note):
        open("begun", "w").close()
        time.sleep(150)
"""

SAME_KEYS = """
    import pytest

    @pytest.mark.parametrize("number", range(12))
    def test_each_writes_the_same_key(number, triton_redis, note):
        assert triton_redis.client().incr("key") == 1
"""


@pytest.mark.long
def test_workers_share_one_environment(project: Runs) -> None:
    project.pytester.makepyfile(test_one=SAME_KEYS, test_two=SAME_KEYS)
    done = project.run("-n3", "--dist=loadfile")
    done.assert_outcomes(passed=24)
    assert len(project.ids()) == 24
    assert len(set(project.ids())) == 1
    done.stdout.fnmatch_lines(
        ["triton-env: embedded, since it was asked for*shared with other processes*", "triton-env: Redis *"]
    )
    assert sum("ready after" in line for line in done.outlines) <= 1


def test_a_worker_that_crashes_is_replaced(project: Runs) -> None:
    # Handed out in turns: the worker that is ready first gets the first and the last one.
    project.pytester.makepyfile(
        """
        import os
        import signal
        import time

        def test_crashes(triton_redis, note):
            assert triton_redis.client().incr("key") == 1
            os.kill(os.getpid(), signal.SIGKILL)

        def test_goes_on(triton_redis, note):
            deadline = time.monotonic() + 150
            while not os.path.exists("over") and time.monotonic() < deadline:
                time.sleep(0.05)
            assert triton_redis.client().incr("key") == 1

        def test_has_a_new_worker(triton_redis, note, worker_id):
            assert worker_id == "gw2"
            assert triton_redis.client().incr("key") == 1
            open("over", "w").close()
        """
    )
    done = project.run("-n2")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines("*worker 'gw[01]' crashed while running*test_crashes*")
    assert len(project.ids()) == 3
    assert len(set(project.ids())) == 1


@pytest.mark.long
def test_the_first_failure_ends_the_run(project: Runs) -> None:
    project.pytester.makepyfile("\n    def test_fails(triton_redis): raise AssertionError\n" + WAITS)
    done = project.run("-n1", "-x")
    done.assert_outcomes(failed=1)


# --- However it ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [pytest.param((), id="serially"), pytest.param(("-n2",), id="workers", marks=pytest.mark.long)]
)
def test_ctrl_c(project: Runs, arguments: tuple[str, ...]) -> None:
    project.pytester.makepyfile(WAITS)
    with project.begun(*arguments) as process:
        project.wait_for("begun")
        # As a terminal does: to all processes in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == pytest.ExitCode.INTERRUPTED
    assert project.ids()
    assert project.is_gone(), project.left()


def test_sigkill(project: Runs) -> None:
    project.pytester.makepyfile(WAITS)
    with project.begun("-n2") as process:
        project.wait_for("begun")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    assert project.is_gone(), project.left()


def test_an_error_in_another_plugin(project: Runs) -> None:
    project.pytester.makepyfile(SAME_KEYS)
    project.pytester.makepyfile(broken="def pytest_runtest_logreport(report): raise RuntimeError('broken')")
    done = project.run("-p", "broken")
    assert done.ret == pytest.ExitCode.INTERNAL_ERROR
    assert project.ids()


@pytest.mark.parametrize("arguments", [("--collect-only",), ("--setup-plan",), ("--help", "--triton-export-env")])
def test_nothing_starts_where_no_test_runs(project: Runs, arguments: tuple[str, ...]) -> None:
    project.pytester.makepyfile(SAME_KEYS)
    done = project.run(*arguments)
    assert done.ret == pytest.ExitCode.OK
    done.stdout.no_fnmatch_line("*ready after*")
    done.stderr.no_fnmatch_line("*ready after*")


# --- A warm environment, and what is kept ----------------------------------------------------------------------------


def test_runs_share_a_warm_environment(project: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than the second run takes to come.
    monkeypatch.setenv("TRITON_LINGER", "250")
    project.ini("triton_services = postgres redis", "triton_template = fills:fill", "pythonpath = .")
    project.pytester.makepyfile(
        fills="""
        from pathlib import Path

        def fill(namespace):
            with namespace.postgres.connect() as connection:
                for path in sorted(Path("migrations").iterdir()):
                    connection.execute(path.read_text())
            with open("built", "a") as file:
                print("built", file=file)
        """,
        test_both="""
        from pathlib import Path

        def test_redis(triton_redis):
            assert triton_redis.client().incr("key") == 1

        def test_postgres(triton_postgres):
            with triton_postgres.connect() as connection:
                for path in Path("migrations").iterdir():
                    connection.execute(f"select * from {path.stem}")
        """,
    )
    migrations = project.pytester.mkdir("migrations")
    (migrations / "one.sql").write_text("create table one ()")

    def run(*arguments: str, built: int) -> None:
        project.run_and_keep(*arguments).assert_outcomes(passed=1)
        assert (project.pytester.path / "built").read_text().count("built") == built
        found.update(path.name for path in (project.base / "state" / "shared").glob("*-*"))

    found: set[str] = set()
    # Whichever tests are selected. A template is built again when it is asked for, or when a migration comes.
    run("--triton-reuse", "-k", "redis", built=1)
    run("-n1", "-o", "triton_reuse=true", "-k", "postgres", built=1)
    (migrations / "two.sql").write_text("create table two ()")
    run("--triton-reuse", "-k", "postgres", built=2)
    run("--triton-reuse", "-k", "postgres", "--triton-rebuild", "-n1", built=3)
    assert len(found) == 1
    (keeper,) = (project.base / "state" / "shared").glob("*/alive")
    os.kill(int(keeper.read_text("utf-8")), signal.SIGTERM)
    assert project.is_gone(), project.left()


def test_namespaces_of_failed_tests_are_kept(project: Runs) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        def test_passes(triton_redis):
            triton_redis.client().set("key", "passed")

        def test_fails(triton_redis, triton_postgres, note):
            triton_redis.client().set("key", "failed")
            with triton_postgres.connect() as connection:
                connection.execute("create table evidence ()")
            raise AssertionError

        @pytest.fixture
        def broken(triton_redis):
            raise AssertionError

        def test_is_not_even_set_up(broken):
            raise AssertionError
        """
    )
    done = project.run_and_keep("--triton-keep", "-q", "-n2")
    done.assert_outcomes(passed=1, failed=1, errors=1)
    said = done.stdout.str().partition("kept by triton-env")[2]
    assert sorted(re.findall(r"^triton_ns_\w+  of \S+::(\w+)$", said, re.MULTILINE)) == [
        "test_fails",
        "test_is_not_even_set_up",
    ]
    (database,) = re.findall(r"^  psql '?(postgresql:\S+?)'?$", said, re.MULTILINE)
    with psycopg.connect(database) as connection:
        connection.execute("select from evidence")
    contents = set()
    for url in re.findall(r"^  redis-cli -u '?(redis:\S+?)'?$", said, re.MULTILINE):
        with redis.Redis.from_url(url, decode_responses=True) as client:
            contents.add(client.get("key"))
    assert contents == {"failed", None}

    assert "python -m triton_env prune --kept" in said
    forkserver.run([sys.executable, "-m", "triton_env", "prune", "--kept"], check=True, capture_output=True)
    assert project.is_gone(), project.left()


def test_nothing_is_kept_without_a_failure(project: Runs) -> None:
    project.pytester.makepyfile("def test_passes(triton_redis): pass")
    done = project.run("--triton-keep")
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*kept by triton-env*")


# --- Reports ---------------------------------------------------------------------------------------------------------


def test_a_failed_test_is_reported_with_what_the_services_know(project: Runs) -> None:
    project.ini("triton_services = postgres clickhouse redis s3")
    project.pytester.makeconftest(
        PATIENT
        + """
    import os
    import signal

    STOPPED = []

    # Around the plugin's: the server goes on when the report is written.
    def pytest_runtest_logreport(report):
        while STOPPED:
            os.kill(STOPPED.pop(), signal.SIGCONT)
    """
    )
    project.pytester.makepyfile(
        """
        import os
        import signal
        import conftest
        import pytest

        def test_passes(triton):
            triton.s3.client().put_object(Bucket=triton.s3.bucket, Key="of-another-test", Body=b"")
            with pytest.raises(Exception), triton.postgres.connect() as connection:
                connection.execute("select 'of another test' from nowhere")

        def test_all(triton):
            triton.s3.client().put_object(Bucket=triton.s3.bucket, Key="claims/1.json", Body=b"{}")
            cache = triton.redis.client()
            cache.config_set("slowlog-log-slower-than", 0)
            for number in range(100):
                cache.set(f"key-{number}", "x" * 1000)
            cache.config_set("slowlog-log-slower-than", 10000)
            warehouse = triton.clickhouse.client()
            with pytest.raises(Exception):
                warehouse.command("select * from nowhere")
            with triton.postgres.connect() as broken, pytest.raises(Exception):
                broken.execute("select 'of this test' from nowhere")
            conftest.OPEN = triton.postgres.connect()
            conftest.OPEN.execute("select 'in a transaction'")
            raise AssertionError("all")

        def test_one(triton_redis):
            conftest.OPEN.close()
            raise AssertionError("one")

        def test_none():
            raise AssertionError("none")

        def test_a_server_that_hangs(triton_redis):
            conftest.evidence.TIMEOUT, conftest.evidence._CONNECT_TIMEOUT = 3, 2
            # Asked for, not looked for: among all processes there are those of other tests, which come and go.
            pid = triton_redis.client().info("server")["process_id"]
            os.kill(pid, signal.SIGSTOP)
            conftest.STOPPED.append(pid)
            raise AssertionError("hangs")
        """
    )
    done = project.run()
    done.assert_outcomes(passed=1, failed=4)
    parts = re.split(r"^_+ (test_\w+) _+$", done.stdout.str(), flags=re.MULTILINE)
    reports = dict(zip(parts[1::2], parts[2::2], strict=True))
    sections = {
        test: dict(zip(*[iter(re.split(r"^-+ triton-env: (.*) -+$", text, flags=re.MULTILINE)[1:])] * 2, strict=True))
        for test, text in reports.items()
    }

    of_all = sections["test_all"]
    assert re.search(r"^PostgreSQL  postgresql://triton_user:\w+@127.0.0.1:\d+/triton_ns_\w+$", _urls(of_all), re.M)
    assert re.search(r"^ClickHouse  http://default:\w+@127.0.0.1:\d+/triton_ns_\w+$", _urls(of_all), re.M)
    assert re.search(r"^S3 +http://127.0.0.1:\d+  bucket triton-documents\S+$", _urls(of_all), re.M)
    log = of_all["PostgreSQL log, since the test began"]
    assert "of this test" in log
    assert "of another test" not in log
    sessions = of_all["PostgreSQL sessions (pg_stat_activity)"]
    assert re.search(r"^\d+ +idle in transaction .*in a transaction", sessions, re.M)
    assert "code 60" in of_all["ClickHouse log, since the test began"]
    assert len(of_all["Redis SLOWLOG"].splitlines()) <= 42
    assert "SET key-99 " in of_all["Redis SLOWLOG"]
    assert "claims/1.json" in of_all["S3 bucket"]
    assert "of-another-test" not in of_all["S3 bucket"]

    assert "PostgreSQL" not in _urls(sections["test_one"])
    assert not sections["test_none"]
    # It is not asked: what it is held up by is known without that.
    (why,) = sections["test_a_server_that_hangs"].items()
    assert why[0] == "Redis is stopped by a signal"
    assert "where: process " in why[1]


def _urls(sections: dict[str, str]) -> str:
    (text,) = (text for title, text in sections.items() if title.startswith("services of namespace triton_ns_"))
    return text


@pytest.mark.docker
def test_on_docker(project: Runs) -> None:
    """Workers that share containers, and what the report on a failed test tells of these."""
    project.pytester.makeconftest(CONFTEST + PATIENT)
    project.pytester.makepyfile(
        """
        import time

        import pytest

        def test_fails(triton_env, triton_postgres, triton_redis, note):
            with triton_postgres.connect() as connection, pytest.raises(Exception):
                connection.execute("select 'of this test' from nowhere")
            # The engine takes in what a container says a moment after that was said.
            deadline = time.monotonic() + 100
            while "of this test" not in triton_env.logs("postgres") and time.monotonic() < deadline:
                time.sleep(0.05)
            raise AssertionError

        def test_passes(triton_redis, note):
            assert triton_redis.client().incr("key") == 1
        """
    )
    done = project.run("-n2", "--triton-runtime=docker")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(
        [
            "*triton-env: PostgreSQL log, since the test began*",
            "*select 'of this test' from nowhere*",
            "triton-env: docker, since it was asked for*shared with other processes*",
        ]
    )
    (identity,) = set(project.ids())
    engine = docker.from_env()
    try:
        ours: dict[str, str | list[str] | bool] = {"label": f"{LABEL}.environment={identity}"}
        # Each is asked for after it was listed: it may be gone by then.
        assert until(lambda: not engine.containers.list(all=True, filters=ours, ignore_removed=True))
    finally:
        engine.close()


def test_servers_of_somebody_else(project: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passwords are in no report, and what is kept is kept there."""
    project.pytester.makepyfile("def test_fails(triton_redis): raise AssertionError(triton_redis.host)")
    with TritonEnvironment(services=("redis",), runtime="embedded") as env:
        for name, value in env.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TRITON_NAMESPACES", "everywhere")
        arguments = ("--triton-runtime=external", "--triton-keep")
        done = project.run_and_keep(*arguments)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(["*triton-env: services of namespace triton_ns_*", "Redis  *redis://*:[*][*][*]@*"])
        done.stdout.fnmatch_lines(["*kept by triton-env*", "triton_ns_*", "  Redis  *redis://*:[*][*][*]@*"])
        assert env.redis.password not in done.stdout.str()
