"""What a PostgreSQL data directory says about itself, read from its files without a server.

The layouts are those of PostgreSQL 12 and newer: https://www.postgresql.org/docs/current/storage-page-layout.html,
src/include/catalog/pg_control.h, src/backend/utils/cache/relmapper.c. What does not look as expected is left unsaid.
"""

import hashlib
import hmac
import re
import struct
import unicodedata
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping

from triton_env.core.model import CutOff, DataCompatibility, DataInspection, DataRecipe, VolumeFiles

_USER, _PASSWORD, _DATABASE = "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"
_PG_DATABASE, _PG_AUTHID = 1262, 1260
_FIRST_USER_OID = 16384
_INITDB_DATABASE = "postgres"
"""The last one that initdb makes."""
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
_CONTROL_SIZE = 8192
_MAP_MAGIC = 0x592717
_SCRAM = re.compile(rb"SCRAM-SHA-256\$(\d{1,7}):([A-Za-z0-9+/=]{4,100})\$([A-Za-z0-9+/=]{44}):[A-Za-z0-9+/=]{44}")
_MD5 = re.compile(rb"md5[0-9a-f]{32}")
_MOST_ITERATIONS = 1_000_000


def data_recipe(user: str, password: str, database: str) -> DataRecipe:
    """PostgreSQL's data, and what it has to agree with."""
    psql = "python -m triton_env psql"
    return DataRecipe(
        volume="postgres_data",
        path="/var/lib/postgresql/data",
        version_command=("postgres", "--version"),
        compatibility=DataCompatibility.ITS_MAJOR,
        init_values={_USER: user, _DATABASE: database},
        secrets={_PASSWORD: password},
        inspect=inspect,
        cut_off=cut_off,
        # As the role that initdb made, who is let in from inside the container.
        flush_command=("psql", "-h", "127.0.0.1", "-U", f"{{{_USER}}}", "-d", "template1", "-qc", "CHECKPOINT"),
        remedies={
            _USER: f"set {_USER} back to {{old}}; once it runs, the other can be added with {psql} -c "
            """'CREATE ROLE "{new}" SUPERUSER LOGIN PASSWORD ...'""",
            _DATABASE: f"set {_DATABASE} back to {{old}}; once it runs, the other can be added with {psql} -c "
            """'CREATE DATABASE "{new}"'""",
            # Inside the container no password is asked for, so this works without the old one too.
            _PASSWORD: f"set {_PASSWORD} back to what it was; once it runs (without the old password: docker compose "
            f"up -d postgres), it can be changed with {psql} -c \"ALTER ROLE CURRENT_USER PASSWORD '...'\"",
        },
        login_errors={
            # The server does not distinguish a wrong password from an unknown user.
            _PASSWORD: r"password authentication failed for user|User \S+ has no password assigned",
            _USER: r'role "[^"]*" does not exist|role "[^"]*" is not permitted to log in',
            _DATABASE: r'database "[^"]*" does not exist',
        },
    )


def inspect(volume: VolumeFiles, data: DataRecipe) -> DataInspection | None:
    """What a volume's data directory was made with; None where the volume has none."""
    version = _text(volume.files("PG_VERSION").get("PG_VERSION"))
    if not version:
        for path in _OTHER_PATHS:
            name = f"{path}/PG_VERSION"
            if version := _text(volume.files(name).get(name)):
                return DataInspection(version, elsewhere=path)
        return None
    if not version.isdecimal() or int(version) < 12:
        return DataInspection(version)
    # One folder of about 600 kB holds all of it.
    folder = volume.files("global")
    roles = dict(_roles(_catalog(folder, _PG_AUTHID)))
    databases = _databases(_catalog(folder, _PG_DATABASE))
    values = {name: found for name, found in ((_USER, tuple(roles)), (_DATABASE, databases)) if found}
    if databases == (_INITDB_DATABASE,):
        # The first start was cut off before it made another one. `Postgres.ensure_ready` does that.
        del values[_DATABASE]
    accepts = {}
    if roles:
        # Of a user who is not there it cannot be said; then of the one who would be, if the setting were put right.
        user = data.init_values[_USER] if data.init_values[_USER] in roles else next(iter(roles))
        verdicts = [_accepts(verifier, user, data.secrets[_PASSWORD]) for verifier in roles[user]]
        if None not in verdicts or True in verdicts:
            accepts[_PASSWORD] = True in verdicts
    return DataInspection(version, certain=_is_shut_down(folder), values=values, accepts=accepts)


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
    if has_run:
        # Started again by the engine, the image takes for whole what has a version, and the server starts on it.
        is_whole = databases == _INITDB_DATABASES
    else:
        folder = volume.files("global")
        has_control = len(folder.get("global/pg_control", b"")) == _CONTROL_SIZE
        is_whole = (
            has_control and _is_shut_down(folder) and _INITDB_DATABASE in _databases(_catalog(folder, _PG_DATABASE))
        )
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


def _is_shut_down(folder: Mapping[str, bytes]) -> bool:
    control = folder.get("global/pg_control", b"")
    if len(control) < 20:
        return False
    _, control_version, _, state = struct.unpack_from("<QIII", control)
    return 900 <= control_version < 10_000 and state in _SHUT_DOWN


def _catalog(folder: Mapping[str, bytes], oid: int) -> bytes:
    """The file of a shared catalog; VACUUM FULL gives it another number, which a map holds."""
    mapping = folder.get("global/pg_filenode.map", b"")
    if len(mapping) < 8:
        return b""
    magic, count = struct.unpack_from("<II", mapping)
    if magic != _MAP_MAGIC or len(mapping) < 8 + 8 * count:
        return b""
    numbers = dict(struct.iter_unpack("<II", mapping[8 : 8 + 8 * count]))
    return folder.get(f"global/{numbers.get(oid)}", b"")


def _rows(heap: bytes) -> Iterator[tuple[int, str, bytes]]:
    """Object id, name and the rest of each row, without those that are known to be deleted."""
    start = 0
    while start + 24 <= len(heap):
        lower, size = struct.unpack_from("<H4xH", heap, start + 12)
        size &= 0xFF00
        if size < 1024:  # a page that was never used
            start += 8192
            continue
        page = heap[start : start + size]
        start += size
        for position in range(24, min(lower, len(page) - 3), 4):
            (pointer,) = struct.unpack_from("<I", page, position)
            offset, flags, length = pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17
            row = page[offset : offset + length]
            if flags != 1 or len(row) < 100:  # LP_NORMAL
                continue
            (infomask,) = struct.unpack_from("<H", row, 20)
            if infomask & 0x0400 and not infomask & 0x0880:  # XMAX_COMMITTED, neither a lock nor invalid
                continue
            content = row[row[22] :]
            if len(content) < 68:
                continue
            (oid,) = struct.unpack_from("<I", content)
            yield oid, content[4:68].partition(b"\0")[0].decode(errors="replace"), content[68:]


def _roles(heap: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The roles that may log in, initdb's own first, each with the verifiers of its password.

    There may be two of the latter: which one holds is not always written in the row itself.
    """
    found: dict[str, tuple[int, list[bytes]]] = {}
    for oid, name, rest in _rows(heap):
        if len(rest) < 7 or not rest[4]:  # rolcanlogin
            continue
        verifier = _SCRAM.search(rest) or _MD5.search(rest)
        found.setdefault(name, (oid, []))[1].append(verifier[0] if verifier else b"")
    for name, (_, verifiers) in sorted(found.items(), key=lambda item: item[1][0]):
        yield name, verifiers


def _databases(heap: bytes) -> tuple[str, ...]:
    """The databases, those that people made first; of the others only `postgres`."""
    rows = sorted(_rows(heap))
    own = [name for oid, name, _ in rows if oid >= _FIRST_USER_OID]
    return tuple(dict.fromkeys([*own, *(name for _, name, _ in rows if name == "postgres")]))


def _accepts(verifier: bytes, user: str, password: str) -> bool | None:
    """Whether the server would let the user in with this password; None where it cannot be said.

    https://www.rfc-editor.org/rfc/rfc5802#section-3
    """
    if scram := _SCRAM.fullmatch(verifier):
        iterations = int(scram[1])
        try:
            salt, stored = b64decode(scram[2]), b64decode(scram[3])
        except ValueError:
            return None
        if not 0 < iterations <= _MOST_ITERATIONS:
            return None
        # Normalised as by SASLprep, as far as that goes; the server takes what it cannot normalise as it is.
        for form in {password, unicodedata.normalize("NFKC", password)}:
            salted = hashlib.pbkdf2_hmac("sha256", form.encode(), salt, iterations)
            key = hmac.digest(salted, b"Client Key", "sha256")
            if hmac.compare_digest(hashlib.sha256(key).digest(), stored):
                return True
        return False if password.isascii() else None
    if verifier:
        expected = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(verifier, b"md5" + expected.encode())
    # A role without a password, which the image lets in from inside the container only.
    return False
