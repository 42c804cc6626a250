//! From raw to mart, in one transaction. SQL by hand: each step makes a table of others.

use anyhow::Context as _;
use chassis::db::Orm;
use chrono::{DateTime, Utc};
use contracts::etl::v1::DashboardRefreshed;
use outbox::Meta;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};

use super::lanes::{Lanes, lanes};
use crate::{SERVICE, storage::mart_version};

/// What runs in a refresh, in this order. Each file says what it makes of what the ones before have made.
const STEPS: [(&str, &str); 7] = [
    ("affected", include_str!("refresh/1_affected.sql")),
    ("debt", include_str!("refresh/2_debt.sql")),
    ("calls", include_str!("refresh/3_calls.sql")),
    ("payments", include_str!("refresh/4_payments.sql")),
    ("accounts", include_str!("refresh/5_accounts.sql")),
    ("days", include_str!("refresh/6_days.sql")),
    ("calls by day", include_str!("refresh/7_calls_by_day.sql")),
];

/// Who the agents are: few, and taken over whole.
const EXECUTIVES: &str = include_str!("refresh/executives.sql");

/// What a refresh came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// Of the data that dashboards show from now on.
    pub version: i64,
    /// Whether it is a new one: nothing had changed otherwise.
    pub changed: bool,
    /// The campaigns that were computed again.
    pub campaigns: i64,
}

/// Brings the marts up to the raw tables, unless a stream is not whole in them by now. Who reads meanwhile sees all of the
/// old version; who asks after it, all of the new one. `as_of` is the source's moment that the raw tables show.
///
/// # Errors
/// The database; then nothing has changed, and what is due stays so.
pub async fn refresh(pool: &PgPool, as_of: DateTime<Utc>) -> anyhow::Result<Refreshed> {
    let mut transaction = pool.begin().await?;
    // One snapshot of the raw tables for all steps, though streams write them meanwhile: what they commit later is noted
    // for the next refresh. The lock comes before the snapshot, so that a refresh which waited for another sees its work;
    // readers don't mind it.
    sqlx::raw_sql(
        "set transaction isolation level repeatable read;
         set local statement_timeout = 0;
         set local lock_timeout = 0;
         set local work_mem = '64MB';
         lock table mart_version in exclusive mode",
    )
    .execute(&mut *transaction)
    .await?;
    // Asked in this snapshot: whoever waited for the lock may have looked before a run began that is half-read in it.
    if lanes(&mut transaction).await? != Lanes::Whole {
        let version = mart_version::get(&Orm::on(&mut transaction)).await?.version;
        return Ok(Refreshed { version, changed: false, campaigns: 0 });
    }
    for (name, sql) in STEPS {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await
            .with_context(|| format!("refreshing {name}"))?;
    }
    let (changed, campaigns): (bool, i64) =
        sqlx::query_as("select exists (select from changed), (select count(*) from affected)")
            .fetch_one(&mut *transaction)
            .await?;
    // Names are of the version too.
    sqlx::raw_sql(EXECUTIVES).execute(&mut *transaction).await.context("refreshing executives")?;
    let version: i64 = sqlx::query_scalar(
        "update mart_version set version = version + $1::int, as_of = $2, refreshed_at = now(), held_back = null
         returning version",
    )
    .bind(i32::from(changed))
    .bind(as_of)
    .fetch_one(&mut *transaction)
    .await?;
    if changed {
        let event = DashboardRefreshed {
            data_version: version.unsigned_abs(),
            as_of: as_of.to_rfc3339(),
            run_id: String::new(),
            version: version.unsigned_abs(),
        };
        outbox::publish(&mut transaction, SERVICE, &event, Meta::about("dashboards")).await?;
    }
    transaction.commit().await?;
    Ok(Refreshed { version, changed, campaigns })
}
