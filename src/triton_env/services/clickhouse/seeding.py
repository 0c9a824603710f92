"""ClickHouse: the SQL files of a template, each of which is a session."""

from pathlib import Path
from secrets import token_hex

from triton_env.core.files import read_sql, shown, sql_files
from triton_env.errors import TemplateFailed
from triton_env.services import ClickHouse
from triton_env.services.base_seeding import Seeding, line_of
from triton_env.services.clickhouse.http import Http, ServerError, quoted
from triton_env.services.clickhouse.splitting import clickhouse_statements


class ClickHouseSeeding(Seeding[ClickHouse]):
    """Runs SQL files in natural order, statement by statement."""

    files = "SQL files"
    suffix = ".sql"

    def load(self, folder: Path, service: ClickHouse) -> None:
        with Http(service) as http:
            for path in sql_files(folder):
                # With the end of the query waited for, an error cannot come behind a part of the answer. A session for
                # each file: SET, USE and temporary tables hold until its end, and no longer.
                settings = {
                    "database": "",
                    "session_id": f"triton-template-{token_hex(8)}",
                    "session_timeout": "60",
                    "wait_end_of_query": "1",
                }
                text = read_sql(path)
                http.run(f"USE {quoted(service.database)}", settings)
                for number, statement in enumerate(clickhouse_statements(text), 1):
                    try:
                        http.run(statement.text, settings)
                    except ServerError as error:
                        raise TemplateFailed(
                            "ClickHouse refused a statement of the template.",
                            where=f"{shown(path)}, statement {number}, line {line_of(text, statement.start)}",
                            cause=str(error),
                        ) from error
