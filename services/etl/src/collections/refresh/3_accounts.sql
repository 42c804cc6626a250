-- Who is assigned in whole campaigns: an account a row with its cuts and the debt that it came with, and its client.
create temporary table assigned on commit drop as
    select distinct on (a.archivo, a.cuenta)
           a.archivo, a.cuenta, a.cod_luna, a.fecha_asignacion, a.tramo_gestion, a.min_vto, a.negocio, a.fraccionamiento
    from raw_asignaciones a join whole using (archivo) join aux_campaigns using (archivo)
    where a.eliminado_en is null
    order by a.archivo, a.cuenta, a.creado_el desc, a.fecha_asignacion desc, a.cod_luna;
analyze assigned;

-- Clients by number: distinct ones are counted when it is asked, and numbers are counted faster than texts.
insert into aux_clients (cod_luna)
select distinct cod_luna from assigned a where not exists (select from aux_clients c where c.cod_luna = a.cod_luna);

create temporary table clients_of on commit drop as
    select a.archivo, a.cod_luna, c.id as client, count(*)::integer as accounts
    from assigned a join aux_clients c using (cod_luna) group by a.archivo, a.cod_luna, c.id;
analyze clients_of;
-- Who stays keeps its number.
delete from aux_members m using whole w
where m.archivo = w.archivo
  and not exists (select from clients_of c where c.archivo = m.archivo and c.cod_luna = m.cod_luna);
update aux_members m set accounts = c.accounts
from clients_of c where c.archivo = m.archivo and c.cod_luna = m.cod_luna and m.accounts <> c.accounts;
insert into aux_members (archivo, cod_luna, client, accounts)
select archivo, cod_luna, client, accounts from clients_of c
where not exists (select from aux_members m where m.archivo = c.archivo and m.cod_luna = c.cod_luna)
order by archivo, cod_luna;

delete from mart_clients where archivo in (select archivo from whole);
insert into mart_clients (archivo, client) select archivo, client from clients_of order by archivo, client;

-- Of the snapshot of the campaign's day; else of the first in its window that the account is in: for most that is the first
-- of all.
create temporary table assigned_debt on commit drop as
    select a.archivo, a.cuenta, coalesce(t.deuda, d.deuda) as deuda
    from assigned a
    join (
        select archivo, fecha_trandeuda, min(s.dia) as first
        from aux_campaigns left join aux_snapshots s on s.dia between opens and closes group by archivo, fecha_trandeuda
    ) as c using (archivo)
    left join aux_debt t on t.dia = c.fecha_trandeuda and t.cuenta = a.cuenta
    left join aux_debt d on d.dia = c.first and d.cuenta = a.cuenta;
analyze assigned_debt;
update assigned_debt l set deuda = d.deuda
from (
    select a.archivo, a.cuenta, min(d.dia) as dia
    from assigned_debt a join aux_campaigns c using (archivo)
    join aux_debt d on d.cuenta = a.cuenta and d.dia between c.opens and c.closes
    where a.deuda is null
    group by a.archivo, a.cuenta
) as f
join aux_debt d on d.dia = f.dia and d.cuenta = f.cuenta
where l.archivo = f.archivo and l.cuenta = f.cuenta;

delete from aux_accounts where archivo in (select archivo from whole);
insert into aux_accounts (archivo, cuenta, cod_luna, member, servicio, tramo, vencimiento, rango_deuda, fraccionado,
                          fecha_asignacion, deuda_asig)
select a.archivo, a.cuenta, a.cod_luna, m.member,
       case when upper(trim(a.negocio)) in ('MOVIL', 'MÓVIL') then 'MOVIL' else 'FIJA' end,
       coalesce(trim(a.tramo_gestion), ''),
       coalesce(extract(day from a.min_vto), 0),
       case when coalesce(d.deuda, 0) = 0 then 'SIN_DEUDA' when d.deuda < 1 then 'MENOR_1'
            when d.deuda < 100 then 'RANGO_1_100' when d.deuda <= 500 then 'RANGO_100_500' else 'MAYOR_500' end,
       coalesce(upper(trim(a.fraccionamiento)) = 'SI', false),
       a.fecha_asignacion, coalesce(d.deuda, 0)
from assigned a
join aux_members m using (archivo, cod_luna)
left join assigned_debt d using (archivo, cuenta)
order by a.archivo, a.cuenta;

do $$ begin
    if exists (select from whole) then
        analyze aux_clients;
        analyze aux_members;
        analyze aux_accounts;
        analyze mart_clients;
    end if;
end $$;

update aux_campaigns c set fecha_asignacion = a.first
from (select archivo, min(fecha_asignacion) as first from aux_accounts group by archivo) as a
where c.archivo = a.archivo;
