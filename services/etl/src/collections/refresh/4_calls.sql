-- Managements of the days that are computed again, once each, with the level that their rule gives them: as many as reach
-- a campaign. `{from}` and `{to}` are the first and the last of these days: a planner that knows them reads no other.
create temporary table reach on commit drop as
    select m.member, m.client, m.cod_luna, m.accounts, c.archivo, c.cartera, c.opens, c.closes,
           exists (select from whole w where w.archivo = c.archivo) as whole
    from aux_members m join aux_campaigns c using (archivo)
    where c.opens <= c.closes and exists (select from call_days where dia between c.opens and c.closes);
create index on reach (member);
analyze reach;
create temporary table windows_of on commit drop as
    select client, cod_luna, range_agg(daterange(opens, least(closes, date '9999-12-30'), '[]')) as windows
    from (select distinct client, cod_luna, opens, closes from reach) as r group by client, cod_luna;
analyze windows_of;

-- What a rule makes of a call.
create temporary table rules on commit drop as
    select voicebot, code_1, code_2, code_3,
           coalesce(upper(trim(contactabilidad)) = 'CONTACTO EFECTIVO', false) as cd,
           coalesce(upper(trim(contactabilidad)) = 'CONTACTO NO EFECTIVO', false) as ci,
           coalesce(upper(trim(pdp)) in ('1', 'TRUE', 'SI'), false) as promise
    from (
        select true as voicebot, management as code_1, sub_management as code_2, compromiso as code_3, contactabilidad, pdp
        from raw_homologacion_voicebot where eliminado_en is null
        union all
        select false, n1, n2, n3, contactabilidad, pdp from raw_homologacion_mibotair where eliminado_en is null
    ) as r;
analyze rules;

create temporary table staged on commit drop as
select w.client, m.dia, m.at, date_part('hour', m.at at time zone 'America/Lima')::smallint as hora, m.voicebot,
       coalesce(h.cd, false) as cd, coalesce(h.ci, false) as ci, coalesce(h.promise, false) as promise, m.agent, m.uid
from (
    select true as voicebot, uid, document, dia, "date" as at, null as agent, coalesce(management, '') as code_1,
           coalesce(sub_management, '') as code_2, coalesce(compromiso, '') as code_3
    from raw_voicebot_gestiones
    where eliminado_en is null
      and "date" >= timestamp '{from}' at time zone 'America/Lima'
      and "date" < (date '{to}' + 1)::timestamp at time zone 'America/Lima'
    union all
    select false, uid, document, dia, "date",
           lower(coalesce(nullif(trim(correo_agente), ''), nullif(trim(nombre_agente), ''))), coalesce(n1, ''),
           coalesce(n2, ''), coalesce(n3, '')
    from raw_mibotair_gestiones
    where eliminado_en is null
      and "date" >= timestamp '{from}' at time zone 'America/Lima'
      and "date" < (date '{to}' + 1)::timestamp at time zone 'America/Lima'
) as m
join windows_of w on w.cod_luna = m.document and w.windows @> m.dia
left join rules h using (voicebot, code_1, code_2, code_3)
where m.dia in (select dia from call_days);
analyze staged (client, dia, cd);

-- The days of clients in campaigns; of campaigns that are not computed again whole, what there was.
create temporary table days_before on commit drop as
    with gone as (delete from aux_member_days where dia in (select dia from call_days) returning *)
    select g.* from gone g join reach r using (member) where not r.whole;
insert into aux_member_days (dia, member, calls, cd, ci, promise)
select s.dia, r.member, count(*), bool_or(s.cd), bool_or(s.ci), bool_or(s.promise)
from staged s join reach r on r.client = s.client and s.dia between r.opens and r.closes
group by s.dia, r.member
order by s.dia, r.member;

create temporary table changed_days on commit drop as
    select member, dia, coalesce(n.calls, 0) - coalesce(o.calls, 0) as calls
    from days_before o
    full join (
        select d.* from aux_member_days d join reach r using (member)
        where not r.whole and d.dia in (select dia from call_days)
    ) as n using (member, dia)
    where (o.calls, o.cd, o.ci, o.promise) is distinct from (n.calls, n.cd, n.ci, n.promise);
analyze changed_days;

-- The last direct contact of each day.
create temporary table contacts_changed on commit drop as
    with gone as (delete from aux_contacts where dia in (select dia from call_days) returning member, dia)
    select g.member, g.dia from gone g join reach r using (member) where not r.whole;
create temporary table contacts on commit drop as
    select distinct on (r.member, s.dia) r.member, s.dia, s.hora, s.voicebot, s.at, s.uid, s.agent, r.whole
    from staged s join reach r on r.client = s.client and s.dia between r.opens and r.closes
    where s.cd
    order by r.member, s.dia, s.at desc, s.voicebot, s.uid;
insert into aux_contacts (member, dia, hora, voicebot, at, uid, agent)
select member, dia, hora, voicebot, at, uid, agent from contacts;
insert into contacts_changed select member, dia from contacts where not whole;
drop table contacts;
-- From which day on a payment of the client's may be another contact's.
create temporary table credits_change on commit drop as
    select member, min(dia) as dia from contacts_changed group by member;
analyze credits_change;

-- The first five calls: of a client whose fifth was before the days that have changed, they are what they were.
create temporary table early_members on commit drop as
    select member, true as whole from reach where whole
    union all
    select r.member, false
    from reach r
    join (select member, min(dia) as dia from (
              select member, dia from days_before
              union all
              select member, dia from changed_days
          ) as d group by member) as t using (member)
    where not r.whole
      and not exists (select from aux_attempts a where a.member = r.member and a.attempt = 5 and a.dia < t.dia);
analyze early_members;
-- No call after the day of the fifth matters.
create temporary table early on commit drop as
    select e.member, r.client, r.cod_luna, r.opens, least(r.closes, f.dia) as closes, e.whole
    from early_members e join reach r using (member)
    left join (
        select member, min(dia) as dia
        from (select member, dia, sum(calls) over (partition by member order by dia) as so_far
              from aux_member_days where member in (select member from early_members)) as d
        where so_far >= 5 group by member
    ) as f using (member);
create index on early (member);
analyze early;

-- Their calls on all other days.
create temporary table staged_early on commit drop as
select e.member, m.dia, m.at, m.voicebot, m.uid, coalesce(h.cd, false) as cd, coalesce(h.ci, false) as ci,
       coalesce(h.promise, false) as promise
from (select * from early where not whole) as e
cross join lateral (
    select true as voicebot, uid, dia, "date" as at, coalesce(management, '') as code_1,
           coalesce(sub_management, '') as code_2, coalesce(compromiso, '') as code_3
    from raw_voicebot_gestiones where document = e.cod_luna and eliminado_en is null
    union all
    select false, uid, dia, "date", coalesce(n1, ''), coalesce(n2, ''), coalesce(n3, '')
    from raw_mibotair_gestiones where document = e.cod_luna and eliminado_en is null
) as m
left join rules h using (voicebot, code_1, code_2, code_3)
where m.dia between e.opens and e.closes and m.dia not in (select dia from call_days);

create temporary table attempt_days on commit drop as
    with gone as (
        delete from aux_attempts a
        where exists (select from early e where e.member = a.member)
           or not exists (
               select from aux_members m
               where m.member = a.member and not exists (select from whole w where w.archivo = m.archivo))
        returning dia
    )
    select distinct dia from gone;
insert into aux_attempts (member, attempt, dia, cd, ci, promise)
select member, attempt, dia, cd, ci, promise
from (
    select *, row_number() over (partition by member order by at, voicebot, uid) as attempt
    from (
        select e.member, s.dia, s.at, s.voicebot, s.uid, s.cd, s.ci, s.promise
        from staged s join early e on e.client = s.client and s.dia between e.opens and e.closes
        union all
        select member, dia, at, voicebot, uid, cd, ci, promise from staged_early
    ) as calls
) as numbered
where attempt <= 5;
insert into attempt_days select dia from call_days union select distinct a.dia from aux_attempts a join early e using (member);

do $$ begin
    if exists (select from whole) then
        analyze aux_member_days;
        analyze aux_contacts;
        analyze aux_attempts;
    end if;
end $$;
