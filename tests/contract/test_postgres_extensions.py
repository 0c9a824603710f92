"""What migrations create first: the extensions of the embedded PostgreSQL, of the package and of the machine."""

import hashlib
import hmac
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

import machine_postgres
import triton_env
from conftest import in_ci
from patience import TO_BOOT, patient_probes
from triton_env import Settings, TritonEnvironment
from triton_env.errors import RuntimeUnavailable
from triton_env.pytest_plugin import evidence
from triton_env.runtimes.embedded import packages

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(500)]

HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
MISSING = (
    "gen_salt('bf')",
    "gen_salt('bf', 8)",
    "crypt('secret', '$2a$06$DffeVxG1jvxYyZQMIzs2SO')",
    "digest('a', 'whirlpool')",
    "encrypt('a', 'b', 'aes')",
    "decrypt_iv('a', 'b', 'c', 'aes')",
    "pgp_sym_encrypt('a', 'b')",
    "pgp_sym_decrypt('a', 'b', 'c')",
    "pgp_pub_encrypt_bytea('a', 'b')",
    "pgp_key_id('a')",
    "armor('a', array['b'], array['c'])",
    "pgp_armor_headers('a')",
)


@pytest.fixture(scope="module")
def env(warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    """With the PostgreSQL of the package."""
    return warm("embedded")


@pytest.fixture
def ours(env: TritonEnvironment) -> Iterator[Callable[..., Any]]:
    """Asks for one value in a database with the extensions of triton-env."""
    with env.namespace() as space, space.postgres.connect(autocommit=True) as connection:
        connection.execute("create extension pgcrypto")
        connection.execute('create extension if not exists "uuid-ossp" with schema public')
        yield asking(connection)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """With a PostgreSQL of this machine."""
    variables = machine_postgres.variables(tmp_path_factory.mktemp("debian"))
    if not variables and in_ci():
        pytest.fail("CI has to run this on a PostgreSQL of the machine, and apt-get cannot bring one", pytrace=False)
    if not variables:
        pytest.skip("this machine has no PostgreSQL, and no apt-get that could bring one")
    with pytest.MonkeyPatch.context() as monkeypatch, patient_probes():
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with TritonEnvironment(Settings(**TO_BOOT), services=("postgres",), runtime="embedded") as environment:
            yield environment


def asking(connection: "psycopg.Connection[Any]") -> Callable[..., Any]:
    def ask(expression: str, *parameters: object) -> Any:
        (value,) = connection.execute(f"select {expression}".encode(), parameters).fetchone() or (None,)
        return value

    return ask


class TestPgcrypto:
    @pytest.mark.parametrize("name", HASHES)
    def test_hashes(self, ours: Callable[..., Any], name: str) -> None:
        for size in (0, 1, 3, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000):
            data = os.urandom(size)
            assert ours("digest(%s::bytea, %s)", data, name.upper()) == hashlib.new(name, data).digest()
            for key in (b"", os.urandom(63), os.urandom(65), os.urandom(129)):
                assert ours("hmac(%s::bytea, %s::bytea, %s)", data, key, name) == hmac.digest(key, data, name)
        assert ours("digest('ä', %s)", name) == hashlib.new(name, "ä".encode()).digest()
        assert ours("hmac('ä', 'ö', %s)", name) == hmac.digest("ö".encode(), "ä".encode(), name)

    def test_random_bytes(self, ours: Callable[..., Any]) -> None:
        assert [len(ours("gen_random_bytes(%s)", size)) for size in (1, 31, 32, 33, 1024)] == [1, 31, 32, 33, 1024]
        assert ours("count(distinct gen_random_bytes(16)) from generate_series(1, 1000)") == 1000
        assert ours("public.gen_random_uuid()").version == 4
        for size in (0, 1025):
            with pytest.raises(errors.ExternalRoutineInvocationException, match="Length not in range"):
                ours("gen_random_bytes(%s)", size)

    def test_passwords(self, ours: Callable[..., Any]) -> None:
        # As the real one gives them, which TestOfTheMachine compares.
        assert ours("crypt('secret', '$1$abcdefgh')") == "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"
        assert ours("stored = crypt('secret', stored) from crypt('secret', gen_salt('md5')) stored")
        assert not ours("stored = crypt('Secret', stored) from crypt('secret', gen_salt('md5')) stored")

    def test_armor(self, ours: Callable[..., Any]) -> None:
        assert ours("armor('hello')") == "-----BEGIN PGP MESSAGE-----\n\naGVsbG8=\n=R/WK\n-----END PGP MESSAGE-----\n"
        for size in (0, 1, 2, 3, 56, 57, 58, 500):
            data = os.urandom(size)
            armored = ours("armor(%s::bytea)", data)
            assert ours("dearmor(%s)", armored.replace("\n\n", "\nVersion: 1\n\n", 1)) == data
        for damaged in ("", "hello", armored.replace("\n=", "\n=A")):
            with pytest.raises(errors.ExternalRoutineInvocationException, match="Corrupt ascii-armor"):
                ours("dearmor(%s)", damaged)

    @pytest.mark.parametrize("call", MISSING)
    def test_what_is_missing_says_what_to_do(self, ours: Callable[..., Any], call: str) -> None:
        with pytest.raises(errors.FeatureNotSupported, match="is not in the pgcrypto of triton-env") as caught:
            ours(call)
        hint = caught.value.diag.message_hint or ""
        assert "TRITON_POSTGRES_BIN" in hint
        assert "TRITON_RUNTIME=docker" in hint


class TestUuidOssp:
    def test_of_names(self, ours: Callable[..., Any]) -> None:
        for name in ("", "example.org", "ä" * 100):
            assert ours("uuid_generate_v3(uuid_ns_url(), %s)", name) == uuid.uuid3(uuid.NAMESPACE_URL, name)
            assert ours("uuid_generate_v5(uuid_ns_dns(), %s)", name) == uuid.uuid5(uuid.NAMESPACE_DNS, name)
        assert [ours("uuid_ns_oid()"), ours("uuid_ns_x500()")] == [uuid.NAMESPACE_OID, uuid.NAMESPACE_X500]
        assert ours("uuid_nil()") == uuid.UUID(int=0)

    def test_of_time(self, ours: Callable[..., Any]) -> None:
        for name in ("uuid_generate_v1", "uuid_generate_v1mc"):
            before = time.time()
            made = ours(f"{name}()")
            seconds = made.time / 1e7 - 12_219_292_800
            assert (made.version, made.variant) == (1, uuid.RFC_4122)
            assert before - 1 <= seconds <= time.time() + 1
            assert made.node >> 40 & 1
            assert ours(f"count(distinct {name}()) from generate_series(1, 5000)") == 5000

    def test_random(self, ours: Callable[..., Any]) -> None:
        assert ours("uuid_generate_v4()").version == 4


class TestExtensionsOfOurs:
    def test_they_are_marked(self, ours: Callable[..., Any]) -> None:
        versions = "string_agg(extversion, ' ' order by extname) from pg_extension where extname <> 'plpgsql'"
        assert ours(versions) == "1.4-triton 1.1-triton"
        listed = "count(*) from pg_available_extensions where comment like '%%triton-env%%' and default_version"
        assert ours(f"{listed} like '%%-triton'") == 2

    def test_they_can_be_in_any_schema(self, ours: Callable[..., Any]) -> None:
        ours("1; create schema other; alter extension pgcrypto set schema other; set search_path = ''")
        assert ours("other.hmac('ä', 'b', 'sha1')") == hmac.digest(b"b", "ä".encode(), "sha1")

    def test_by_an_owner_who_is_no_superuser(self, env: TritonEnvironment) -> None:
        with env.namespace() as space, space.postgres.connect() as connection:
            connection.execute(f"create role plain; grant create on database {space.postgres.database} to plain")
            connection.execute("set role plain")
            connection.execute("create extension pgcrypto schema public")
            connection.rollback()

    def test_what_is_nowhere_is_the_servers_own_error(self, ours: Callable[..., Any]) -> None:
        assert ours("count(*) from pg_available_extensions where name in ('postgis', 'xml2')") == 0
        with pytest.raises(errors.FeatureNotSupported, match='"postgis" is not available'):
            ours("1; create extension postgis")


@pytest.mark.parametrize(
    "statement", ["create extension postgis", "select xml '<a/>'", "create collation c (provider = icu, locale = 'de')"]
)
def test_the_report_of_a_failed_test_says_what_to_do(env: TritonEnvironment, statement: str) -> None:
    began = evidence.Began(time.time(), {(env.id, "postgres"): env.log_position("postgres")})
    with env.postgres.connect() as connection, pytest.raises(errors.FeatureNotSupported):
        connection.execute(statement.encode())
    log = evidence.questions(env, env.postgres, began)[0].ask()
    assert re.search(r"ERROR: .*\nhint: .*TRITON_POSTGRES_BIN", log)


class TestOfTheMachine:
    def test_it_has_what_migrations_ask_for(self, machine: TritonEnvironment) -> None:
        with machine.namespace() as space, space.postgres.connect(autocommit=True) as connection:
            ask = asking(connection)
            for name in ("pgcrypto", "uuid-ossp", "xml2"):
                connection.execute(f'create extension "{name}"'.encode())
            connection.execute("create collation german (provider = icu, locale = 'de-DE')")
            assert ask("stored = crypt('secret', stored) from crypt('secret', gen_salt('bf')) stored")
            assert ask("pgp_sym_decrypt(pgp_sym_encrypt('text', 'key'), 'key')") == "text"
            assert ask("crypt('secret', '$1$abcdefgh')") == "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"
            assert ask("armor('hello')").count("\n=R/WK\n") == 1
            assert ask("(xpath('/a/text()', '<a>1</a>'))[1]::text") == "1"
            assert ask("'ä' < 'b' collate german")

    def test_texts_are_ordered_as_by_the_package(self, machine: TritonEnvironment, env: TritonEnvironment) -> None:
        words = "array_agg(word order by word) || array[upper('ä')] from unnest(array['b', 'A', 'ä', 'a', 'Z']) word"
        found = []
        for each in (machine, env):
            with each.postgres.connect() as connection:
                found.append(asking(connection)(words))
        assert found == [["A", "Z", "a", "b", "ä", "Ä"]] * 2

    def test_snapshots(self, machine: TritonEnvironment) -> None:
        with machine.postgres.connect(autocommit=True) as connection:
            connection.execute("create table kept as select 1 as value")
        machine.snapshot("one")
        with machine.postgres.connect(autocommit=True) as connection:
            connection.execute("drop table kept")
        machine.restore("one")
        with machine.postgres.connect() as connection:
            assert asking(connection)("value from kept") == 1

    def test_dumps_go_both_ways(self, machine: TritonEnvironment, env: TritonEnvironment) -> None:
        with machine.namespace() as there, env.namespace() as here:
            for source, target, names in ((here, there, ("there", "here")), (there, here, ("here", "there"))):
                with source.postgres.connect(autocommit=True) as connection:
                    if names[0] == "there":
                        connection.execute('create extension pgcrypto; create extension "uuid-ossp"')
                owner = env if source is here else machine
                program = owner.program("postgres", ["pg_dump", "--schema-only", source.postgres.url])
                done = subprocess.run(program.argv, env=dict(program.environment), capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                statements = [line for line in done.stdout.splitlines() if " EXTENSION " in line and line[0] != "-"]
                assert len(statements) == 4
                with target.postgres.connect(autocommit=True) as connection:
                    for statement in statements:
                        connection.execute(statement.encode())
                    ask = asking(connection)
                    assert ask("digest('a', 'sha1')") == hashlib.sha1(b"a").digest()
                    is_ours = ask("bool_and(extversion like '%%-triton') from pg_extension where extname <> 'plpgsql'")
                    assert is_ours is (target is here)

    def test_programs_are_those_beside_it(self, machine: TritonEnvironment) -> None:
        program = machine.program("postgres", ["pg_dump", "--version"])
        done = subprocess.run(program.argv, env=dict(program.environment), capture_output=True, text=True)
        assert f"(PostgreSQL) {machine.postgres.server_version()}" in done.stdout

    @pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers are that user")
    def test_one_that_the_servers_cannot_reach(self, machine: TritonEnvironment, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        (closed / "bin").symlink_to(machine.settings.triton_postgres_bin)
        settings = Settings(triton_postgres_bin=str(closed / "bin"))
        with (
            pytest.raises(RuntimeUnavailable, match="closed to other users") as caught,
            TritonEnvironment(settings, services=("postgres",), runtime="embedded"),
        ):
            pass
        assert "TRITON_POSTGRES_BIN" in caught.value.hint


def test_they_are_found_where_packages_are_below_a_folder_with_a_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colon separates the folders in which the server looks for extensions."""
    tmp_path.chmod(0o755)
    (tmp_path / "a:b").mkdir()
    package = tmp_path / "a:b" / "triton_env"
    package.symlink_to(Path(triton_env.__file__).parent)
    found = packages.program

    def program(path: str) -> Path:
        name, _, inside = path.partition("/")
        return package / inside if name == "triton_env" else found(path)

    monkeypatch.setattr(packages, "program", program)
    with (
        patient_probes(),
        TritonEnvironment(services=("postgres",), runtime="embedded") as environment,
        environment.postgres.connect() as connection,
    ):
        connection.execute("create extension pgcrypto")
