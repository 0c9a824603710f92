"""Roles are the server's: templates that make some can be built again, and earlier copies keep their rights."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from triton_env import Namespace, TritonEnvironment
from triton_env.errors import TemplateFailed
from triton_env.isolation.building import TemplateBuilder
from triton_env.services.postgres.roles import MARK


def roles(env: TritonEnvironment) -> dict[str, str | None]:
    with env.postgres.connect() as connection:
        query = "select rolname, shobj_description(oid, 'pg_authid') from pg_roles where oid >= 16384 and rolname <> %s"
        return dict(connection.execute(query, [env.postgres.user]).fetchall())


def as_role(namespace: Namespace, role: str, query: str) -> list[tuple[object, ...]]:
    with namespace.postgres.connect() as connection:
        connection.execute(f"set role {role}")
        return connection.execute(query).fetchall()


def test_a_template_with_roles_is_built_again_and_earlier_copies_keep_their_rights(
    small: TritonEnvironment, tmp_path: Path
) -> None:
    grants = "create role app_ro login password 'a'; create role app_rw; create table t (i int);\n"
    grants += "grant select on t to app_ro; alter table t owner to app_rw;"
    (tmp_path / "1.sql").write_text(grants)
    (tmp_path / "2.sql").write_text("create table first ();")
    with small.namespace(template=tmp_path) as old:
        assert as_role(old, "app_ro", "select * from t") == []
        assert roles(small).items() >= {"app_ro": MARK, "app_rw": MARK}.items()
        (tmp_path / "2.sql").write_text("create role app_more noinherit; create table second ();")
        with small.namespace(template=tmp_path) as new:
            for namespace in (new, old):
                assert as_role(namespace, "app_ro", "select * from t") == []
                as_role(namespace, "app_rw", "insert into t values (1) returning 1")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(new, "app_more", "select * from t")
            assert {"app_ro", "app_rw", "app_more"} <= roles(small).keys()
        old.reset()
        assert as_role(old, "app_ro", "select * from t") == []
    # They are part of the template, which stays.
    small.reset()
    with small.namespace(template=tmp_path) as namespace:
        assert as_role(namespace, "app_ro", "select * from t") == []
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute("drop role app_more")
    with small._isolation()._open().spaces.ledger.making("nothing"):
        another = TemplateBuilder(small._isolation()._open().spaces)
    assert another.finished(small._isolation()._open().template(tmp_path)) != namespace.source
    assert "app_more" in roles(small)


def test_a_role_that_nothing_depends_on_is_simply_made_anew(small: TritonEnvironment, tmp_path: Path) -> None:
    before = roles(small)
    for columns in ("i int", "i int, j int"):
        (tmp_path / "001.sql").write_text(f"create role alone login; create table t ({columns});")
        with small.namespace(template=tmp_path):
            assert roles(small) == {**before, "alone": MARK}


def test_roles_of_functions_and_programs_are_found_too(small: TritonEnvironment) -> None:
    def by_client(namespace: Namespace) -> None:
        with namespace.postgres.connect() as connection:
            connection.execute('create role "app ""x"""')
            connection.execute("create table t ()")
            connection.execute('grant select on t to "app ""x"""')

    script = 'import psycopg, sys; c = psycopg.connect(sys.argv[1]); c.execute(\'create role "app ""x"""\'); c.commit()'

    def by_program(namespace: Namespace) -> None:
        subprocess.run([sys.executable, "-c", script, namespace.postgres.url], check=True, capture_output=True)

    for build in (by_client, by_program):
        with small.namespace(template=build):
            assert roles(small)['app "x"'] == MARK


def test_a_build_that_fails_leaves_no_role_and_takes_none_away(small: TritonEnvironment, tmp_path: Path) -> None:
    before = roles(small)
    with small.postgres.connect() as connection:
        connection.execute("create role mine login; create table kept (); grant select on kept to mine")
    (tmp_path / "1.sql").write_text("create role mine; create role not_mine;")
    (tmp_path / "2.sql").write_text("selekt 1;")
    with pytest.raises(TemplateFailed, match=r"2\.sql"):
        small.namespace(template=tmp_path)
    assert roles(small) == {**before, "mine": None}
    with small.postgres.connect() as connection:
        query = "select rolcanlogin, has_table_privilege('mine', 'kept', 'select') from pg_roles where rolname = 'mine'"
        assert connection.execute(query).fetchone() == (True, True)


def test_roles_of_others_on_a_server_with_data_are_not_touched(small: TritonEnvironment, tmp_path: Path) -> None:
    from dataclasses import replace

    from triton_env.isolation.isolator import Isolator

    settings = small.settings.updated(triton_namespaces="everywhere")
    lasting = Isolator(
        replace(small._isolation()._environment, lasting=True, outlives=True, settings=settings, id="lasting-roles")
    )
    try:
        with small.postgres.connect() as connection:
            connection.execute("create role theirs")
        (tmp_path / "1.sql").write_text("create role app_ro; create role theirs;")
        with pytest.raises(TemplateFailed, match='role "theirs" already exists'):
            lasting.namespace(None, tmp_path, services=None, keep_on_error=False)
        for n in range(2):
            (tmp_path / "1.sql").write_text(f"create role app_rw; select {n};")
            lasting.namespace(None, tmp_path, services=None, keep_on_error=False).close()
        assert roles(small).keys() >= {"theirs", "app_rw"}
    finally:
        lasting.close()
