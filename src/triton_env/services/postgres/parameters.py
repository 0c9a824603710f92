"""Every parameter of a connection to PostgreSQL, so that libpq takes none from its surroundings.

What a client does not state, libpq takes from a variable such as PGSSLMODE or PGHOSTADDR, or from a file in the home
folder: https://www.postgresql.org/docs/current/libpq-envars.html
"""

import functools
from collections.abc import Mapping

WITHOUT_PARAMETER = ("PGSERVICE", "PGDATESTYLE", "PGTZ", "PGGEQO")
"""Variables that libpq obeys in any case. (`service=` overrules the first, but has to name one that exists.)"""

PLAIN = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "role": "none",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "default_transaction_read_only": "off",
        # psycopg reads no other.
        "datestyle": "ISO",
        "intervalstyle": "postgres",
    }.items()
)
"""The options of a connection that is neither limited nor another role by ALTER ROLE or ALTER DATABASE ... SET."""

_OWN: Mapping[str, str] = {
    # None: the client's own default. psycopg reads this one itself, and does not take an empty text.
    "connect_timeout": "0",
    "client_encoding": "UTF8",
    # Without a default of the library that could be stated; this is what it does.
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "sslcertmode": "allow",
    # Empty, it would take no method at all. This one exists on Windows alone.
    "require_auth": "!sspi",
    # A Kerberos ticket that happens to be there leads to no server of ours.
    "gssencmode": "disable",
}


@functools.cache
def every_parameter() -> Mapping[str, str]:
    """The parameters that libpq would look for in its surroundings, with the defaults of the libpq in use."""
    from psycopg.pq import Conninfo

    return {
        # An empty text counts as stated, and means what nothing at all means.
        name: _OWN.get(name, (option.compiled or b"").decode())
        for option in Conninfo.get_defaults()
        if option.envvar and (name := option.keyword.decode()) not in ("service", "servicefile")
    }
