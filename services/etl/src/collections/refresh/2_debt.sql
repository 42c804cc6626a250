-- Debts of the snapshots that have changed: rows that are owed and were not refused.
delete from aux_debt where dia in (select dia from changed_snapshots);
-- A day at a time: sorted in memory, and appended in the order of the key.
insert into aux_debt (cuenta, dia, deuda)
select t.cuenta, s.dia, t.deuda
from (select dia from changed_snapshots order by dia) as s
cross join lateral (
    select cod_cuenta as cuenta, sum(monto_exigible) as deuda from raw_trandeuda
    where fecha_proceso = s.dia and eliminado_en is null and monto_exigible > 0 and coalesce(trim(motivo_rechazo), '') = ''
    group by cod_cuenta order by cod_cuenta
) as t;

delete from aux_snapshots where dia in (select dia from changed_snapshots);
insert into aux_snapshots (dia)
select dia from changed_snapshots s where exists (select from aux_debt d where d.dia = s.dia);
update aux_snapshots s set next = n.next
from (select dia, lead(dia) over (order by dia) as next from aux_snapshots) as n
where n.dia = s.dia and s.next is distinct from n.next;

do $$ begin
    if exists (select from changed_snapshots) then
        analyze aux_debt;
        analyze aux_snapshots;
    end if;
end $$;
