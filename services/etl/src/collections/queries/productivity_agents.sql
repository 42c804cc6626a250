-- An agent a row and a day: calls, promises (and which of them a payment followed, by the end of the span), and the
-- money that was paid by the end of the span after a direct contact of that day, which was the account's last before it.
with credited as (
    -- A payment is one, in however many campaigns its account is: the latest contact has it.
    select distinct on (nro_documento, fecha_pago, monto) call_agent as agent, call_dia as dia, monto
    from aux_payments where call_uid is not null and fecha_pago between $1 and $2
    order by nro_documento, fecha_pago, monto, call_at desc, call_canal, call_uid
),
worked as (
    select agent, dia, sum(calls) as calls, sum(contacts) as contacts, sum(promises) as promises,
           coalesce(sum(promises) filter (where paid_on <= $2), 0) as kept
    from mart_agents where dia between $1 and $2 group by agent, dia
),
recovered as (
    select agent, dia, sum(monto) as money from credited where dia >= $1 and agent is not null group by agent, dia
)
select w.agent, coalesce(e.nombre, w.agent) as name, coalesce(e.document, '') as dni, w.dia - $1 + 1 as day,
       w.calls::bigint as calls, w.contacts::bigint as contacts, w.promises::bigint as promises, w.kept::bigint as kept,
       coalesce(r.money, 0) as money
from worked w
left join recovered r using (agent, dia)
left join aux_executives e using (agent)
order by w.agent, day
