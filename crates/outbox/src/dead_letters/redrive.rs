use chrono::{DateTime, Utc};
use messaging::{Destination, Envelope, Outgoing};
use sea_orm::sqlx::{self, PgConnection, PgPool, Row as _, postgres::PgRow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Filter;
use crate::{Error, enqueue, storable};

/// Which letters to replay or discard. Only open ones are touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// These, by the archive's ids.
    Ids(Vec<Uuid>),
    /// All that match; an empty filter matches all.
    Filter(Filter),
}

impl Selection {
    fn storable(&self) -> Self {
        match self {
            Self::Ids(ids) => Self::Ids(ids.clone()),
            Self::Filter(filter) => Self::Filter(filter.storable()),
        }
    }
}

/// Letters that have a queue, a type and a reason in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The logical name of the queue.
    pub queue: String,
    /// The message's type, if it can be read.
    pub kind: Option<String>,
    /// Why, in a word.
    pub reason: String,
    /// One of their errors.
    pub error: String,
    /// How many.
    pub count: i64,
}

/// What a replay or a discard did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Open letters that the selection met.
    pub matched: i64,
    /// Letters that were replayed or discarded: none in a dry run.
    pub changed: i64,
    /// Letters that a replay leaves alone because they are no envelopes, or none that this version can read.
    pub undecodable: i64,
    /// The commonest of their reasons, up to 100.
    pub reasons: Vec<Reason>,
}

/// One line of the record of who replayed and discarded what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEntry {
    /// Ascending.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// `replay` or `discard`.
    pub action: String,
    /// The [`Selection`], as JSON.
    pub filter: serde_json::Value,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Open letters that the selection met.
    pub matched: i64,
    /// Letters that were replayed or discarded.
    pub count: i64,
}

impl AuditEntry {
    pub(super) fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            filter: row.try_get("filter")?,
            dry_run: row.try_get("dry_run")?,
            matched: row.try_get("matched")?,
            count: row.try_get("count")?,
        })
    }
}

/// Letters that are locked, sent and marked together.
const BATCH: i64 = 500;
/// Bytes of their bodies, which are in memory several times over; a larger letter goes alone.
const BATCH_BYTES: i64 = 8 << 20;

/// Sends open letters back to the queue they came by (an event only to that queue, not to its other
/// subscribers), through the outbox, with their replay count raised. A transaction a batch, with the count in its audit
/// row: what a batch has sent stays sent where a later one fails, and the same selection, asked again, goes on with the rest.
/// Letters that are no envelopes stay open, and so do those that came into the archive after it began: a message that is sent
/// again and dies again is a new letter, which the same call must not send once more, without an end.
///
/// # Errors
/// The database.
pub async fn replay(
    pool: &PgPool,
    selection: &Selection,
    actor: &str,
    dry_run: bool,
) -> Result<Report, Error> {
    let selection = &selection.storable();
    let actor = &*storable::text(actor);
    let mut transaction = pool.begin().await?;
    let begun: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&mut *transaction).await?;
    let mut report = survey(&mut transaction, selection, dry_run).await?;
    let entry = record(&mut transaction, selection, actor, "replay", &report).await?;
    transaction.commit().await?;
    if dry_run {
        return Ok(report);
    }
    let mut last = Uuid::nil();
    loop {
        let mut transaction = pool.begin().await?;
        let batch = replay_batch(&mut transaction, selection, actor, (last, begun), &mut report);
        let Some(end) = batch.await? else { return Ok(report) };
        sqlx::query("UPDATE dead_letter_audit SET count = $2 WHERE id = $1")
            .bind(entry)
            .bind(report.changed)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        last = end;
    }
}

/// A query over open letters: `head`, the conditions, which bind `$1` to `$6`, and `tail`. Planned for its
/// arguments each time, so that a condition that is absent costs nothing.
fn select<'q>(
    head: &'static str,
    tail: &'static str,
    selection: &'q Selection,
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let none = const { &Filter { queue: None, kind: None, reason: None, state: None, from: None, to: None } };
    let (ids, filter) = match selection {
        Selection::Ids(ids) => (Some(ids), none),
        Selection::Filter(filter) => (None, filter),
    };
    let statement = format!(
        "{head} FROM dead_letters WHERE state = 'open' AND ($1::uuid[] IS NULL OR id = ANY($1))
         AND ($2::text IS NULL OR queue = $2) AND ($3::text IS NULL OR kind = $3)
         AND ($4::text IS NULL OR position(lower($4) IN lower(reason || ' ' || error)) > 0)
         AND ($5::timestamptz IS NULL OR failed_at >= $5) AND ($6::timestamptz IS NULL OR failed_at < $6)
         {tail}"
    );
    // Safe: both parts are constants.
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(ids)
        .bind(&filter.queue)
        .bind(&filter.kind)
        .bind(&filter.reason)
        .bind(filter.from)
        .bind(filter.to)
        .persistent(false)
}

/// Replays the next letters after `last` of those that were in the archive at `begun`. Returns the last one's id, or none when
/// there are no more.
async fn replay_batch(
    conn: &mut PgConnection,
    selection: &Selection,
    actor: &str,
    (last, begun): (Uuid, DateTime<Utc>),
    report: &mut Report,
) -> Result<Option<Uuid>, Error> {
    let tail = "AND decodable AND id > $7 AND archived_at <= $8 ORDER BY id LIMIT $9";
    let sizes = select("SELECT octet_length(body)::bigint AS bytes", tail, selection);
    let sizes = sizes.bind(last).bind(begun).bind(BATCH).fetch_all(&mut *conn).await?;
    let (mut most, mut bytes) = (0_i64, 0_i64);
    for row in &sizes {
        bytes += row.try_get::<i64, _>("bytes")?;
        if most > 0 && bytes > BATCH_BYTES {
            break;
        }
        most += 1;
    }
    let tail = "AND decodable AND id > $7 AND archived_at <= $8 ORDER BY id LIMIT $9 FOR UPDATE";
    let rows = select("SELECT id, queue, body", tail, selection);
    let rows = rows.bind(last).bind(begun).bind(most).fetch_all(&mut *conn).await?;
    let (mut ids, mut counts, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        // A letter that a version before this one could read. It must not keep the others from going.
        let Ok(mut envelope) = serde_json::from_str::<Envelope>(row.try_get("body")?) else {
            report.undecodable += 1;
            continue;
        };
        envelope.replay_count = envelope.replay_count.saturating_add(1);
        ids.push(row.try_get::<Uuid, _>("id")?);
        counts.push(i32::try_from(envelope.replay_count).unwrap_or(i32::MAX));
        messages.push(Outgoing {
            destination: Destination::Queue(row.try_get("queue")?),
            id: envelope.id,
            kind: envelope.kind.clone(),
            body: serde_json::to_vec(&envelope)?.into(),
        });
    }
    enqueue(conn, &messages).await?;
    let marked = sqlx::query(
        "UPDATE dead_letters SET state = 'replayed', replayed_at = now(), resolved_at = now(), resolved_by = $3,
                replay_count = replayed.count
         FROM UNNEST($1::uuid[], $2::integer[]) AS replayed (id, count) WHERE dead_letters.id = replayed.id",
    )
    .bind(&ids)
    .bind(&counts)
    .bind(actor)
    .execute(&mut *conn)
    .await?;
    report.changed += marked.rows_affected() as i64;
    Ok(rows.last().map(|row| row.try_get("id")).transpose()?)
}

/// Closes open letters without sending them. One transaction, with its audit row.
///
/// # Errors
/// The database.
pub async fn discard(
    pool: &PgPool,
    selection: &Selection,
    actor: &str,
    dry_run: bool,
) -> Result<Report, Error> {
    let selection = &selection.storable();
    let actor = &*storable::text(actor);
    let mut transaction = pool.begin().await?;
    let mut report = survey(&mut transaction, selection, dry_run).await?;
    if !dry_run {
        // Locked in the order of their ids, as by a replay, so that the two can't deadlock.
        let head = "WITH chosen AS (SELECT id AS chosen_id";
        let tail = "ORDER BY id FOR UPDATE)
             UPDATE dead_letters SET state = 'discarded', resolved_by = $7, resolved_at = now()
             FROM chosen WHERE id = chosen_id";
        let discarded = select(head, tail, selection).bind(actor).execute(&mut *transaction).await?;
        report.changed = discarded.rows_affected() as i64;
    }
    record(&mut transaction, selection, actor, "discard", &report).await?;
    transaction.commit().await?;
    Ok(report)
}

/// What the selection meets, by reason.
async fn survey(conn: &mut PgConnection, selection: &Selection, dry_run: bool) -> Result<Report, Error> {
    let head = "SELECT count(*) AS matched, count(*) FILTER (WHERE NOT decodable) AS undecodable";
    let counts = select(head, "", selection).fetch_one(&mut *conn).await?;
    let head = "SELECT queue, kind, reason, min(left(error, 500)) AS error, count(*) AS count";
    let tail = "GROUP BY queue, kind, reason ORDER BY count(*) DESC, queue, kind, reason LIMIT 100";
    let reasons = select(head, tail, selection).fetch_all(conn).await?;
    let reasons = reasons.iter().map(|row| {
        Ok(Reason {
            queue: row.try_get("queue")?,
            kind: row.try_get("kind")?,
            reason: row.try_get("reason")?,
            error: row.try_get("error")?,
            count: row.try_get("count")?,
        })
    });
    Ok(Report {
        dry_run,
        matched: counts.try_get("matched")?,
        changed: 0,
        undecodable: counts.try_get("undecodable")?,
        reasons: reasons.collect::<sqlx::Result<_>>()?,
    })
}

/// Notes what was done. Gives the row's id.
async fn record(
    conn: &mut PgConnection,
    selection: &Selection,
    actor: &str,
    action: &str,
    report: &Report,
) -> Result<i64, Error> {
    let entry = sqlx::query_scalar(
        "INSERT INTO dead_letter_audit (actor, action, filter, dry_run, matched, count)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(actor)
    .bind(action)
    .bind(serde_json::to_value(selection)?)
    .bind(report.dry_run)
    .bind(report.matched)
    .bind(report.changed)
    .fetch_one(conn)
    .await?;
    Ok(entry)
}
