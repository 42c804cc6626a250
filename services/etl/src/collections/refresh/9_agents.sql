-- Agents by the name that they call under. Of a name that is there twice, the first.
delete from aux_executives;
insert into aux_executives (agent, nombre, document)
select distinct on (lower(trim(correo_name))) lower(trim(correo_name)), nombre, document
from raw_ejecutivos where eliminado_en is null order by lower(trim(correo_name)), correo_name;
