-- An account a row: its cuts, the debt that it came with, the first day of each level.
delete from aux_accounts where archivo in (select archivo from affected);
insert into aux_accounts (archivo, cuenta, cod_luna, servicio, tramo, vencimiento, rango_deuda, fraccionado,
                          fecha_asignacion, deuda_asig, first_managed, first_ci, first_cd, first_promise, first_paid)
select a.archivo, a.cuenta, a.cod_luna,
       case when upper(trim(a.negocio)) in ('MOVIL', 'MÓVIL') then 'MOVIL' else 'FIJA' end,
       coalesce(trim(a.tramo_gestion), ''),
       coalesce(extract(day from a.min_vto), 0),
       case when d.deuda = 0 then 'SIN_DEUDA' when d.deuda < 1 then 'MENOR_1' when d.deuda < 100 then 'RANGO_1_100'
            when d.deuda <= 500 then 'RANGO_100_500' else 'MAYOR_500' end,
       coalesce(upper(trim(a.fraccionamiento)) = 'SI', false),
       a.fecha_asignacion, d.deuda, l.managed, l.ci, l.cd, l.promise, p.paid
from assigned a
join aux_campaigns c using (archivo)
left join (
    select archivo, cod_luna, min(dia) as managed, min(dia) filter (where nivel = 'CI') as ci,
           min(dia) filter (where nivel = 'CD') as cd, min(dia) filter (where promise) as promise
    from aux_calls join affected using (archivo) group by archivo, cod_luna
) as l using (archivo, cod_luna)
left join (
    select archivo, cuenta, min(fecha_pago) as paid from aux_payments join affected using (archivo)
    group by archivo, cuenta
) as p using (archivo, cuenta)
cross join lateral (
    select coalesce(
        (select deuda from aux_debt where cuenta = a.cuenta and dia = c.fecha_trandeuda),
        (select deuda from aux_debt where cuenta = a.cuenta and dia between c.opens and c.closes order by dia limit 1),
        0
    ) as deuda
) as d;
analyze aux_accounts;

update aux_campaigns c set fecha_asignacion = a.first
from (select archivo, min(fecha_asignacion) as first from aux_accounts group by archivo) as a
where c.archivo = a.archivo;

-- Clients by number: distinct ones are counted when it is asked, and numbers are counted faster than texts.
insert into aux_clients (cod_luna)
select distinct cod_luna from assigned where cod_luna not in (select cod_luna from aux_clients);
delete from mart_clients where archivo in (select archivo from affected);
insert into mart_clients (archivo, client)
select distinct archivo, c.id from assigned join aux_clients c using (cod_luna);
