//! `ta_sms_maestro`: the campaigns.

use chrono::NaiveDate;
use sea_orm::sqlx::{self, FromRow, PgConnection, PgExecutor, PgPool, Row as _, postgres::PgRow};

/// A campaign, as the stored procedures give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    pub id: i64,
    pub fecha: NaiveDate,
    pub nombre: String,
    pub estado: String,
    pub descripcion: String,
}

impl FromRow<'_, PgRow> for Campaign {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            fecha: row.try_get("fecha")?,
            nombre: row.try_get("nombre")?,
            estado: row.try_get("estado")?,
            descripcion: row.try_get("descripcion")?,
        })
    }
}

/// Where a campaign comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Events of sms-dispatch.
    Sms,
    /// The command `load`.
    Load,
}

impl Origin {
    /// The name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Load => "carga",
        }
    }
}

/// What an event or a line says of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub origin_id: String,
    pub fecha: NaiveDate,
    pub nombre: String,
    pub estado: String,
    pub descripcion: String,
    pub expected_rows: Option<i64>,
    pub version: i64,
}

/// The campaigns of a day.
pub async fn of_day(executor: impl PgExecutor<'_>, fecha: NaiveDate) -> sqlx::Result<Vec<Campaign>> {
    sqlx::query_as("select * from sp_obtener_campanas_por_fecha($1)").bind(fecha).fetch_all(executor).await
}

/// The campaigns of a day of which no file was made yet.
pub async fn without_report(executor: impl PgExecutor<'_>, fecha: NaiveDate) -> sqlx::Result<Vec<Campaign>> {
    sqlx::query_as("select * from obtener_maestros_sin_reporte($1)").bind(fecha).fetch_all(executor).await
}

/// A page of campaigns, and how many there are. Pages count from 1.
pub async fn page(
    pool: &PgPool,
    fecha: Option<NaiveDate>,
    page: i64,
    size: i64,
) -> sqlx::Result<(Vec<Campaign>, i64)> {
    let campaigns = sqlx::query_as("select * from get_campanias_by_fecha($1, $2, $3)")
        .bind(fecha)
        .bind(page)
        .bind(size)
        .fetch_all(pool)
        .await?;
    let total = sqlx::query_scalar(
        "select coalesce(sum(total), 0)::bigint from campaigns_per_day where $1::date is null or fecha = $1",
    )
    .bind(fecha)
    .fetch_one(pool)
    .await?;
    Ok((campaigns, total))
}

/// The days that have campaigns, newest first.
pub async fn days(pool: &PgPool) -> sqlx::Result<Vec<NaiveDate>> {
    sqlx::query_scalar("select fecha from campaigns_per_day where total > 0 order by fecha desc")
        .fetch_all(pool)
        .await
}

/// The campaign of this origin, made with nothing but its day if its own event has not come yet. Gives its id and
/// its day, which are for ever.
pub async fn known(
    conn: &mut PgConnection,
    origin: Origin,
    origin_id: &str,
    fecha: NaiveDate,
) -> sqlx::Result<(i64, NaiveDate)> {
    const FIND: &str = "select id, fecha from ta_sms_maestro where origen = $1 and origen_id = $2";
    let find = || sqlx::query_as(FIND).bind(origin.name()).bind(origin_id);
    if let Some(found) = find().fetch_optional(&mut *conn).await? {
        return Ok(found);
    }
    sqlx::query(
        "insert into ta_sms_maestro (fecha, nombre, estado, descripcion, origen, origen_id)
         values ($1, '', 'PENDIENTE', '', $2, $3) on conflict (origen, origen_id) do nothing",
    )
    .bind(fecha)
    .bind(origin.name())
    .bind(origin_id)
    .execute(&mut *conn)
    .await?;
    find().fetch_one(conn).await
}

/// Writes what was told of campaigns, each of them once in `told`, unless something newer was. Gives how many were
/// written. The day of a campaign that is there stays what it is.
pub async fn write(conn: &mut PgConnection, origin: Origin, told: &[Told]) -> sqlx::Result<u64> {
    let texts = |of: fn(&Told) -> &str| told.iter().map(of).collect::<Vec<_>>();
    let days: Vec<_> = told.iter().map(|told| told.fecha).collect();
    let expected: Vec<_> = told.iter().map(|told| told.expected_rows).collect();
    let versions: Vec<_> = told.iter().map(|told| told.version).collect();
    let done = sqlx::query(
        "insert into ta_sms_maestro as m
             (fecha, nombre, estado, descripcion, origen, origen_id, filas_esperadas, version, cambios)
         select t.fecha, t.nombre, t.estado, t.descripcion, $1, t.origen_id, t.filas, t.version, 1
         from unnest($2::text[], $3::date[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[])
             as t (origen_id, fecha, nombre, estado, descripcion, filas, version)
         order by t.origen_id
         on conflict (origen, origen_id) do update
         set nombre = excluded.nombre, estado = excluded.estado, descripcion = excluded.descripcion,
             filas_esperadas = coalesce(excluded.filas_esperadas, m.filas_esperadas),
             version = excluded.version, cambios = m.cambios + 1
         where m.version < excluded.version",
    )
    .bind(origin.name())
    .bind(texts(|told| &told.origin_id))
    .bind(days)
    .bind(texts(|told| &told.nombre))
    .bind(texts(|told| &told.estado))
    .bind(texts(|told| &told.descripcion))
    .bind(expected)
    .bind(versions)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Our ids and days of campaigns by their ids at the origin.
pub async fn by_origin(
    conn: &mut PgConnection,
    origin: Origin,
    ids: &[String],
) -> sqlx::Result<Vec<(String, i64, NaiveDate)>> {
    sqlx::query_as(
        "select origen_id, id, fecha from ta_sms_maestro where origen = $1 and origen_id = any($2)",
    )
    .bind(origin.name())
    .bind(ids)
    .fetch_all(conn)
    .await
}
