//! Where each stream is, as its database says.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use serde_json::Value;

use super::Sql;

/// A row of `lote_streams`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub lane: String,
    /// Of the claim that may write.
    pub epoch: i64,
    /// The run that wrote it last.
    pub run: Option<String>,
    /// Everything before it is in the tables.
    pub watermark: Option<DateTime<Utc>>,
    /// Where the run goes on, and what it has counted.
    pub state: Option<Value>,
    pub updated_at: DateTime<Utc>,
}

impl Lane {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let state: Option<String> = row.try_get("", "estado")?;
        let state = state.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            lane: row.try_get("", "stream")?,
            epoch: row.try_get("", "epoca")?,
            run: row.try_get("", "corrida")?,
            watermark: row.try_get("", "marca")?,
            state: state.map_err(|error| DbErr::Type(format!("lote_streams.estado: {error}")))?,
            updated_at: row.try_get("", "actualizado_en")?,
        })
    }
}

const COLUMNS: &str = "stream, epoca, corrida, marca, estado, actualizado_en";

/// All there are.
///
/// # Errors
/// The database.
pub async fn lanes(conn: &impl ConnectionTrait) -> Result<Vec<Lane>, DbErr> {
    let rows = Sql::new(format!("SELECT {COLUMNS} FROM lote_streams ORDER BY stream")).all(conn).await?;
    rows.iter().map(Lane::read).collect()
}

/// One of them.
///
/// # Errors
/// The database.
pub async fn lane(conn: &impl ConnectionTrait, lane: &str) -> Result<Option<Lane>, DbErr> {
    let row =
        Sql::new(format!("SELECT {COLUMNS} FROM lote_streams WHERE stream = ?")).bind(lane).one(conn).await?;
    row.as_ref().map(Lane::read).transpose()
}

/// Forgets where a stream is: its next run begins at the beginning. Its rows stay, and so does the epoch, which keeps
/// stale workers out. Whether it was known.
///
/// # Errors
/// The database.
pub async fn reset(conn: &impl ConnectionTrait, lane: &str, now: DateTime<Utc>) -> Result<bool, DbErr> {
    let reset = Sql::new(
        "UPDATE lote_streams SET corrida = NULL, marca = NULL, estado = NULL, actualizado_en = ? WHERE stream = ?",
    );
    Ok(reset.bind(now).bind(lane).run(conn).await? > 0)
}
