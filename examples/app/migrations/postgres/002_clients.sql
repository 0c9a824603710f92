create table clients (
    id integer generated always as identity primary key,
    name text not null unique,
    plan_id integer not null references plans (id),
    created_at timestamptz not null default now()
);
