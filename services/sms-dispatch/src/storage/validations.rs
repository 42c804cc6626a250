//! Validations: which contacts' numbers a provider is asked about.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{
    self, FromRow, PgConnection, PgExecutor, PgPool, Postgres, QueryBuilder, Row as _, postgres::PgRow,
};
use serde_json::Value;
use uuid::Uuid;

use super::segment_sql::{Look, Over, push_not_suppressed, push_of_cube, push_rest};
use crate::domain::segment::Segment;

/// A validation's row.
#[derive(Clone, Debug)]
pub struct Validation {
    pub id: Uuid,
    pub filter: Segment,
    pub budget: i64,
    /// Look-ups that were billed, or may have been.
    pub spent: i64,
    pub fresh_since: DateTime<Utc>,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Validation {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let filter: Value = row.try_get("filter")?;
        Ok(Self {
            id: row.try_get("id")?,
            filter: serde_json::from_value(filter).map_err(|error| sqlx::Error::Decode(error.into()))?,
            budget: row.try_get("budget")?,
            spent: row.try_get("spent")?,
            fresh_since: row.try_get("fresh_since")?,
            created_by: row.try_get("created_by")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Writes a new one.
pub async fn insert(
    conn: &mut PgConnection,
    id: Uuid,
    filter: &Segment,
    budget: i64,
    fresh_since: DateTime<Utc>,
    actor: &str,
) -> sqlx::Result<()> {
    let filter = serde_json::to_value(filter).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(
        "insert into validations (id, filter, budget, fresh_since, created_by) values ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(filter)
    .bind(budget)
    .bind(fresh_since)
    .bind(actor)
    .execute(conn)
    .await
    .map(drop)
}

/// Counts look-ups that are about to be asked for, or, below zero, some that were not billed after all. Gives what is spent.
pub async fn spend(conn: &mut PgConnection, id: Uuid, lookups: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar("update validations set spent = spent + $2 where id = $1 returning spent")
        .bind(id)
        .bind(lookups)
        .fetch_one(conn)
        .await
}

/// One of them.
pub async fn get(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Validation>> {
    sqlx::query_as("select * from validations where id = $1").bind(id).fetch_optional(executor).await
}

/// The newest, or those before one of them.
pub async fn list(pool: &PgPool, before: Option<Uuid>, limit: i64) -> sqlx::Result<Vec<Validation>> {
    sqlx::query_as(
        "select * from validations where $1::uuid is null
             or (created_at, id) < (select created_at, id from validations where id = $1)
         order by created_at desc, id desc limit $2",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// How many contacts it has to ask about, up to its budget.
pub async fn count(conn: &mut PgConnection, validation: &Validation) -> sqlx::Result<i64> {
    let mut query = QueryBuilder::new("select count(*) from (select from contacts where true");
    push_due(&mut query, validation, Look::Planned);
    query.push(" limit ").push_bind(validation.budget).push(") due");
    query.build_query_scalar().persistent(false).fetch_one(conn).await
}

/// The next contacts to ask about, after the contact `after`, as id and phone.
pub async fn next(
    conn: &mut PgConnection,
    validation: &Validation,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<(i64, String)>> {
    let mut query = QueryBuilder::new("select id, phone_e164 from contacts where id > ");
    query.push_bind(after);
    push_due(&mut query, validation, Look::OneByOne);
    query.push(" order by id limit ").push_bind(limit);
    query.build_query_as().persistent(false).fetch_all(conn).await
}

/// Its filter as of when it was made, without whom the provider was asked about lately.
fn push_due(query: &mut QueryBuilder<Postgres>, validation: &Validation, look: Look) {
    push_of_cube(query, &validation.filter, Over::Contacts);
    push_rest(query, &validation.filter, validation.created_at);
    push_not_suppressed(query, look);
    query
        .push(" and not exists (select from phone_lookups l where l.phone_e164 = contacts.phone_e164 and l.looked_up_at >= ")
        .push_bind(validation.fresh_since)
        .push(")");
}
