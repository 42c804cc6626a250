//! Answers to questions, each from one version of the data. Shapes are those that the dashboards' pages read. SQL by hand:
//! every figure is an aggregate over marts.

pub mod assignment;
pub mod dashboard;
pub mod evolution;
pub mod operation;
pub mod productivity;

use chassis::db::Orm;
use sea_orm::sqlx::{self, PgConnection, PgPool};

use super::{
    question::{Cut, Question, period},
    settings::CollectionsSettings,
};
use crate::storage::mart_version;

/// Answers a question: the JSON, and the version that all of it is from.
///
/// # Errors
/// The database.
pub async fn answer(
    pool: &PgPool,
    settings: &CollectionsSettings,
    question: &Question,
) -> anyhow::Result<(mart_version::Model, Vec<u8>)> {
    let mut transaction = pool.begin().await?;
    // One snapshot: a refresh that commits between two queries is not seen by the second.
    sqlx::raw_sql("set transaction isolation level repeatable read, read only")
        .execute(&mut *transaction)
        .await?;
    let version = mart_version::get(&Orm::on(&mut transaction)).await?;
    let conn = &mut *transaction;
    let body = match question {
        Question::Dashboard { corte, cut, dimensions } => {
            serde_json::to_vec(&dashboard::dashboard(conn, settings, *corte, cut, *dimensions).await?)
        }
        Question::Evolution { from, to, cut, dimension, metrics } => {
            serde_json::to_vec(&evolution::evolution(conn, (*from, *to), cut, dimension, metrics).await?)
        }
        Question::Assignment { now, before, cartera } => {
            serde_json::to_vec(&assignment::assignment(conn, &version, *now, *before, cartera).await?)
        }
        Question::Operation { day } => serde_json::to_vec(&operation::operation(conn, *day).await?),
        Question::Productivity { from, to } => {
            serde_json::to_vec(&productivity::productivity(conn, &version, *from, *to).await?)
        }
    };
    transaction.commit().await?;
    Ok((version, body?))
}

/// The carteras that there are campaigns of, in the order of their names.
///
/// # Errors
/// The database.
pub async fn carteras(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select distinct cartera from aux_campaigns order by 1").fetch_all(pool).await
}

/// A query whose parameters 1 to 10 are the last day and the cut.
fn cut_query<'q>(
    sql: &'static str,
    day: chrono::NaiveDate,
    cut: &Cut,
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let texts = |values: &std::collections::BTreeSet<String>| {
        (!values.is_empty()).then(|| values.iter().cloned().collect::<Vec<_>>())
    };
    let days: Vec<i16> = cut.vencimiento.iter().copied().collect();
    let periods: Vec<_> = cut.periodo.iter().map(|name| period(name, day)).collect();
    let (firsts, lasts): (Vec<_>, Vec<_>) = periods.into_iter().unzip();
    sqlx::query(sql)
        .bind(day)
        .bind(texts(&cut.cartera))
        .bind(texts(&cut.servicio))
        .bind(texts(&cut.tramo))
        .bind((!days.is_empty()).then_some(days))
        .bind(texts(&cut.rango_deuda))
        .bind(cut.opened_from)
        .bind(cut.opened_to)
        .bind((!firsts.is_empty()).then_some(firsts))
        .bind((!lasts.is_empty()).then_some(lasts))
}

/// What a value of a dimension is called.
fn shown(dimension: &str, name: String) -> String {
    match (dimension, name.as_str()) {
        ("tramo", "") => "SIN_TRAMO".to_owned(),
        ("vencimiento", "0") => "SIN_VENCIMIENTO".to_owned(),
        _ => name,
    }
}

/// A connection in whose snapshot everything of an answer is read.
type Conn = PgConnection;
