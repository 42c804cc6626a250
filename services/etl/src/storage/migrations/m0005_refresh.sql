-- A refresh writes what it knows of a client or an account shortly after their rows: with room beside them on their page, no
-- index has to follow.
alter table aux_members set (fillfactor = 60);
alter table aux_accounts set (fillfactor = 85);

-- When a record in quarantine was read again last: those that stay bad come after all others.
alter table raw_quarantine add column intentado_en timestamptz;

-- All is computed again where `all` is noted. An agent's name is of itself by now.
insert into raw_changes (source) select distinct 'all' from raw_changes where source = 'raw_ejecutivos';
