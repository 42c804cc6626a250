-- What is known of clients, payments and accounts becomes what it is now.
update aux_members m
set first_managed = f.managed, first_ci = f.ci, first_cd = f.cd, first_promise = f.promise
from (
    select r.member, min(d.dia) as managed, min(d.dia) filter (where d.ci) as ci, min(d.dia) filter (where d.cd) as cd,
           min(d.dia) filter (where d.promise) as promise
    from (select member from changed_days union select m.member from aux_members m join whole using (archivo)) as r
    left join aux_member_days d using (member)
    group by r.member
) as f
where m.member = f.member
  and (m.first_managed, m.first_ci, m.first_cd, m.first_promise) is distinct from (f.managed, f.ci, f.cd, f.promise);

-- Clients whose promises may be kept on another day than was known.
create temporary table clients_repaid on commit drop as
    select distinct m.client from repaid join aux_accounts a using (archivo, cuenta) join aux_members m using (member);
analyze clients_repaid;

delete from aux_payments where fecha_pago in (select dia from pay_days);
insert into aux_payments (archivo, nro_documento, fecha_pago, monto, cuenta, cod_luna,
                          call_canal, call_uid, call_at, call_dia, call_hora, call_agent)
select p.archivo, p.nro_documento, p.fecha_pago, p.monto, p.cuenta, p.cod_luna,
       case l.voicebot when true then 'Voicebot' when false then 'Call Center' end, l.uid, l.at, l.dia, l.hora, l.agent
from payments p
left join lateral (
    select * from aux_contacts l where l.member = p.member and l.dia <= p.fecha_pago order by l.dia desc limit 1
) as l on true;

-- Payments of other days that another contact was before.
update aux_payments p
set call_canal = n.canal, call_uid = n.uid, call_at = n.at, call_dia = n.dia, call_hora = n.hora, call_agent = n.agent
from (
    select p.archivo, p.nro_documento, p.fecha_pago, p.monto,
           case l.voicebot when true then 'Voicebot' when false then 'Call Center' end as canal, l.uid, l.at, l.dia, l.hora, l.agent
    from credits_change x
    join aux_members m using (member)
    join aux_payments p on p.archivo = m.archivo and p.cod_luna = m.cod_luna and p.fecha_pago >= x.dia
    left join lateral (
        select * from aux_contacts l where l.member = x.member and l.dia <= p.fecha_pago order by l.dia desc limit 1
    ) as l on true
    where p.fecha_pago not in (select dia from pay_days)
) as n
where (p.archivo, p.nro_documento, p.fecha_pago, p.monto) = (n.archivo, n.nro_documento, n.fecha_pago, n.monto)
  and (p.call_canal, p.call_uid, p.call_at, p.call_agent) is distinct from (n.canal, n.uid, n.at, n.agent);

insert into scope
select archivo, cuenta, cut
from aux_accounts join whole using (archivo) join cuts using (archivo, servicio, tramo, vencimiento, rango_deuda);
analyze scope;
update aux_accounts a set first_paid = p.first
from (
    select archivo, cuenta, min(fecha_pago) as first from scope left join aux_payments using (archivo, cuenta)
    group by archivo, cuenta
) as p
where a.archivo = p.archivo and a.cuenta = p.cuenta and a.first_paid is distinct from p.first;

do $$ begin
    if exists (select from whole) then
        analyze aux_payments;
    end if;
end $$;
