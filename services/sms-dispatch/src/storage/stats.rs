//! How many contacts there are, and where. SQL by hand: sums over materialised views, as of their last refresh.

use chassis::db::{orm, sql};
use chrono::{DateTime, Utc};
use sea_orm::{
    DbErr, FromQueryResult,
    sqlx::{self, PgPool},
};

/// All contacts.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub total: i64,
    pub active: i64,
    pub mobile: i64,
    pub opted_out: i64,
    pub recently_contacted: i64,
    /// None where nothing was counted yet.
    pub as_of: Option<DateTime<Utc>>,
}

/// Those of one place that may be written to.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Counts {
    pub state_code: Option<String>,
    /// A LADA or a city; of a state nothing.
    pub place: Option<String>,
    pub total: i64,
    pub active: i64,
    pub mobile: i64,
    pub recently_contacted: i64,
}

/// Counts over the whole cube.
pub async fn totals(pool: &PgPool) -> sqlx::Result<Totals> {
    let (total, active, mobile, opted_out, recently_contacted, as_of) = sqlx::query_as(
        "select coalesce(sum(contacts), 0)::bigint,
                coalesce(sum(contacts) filter (where status = 'ACTIVE' and not opted_out), 0)::bigint,
                coalesce(sum(contacts) filter (where is_mobile), 0)::bigint,
                coalesce(sum(contacts) filter (where opted_out), 0)::bigint,
                coalesce(sum(recently_contacted), 0)::bigint, max(as_of)
         from contact_cube",
    )
    .fetch_one(pool)
    .await?;
    Ok(Totals { total, active, mobile, opted_out, recently_contacted, as_of })
}

/// By state, all of them.
pub async fn by_state(pool: &PgPool) -> Result<Vec<Counts>, DbErr> {
    rows(
        pool,
        "select state_code, null::text as place, total_contacts as total, active_contacts as active,
                       mobile_contacts as mobile, recently_contacted
                from contacts_by_state order by total_contacts desc, state_code",
    )
    .await
}

/// By LADA, the largest first.
pub async fn by_lada(pool: &PgPool) -> Result<Vec<Counts>, DbErr> {
    rows(
        pool,
        "select null::text as state_code, lada as place, total_contacts as total, active_contacts as active,
                       mobile_contacts as mobile, recently_contacted
                from contacts_by_lada order by total_contacts desc, lada limit 400",
    )
    .await
}

/// By city, the largest first.
pub async fn by_city(pool: &PgPool) -> Result<Vec<Counts>, DbErr> {
    rows(pool, "select state_code, city as place, total_contacts as total, active_contacts as active,
                       mobile_contacts as mobile, recently_contacted
                from contacts_by_city where city is not null order by total_contacts desc, city, state_code limit 100").await
}

async fn rows(pool: &PgPool, statement: &'static str) -> Result<Vec<Counts>, DbErr> {
    Counts::find_by_statement(sql(statement, [])).all(&orm(pool)).await
}
