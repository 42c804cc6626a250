use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

/// What running imports have met goes on to count. A worker of before can't note anything here: its run is begun again by
/// one of today, where it was.
const UP: &str = "
alter table raw_met rename to raw_met_keys;
alter index raw_met_pkey rename to raw_met_keys_pkey;

-- Keys (hashed) that a run has met in its present slice, a row a page: the others of that slice are gone.
create table raw_met (
    run uuid not null,
    keys bigint[] not null
);
create index raw_met_run on raw_met (run);

insert into raw_met (run, keys) select run, array_agg(key) from raw_met_keys group by run;
drop table raw_met_keys;
";

const DOWN: &str = "
alter table raw_met rename to raw_met_pages;

create table raw_met (
    run uuid not null,
    key bigint not null,
    primary key (run, key)
);

insert into raw_met (run, key) select distinct run, unnest(keys) from raw_met_pages;
drop table raw_met_pages;
";
