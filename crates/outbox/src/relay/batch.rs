use std::{collections::HashSet, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use failpoints::Point;
use messaging::{Broker, Destination, Outgoing, PublishError};
use sea_orm::sqlx::{self, PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::{Error, metrics::metrics, storable};

/// Rows published, and deleted, together.
const BATCH: usize = 1_000;
/// Bytes of their bodies, so that large messages don't fill the memory. One that is larger goes alone.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How long a batch holds its transaction while the broker confirms.
const IN_TIME: Duration = Duration::from_millis(500);
/// How long the rows of a later one are kept from others; renewed until the broker has answered. If this process
/// dies, they are published again after it.
const LEASE: Duration = Duration::from_secs(30);
/// The broker answers within some 10 s, if only that it can't tell. Whoever waits as long as this waits in vain.
const GIVE_UP: Duration = Duration::from_secs(300);
/// The largest message that RabbitMQ 4 takes as it comes (`max_message_size`). It closes the channel over a larger
/// one, and with it goes the whole batch.
const MOST_BODY: usize = 16 * 1024 * 1024;
/// AMQP's short strings, which routing keys are.
const MOST_KEY: usize = 255;

/// A batch's turn is over.
pub(super) enum Turn {
    /// And so is the batch.
    Settled(Settled),
    /// The broker has yet to answer.
    Late(Late),
}

pub(super) struct Settled {
    /// Rows that were due.
    pub claimed: usize,
    /// Whether the batch was full, so that there may be more.
    pub full: bool,
    /// Of these, how many the broker has, and the outbox no longer.
    pub confirmed: usize,
    /// Why the broker did not take what is still there.
    pub away: Option<String>,
}

type Publishing = Pin<Box<dyn Future<Output = Vec<Result<(), PublishError>>> + Send>>;

/// A batch's transaction. A burst of rows is relayed before anybody has analysed the table: by its old statistics
/// PostgreSQL would read and sort all of them for each batch, instead of walking the index to its first thousand.
const BEGIN: &str = "BEGIN; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off";

/// One transaction: take rows out, publish, put back what was not confirmed. What was refused comes back for later;
/// what could not be sent because the broker is away comes back as it was. A transaction that would wait long for
/// the broker ends with a lease of its rows instead.
pub(super) async fn relay(pool: &PgPool, broker: &Broker, destination: &str) -> Result<Turn, Error> {
    let mut transaction = pool.begin_with(BEGIN).await?;
    let rows = take_out(&mut transaction, destination).await?;
    let claimed = rows.len();
    if rows.is_empty() {
        return Ok(Turn::Settled(Settled { claimed, full: false, confirmed: 0, away: None }));
    }
    let bytes: usize = rows.iter().map(|row| row.body.len()).sum();
    let full = claimed == BATCH || bytes >= BATCH_BYTES;
    let to = parse(destination);
    let (mut sent, mut messages) = (Vec::with_capacity(claimed), Vec::with_capacity(claimed));
    let (mut unsendable, mut reasons) = (Vec::new(), Vec::new());
    for row in rows {
        match to.clone().and_then(|to| outgoing(to, &row)) {
            Ok(message) => {
                messages.push(message);
                sent.push(row);
            }
            Err(reason) => {
                reasons.push((row.id, reason));
                unsendable.push(row);
            }
        }
    }
    put_back(&mut transaction, destination, &unsendable).await?;
    postpone(&mut transaction, destination, reasons).await?;
    let broker = broker.clone();
    let mut publishing: Publishing = Box::pin(async move { broker.publish(&messages).await });
    if let Ok(results) = timeout(IN_TIME, &mut publishing).await {
        failpoints::hit(Point::RelayPublished);
        let ids: Vec<_> = sent.iter().map(|row| row.id).collect();
        let answers = Answers::new(&ids, results);
        if answers.unsent.len() == claimed {
            // Nothing has changed.
            transaction.rollback().await?;
        } else {
            let missing: HashSet<_> = answers.missing().collect();
            sent.retain(|row| missing.contains(&row.id));
            put_back(&mut transaction, destination, &sent).await?;
            postpone(&mut transaction, destination, answers.refused).await?;
            transaction.commit().await?;
        }
        failpoints::hit(Point::RelayDeleted);
        let (confirmed, away) = (answers.confirmed.len(), answers.away);
        return Ok(Turn::Settled(Settled { claimed, full, confirmed, away }));
    }
    let ids: Vec<_> = sent.iter().map(|row| row.id).collect();
    let lease = async {
        put_back(&mut transaction, destination, &sent).await?;
        let lease = lease(&mut transaction, &ids, None).await?;
        transaction.commit().await?;
        Ok::<_, Error>(lease)
    };
    // Without one, others may publish the rows too. What the broker confirms is deleted all the same.
    let lease = lease.await.unwrap_or_else(|error| {
        tracing::warn!(destination, %error, "outbox: rows of a late batch are not leased");
        None
    });
    let destination = destination.to_owned();
    Ok(Turn::Late(Late { destination, claimed, full, ids, publishing, lease }))
}

/// A row of the outbox, but for its destination.
struct Waiting {
    id: i64,
    message_id: Uuid,
    kind: String,
    body: Bytes,
    created_at: DateTime<Utc>,
    next_at: DateTime<Utc>,
    attempts: i32,
    last_error: Option<String>,
}

/// Deletes the rows of the next batch, oldest first, and returns them. Others see them until this is committed, and
/// pass them over. More may be locked than are taken.
async fn take_out(conn: &mut PgConnection, destination: &str) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query(
        "WITH due AS MATERIALIZED (
             SELECT ctid, id, next_at, octet_length(body) AS bytes FROM outbox
             WHERE destination = $1 AND next_at <= now() ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
         summed AS (SELECT ctid, sum(bytes) OVER (ORDER BY next_at, id) - bytes AS before FROM due),
         taken AS (
             DELETE FROM outbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM summed WHERE before < $3))
             RETURNING id, message_id, kind, body, created_at, next_at, attempts, last_error)
         SELECT * FROM taken ORDER BY next_at, id",
    )
    .bind(destination)
    .bind(BATCH as i64)
    .bind(BATCH_BYTES as i64)
    .try_map(|row: PgRow| {
        Ok(Waiting {
            id: row.try_get("id")?,
            message_id: row.try_get("message_id")?,
            kind: row.try_get("kind")?,
            body: row.try_get::<String, _>("body")?.into(),
            created_at: row.try_get("created_at")?,
            next_at: row.try_get("next_at")?,
            attempts: row.try_get("attempts")?,
            last_error: row.try_get("last_error")?,
        })
    })
    .fetch_all(conn)
    .await
}

/// Writes rows again that were taken out, as they were.
async fn put_back(conn: &mut PgConnection, destination: &str, rows: &[Waiting]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    // What came as text goes as text.
    let bodies: Vec<_> = rows.iter().map(|row| String::from_utf8_lossy(&row.body)).collect();
    sqlx::query(
        "INSERT INTO outbox (id, destination, message_id, kind, body, created_at, next_at, attempts, last_error)
         OVERRIDING SYSTEM VALUE
         SELECT id, $1, message_id, kind, body, created_at, next_at, attempts, last_error
         FROM UNNEST($2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                     $8::int[], $9::text[])
              AS row (id, message_id, kind, body, created_at, next_at, attempts, last_error)",
    )
    .bind(destination)
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.message_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>())
    .bind(bodies)
    .bind(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.next_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempts).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.last_error.as_deref()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

fn parse(destination: &str) -> Result<Destination, String> {
    let to = destination.parse()?;
    if let Destination::Event(key) = &to
        && key.len() > MOST_KEY
    {
        return Err(format!("a routing key of {} bytes, expected at most {MOST_KEY}", key.len()));
    }
    Ok(to)
}

fn outgoing(to: Destination, row: &Waiting) -> Result<Outgoing, String> {
    if row.body.len() > MOST_BODY {
        return Err(format!("a body of {} bytes, expected at most {MOST_BODY}", row.body.len()));
    }
    Ok(Outgoing { destination: to, id: row.message_id, kind: row.kind.clone(), body: row.body.clone() })
}

/// A batch that the broker is slow to confirm.
pub(super) struct Late {
    destination: String,
    claimed: usize,
    full: bool,
    ids: Vec<i64>,
    publishing: Publishing,
    /// Until when the rows are this relay's: what stands in `next_at`.
    lease: Option<DateTime<Utc>>,
}

impl Late {
    /// Waits for the broker, and then does what the transaction would have done.
    pub async fn settle(mut self, pool: &PgPool) -> Result<Settled, Error> {
        let since = Instant::now();
        let results = loop {
            if let Ok(results) = timeout(LEASE / 3, &mut self.publishing).await {
                break results;
            }
            if since.elapsed() > GIVE_UP {
                tracing::error!(
                    self.destination,
                    rows = self.ids.len(),
                    "outbox: the broker never answered, rows may be published twice"
                );
                let away = Some(format!("no answer within {} s", GIVE_UP.as_secs()));
                return Ok(Settled { claimed: self.claimed, full: self.full, confirmed: 0, away });
            }
            if self.lease.is_some() {
                match renew(pool, &self.ids, self.lease).await {
                    Ok(lease) => self.lease = lease,
                    Err(error) => tracing::warn!(self.destination, %error, "outbox: a lease is not renewed"),
                }
            }
        };
        failpoints::hit(Point::RelayPublished);
        let answers = Answers::new(&self.ids, results);
        let mut transaction = pool.begin().await?;
        sqlx::query("DELETE FROM outbox WHERE id = ANY($1)")
            .bind(&answers.confirmed)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        postpone(&mut transaction, &self.destination, answers.refused).await?;
        if self.lease.is_some() && !answers.unsent.is_empty() {
            // To where they were in the order.
            sqlx::query(
                "UPDATE outbox SET next_at = CASE WHEN attempts = 0 THEN created_at ELSE now() END
                 WHERE id = ANY($1) AND next_at = $2",
            )
            .bind(&answers.unsent)
            .bind(self.lease)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        failpoints::hit(Point::RelayDeleted);
        let (confirmed, away) = (answers.confirmed.len(), answers.away);
        Ok(Settled { claimed: self.claimed, full: self.full, confirmed, away })
    }
}

async fn renew(
    pool: &PgPool,
    ids: &[i64],
    held: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, Error> {
    lease(&mut *pool.acquire().await?, ids, held).await
}

/// Keeps the rows from being due for [`LEASE`]; those only that are still `held`. Returns until when: none if none
/// is held any more.
async fn lease(
    conn: &mut PgConnection,
    ids: &[i64],
    held: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar(
        "WITH leased AS (
             UPDATE outbox SET next_at = now() + make_interval(secs => $2)
             WHERE id = ANY($1) AND ($3 IS NULL OR next_at = $3) RETURNING next_at)
         SELECT max(next_at) FROM leased",
    )
    .bind(ids)
    .bind(LEASE.as_secs_f64())
    .bind(held)
    .persistent(false)
    .fetch_one(conn)
    .await?)
}

/// What the broker said to a batch, by the rows' ids.
#[derive(Default)]
struct Answers {
    confirmed: Vec<i64>,
    /// With the reason.
    refused: Vec<(i64, String)>,
    /// Never sent, or nobody knows.
    unsent: Vec<i64>,
    /// Why there are such.
    away: Option<String>,
}

impl Answers {
    fn new(ids: &[i64], results: Vec<Result<(), PublishError>>) -> Self {
        let mut answers = Self::default();
        for (id, result) in ids.iter().copied().zip(results) {
            match result {
                Ok(()) => answers.confirmed.push(id),
                Err(PublishError::Unavailable(reason)) => {
                    answers.unsent.push(id);
                    answers.away = Some(reason);
                }
                Err(error @ (PublishError::Unroutable(_) | PublishError::Refused { .. })) => {
                    answers.refused.push((id, error.to_string()));
                }
            }
        }
        answers
    }

    /// Those that stay in the outbox.
    fn missing(&self) -> impl Iterator<Item = i64> {
        self.refused.iter().map(|(id, _)| *id).chain(self.unsent.iter().copied())
    }
}

/// Keeps the error with each row and tries it again after 2 s, 4 s, … up to 5 min, so that rows that
/// nobody takes don't stand in the way of the others.
async fn postpone(
    conn: &mut PgConnection,
    destination: &str,
    refused: Vec<(i64, String)>,
) -> Result<(), Error> {
    let Some((_, error)) = refused.first() else { return Ok(()) };
    tracing::warn!(destination, rows = refused.len(), error, "outbox: not taken, will be tried again later");
    metrics().failed.with_label_values(&[destination]).inc_by(refused.len() as u64);
    let (ids, errors): (Vec<i64>, Vec<String>) =
        refused.into_iter().map(|(id, error)| (id, storable::text(&error).into_owned())).unzip();
    sqlx::query(
        "UPDATE outbox SET attempts = attempts + 1, last_error = refused.error,
                next_at = clock_timestamp()
                    + make_interval(secs => least(300, 2 ^ least(attempts + 1, 9)) * (0.8 + 0.2 * random()))
         FROM UNNEST($1::bigint[], $2::text[]) AS refused (id, error) WHERE outbox.id = refused.id",
    )
    .bind(&ids)
    .bind(&errors)
    .execute(conn)
    .await?;
    Ok(())
}
