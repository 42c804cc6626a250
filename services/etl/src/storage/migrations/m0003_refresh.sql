-- A refresh reads each table of facts once, and after a few new rows only the days that they are of: what it knows of a
-- client in a campaign is kept by day, so that a day can be taken out and put in again.

-- A refresher of the version before fails from here on, changes nothing and leaves what has changed to this one. Readers
-- see no difference.
drop table aux_calls;
alter table aux_accounts
    drop column first_managed, drop column first_ci, drop column first_cd, drop column first_promise,
    add column member integer;

-- Debts come by snapshot: so they are appended, and so they are taken out.
alter table aux_debt drop constraint aux_debt_pkey;
drop index aux_debt_dia_idx;
alter table aux_debt add primary key (dia, cuenta);

-- A client in a campaign: what reaches one of its accounts there reaches all. With the first day of each level.
create table aux_members (
    member integer primary key generated always as identity,
    archivo text not null,
    cod_luna text not null,
    client bigint not null,
    accounts integer not null,
    first_managed date,
    first_ci date,
    first_cd date,
    first_promise date,
    unique (archivo, cod_luna)
);

-- The calls of a day that reach a client in a campaign.
create table aux_member_days (
    dia date not null,
    member integer not null,
    calls integer not null,
    cd boolean not null,
    ci boolean not null,
    promise boolean not null,
    primary key (dia, member)
);

-- The last direct contact of a day.
create table aux_contacts (
    member integer not null,
    dia date not null,
    hora smallint not null,
    voicebot boolean not null,
    at timestamptz not null,
    uid text not null,
    agent text,
    primary key (member, dia)
);

-- The first five calls of a client in a campaign.
create table aux_attempts (
    member integer not null,
    attempt smallint not null,
    dia date not null,
    cd boolean not null,
    ci boolean not null,
    promise boolean not null,
    primary key (member, attempt)
);

-- The promises that a client made an agent on a day, and the first day on or after it with a payment of the client's in a
-- campaign which the call reached.
create table aux_promises (
    dia date not null,
    client bigint not null,
    agent text not null,
    promises integer not null,
    paid_on date,
    primary key (dia, client, agent)
);

-- How many rows a day of a stream has at the source, and their fingerprint: when the day was read last, and (seen_*) as the
-- run of this id found it before it read anything.
create table raw_days (
    stream text not null,
    dia date not null,
    filas bigint,
    huella text,
    seen_filas bigint not null,
    seen_huella text not null,
    seen_run uuid not null,
    primary key (stream, dia)
);

-- The moment of the snapshot that a record is from: it is merged as of then when it is read again.
alter table raw_quarantine add column leido_en timestamptz;

-- All is computed again.
insert into raw_changes (source) values ('raw_ejecutivos');
