"""Options of servers by settings, on every runtime: `TRITON_POSTGRES_OPTIONS` and the like."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import RUNTIMES
from patience import SECONDS, TO_BOOT, patient_probes
from projects import project, settings_of
from triton_env import Settings, TritonEnvironment
from triton_env.core.server_options import parsed
from triton_env.errors import InvalidSetting, ServiceExited
from triton_env.services.postgres.insight import PostgresInsight

# Sessions on Docker pass them as persistent services do, or as embedded ones.
pytestmark = [pytest.mark.timeout(600), pytest.mark.long_on("docker")]

CLICKHOUSE = (
    "mark_cache_size=1000000,merge_tree.max_suspicious_broken_parts=7,profiles.default.max_threads=3,"
    "profiles.default.format_csv_null_representation=a<b&c"
)
OPTIONS = {
    "triton_postgres_options": "wal_level=logical, max_connections=37, shared_preload_libraries=auto_explain,"
    "pg_stat_statements, application_name=it's 100%, work_mem = 5MB,",
    "triton_clickhouse_options": CLICKHOUSE,
    "triton_redis_options": "maxmemory=55mb,maxmemory-policy=allkeys-lru,save=900 1,notify-keyspace-events=KEA",
}
SCRIPT = Path(__file__).parents[2] / "docker" / "options" / "options.sh"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a=1",
        " a = 1 , b=2, ",
        "a=x,y,b=3",
        "a=,b=",
        "a=b=c",
        "x=1,,2",
        "log_line_prefix=%m,%u=%d,b=2",
        "a='x  y',b=$(id)`id`\\n*",
        "profiles.default.max_threads=1,notify-keyspace-events=KEA",
    ],
)
def test_containers_read_them_as_this_process_does(text: str) -> None:
    program = f'. {SCRIPT}; print() {{ printf "%s\\0%s\\0" "$1" "$2"; }}; each_option "$1" print'
    done = subprocess.run(["sh", "-euc", program, "sh", text], capture_output=True, text=True, check=True)
    words = done.stdout.split("\0")[:-1]
    assert dict(zip(words[::2], words[1::2], strict=True)) == parsed(text)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("TRITON_POSTGRES_OPTIONS", "logical", "it must be NAME=VALUE, with commas between several"),
        ("TRITON_POSTGRES_OPTIONS", "wal_level=logical,PORT=1", "it may not hold PORT, which triton-env sets"),
        ("TRITON_REDIS_OPTIONS", "requirepass=x", "it may not hold requirepass"),
        ("TRITON_CLICKHOUSE_OPTIONS", "http_port=1", "it may not hold http_port"),
    ],
)
def test_what_cannot_be_an_option_is_said_with_the_variable(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert variable in str(caught.value)
    assert words in caught.value.what


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest, callers_choice: dict[str, str]) -> Iterator[TritonEnvironment]:
    values = settings_of(callers_choice).updated(**OPTIONS, **TO_BOOT)
    names = ("postgres", "redis", "clickhouse")
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    with patient_probes():
        if request.param == "persistent":
            with (
                project(**OPTIONS) as settings,
                TritonEnvironment(settings, services=names, persistent=True) as environment,
            ):
                yield environment
        else:
            with TritonEnvironment(values, services=names, runtime=request.param) as environment:
                yield environment


def test_postgres_has_them(env: TritonEnvironment) -> None:
    with env.postgres.connect(autocommit=True) as connection:
        shown = {
            name: (connection.execute(f"select reset_val from pg_settings where name = '{name}'").fetchone() or [""])[0]
            for name in ("wal_level", "max_connections", "shared_preload_libraries", "application_name", "work_mem")
        }
        assert shown == {
            "wal_level": "logical",
            "max_connections": "37",
            "shared_preload_libraries": "auto_explain,pg_stat_statements",
            "application_name": "it's 100%",
            "work_mem": "5120",
        }
        connection.execute("create extension pg_stat_statements")
        connection.execute("select pg_sleep(0.1) as seen")
        with closing(PostgresInsight(env.postgres, SECONDS)) as insight:
            for _ in range(2):
                statements = insight.table("statements")
            (slow,) = (row.cells for row in statements.rows if str(row.cells[-1]).endswith("as seen"))
            assert slow[1:3] == (1, slow[0])
            assert slow[0] >= 0.1  # type: ignore[operator]
            # None of those that ask for them.
            assert not any("triton-env insight" in str(row.cells[-1]) for row in statements.rows)
        connection.execute("select pg_create_logical_replication_slot('changes', 'test_decoding')")
        connection.execute("create table changed (value int)")
        connection.execute("insert into changed values (1)")
        changes = connection.execute("select data from pg_logical_slot_get_changes('changes', null, null)").fetchall()
        assert any("changed" in line for (line,) in changes)


def test_redis_has_them(env: TritonEnvironment) -> None:
    with env.redis.client() as client:
        found = client.config_get("maxmemory", "maxmemory-policy", "save", "notify-keyspace-events")
    assert (found["maxmemory"], found["maxmemory-policy"], found["save"]) == (str(55 << 20), "allkeys-lru", "900 1")
    assert set(found["notify-keyspace-events"]) >= {"A", "K", "E"}


def test_clickhouse_has_them(env: TritonEnvironment) -> None:
    if env.runtime == "embedded":
        client = env.clickhouse.client()
        assert client.command("SELECT value FROM system.server_settings WHERE name = 'mark_cache_size'") == 1_000_000
        broken = "SELECT value FROM system.merge_tree_settings WHERE name = 'max_suspicious_broken_parts'"
        assert client.command(broken) == 7
        settings = "SELECT getSetting('max_threads'), getSetting('format_csv_null_representation')"
        assert client.query(settings).result_rows == [(3, "a<b&c")]
        assert client.query(settings, settings={"max_threads": 2}).result_rows == [(2, "a<b&c")]
        return
    program = env.program("clickhouse", ["sh", "-c", "cat /etc/clickhouse-server/*.d/triton-option-*.xml"])
    done = subprocess.run(program.argv, env=dict(program.environment), capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == [
        "<clickhouse><mark_cache_size>1000000</mark_cache_size></clickhouse>",
        "<clickhouse><merge_tree><max_suspicious_broken_parts>7</max_suspicious_broken_parts></merge_tree></clickhouse>",
        "<clickhouse><profiles><default><format_csv_null_representation>a&lt;b&amp;c</format_csv_null_representation>"
        "</default></profiles></clickhouse>",
        "<clickhouse><profiles><default><max_threads>3</max_threads></default></profiles></clickhouse>",
    ]


_WRONG = {
    "docker": {"postgres": "no_such_thing=1", "redis": "no-such-thing=1"},
    "embedded": {
        "postgres": "no_such_thing=1",
        "redis": "no-such-thing=1",
        "clickhouse": "profiles.default.no_such_thing=1",
    },
}


@pytest.mark.parametrize("runtime", [pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def test_one_that_the_server_does_not_have_is_said_with_the_variable(
    runtime: str, callers_choice: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if runtime == "embedded":
        request.getfixturevalue("embedded_packages")
    for name, value in _WRONG[runtime].items():
        settings = settings_of(callers_choice).updated(**{f"triton_{name}_options": value})
        with (
            pytest.raises(ServiceExited) as caught,
            TritonEnvironment(settings, services=(name,), runtime=runtime),
        ):
            pass
        assert f"TRITON_{name.upper()}_OPTIONS" in caught.value.hint
        assert "thing" in caught.value.log_tail
