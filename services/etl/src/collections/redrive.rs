//! Records in quarantine, read once more without asking the source: after the reading of them was mended. SQL by hand: they
//! are taken, merged and forgotten in one transaction.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    bigquery::Field,
    days,
    question::today,
    raw,
    rows::reread,
    streams::{Kind, RawTable},
};
use crate::domain::run::Redriven;

/// Reads records of a table again; those of `ids` only, where there are any. Those that can be read now are merged, as of
/// the snapshot that they are from; the others stay, with what they break now, and have their turn again after all others.
/// Whether the source still has what was merged, the next run that looks at its day finds out.
///
/// # Errors
/// The database; then nothing has changed.
pub async fn redrive(pool: &PgPool, table: &RawTable, ids: &[String], most: i64) -> sqlx::Result<Redriven> {
    let mut transaction = pool.begin().await?;
    // Before any record is locked: who merges a page takes them in this order too.
    raw::take_turn(&mut transaction, table).await?;
    let kept: Vec<(String, Value, DateTime<Utc>)> = sqlx::query_as(
        "select id, registro, coalesce(leido_en, visto_en) from raw_quarantine
         where stream = $1 and (id = any ($2) or $2 = '{}')
         order by intentado_en nulls first, visto_en, id limit $3 for update",
    )
    .bind(table.stream)
    .bind(ids)
    .bind(most)
    .fetch_all(&mut *transaction)
    .await?;
    let mut redriven = Redriven { leidos: kept.len() as u64, ..Redriven::default() };
    let (mut rows, mut good) = (Vec::new(), Vec::new());
    for (id, record, read_at) in kept {
        let Value::Object(record) = record else { continue };
        let fields = fields(table, &record);
        match reread(table, &fields, record, read_at) {
            Ok(row) => {
                rows.push(row);
                good.push(id);
            }
            Err(bad) => {
                let still = "update raw_quarantine set regla = $2, intentado_en = now() where id = $1";
                sqlx::query(still).bind(id).bind(bad.rule).execute(&mut *transaction).await?;
            }
        }
    }
    redriven.recuperados = good.len() as u64;
    redriven.en_cuarentena = redriven.leidos - redriven.recuperados;
    let days: Vec<NaiveDate> = rows.iter().filter_map(|row| row.moment(table)).map(today).collect();
    days::forget(&mut transaction, table, &days).await?;
    // No run's scan has met them.
    let nobody = Uuid::nil();
    raw::merge(&mut transaction, table, nobody, rows).await?;
    raw::forget_met(&mut transaction, nobody).await?;
    sqlx::query("delete from raw_quarantine where id = any ($1)")
        .bind(good)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(redriven)
}

/// The columns of a record that was kept: a moment tells by its spelling of which type it came.
fn fields(table: &RawTable, record: &Map<String, Value>) -> Vec<Field> {
    let kind = |name: &str, value: &Value| match (table.kind(name), value.as_str()) {
        (Some(Kind::Date | Kind::Time), Some(text)) if text.len() == 10 => "DATE",
        (Some(Kind::Date | Kind::Time), Some(text)) if text.ends_with('Z') => "TIMESTAMP",
        (Some(Kind::Date | Kind::Time), _) => "DATETIME",
        _ => "STRING",
    };
    let field = |(name, value): (&String, &Value)| Field {
        name: name.clone(),
        kind: kind(name, value).to_owned(),
        mode: None,
        fields: Vec::new(),
    };
    record.iter().map(field).collect()
}
