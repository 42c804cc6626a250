//! `ta_sms_detalle`: the messages, a partition a day. No entity: SQL by hand writes a batch with its counts in one
//! statement, into the partition itself, and COPY reads them.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use crate::domain::params::MessageState;

/// A message as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id where it comes from.
    pub id: Uuid,
    pub version: i64,
    pub phone: String,
    pub text: String,
    pub sent_at: Option<DateTime<Utc>>,
    pub state: MessageState,
    pub error: Option<String>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the table; so many of its messages were new or newer.
    Rows(i64),
    /// There is no such campaign (any more).
    NoCampaign,
}

/// The partition of a day.
pub(super) fn partition(fecha: NaiveDate) -> String {
    format!("ta_sms_detalle_{}", fecha.format("%Y%m%d"))
}

/// Makes the partition of a day, unless it is there.
pub async fn ensure_day(conn: &mut PgConnection, fecha: NaiveDate) -> sqlx::Result<()> {
    sqlx::query("select ensure_day($1)").bind(fecha).execute(conn).await.map(drop)
}

/// Whether an error says that the partition of a day is not there.
pub fn is_missing_day(error: &sqlx::Error) -> bool {
    // undefined_table
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("42P01"))
}

/// Writes messages of one campaign, each message once in `messages` and all in the order of their ids, so that two
/// writers of the same rows take turns instead of deadlocking. What is there in this version or a later one stays.
/// One statement: the rows, and the campaign's counts with them. The campaign's row is locked last, so that
/// writers of one campaign wait for each other's commit only.
pub async fn write(
    conn: &mut PgConnection,
    campaign: i64,
    fecha: NaiveDate,
    messages: &[Message],
) -> sqlx::Result<Written> {
    // Into the partition itself: the table would route row by row.
    let statement = format!(
        "with campaign as (select id from ta_sms_maestro where id = $1),
         written as (
             insert into {partition} as d
                 (id_maestro, fecha, mensaje_id, version, telefono, mensaje, fecha_envio, estado, error)
             select $1, $2, t.* from campaign,
                 unnest($3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::timestamptz[], $8::text[], $9::text[]) t
             on conflict (id_maestro, mensaje_id, fecha) do update
             set version = excluded.version, telefono = excluded.telefono, mensaje = excluded.mensaje,
                 fecha_envio = excluded.fecha_envio, estado = excluded.estado, error = excluded.error
             where d.version < excluded.version
             returning xmax = 0 as is_new),
         counted as (
             select count(*) as rows, count(*) filter (where is_new) as fresh from written),
         marked as (
             update ta_sms_maestro m set cambios = m.cambios + 1, filas = m.filas + c.fresh
             from counted c where m.id = $1 and c.rows > 0)
         select c.rows, exists (select from campaign) from counted c",
        partition = partition(fecha)
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(campaign).bind(fecha);
    let (rows, known): (i64, bool) = bind(query, messages).fetch_one(conn).await?;
    Ok(if known { Written::Rows(rows) } else { Written::NoCampaign })
}

/// Those of the messages that are in the table with other values, in the same version or (true) a newer one.
pub async fn differing(
    conn: &mut PgConnection,
    campaign: i64,
    fecha: NaiveDate,
    messages: &[Message],
) -> sqlx::Result<Vec<(Uuid, bool)>> {
    let statement = format!(
        "select t.id, d.version > t.version
         from unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[])
              as t (id, version, telefono, mensaje, fecha_envio, estado, error)
         join {partition} d on d.id_maestro = $1 and d.mensaje_id = t.id
         where d.version >= t.version and (d.telefono, d.mensaje, d.fecha_envio, d.estado, d.error)
             is distinct from (t.telefono, t.mensaje, t.fecha_envio, t.estado, t.error)",
        partition = partition(fecha)
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(campaign);
    bind(query, messages).fetch_all(conn).await
}

/// Adds messages to a query's arguments, column by column.
fn bind<'q, O>(
    query: QueryAs<'q, Postgres, O, PgArguments>,
    messages: &'q [Message],
) -> QueryAs<'q, Postgres, O, PgArguments> {
    fn column<'q, T>(messages: &'q [Message], of: impl Fn(&'q Message) -> T) -> Vec<T> {
        messages.iter().map(of).collect()
    }
    query
        .bind(column(messages, |message| message.id))
        .bind(column(messages, |message| message.version))
        .bind(column(messages, |message| message.phone.as_str()))
        .bind(column(messages, |message| message.text.as_str()))
        .bind(column(messages, |message| message.sent_at))
        .bind(column(messages, |message| message.state.name()))
        .bind(column(messages, |message| message.error.as_deref()))
}
