"""A PostgreSQL server full of all kinds of things, and how a client sees them."""

from typing import Any

from triton_env import TritonEnvironment

_POSTGRES = """
create role owner_of_claims login password 'one' connection limit 7 valid until '2040-01-01 00:00:00+00';
create role reader;
grant reader to owner_of_claims with admin option;
comment on role reader is 'may read';
alter role reader set search_path to "$user", claims, public;
alter role reader in database triton set work_mem to '5MB';
alter role all set work_mem to '6MB';
create schema claims authorization owner_of_claims;
create extension citext;
create extension pg_trgm with schema claims;
create type claims.state as enum ('open', 'paid', 'refused');
create domain claims.amount as numeric(12, 2) check (value >= 0);
create table claims.claim (
    id bigint generated always as identity primary key,
    state claims.state not null default 'open',
    amount claims.amount,
    tags text[] not null default '{}',
    matrix int[][],
    details jsonb,
    picture bytea,
    span tstzrange,
    name citext collate "C",
    doubled numeric generated always as (amount * 2) stored
);
create index on claims.claim using gin (details);
create index claim_name on claims.claim using gin ((name::text) claims.gin_trgm_ops);
insert into claims.claim (state, amount, tags, matrix, details, picture, span, name)
select (array['open', 'paid', 'refused'])[1 + n % 3]::claims.state, n * 1.25, array['a' || n, 'b,"{}', null],
       array[[n, 2], [3, 4]], jsonb_build_object('n', n, 'text', e'line\\nö' || n, 'null', null),
       decode(md5(n::text), 'hex'), tstzrange('2026-01-01', '2026-01-02'::timestamptz + n * interval '1 hour'),
       case when n % 2 = 0 then 'Name ' || n end
from generate_series(1, 2000) n;
alter table claims.claim owner to owner_of_claims;
create table claims.payment (day date not null, claim bigint references claims.claim, amount numeric, who text)
    partition by range (day);
create table claims.payment_2025 partition of claims.payment for values from ('2025-01-01') to ('2026-01-01');
create table claims.payment_2026 partition of claims.payment for values from ('2026-01-01') to ('2027-01-01');
create table claims.payment_rest partition of claims.payment default;
insert into claims.payment select '2025-06-01'::date + n, n, n, 'x' from generate_series(1, 500) n;
create sequence claims.number increment 5 start 100 cycle maxvalue 1000;
select nextval('claims.number'), nextval('claims.number');
create function claims.total(which claims.state) returns numeric language sql stable
    as $$ select sum(amount) from claims.claim where state = which $$;
create function claims.note() returns trigger language plpgsql as $$ begin new.who := coalesce(new.who, 'stranger');
    return new; end $$;
create trigger note before insert on claims.payment for each row execute function claims.note();
create view claims.open as select id, amount from claims.claim where state = 'open';
create materialized view claims.sums as select state, sum(amount) as total from claims.claim group by state;
create view "odd ""name""; drop" as select 1 as "a b";
alter table claims.claim enable row level security;
create policy mine on claims.claim to reader using (amount < 10);
grant usage on schema claims to reader;
grant select on claims.claim, claims.open to reader;
alter default privileges in schema claims grant select on tables to reader;
create publication everything for all tables;
comment on table claims.claim is 'claims';
alter database triton set search_path to public, claims;
alter database triton connection limit 50;
comment on database triton is 'the database';
grant create on database triton to reader;
select lo_from_bytea(4711, decode(repeat('00ff10', 100000), 'hex'));
grant select on large object 4711 to reader;
"""
_ODD_DATABASE = 'odd "name"=x'

_POSTGRES_QUERIES = (
    "select * from claims.claim order by id",
    "select tableoid::regclass::text, * from claims.payment order by 2, 3",
    "select last_value, is_called from claims.number",
    "select claims.total('open'), claims.total('paid')",
    "select * from claims.open order by 1",
    "select * from claims.sums order by 1",
    'select * from public."odd ""name""; drop"',
    "select md5(lo_get(4711)), length(lo_get(4711))",
    "select schemaname, tablename, tableowner, rowsecurity from pg_tables where schemaname = 'claims' order by 2",
    "select indexdef from pg_indexes where schemaname = 'claims' order by 1",
    "select conname, pg_get_constraintdef(oid) from pg_constraint where connamespace = 'claims'::regnamespace"
    " and contype in ('c', 'f', 'p') order by 1",
    "select polname, pg_get_expr(polqual, polrelid) from pg_policy",
    "select tgname, tgrelid::regclass::text from pg_trigger where not tgisinternal order by 2",
    "select extname, extnamespace::regnamespace::text from pg_extension order by 1",
    "select pubname, puballtables from pg_publication",
    "select obj_description('claims.claim'::regclass)",
    "select defaclacl::text from pg_default_acl",
    "select has_table_privilege('reader', 'claims.claim', 'select'),"
    " has_table_privilege('reader', 'claims.claim', 'insert'),"
    " has_table_privilege('reader', 'claims.open', 'select'), has_schema_privilege('reader', 'claims', 'usage')",
    "select lomacl::text from pg_largeobject_metadata",
    "select last_value, is_called from claims.claim_id_seq",
)
_POSTGRES_GLOBALS = (
    "select rolname, rolcanlogin, rolconnlimit, rolvaliduntil::text, shobj_description(oid, 'pg_authid'), rolpassword"
    " from pg_authid where rolname in ('owner_of_claims', 'reader') order by 1",
    "select r.rolname, m.rolname, admin_option from pg_auth_members a join pg_authid r on r.oid = a.roleid"
    " join pg_authid m on m.oid = a.member where r.rolname = 'reader' order by 1, 2",
    "select coalesce(datname, ''), coalesce(rolname, ''), setconfig from pg_db_role_setting"
    " left join pg_database d on d.oid = setdatabase left join pg_authid r on r.oid = setrole order by 1, 2",
    "select datname, datconnlimit, shobj_description(d.oid, 'pg_database'), pg_get_userbyid(datdba),"
    " pg_encoding_to_char(encoding), has_database_privilege('reader', d.oid, 'create')"
    " from pg_database d where not datistemplate order by 1",
    "select datcollate, datctype, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')"
    " from pg_database d where datname = 'latin'",
)


_UNUSUAL = ("idle_session_timeout to 100", "datestyle to german", "intervalstyle to iso_8601")
"""What a client reads or waits for in another way."""


def fill_postgres(env: TritonEnvironment) -> None:
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute(_POSTGRES)
        connection.execute('create database "odd ""name""=x" owner reader')
    with env.postgres.connect(dbname=_ODD_DATABASE) as connection:
        connection.execute("create table t (a int)")
        connection.execute("insert into t values (1), (2)")
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute("create database limited")
        connection.execute("create database latin template template0 encoding latin1 locale 'C'")
    with env.postgres.connect(dbname="limited", autocommit=True) as connection:
        connection.execute("create table t as select 5 as a")
        for setting in ("role to reader", "statement_timeout to 1", "default_transaction_read_only to on", *_UNUSUAL):
            connection.execute(f"alter database limited set {setting}")


def look_at_postgres(env: TritonEnvironment) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # Another search path would show names in another way.
    with env.postgres.connect(options="-c search_path=pg_catalog") as connection:
        for query in (*_POSTGRES_QUERIES, *_POSTGRES_GLOBALS):
            found[query] = connection.execute(query).fetchall()
    with env.postgres.connect(dbname=_ODD_DATABASE) as connection:
        found["odd"] = connection.execute("select a from t order by a").fetchall()
    # Neither the role nor the limits of its own.
    options = "-c role=none -c statement_timeout=0"
    with env.postgres.connect(dbname="limited", options=options) as connection:
        found["limited"] = connection.execute("select a from t").fetchall()
    return found
