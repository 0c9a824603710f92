"""What PostgreSQL can say about a test that failed: the sessions in its database."""

import re

from triton_env.services.base_diagnostics import LINES, Diagnostics, table
from triton_env.services.postgres.programs import VARIABLE
from triton_env.services.postgres.server import PLAIN_SESSION
from triton_env.services.postgres.service import Postgres

_MISSING = re.compile(
    r'ERROR:  (extension "[^"]*" is not available|unsupported XML feature|\w+ is not supported (in|by) this build)'
)
_SESSIONS = """
    select pid, coalesce(state, backend_type), coalesce(wait_event_type || ':' || wait_event, '-'),
        coalesce(round(extract(epoch from clock_timestamp() - xact_start)::numeric, 1)::text || ' s', '-'),
        regexp_replace(left(query, 300), '\\s+', ' ', 'g')
    from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    order by backend_start limit %s
"""


class PostgresDiagnostics(Diagnostics[Postgres]):
    """The sessions in the test's database, with what they wait for."""

    title = "sessions (pg_stat_activity)"

    def answer(self, since: float) -> str:
        with self._service.connect(connect_timeout=self._timeout, autocommit=True) as connection:
            connection.execute(PLAIN_SESSION)
            rows = connection.execute(_SESSIONS, (LINES - 1,)).fetchall()
        return table(("pid", "state", "waits for", "transaction", "last query"), rows)

    def is_noise(self, line: str) -> bool:
        return "LOG:  checkpoint" in line

    def advice(self, line: str) -> str:
        if _MISSING.search(line) is None:
            return ""
        return (
            f"this server is built without it; {VARIABLE} names a PostgreSQL of this machine that may have it,"
            " TRITON_RUNTIME=docker and POSTGRES_IMAGE an image"
        )
