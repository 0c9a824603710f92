"""What a ClickHouse of this machine is run with, as a current engine reads it: that of the Python package.

It takes the configuration of a server, users included, but listens nowhere and stores no users of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from triton_env import Settings
from triton_env.services.clickhouse import configuration, programs

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(200)]

ASK = """
import json, sys
from chdb.state import connect  # which reads config.xml in this folder, and logs in as `default`
connection = connect("data?config-file=config.xml")
for query in json.load(sys.stdin):
    print("answer:", connection.query(query, "TSV").bytes().decode().strip())
"""


def answers(folder: Path, *queries: str) -> list[str]:
    settings = Settings(
        clickhouse_user="default",
        clickhouse_password=SecretStr(""),
        triton_clickhouse_options="index_mark_cache_size=7000000,profiles.default.max_threads=3",
    )
    process = configuration.process(programs.Installation(Path("/clickhouse"), "26.9", ""), settings)
    assert process.lasting is not None
    for name, content in process.lasting.files.items():
        (folder / name).write_text(content)
    values = {"TRITON_LISTEN_HOST": "127.0.0.1", "TRITON_HTTP_PORT": "8124", "TRITON_TCP_PORT": "9001"}
    assert values.keys() < process.environment.keys()
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(queries),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **values},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("answer:").strip() for line in done.stdout.splitlines() if line.startswith("answer:")]


def test_it_is_what_a_current_engine_understands(tmp_path: Path) -> None:
    size = "SELECT value FROM system.server_settings WHERE name = '%s_cache_size'"
    assert answers(
        tmp_path,
        "SELECT name, storage, toString(auth_type[1]) FROM system.users",
        "CHECK GRANT CREATE USER, DROP ROLE, SELECT ON *.*",
        "SELECT cluster, port, is_local FROM system.clusters",
        "SELECT sum(a) FROM cluster('default', view(SELECT 7 AS a))",
        "SELECT getMacro('cluster') || getMacro('shard') || getMacro('replica')",
        size % "mark",
        size % "index_mark",
        "SELECT getSetting('max_threads')",
        "SYSTEM FLUSH LOGS",
        "SELECT count() > 0 FROM system.query_log WHERE query LIKE '%getMacro%'",
    ) == [
        "default\tusers_xml\tsha256_password",
        "1",
        "default\t9001\t1",
        "7",
        "default0101",
        "268435456",
        "7000000",
        "3",
        "",
        "1",
    ]
