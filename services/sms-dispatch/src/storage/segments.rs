//! Segments that are kept.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, FromRow, PgConnection, PgExecutor, PgPool, Row as _, postgres::PgRow};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::segment::Segment;

/// A segment's row.
#[derive(Clone, Debug)]
pub struct Kept {
    pub id: Uuid,
    pub name: String,
    pub description: String,
    pub filter: Segment,
    pub created_by: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Kept {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let filter: Value = row.try_get("filter")?;
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            filter: serde_json::from_value(filter).map_err(|error| sqlx::Error::Decode(error.into()))?,
            created_by: row.try_get("created_by")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// What of a segment its users decide.
#[derive(Clone, Debug)]
pub struct Wish {
    pub name: String,
    pub description: String,
    pub filter: Segment,
}

/// Why a segment was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("another segment has this name")]
    NameTaken,
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refused) if refused.is_unique_violation() => Self::NameTaken,
            _ => Self::Database(error),
        }
    }
}

fn json(segment: &Segment) -> sqlx::Result<Value> {
    serde_json::to_value(segment).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Writes a new one.
pub async fn insert(conn: &mut PgConnection, wish: &Wish, actor: &str) -> Result<Kept, WriteError> {
    let statement = "insert into segments (id, name, description, filter, created_by)
                     values ($1, $2, $3, $4, $5) returning *";
    let query = sqlx::query_as(statement).bind(Uuid::now_v7()).bind(&wish.name).bind(&wish.description);
    Ok(query.bind(json(&wish.filter)?).bind(actor).fetch_one(conn).await?)
}

/// Writes one anew.
pub async fn update(conn: &mut PgConnection, id: Uuid, wish: &Wish) -> Result<Kept, WriteError> {
    let statement = "update segments set name = $2, description = $3, filter = $4, version = version + 1,
                            updated_at = now() where id = $1 returning *";
    let query = sqlx::query_as(statement).bind(id).bind(&wish.name).bind(&wish.description);
    Ok(query.bind(json(&wish.filter)?).fetch_one(conn).await?)
}

/// One of them.
pub async fn get(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Kept>> {
    sqlx::query_as("select * from segments where id = $1").bind(id).fetch_optional(executor).await
}

/// One of them, nobody else's to change until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Kept>> {
    sqlx::query_as("select * from segments where id = $1 for update").bind(id).fetch_optional(conn).await
}

/// The newest, or those before one of them.
pub async fn list(
    pool: &PgPool,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> sqlx::Result<Vec<Kept>> {
    let (at, id) = before.unzip();
    sqlx::query_as(
        "select * from segments where $1::timestamptz is null or (created_at, id) < ($1, $2)
         order by created_at desc, id desc limit $3",
    )
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Forgets one.
pub async fn delete(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from segments where id = $1").bind(id).execute(conn).await.map(drop)
}
