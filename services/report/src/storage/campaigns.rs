//! `ta_sms_maestro`: the campaigns. SQL by hand for the stored procedures, which clients know, and to write many of
//! them in one statement.

use chassis::db::{NoRelation as Relation, Orm, sql};
use chrono::NaiveDate;
use sea_orm::{
    ActiveValue::Set,
    FromQueryResult, QuerySelect as _,
    entity::prelude::*,
    sqlx::{self, PgConnection},
};

use super::days;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ta_sms_maestro")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub fecha: NaiveDate,
    pub nombre: String,
    pub estado: String,
    pub descripcion: String,
    pub origen: Origin,
    /// Its id there.
    pub origen_id: String,
    pub version: i64,
    pub filas_esperadas: Option<i64>,
    /// How many rows it has, and how often it or they changed.
    pub filas: i64,
    pub cambios: i64,
}

impl ActiveModelBehavior for ActiveModel {}

/// Where a campaign comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Origin {
    /// Events of sms-dispatch.
    #[sea_orm(string_value = "sms")]
    Sms,
    /// The command `load`.
    #[sea_orm(string_value = "carga")]
    Load,
}

/// A campaign, as the stored procedures give it.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Campaign {
    pub id: i64,
    pub fecha: NaiveDate,
    pub nombre: String,
    pub estado: String,
    pub descripcion: String,
}

/// What an event or a line says of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignUpdate {
    pub origin_id: String,
    pub fecha: NaiveDate,
    pub nombre: String,
    pub estado: String,
    pub descripcion: String,
    pub expected_rows: Option<i64>,
    pub version: i64,
}

/// The campaigns of a day.
pub async fn of_day(connection: &impl ConnectionTrait, fecha: NaiveDate) -> Result<Vec<Campaign>, DbErr> {
    let call = sql("select * from sp_obtener_campanas_por_fecha($1)", [fecha.into()]);
    Campaign::find_by_statement(call).all(connection).await
}

/// The campaigns of a day of which no file was made yet.
pub async fn without_report(
    connection: &impl ConnectionTrait,
    fecha: NaiveDate,
) -> Result<Vec<Campaign>, DbErr> {
    let call = sql("select * from obtener_maestros_sin_reporte($1)", [fecha.into()]);
    Campaign::find_by_statement(call).all(connection).await
}

/// What a campaign's state says once all of its messages are settled (`CampaignCompleted` in `proto/lote/sms/v1`).
const COMPLETED: &str = "COMPLETADA";

/// How many completed campaigns of a day have fewer rows than they were to have, and how many rows they lack. The events with
/// those are on their way, or are dead letters.
pub async fn lacking(conn: &mut PgConnection, fecha: NaiveDate) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select count(*), coalesce(sum(filas_esperadas - filas), 0)::bigint from ta_sms_maestro
         where fecha = $1 and estado = $2 and filas < filas_esperadas",
    )
    .bind(fecha)
    .bind(COMPLETED)
    .fetch_one(conn)
    .await
}

/// A page of campaigns, and how many there are. Pages count from 1.
pub async fn page(
    connection: &impl ConnectionTrait,
    fecha: Option<NaiveDate>,
    page: i64,
    size: i64,
) -> Result<(Vec<Campaign>, i64), DbErr> {
    let values = [fecha.into(), page.into(), size.into()];
    let call = sql("select * from get_campanias_by_fecha($1, $2, $3)", values);
    let campaigns = Campaign::find_by_statement(call).all(connection).await?;
    Ok((campaigns, days::campaigns(connection, fecha).await?))
}

/// The campaign of this origin, made with nothing but its day if its own event has not come yet. Gives its id and
/// its day, which are for ever.
pub async fn known(
    conn: &mut PgConnection,
    origin: Origin,
    origin_id: &str,
    fecha: NaiveDate,
) -> Result<(i64, NaiveDate), DbErr> {
    let orm = Orm::on(conn);
    let find = || {
        Entity::find()
            .select_only()
            .columns([Column::Id, Column::Fecha])
            .filter(Column::Origen.eq(origin))
            .filter(Column::OrigenId.eq(origin_id))
            .into_tuple()
    };
    if let Some(found) = find().one(&orm).await? {
        return Ok(found);
    }
    let campaign = ActiveModel {
        fecha: Set(fecha),
        nombre: Set(String::new()),
        estado: Set("PENDIENTE".to_owned()),
        descripcion: Set(String::new()),
        origen: Set(origin),
        origen_id: Set(origin_id.to_owned()),
        ..Default::default()
    };
    Entity::insert(campaign)
        .on_conflict_do_nothing_on([Column::Origen, Column::OrigenId])
        .exec_without_returning(&orm)
        .await?;
    let found = find().one(&orm).await?;
    found.ok_or_else(|| DbErr::RecordNotFound(format!("campaign {origin_id} of {origin:?}")))
}

/// Writes what was told of campaigns, each of them once in `told`, unless something newer was. Gives how many were
/// written. The day of a campaign that is there stays what it is.
pub async fn write(conn: &mut PgConnection, origin: Origin, told: &[CampaignUpdate]) -> sqlx::Result<u64> {
    let texts = |of: fn(&CampaignUpdate) -> &str| told.iter().map(of).collect::<Vec<_>>();
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
    .bind(origin.to_value())
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
) -> Result<Vec<(String, i64, NaiveDate)>, DbErr> {
    Entity::find()
        .select_only()
        .columns([Column::OrigenId, Column::Id, Column::Fecha])
        .filter(Column::Origen.eq(origin))
        .filter(Column::OrigenId.eq_any(ids))
        .into_tuple()
        .all(&Orm::on(conn))
        .await
}

/// Those of the campaigns with these ids in files that are loaded.
pub async fn loaded(conn: &mut PgConnection, ids: &[String]) -> Result<Vec<Model>, DbErr> {
    let found = Entity::find().filter(Column::Origen.eq(Origin::Load)).filter(Column::OrigenId.eq_any(ids));
    found.all(&Orm::on(conn)).await
}
