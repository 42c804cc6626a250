//! `campaign_deltas` and `campaign_totals`: what the ledger comes to, without reading it. Who changes the ledger appends what
//! changes; one folds that into the totals. Their sum is the ledger's in every snapshot, and nobody waits for a row that all
//! change. SQL by hand: UNNEST, and a fold in one statement.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, PgConnection, PgPool},
};

use super::ledger::Row;
use crate::domain::{message_state::MessageState, outcome_window::Ended};
use chassis::db::decode;

/// Deltas folded in one transaction.
const BATCH: i64 = 20_000;

/// What messages are counted by.
type Key<'a> = (&'a str, DateTime<Utc>, i16, &'a str, i16);

fn key(row: &Row) -> Key<'_> {
    let hour = row.changed_at.duration_trunc(TimeDelta::hours(1)).unwrap_or(row.changed_at);
    (
        row.state_code.as_deref().unwrap_or_default(),
        hour,
        row.state().code(),
        row.code.as_deref().unwrap_or_default(),
        row.variant,
    )
}

/// What is to be appended.
#[derive(Default)]
struct Sums<'a> {
    /// Messages, parts, cost, repeatable messages.
    totals: BTreeMap<Key<'a>, (i64, i64, i64, i64)>,
    /// By currency.
    costs: BTreeMap<&'a str, i64>,
}

impl<'a> Sums<'a> {
    fn add(&mut self, row: &'a Row, sign: i64, messages: i64) {
        let sum = self.totals.entry(key(row)).or_default();
        sum.0 += sign * messages;
        sum.1 += sign * i64::from(row.parts);
        sum.2 += sign * row.cost_micros;
        sum.3 += sign * messages * i64::from(row.repeatable);
        *self.costs.entry(row.currency.as_deref().unwrap_or_default()).or_default() += sign * row.cost_micros;
    }

    async fn append(mut self, conn: &mut PgConnection, campaign: i32) -> sqlx::Result<()> {
        append_costs(conn, campaign, self.costs).await?;
        self.totals.retain(|_, sum| *sum != (0, 0, 0, 0));
        let sums = self.totals;
        if sums.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into campaign_deltas (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable)
             select $1, t.* from unnest($2::text[], $3::timestamptz[], $4::smallint[], $5::text[], $6::smallint[], $7::bigint[],
                                        $8::bigint[], $9::bigint[], $10::bigint[]) t",
        )
        .bind(campaign)
        .bind(sums.keys().map(|key| key.0).collect::<Vec<_>>())
        .bind(sums.keys().map(|key| key.1).collect::<Vec<_>>())
        .bind(sums.keys().map(|key| key.2).collect::<Vec<_>>())
        .bind(sums.keys().map(|key| key.3).collect::<Vec<_>>())
        .bind(sums.keys().map(|key| key.4).collect::<Vec<_>>())
        .bind(sums.values().map(|sum| sum.0).collect::<Vec<_>>())
        .bind(sums.values().map(|sum| sum.1).collect::<Vec<_>>())
        .bind(sums.values().map(|sum| sum.2).collect::<Vec<_>>())
        .bind(sums.values().map(|sum| sum.3).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
    }
}

/// Appends what a change of rows, each as it was and as it is, comes to.
pub async fn append(conn: &mut PgConnection, campaign: i32, changes: &[(Row, Row)]) -> sqlx::Result<()> {
    let mut sums = Sums::default();
    for (before, after) in changes {
        sums.add(before, -1, 1);
        sums.add(after, 1, 1);
    }
    sums.append(conn, campaign).await
}

/// Appends parts and cost of attempts that are kept beside the ledger, where their rows go on without them.
pub async fn append_kept(conn: &mut PgConnection, campaign: i32, rows: &[&Row]) -> sqlx::Result<()> {
    let mut sums = Sums::default();
    for row in rows {
        sums.add(row, 1, 0);
    }
    sums.append(conn, campaign).await
}

async fn append_costs(
    conn: &mut PgConnection,
    campaign: i32,
    mut costs: BTreeMap<&str, i64>,
) -> sqlx::Result<()> {
    costs.retain(|_, cost| *cost != 0);
    if costs.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into campaign_costs (campaign, currency, cost_micros)
         select $1, t.* from unnest($2::text[], $3::bigint[]) t",
    )
    .bind(campaign)
    .bind(costs.keys().copied().collect::<Vec<_>>())
    .bind(costs.values().copied().collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Folds deltas into the totals; gives whether there may be more. Whoever folds at the same time waits and finds the rest.
pub async fn fold(pool: &PgPool) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock(hashtext(current_schema() || '.totals'))")
        .execute(&mut *transaction)
        .await?;
    let folded: i64 = sqlx::query_scalar(
        "with gone as (
             delete from campaign_deltas where ctid = any (array(select ctid from campaign_deltas limit $1)) returning *),
         sums as (
             select campaign, state_code, hour, status, code, variant, sum(messages)::bigint as messages,
                    sum(parts)::bigint as parts, sum(cost_micros)::bigint as cost_micros, sum(repeatable)::bigint as repeatable
             from gone group by 1, 2, 3, 4, 5, 6),
         added as (
             insert into campaign_totals as t
                 (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable)
             select * from sums
             on conflict (campaign, state_code, hour, status, code, variant) do update
             set messages = t.messages + excluded.messages, parts = t.parts + excluded.parts,
                 cost_micros = t.cost_micros + excluded.cost_micros, repeatable = t.repeatable + excluded.repeatable)
         select count(*) from gone",
    )
    .bind(BATCH)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query(
        "with gone as (
             delete from campaign_costs where campaign in (select campaign from campaign_costs where not folded limit $1)
             returning campaign, currency, cost_micros)
         insert into campaign_costs (campaign, currency, cost_micros, folded)
         select campaign, currency, sum(cost_micros)::bigint, true from gone group by 1, 2 having sum(cost_micros) <> 0",
    )
    .bind(BATCH)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(folded == BATCH)
}

/// What a campaign's messages cost in a currency, in millionths, as of all that is committed. Whoever asks before it spends
/// holds the campaign's budget until its own cost is committed: two that ask at once can't both spend the rest.
///
/// What has no currency counts too. It is from before prices had one, when a campaign had one price: a plan of today is not
/// frozen with a sender in another.
pub async fn cost_held(conn: &mut PgConnection, campaign: i32, currency: &str) -> sqlx::Result<i64> {
    sqlx::query("select pg_advisory_xact_lock(hashtext(current_schema() || '.budget'), $1)")
        .bind(campaign)
        .execute(&mut *conn)
        .await?;
    cost(conn, campaign, currency).await
}

/// What a campaign's messages cost in a currency, in millionths, as of all that is committed.
pub async fn cost(conn: &mut PgConnection, campaign: i32, currency: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(cost_micros), 0)::bigint from campaign_costs where campaign = $1 and currency in ($2, '')",
    )
    .bind(campaign)
    .bind(currency)
    .fetch_one(conn)
    .await
}

/// What a campaign's messages come to, by state of the message and code. Attempts that were repeated count with their parts and
/// their cost, by how they ended, and are no messages.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Total {
    pub status: i16,
    pub code: String,
    pub messages: i64,
    pub parts: i64,
    pub cost_micros: i64,
}

/// A campaign's totals, as of one snapshot.
pub async fn of(pool: &PgPool, campaign: i32) -> sqlx::Result<Vec<Total>> {
    let rows = sqlx::query(
        "select status, code, sum(messages)::bigint as messages, sum(parts)::bigint as parts,
                sum(cost_micros)::bigint as cost_micros
         from (select status, code, messages, parts, cost_micros from campaign_totals where campaign = $1
               union all
               select status, code, messages, parts, cost_micros from campaign_deltas where campaign = $1) both_of_them
         group by 1, 2 having sum(messages) <> 0 or sum(parts) <> 0 or sum(cost_micros) <> 0 order by 1, 2",
    )
    .bind(campaign)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(decode).collect()
}

/// What a campaign's messages cost, by currency (ISO 4217, empty where nobody said), in millionths.
pub async fn costs(pool: &PgPool, campaign: i32) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select currency, sum(cost_micros)::bigint from campaign_costs where campaign = $1
         group by 1 having sum(cost_micros) <> 0 order by 1",
    )
    .bind(campaign)
    .fetch_all(pool)
    .await
}

/// How many of a campaign's messages are in one of these states, and came into it in an hour that begins at `until` at the
/// latest; only those that may be sent again, where that is asked.
pub async fn count(
    conn: &mut PgConnection,
    campaign: i32,
    states: &[MessageState],
    until: Option<DateTime<Utc>>,
    repeatable: bool,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(case when $4 then repeatable else messages end), 0)::bigint
         from (select status, hour, messages, repeatable from campaign_totals where campaign = $1
               union all
               select status, hour, messages, repeatable from campaign_deltas where campaign = $1) both_of_them
         where status = any($2) and ($3::timestamptz is null or hour <= $3)",
    )
    .bind(campaign)
    .bind(states.iter().map(|state| state.code()).collect::<Vec<_>>())
    .bind(until)
    .bind(repeatable)
    .fetch_one(conn)
    .await
}

/// How far a campaign is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// A provider was asked about them, or is just being.
    pub asked: i64,
    pub unknown: i64,
    pub ended: Ended,
}

/// How far a campaign is, as of one snapshot.
pub async fn ended(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<Counts> {
    let rows: Vec<(i16, i64)> = sqlx::query_as(
        "select status, sum(messages)::bigint
         from (select status, messages from campaign_totals where campaign = $1
               union all
               select status, messages from campaign_deltas where campaign = $1) both_of_them
         group by 1 having sum(messages) <> 0",
    )
    .bind(campaign)
    .fetch_all(conn)
    .await?;
    let mut counts = Counts::default();
    for (status, messages) in rows {
        match MessageState::from_code(status) {
            None | Some(MessageState::Pending | MessageState::Skipped | MessageState::Cancelled) => continue,
            Some(MessageState::Unknown) => counts.unknown += messages,
            Some(MessageState::Failed | MessageState::Expired) => {
                counts.ended.ended += messages;
                counts.ended.failed += messages;
            }
            Some(MessageState::Delivered | MessageState::Unconfirmed) => counts.ended.ended += messages,
            Some(MessageState::Submitting | MessageState::Accepted | MessageState::Sent) => {}
        }
        counts.asked += messages;
    }
    Ok(counts)
}
