"""The pytest plugin: options, fixtures, markers, scopes, what is started, and what it costs those who do not use it."""

from collections.abc import Iterator

import pytest
from platformdirs import user_cache_path

from faces.documents import ROOT, tables
from faces.plugin_runs import Runs, runs
from triton_env import pytest_plugin
from triton_env.pytest_plugin import requirements
from triton_env.services import SERVICES
from triton_env.services.built_in import BUILT_IN

pytest_plugins = ["pytester"]
# A run of pytest within the test has its own, shorter one.
pytestmark = pytest.mark.timeout(600)

CACHE = str(user_cache_path())


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, embedded_packages: None) -> Iterator[Runs]:
    with runs(pytester, monkeypatch, CACHE) as project:
        yield project


def test_the_names_are_those_of_the_package() -> None:
    # Written down twice: the plugin may not import the other ones before a test needs them.
    assert tuple(SERVICES) == BUILT_IN


# --- Those who do not use it -----------------------------------------------------------------------------------------


def test_a_run_that_uses_no_service_imports_and_starts_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]")
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            names = {name.partition(".")[0] for name in sys.modules}
            heavy = {"docker", "testcontainers", "psycopg", "clickhouse_connect", "redis", "boto3", "botocore"}
            assert "triton_env.pytest_plugin" in sys.modules
            assert not names & (heavy | {"pydantic", "pydantic_settings", "asyncio", "rich", "xdist", "urllib3"})
            ours = {name for name in sys.modules if name.startswith("triton_env")}
            parts = ("clients", "fixtures", "options", "report", "requirements", "state", "summary")
            services = ("postgres", "clickhouse", "redis", "s3")
            assert ours == {
                "triton_env", "triton_env._version", "triton_env.core", "triton_env.core.forms",
                "triton_env.pytest_plugin",
                *(f"triton_env.pytest_plugin.{part}" for part in parts),
                "triton_env.services", "triton_env.services.built_in", "triton_env.services.base_fixtures",
                *(f"triton_env.services.{name}{part}" for name in services for part in ("", ".fixtures")),
            }
        """
    )
    # Of other plugins nothing is known, so it is loaded alone: by the name of its entry point.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    done = pytester.runpytest_subprocess("-p", "triton_env")
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*ready after*")


# --- Wrong values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("triton_services = postgres mongo", "triton_services: 'mongo' cannot be used*postgres, clickhouse, redis, s3"),
        ("triton_runtime = podman", "triton_runtime: 'podman' cannot be used*docker, embedded, kubernetes, external"),
        ("triton_scope = test", "triton_scope: 'test' cannot be used*function, class, module, package, session"),
        ("triton_template = nowhere", "triton_template: 'nowhere' cannot be used*a folder*or module:callable"),
        ("triton_reuse = perhaps", "*perhaps*"),
    ],
)
def test_a_wrong_ini_option_is_a_usage_error(pytester: pytest.Pytester, line: str, words: str) -> None:
    pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{line}")
    pytester.makepyfile("def test_never(): pass")
    done = pytester.runpytest_inprocess()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(f"*{words}*")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--triton-runtime=podman", "*--triton-runtime: invalid choice: 'podman'*auto*docker*embedded*external*"),
        ("--triton-template=nowhere", "*--triton-template: 'nowhere' cannot be used*a folder*or module:callable*"),
        ("--triton-repeat", "*unrecognized arguments: --triton-repeat*"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(pytester: pytest.Pytester, argument: str, words: str) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    done = pytester.runpytest_inprocess(argument)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(words)


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (
            "triton('postgres')",
            "*test_it.py::test_never: @pytest.mark.triton cannot take 'postgres'*services=, template=*",
        ),
        ("triton(servcies='redis')", "*cannot take servcies=*Allowed: services=, template=*"),
        ("triton", "*cannot take nothing at all*Allowed: services=, template=*"),
        ("triton(services='mongo')", "*'mongo' cannot be used*postgres, clickhouse, redis, s3*"),
        ("triton(services=())", "*names no services*postgres, clickhouse, redis, s3*"),
        ("triton(services=3)", "*3 names no services*postgres, clickhouse, redis, s3*"),
        ("triton(template=3)", "*cannot be 3*a folder, module:callable, a callable, a Template*"),
        ("triton(template='nowhere')", "*'nowhere' cannot be used*a folder*module:callable*"),
    ],
)
def test_a_wrong_marker_is_a_usage_error(pytester: pytest.Pytester, mark: str, words: str) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(test_it=f"import pytest\n@pytest.mark.{mark}\ndef test_never(triton): pass")
    done = pytester.runpytest_inprocess("-p", "no:terminalreporter")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(words)


def test_a_test_cannot_choose_the_template_of_a_namespace_that_others_use_too(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\ntriton_scope = module")
    pytester.makepyfile("import pytest\n@pytest.mark.triton(template='a:b')\ndef test_never(triton): pass")
    done = pytester.runpytest_inprocess()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines("*lives as long as its module*Mark the module, or set triton_scope to function*")


# --- Namespaces ------------------------------------------------------------------------------------------------------


def test_what_tests_get(project: Runs) -> None:
    """Most of it in one run, since each takes seconds."""
    project.ini("triton_services = postgres redis", "triton_template = schema", "markers = other")
    project.pytester.mkdir("schema")
    (project.pytester.path / "schema" / "1.sql").write_text("create table notes (text text);", "utf-8")
    project.pytester.makepyfile(
        templates="""
        def fill(namespace):
            namespace.redis.client().set("filled", "yes")
        """,
        test_most="""
        import os
        import pytest
        from templates import fill

        DATABASES = []

        def outside():
            return {name for name in os.environ if name.startswith(("POSTGRES_", "REDIS_", "DATABASE_"))}

        def test_no_variable_is_set():
            assert not outside()

        @pytest.mark.parametrize("attempt", [1, 2])
        def test_each_test_begins_with_the_template(triton_postgres, attempt):
            DATABASES.append(triton_postgres.database)
            with triton_postgres.connect() as connection:
                assert connection.execute("select count(*) from notes").fetchone() == (0,)
                connection.execute("insert into notes values ('mine')")

        def test_they_were_different_databases():
            assert len(set(DATABASES)) == 2

        def test_its_variables_are_set(triton_postgres):
            assert os.environ["DATABASE_URL"] == triton_postgres.url
            assert "REDIS_URL" not in os.environ

        def test_and_put_back():
            assert not outside()

        def test_variables_of_the_user_are_put_back(request, monkeypatch):
            monkeypatch.setenv("POSTGRES_DB", "mine")
            request.getfixturevalue("triton_postgres")
            assert os.environ["POSTGRES_DB"] != "mine"

        def test_a_namespace_of_what_is_configured(triton, triton_redis):
            assert triton.services == ("postgres", "redis")
            assert triton.redis.url == triton_redis.url == os.environ["REDIS_URL"]

        @pytest.mark.triton(services="redis", template="templates:fill")
        def test_the_marker_chooses_services_and_template(triton):
            assert triton.services == ("redis",)
            assert triton.redis.client(decode_responses=True).get("filled") == "yes"

        @pytest.mark.triton(services=["redis"], template=fill)
        class TestClass:
            def test_the_marker_of_a_class_counts(self, triton):
                assert triton.redis.client(decode_responses=True).get("filled") == "yes"

            @pytest.mark.triton(services="postgres, redis")
            def test_the_nearest_one_has_the_last_word(self, triton):
                assert triton.services == ("postgres", "redis")
                assert triton.redis.client(decode_responses=True).get("filled") == "yes"

        def test_asked_for_while_it_runs(request, triton_redis):
            postgres = request.getfixturevalue("triton_postgres")
            with postgres.connect() as connection:
                connection.execute("select from notes")
            assert request.getfixturevalue("triton_redis") is triton_redis
            assert os.environ["DATABASE_URL"] == postgres.url

        def test_asked_for_too_late(request, triton_redis):
            with pytest.raises(pytest.fail.Exception, match="already has a namespace with redis;(?s:.*)hint: ask for"):
                request.getfixturevalue("triton")

        def test_only_what_is_needed_runs(triton_env):
            assert triton_env.services == ("postgres", "redis")
            with open("ids", "a") as file:
                print(triton_env.id, file=file)

        @pytest.mark.other
        def test_deselected(triton_s3):
            raise AssertionError

        def test_a_service_that_nobody_was_known_to_need(request, triton_env):
            s3 = request.getfixturevalue("triton_s3")
            s3.client().head_bucket(Bucket=s3.bucket)
            assert "s3" not in triton_env.services

        @pytest.fixture
        def table(triton_postgres):
            with triton_postgres.connect() as connection:
                connection.execute("create table things ()")

        @pytest.mark.usefixtures("table")
        def test_fixtures_may_use_them(triton_postgres):
            with triton_postgres.connect() as connection:
                connection.execute("select from things")
        """,
    )
    done = project.run("-p", "no:cacheprovider", "-m", "not other", "-o", "pythonpath=.")
    done.assert_outcomes(passed=16, deselected=1)
    done.stdout.fnmatch_lines(
        [
            "triton-env *: runtime embedded, services as tests need, triton: postgres redis, *, template *schema",
            "triton-env: embedded, since it was asked for; ready after: postgres * s, redis * s",
            "triton-env: PostgreSQL 1*, Redis *",
        ]
    )


def test_a_test_that_stops_the_environment_stops_it_for_all(project: Runs) -> None:
    project.ini("triton_services = redis")
    project.pytester.makepyfile(
        """
        def test_stops_it(triton_env):
            triton_env.stop()
            raise AssertionError

        def test_needs_it(triton_redis):
            pass

        def test_needs_nothing():
            pass
        """
    )
    done = project.run()
    done.assert_outcomes(passed=1, failed=1, errors=1)
    done.stdout.fnmatch_lines(["triton-env: The environment is stopped*", "*error* in *"])
    assert "Traceback" not in done.stdout.str()


def test_a_namespace_may_live_longer(project: Runs) -> None:
    project.ini("triton_scope = class")
    project.pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.triton(services="redis")
        class TestFirst:
            def test_writes(self, triton_redis):
                triton_redis.client().set("key", "value")

            def test_reads(self, triton, request):
                assert triton.services == ("redis",)
                assert triton.redis.client(decode_responses=True).get("key") == "value"
                assert os.environ["REDIS_URL"] == triton.redis.url

        class TestSecond:
            def test_has_another(self, triton_redis):
                assert triton_redis.client().get("key") is None

        def test_not_any_more():
            assert "REDIS_URL" not in os.environ
        """
    )
    done = project.run()
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines("triton-env *, scope class")


def test_a_start_that_fails_fails_those_who_need_it(project: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    project.pytester.makepyfile(
        """
        def test_needs_nothing():
            pass

        def test_one(triton_redis):
            raise AssertionError("it runs")

        def test_two(triton_redis):
            raise AssertionError("it runs")
        """
    )
    monkeypatch.setenv("TRITON_BIND_ADDRESS", "8.8.8.8")
    done = project.run("-q")
    done.assert_outcomes(passed=1, errors=2)
    done.stdout.fnmatch_lines(["triton-env: The embedded runtime listens on this machine's loopback only*", "hint:*"])
    done.stdout.no_fnmatch_line("*Traceback*")


# --- Asynchronous tests ----------------------------------------------------------------------------------------------

ASYNCHRONOUS = """
    import asyncio
    import pytest

    async def use(postgres, clickhouse, redis, s3, bucket):
        assert await (await postgres.execute("select 1")).fetchone() == (1,)
        assert (await clickhouse.query("select 1")).result_rows == [(1,)]
        await redis.set("key", "value")
        await s3.put_object(Bucket=bucket, Key="key", Body=b"")
"""
CLIENTS = "triton_postgres_async, triton_clickhouse_async, triton_redis_async, triton_s3_async"
USE = f"await use({CLIENTS}, triton_s3.bucket)"


def test_clients_in_the_loop_of_the_test(project: Runs) -> None:
    """Of pytest-asyncio in strict mode and of anyio, in one run."""
    project.pytester.makepyfile(
        ASYNCHRONOUS
        + f"""
    @pytest.mark.asyncio
    async def test_asyncio({CLIENTS}, triton_s3):
        {USE}

    @pytest.mark.asyncio(loop_scope="module")
    async def test_a_loop_that_lives_longer({CLIENTS}, triton_s3):
        {USE}

    @pytest.mark.anyio
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_anyio({CLIENTS}, triton_s3):
        {USE}

    OPEN = []

    @pytest.mark.asyncio
    async def test_one(triton_redis_async):
        OPEN.append(triton_redis_async)
        assert await triton_redis_async.ping()

    def test_they_are_closed_then():
        assert OPEN[0].connection_pool is None or not OPEN[0].connection_pool._in_use_connections

    def test_not_in_a_synchronous_test_but_harmless(triton_redis_async):
        assert triton_redis_async
    """
    )
    project.run("-p", "anyio").assert_outcomes(passed=6)


def test_clients_in_the_auto_mode(project: Runs) -> None:
    project.pytester.makepyfile(
        """
        async def test_auto(triton_redis_async):
            await triton_redis_async.set("key", "value")
        """
    )
    project.run("-o", "asyncio_mode=auto").assert_outcomes(passed=1)


def test_clients_where_nobody_runs_them(project: Runs) -> None:
    project.pytester.makepyfile("def test_it(triton_redis_async): pass")
    project.pytester.makeini("[pytest]\ntriton_runtime = embedded")
    done = project.run("-p", "triton_env")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*triton_redis_async needs pytest-asyncio*", "hint: *pip install pytest-asyncio"])


# --- The reference ---------------------------------------------------------------------------------------------------


def test_the_reference_is_complete(pytester: pytest.Pytester) -> None:
    fixtures, arguments, ini, line, _ = tables(ROOT / "docs" / "reference" / "pytest.md")

    found = {name: value for name, value in vars(pytest_plugin).items() if name.startswith("triton")}
    found = {name: value for name, value in found.items() if type(value).__name__ == "FixtureFunctionDefinition"}
    assert sorted(row[0].strip("`") for row in fixtures) == sorted(found)
    assert {row[0].strip("`") for row in arguments} == set(requirements.ARGUMENTS)

    config = pytester.parseconfig()
    assert {row[0].strip("`") for row in ini} == {
        name for name in config._parser._inidict if name.startswith("triton_")
    }
    for name, default, meaning in ini:
        value = config.getini(name.strip("`"))
        words = {False: "`false`", "": "empty"}.get(value, f"`{value}`") if value != [] else "all four"
        assert default == words
        assert meaning
    options_there = {option for option in vars(config.option) if option.startswith("triton_")}
    assert {row[0].strip("`-").replace("-", "_") for row in line} == options_there
