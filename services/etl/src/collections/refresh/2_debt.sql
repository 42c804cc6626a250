-- Debts of the snapshots that have changed: rows that are owed and were not refused.
delete from aux_debt where dia in (select dia from changed_snapshots);
insert into aux_debt (cuenta, dia, deuda)
select cod_cuenta, fecha_proceso, sum(monto_exigible)
from raw_trandeuda join changed_snapshots on dia = fecha_proceso
where eliminado_en is null and monto_exigible > 0 and coalesce(trim(motivo_rechazo), '') = ''
group by cod_cuenta, fecha_proceso;

delete from aux_snapshots;
insert into aux_snapshots (dia, next)
select dia, lead(dia) over (order by dia) from (select distinct dia from aux_debt) as days;
analyze aux_debt;
