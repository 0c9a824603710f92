"""A restore loads PostgreSQL without rights, and yet everything has the owner and the privileges that it had."""

import re
import subprocess
from pathlib import Path

import pytest

from triton_env import TritonEnvironment, backup
from triton_env.services.names import is_space
from triton_env.services.postgres.isolation import EMPTY

pytestmark = pytest.mark.timeout(300)

_OBJECTS = """
create role app login password 'x'; create role boss; create role reader nologin;
create role strong bypassrls; grant boss to app;
create schema s authorization boss;
create extension citext; create extension postgres_fdw; create extension hstore with schema s;
comment on extension citext is 'it''s \\ ours';
create table s.t (id serial primary key, v citext, h s.hstore, who text default current_user);
alter table s.t owner to app;
insert into s.t (v) values ('a'), ('b');
create unlogged table s.unlogged (a int);
create table s.identity (a int generated always as identity);
alter table s.identity owner to boss;
create view s.v as select * from s.t; alter view s.v owner to boss;
create materialized view s.filled as select count(*) from s.t;
create materialized view s.not_filled as select 1 as a with no data;
create function s.f(a int, b text default 'x', out c int) language plpgsql security definer
    as $$ begin c := a; end $$;
alter function s.f owner to boss; revoke all on function s.f from public; grant execute on function s.f to reader;
create function s.f(timestamptz[], s.hstore) returns int language sql as 'select 1';
alter function s.f(timestamptz[], s.hstore) owner to app;
create procedure s.p(inout a timestamptz) language plpgsql as $$ begin null; end $$; alter procedure s.p owner to app;
create function s.more(bigint) returns bigint language sql immutable as 'select $1 + 1';
create aggregate s.star(*) (sfunc = s.more, stype = bigint, initcond = '0'); alter aggregate s.star(*) owner to boss;
create operator s.=== (leftarg = int, rightarg = int, function = int4eq); alter operator s.===(int, int) owner to app;
create type s.e as enum ('a', 'b'); alter type s.e owner to app;
create type s.composite as (a int, b text); alter type s.composite owner to boss;
create type s.range as range (subtype = float8); alter type s.range owner to app;
create domain s.d as int check (value > 0); alter domain s.d owner to boss;
create collation s.c from "C"; alter collation s.c owner to app;
create text search configuration s.words (copy = simple); alter text search configuration s.words owner to app;
create text search dictionary s.simple (template = simple); alter text search dictionary s.simple owner to boss;
create statistics s.st on id, v from s.t;
create server far foreign data wrapper postgres_fdw options (host '127.0.0.1', port '1'); alter server far owner to app;
create user mapping for app server far options (user 'u', password 'p');
create foreign table s.foreign (a int) server far; alter foreign table s.foreign owner to app;
create publication everything for all tables;
create publication few for table s.t where (id > 0); alter publication few owner to app;
create publication schemas for tables in schema s;
create subscription sub connection 'host=127.0.0.1 port=1 dbname=x' publication a, b
    with (connect = false, slot_name = 'x');
comment on subscription sub is 'sub'; comment on publication everything is 'all'; comment on procedure s.p is 'p';
grant select (id, v), update (v) on s.t to reader; grant all on s.v to boss with grant option;
grant usage on schema s to reader with grant option;
set session authorization boss; grant select on s.v to app; reset session authorization;
revoke insert on s.t from app;
grant usage on type s.e to reader; revoke usage on type s.e from public;
grant usage on foreign server far to reader; grant usage on sequence s.t_id_seq to reader;
alter default privileges for role app in schema s grant select on tables to reader;
alter default privileges for role boss revoke all on types from public;
alter table s.t enable row level security; alter table s.t force row level security;
create policy mine on s.t for select to app using (id < 2);
create materialized view s.of_app as select count(*) from s.t; alter materialized view s.of_app owner to app;
refresh materialized view s.of_app;
create rule nothing as on update to s.v do instead nothing;
create function s.trigger() returns trigger language plpgsql as $$ begin new.who := 'changed'; return new; end $$;
create trigger changed before insert on s.t for each row execute function s.trigger();
create table part (a int) partition by list (a); create table part_1 partition of part for values in (1);
alter table part_1 owner to app;
"""
_LARGE_OBJECTS = """
select lo_from_bytea(4100, 'a'), lo_from_bytea(4101, 'b'), lo_from_bytea(4102, 'c');
alter large object 4101 owner to app; grant select on large object 4101 to reader;
alter large object 4102 owner to app; grant select on large object 4102 to reader; comment on large object 4100 is 'a';
"""


def _dump(env: TritonEnvironment) -> str:
    program = env.program(
        "postgres",
        ("pg_dump", "--host={host}", "--port={port:postgres}", "--no-password"),
        {"PGUSER": env.postgres.user, "PGPASSWORD": env.postgres.password, "PGDATABASE": "triton"},
    )
    done = subprocess.run(program.argv, env=dict(program.environment), capture_output=True, text=True, check=True)
    return re.sub(r"\\(un)?restrict \S+", "", done.stdout)


def test_owners_privileges_and_contents_are_what_they_were(embedded: TritonEnvironment, tmp_path: Path) -> None:
    with embedded.postgres.connect(autocommit=True) as connection:
        connection.execute(_OBJECTS)
        connection.execute(_LARGE_OBJECTS)
    before = _dump(embedded)
    manifest = backup.create(embedded, tmp_path / "a", services=("postgres",))
    assert any("Subscriptions are saved without their slots" in note for note in manifest.services["postgres"].notes)
    # Twice: the second time, what is dropped has a subscription.
    for _ in range(2):
        backup.restore(embedded, tmp_path / "a", replace=True)
        assert _dump(embedded) == before
    with embedded.postgres.connect() as connection:
        # The owner of this one does not see all rows.
        assert connection.execute("select * from s.of_app").fetchone() == (1,)
        assert connection.execute("select * from s.filled").fetchone() == (2,)
        assert connection.execute("select rolbypassrls from pg_roles where rolname = 'strong'").fetchone() == (True,)
        left = "select rolname from pg_roles where rolname ~ '^triton_r' union select datname from pg_database"
        # What isolation has made, for other tests as well, stays.
        assert {name for (name,) in connection.execute(left) if name != EMPTY and not is_space(name)} == {
            *("postgres", "template0", "template1", "triton"),
        }
