-- Who is assigned, and which managements reach them.
create temporary table assigned on commit drop as
    select distinct on (a.archivo, a.cuenta)
           a.archivo, a.cuenta, a.cod_luna, a.fecha_asignacion, a.tramo_gestion, a.min_vto, a.negocio, a.fraccionamiento
    from raw_asignaciones a join affected using (archivo) join aux_campaigns using (archivo)
    where a.eliminado_en is null
    order by a.archivo, a.cuenta, a.creado_el desc, a.fecha_asignacion desc, a.cod_luna;
create index on assigned (cuenta);
analyze assigned;

create temporary table clients on commit drop as
    select archivo, cod_luna, c.opens, c.closes, count(*) as accounts
    from assigned join aux_campaigns c using (archivo) group by archivo, cod_luna, c.opens, c.closes;
create index on clients (cod_luna);
analyze clients;

-- The days whose calls change: those that there were, and those that there will be.
create temporary table touched on commit drop as
    select distinct dia from aux_calls join affected using (archivo);

delete from aux_calls where archivo in (select archivo from affected);
insert into aux_calls (archivo, canal, uid, cod_luna, dia, hora, at, nivel, promise, agent, attempt)
select c.archivo, m.canal, m.uid, c.cod_luna, m.dia, extract(hour from m.at at time zone 'America/Lima'), m.at,
       case upper(trim(m.contactabilidad)) when 'CONTACTO EFECTIVO' then 'CD' when 'CONTACTO NO EFECTIVO' then 'CI' else 'SC' end,
       coalesce(upper(trim(m.pdp)) in ('1', 'TRUE', 'SI'), false),
       m.agent,
       row_number() over (partition by c.archivo, c.cod_luna order by m.at, m.canal, m.uid)
from (
    select 'Voicebot' as canal, g.uid, g.document, g.dia, g."date" as at, null as agent, h.contactabilidad, h.pdp
    from raw_voicebot_gestiones g
    left join raw_homologacion_voicebot h
        on h.management = coalesce(g.management, '') and h.sub_management = coalesce(g.sub_management, '')
        and h.compromiso = coalesce(g.compromiso, '') and h.eliminado_en is null
    where g.eliminado_en is null
    union all
    select 'Call Center', g.uid, g.document, g.dia, g."date",
           lower(coalesce(nullif(trim(g.correo_agente), ''), nullif(trim(g.nombre_agente), ''))), h.contactabilidad, h.pdp
    from raw_mibotair_gestiones g
    left join raw_homologacion_mibotair h
        on h.n1 = coalesce(g.n1, '') and h.n2 = coalesce(g.n2, '') and h.n3 = coalesce(g.n3, '') and h.eliminado_en is null
    where g.eliminado_en is null
) as m
join clients c on c.cod_luna = m.document and m.dia between c.opens and c.closes;
analyze aux_calls;
