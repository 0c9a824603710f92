create table plans (
    id integer generated always as identity primary key,
    code text not null unique,
    monthly_fee numeric(10, 2) not null
);

insert into plans (code, monthly_fee) values ('basic', 100), ('full', 250);
