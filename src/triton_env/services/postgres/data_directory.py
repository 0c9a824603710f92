"""What a PostgreSQL data directory says about itself, read from its files without a server.

The layouts are those of PostgreSQL 12 and newer: https://www.postgresql.org/docs/current/storage-file-layout.html,
src/include/catalog/pg_control.h. What does not look as expected is left unsaid.
"""

import posixpath
import re
import struct
from collections.abc import Iterable

from triton_env.core.model import CutOff, DataCompatibility, DataInspection, DataRecipe, VolumeFiles

_USER, _PASSWORD, _DATABASE = "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"
_FIRST_USER_OID = 16384
_INITDB_DATABASES = 3
_INITDB_MAKES = frozenset(
    (
        *("PG_VERSION", "base", "global", "pg_commit_ts", "pg_dynshmem", "pg_hba.conf", "pg_ident.conf", "pg_logical"),
        *("pg_multixact", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat", "pg_stat_tmp"),
        *("pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal", "pg_xact", "postgresql.auto.conf", "postgresql.conf"),
        # Of servers.
        *("postmaster.pid", "postmaster.opts"),
    )
)
"""What is in a data directory to which nothing was added. A base backup has a backup_label as well."""
_FROM_ELSEWHERE = re.compile(rb"^\s*host\w*\s+\S+\s+\S+\s+(?!127\.|::1|localhost)\S", re.MULTILINE)
_OTHER_PATHS = (
    # The official images from 18 on, where their volume /var/lib/postgresql was mounted.
    *(f"{major}/docker" for major in range(18, 26)),
    # Subfolders that people and other images use.
    *("data", "pgdata", "pgroot/data", "postgresql/data", "postgres", "db"),
    *(f"{major}/main" for major in range(12, 26)),
)
_SHUT_DOWN = (1, 2)
"""DB_SHUTDOWNED and DB_SHUTDOWNED_IN_RECOVERY: everything is in the data files."""
DATA_PATH = "/var/lib/postgresql/data"
"""Where an image has its volume."""
_CONTROL = "global/pg_control"
_CONTROL_SIZE = 8192


def data_recipe(user: str, database: str) -> DataRecipe:
    """PostgreSQL's data, and what it has to agree with."""
    psql = "python -m triton_env psql"
    return DataRecipe(
        volume="postgres_data",
        path=DATA_PATH,
        # Images from 18 on have another one, and refuse a volume at this place without it.
        path_variable="PGDATA",
        version_command=("postgres", "--version"),
        compatibility=DataCompatibility.ITS_MAJOR,
        init_values={_USER: user, _DATABASE: database},
        inspect=inspect,
        cut_off=cut_off,
        remedies={
            _USER: f"set {_USER} back to {{old}}; once it runs, the other can be added with {psql} -c "
            """'CREATE ROLE "{new}" SUPERUSER LOGIN PASSWORD ...'""",
            _DATABASE: f"set {_DATABASE} back to {{old}}; once it runs, the other can be added with {psql} -c "
            """'CREATE DATABASE "{new}"'""",
            _PASSWORD: f"set {_PASSWORD} back to what it was{{lost}}; once it runs, it can be changed with {psql} -c "
            "\"ALTER ROLE CURRENT_USER PASSWORD '...'\"",
        },
        login_errors={
            # The server does not distinguish a wrong password from an unknown user.
            _PASSWORD: r"password authentication failed for user|User \S+ has no password assigned",
            _USER: r'role "[^"]*" does not exist|role "[^"]*" is not permitted to log in',
            _DATABASE: r'database "[^"]*" does not exist',
        },
    )


def inspect(volume: VolumeFiles) -> DataInspection | None:
    """Which version wrote a volume's data directory; None where the volume has none."""
    for path in ("", *_OTHER_PATHS):
        name = posixpath.join(path, "PG_VERSION")
        if version := _text(volume.files(name).get(name)):
            return DataInspection(version, elsewhere=path)
    return None


def cut_off(volume: VolumeFiles) -> CutOff | None:
    """What an initdb left that was ended before it was through, or before the image let clients in.

    Everything in the data has to be initdb's own, and clients cannot have come in by the network.
    """
    rules = volume.files("pg_hba.conf").get("pg_hba.conf", b"")
    lets_in = _FROM_ELSEWHERE.search(rules) is not None
    # The first server with connections writes it. Looked for first: of data that was used, little else is read.
    has_run = bool(volume.files("postmaster.opts"))
    if has_run and (lets_in or not rules):
        return None
    databases = _initdbs_databases(volume.names())
    if databases is None:
        return None
    # Where the engine has started it again, the image takes for whole what has a version, and the server starts on it.
    # Else the server without connections that makes the last database has to have ended.
    is_whole = databases == _INITDB_DATABASES and (has_run or _is_shut_down(volume))
    if not is_whole:
        return CutOff(is_final=has_run)
    if lets_in:
        return None
    # What the image adds once initdb is through. Before 14, passwords are kept in the older form.
    version = _text(volume.files("PG_VERSION").get("PG_VERSION"))
    method = b"md5" if version in ("12", "13") else b"scram-sha-256"
    return CutOff({"pg_hba.conf": rules + b"\nhost all all all " + method + b"\n"}, is_final=True)


def _initdbs_databases(names: Iterable[str]) -> int | None:
    """How many databases there are, where initdb made all that there is; else None, also where there is nothing."""
    count: int | None = None
    for name in names:
        top, _, below = name.partition("/")
        # Files of tables, and folders of databases, have numbers; those that initdb makes are lower.
        number = re.match(r"\d+", name.rstrip("/").rpartition("/")[2]) if top in ("base", "global") else None
        is_foreign = top not in _INITDB_MAKES or (top in ("pg_tblspc", "pg_replslot", "pg_twophase") and below)
        if is_foreign or (number and int(number[0]) >= _FIRST_USER_OID):
            return None
        count = (count or 0) + bool(re.fullmatch(r"base/\d+/", name))
    return count


def _text(content: bytes | None) -> str:
    return content.decode("ascii", "replace").strip()[:20] if content else ""


def _is_shut_down(volume: VolumeFiles) -> bool:
    control = volume.files(_CONTROL).get(_CONTROL, b"")
    if len(control) != _CONTROL_SIZE:
        return False
    _, control_version, _, state = struct.unpack_from("<QIII", control)
    return 900 <= control_version < 10_000 and state in _SHUT_DOWN
