-- An agent a row and a day: calls, promises (and which of them a payment followed, by the end of the span), and the
-- money that was paid by the end of the span after a direct contact of that day, which was the account's last before it.
with once as (
    select canal, uid, agent, dia, nivel, promise, min(paid_on) as paid_on
    from aux_calls where dia between $1 and $2 and agent is not null
    group by canal, uid, agent, dia, nivel, promise
),
credited as (
    -- A payment is one, in however many campaigns its account is: the latest contact has it.
    select distinct on (nro_documento, fecha_pago, monto) call_agent as agent, call_dia as dia, monto
    from aux_payments where call_uid is not null and fecha_pago between $1 and $2
    order by nro_documento, fecha_pago, monto, call_at desc, call_canal, call_uid
),
worked as (
    select agent, dia, count(*) as calls, count(*) filter (where nivel = 'CD') as contacts,
           count(*) filter (where promise) as promises,
           count(*) filter (where promise and paid_on <= $2) as kept
    from once group by agent, dia
),
recovered as (
    select agent, dia, sum(monto) as money from credited where dia >= $1 and agent is not null group by agent, dia
)
select w.agent, coalesce(e.nombre, w.agent) as name, coalesce(e.document, '') as dni, w.dia - $1 + 1 as day,
       w.calls, w.contacts, w.promises, w.kept, coalesce(r.money, 0) as money
from worked w
left join recovered r using (agent, dia)
left join lateral (
    select nombre, document from raw_ejecutivos e
    where lower(trim(e.correo_name)) = w.agent and e.eliminado_en is null order by correo_name limit 1
) as e on true
order by w.agent, day
