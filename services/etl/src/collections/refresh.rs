//! From raw to mart, in one transaction. SQL by hand: each step makes a table of others.

use std::time::Instant;

use anyhow::Context as _;
use chassis::db::Orm;
use chrono::{DateTime, NaiveDate, Utc};
use contracts::etl::v1::DashboardRefreshed;
use outbox::Meta;
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool};

use super::lanes::{Lanes, lanes};
use crate::{SERVICE, storage::mart_version};

/// What runs in a refresh, in this order. Each file says what it makes of what the ones before have made. The sums of
/// accounts are taken out as they were, and put in as they are once the tables that they are from are brought up.
const STEPS: [(&str, &str); 11] = [
    ("affected", include_str!("refresh/1_affected.sql")),
    ("debt", include_str!("refresh/2_debt.sql")),
    ("accounts", include_str!("refresh/3_accounts.sql")),
    ("calls", include_str!("refresh/4_calls.sql")),
    ("payments", include_str!("refresh/5_payments.sql")),
    ("sums before", include_str!("refresh/sums.sql")),
    ("what is known", include_str!("refresh/6_known.sql")),
    ("sums after", include_str!("refresh/sums.sql")),
    ("days", include_str!("refresh/7_days.sql")),
    ("calls by day", include_str!("refresh/8_calls_by_day.sql")),
    ("agents", include_str!("refresh/9_agents.sql")),
];

/// What a refresh came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// Of the data that dashboards show from now on.
    pub version: i64,
    /// Whether it is a new one: nothing had changed otherwise.
    pub changed: bool,
    /// The campaigns that were computed again.
    pub campaigns: i64,
    /// The days whose calls were.
    pub days: i64,
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
    // readers don't mind it. Tables are read whole, sorted and summed, one statement at a time: memory counts, compiled
    // expressions don't.
    sqlx::raw_sql(
        "set transaction isolation level repeatable read;
         set local statement_timeout = 0;
         set local lock_timeout = 0;
         set local work_mem = '256MB';
         set local jit = off;
         lock table mart_version in exclusive mode",
    )
    .execute(&mut *transaction)
    .await?;
    // Asked in this snapshot: whoever waited for the lock may have looked before a run began that is half-read in it.
    if lanes(&mut transaction).await? != Lanes::Whole {
        let version = mart_version::get(&Orm::on(&mut transaction)).await?.version;
        return Ok(Refreshed { version, changed: false, campaigns: 0, days: 0 });
    }
    let changed: bool =
        sqlx::query_scalar("select exists (select from raw_changes)").fetch_one(&mut *transaction).await?;
    let (campaigns, days) = if changed { run(&mut transaction).await? } else { (0, 0) };
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
    Ok(Refreshed { version, changed, campaigns, days })
}

/// All steps. Gives how many campaigns were computed again, and the calls of how many days.
async fn run(conn: &mut PgConnection) -> anyhow::Result<(i64, i64)> {
    let mut days = Days::default();
    for (name, sql) in STEPS {
        let sign = if name == "sums before" { "-" } else { "" };
        let sql = sql.replace("{sign}", sign).replace("{from}", &days.from).replace("{to}", &days.to);
        let started = Instant::now();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *conn)
            .await
            .with_context(|| format!("refreshing {name}"))?;
        tracing::debug!(name, took_ms = started.elapsed().as_millis(), "a step of the refresh");
        if name == "affected" {
            days = Days::of_calls(&mut *conn).await?;
        }
    }
    let counts = "select (select count(*) from affected), (select count(*) from call_days)";
    Ok(sqlx::query_as(counts).fetch_one(conn).await?)
}

/// The first and the last day whose calls are computed again, as literals.
struct Days {
    from: String,
    to: String,
}

impl Default for Days {
    fn default() -> Self {
        let never = NaiveDate::default().to_string();
        Self { from: never.clone(), to: never }
    }
}

impl Days {
    async fn of_calls(conn: &mut PgConnection) -> sqlx::Result<Self> {
        let (from, to): (Option<NaiveDate>, Option<NaiveDate>) =
            sqlx::query_as("select min(dia), max(dia) from call_days").fetch_one(conn).await?;
        let days = from.zip(to).map(|(from, to)| Self { from: from.to_string(), to: to.to_string() });
        Ok(days.unwrap_or_default())
    }
}
