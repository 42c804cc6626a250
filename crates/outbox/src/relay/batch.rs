use std::{future::Future, pin::Pin, time::Duration};

use chrono::{DateTime, Utc};
use failpoints::Point;
use messaging::{Broker, Destination, Outgoing, PublishError};
use sea_orm::sqlx::{self, PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::time::{Instant, timeout};

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

/// One transaction: lock, publish, delete what was confirmed, put back for later what was refused. What
/// could not be sent because the broker is away stays as it is. A transaction that would wait long for the broker
/// ends with a lease of its rows instead.
pub(super) async fn relay(pool: &PgPool, broker: &Broker, destination: &str) -> Result<Turn, Error> {
    let mut transaction = pool.begin().await?;
    let rows = claim(&mut transaction, destination).await?;
    let claimed = rows.len();
    if rows.is_empty() {
        return Ok(Turn::Settled(Settled { claimed, full: false, confirmed: 0, away: None }));
    }
    let mut bytes = 0;
    let to = parse(destination);
    let (mut ids, mut messages, mut unsendable) =
        (Vec::with_capacity(claimed), Vec::with_capacity(claimed), Vec::new());
    for row in rows {
        let id = row.try_get("id")?;
        match to.clone().and_then(|to| outgoing(to, &row)) {
            Ok(message) => {
                bytes += message.body.len();
                ids.push(id);
                messages.push(message);
            }
            Err(reason) => unsendable.push((id, reason)),
        }
    }
    put_back(&mut transaction, destination, unsendable).await?;
    let full = claimed == BATCH || bytes >= BATCH_BYTES;
    let broker = broker.clone();
    let mut publishing: Publishing = Box::pin(async move { broker.publish(&messages).await });
    if let Ok(results) = timeout(IN_TIME, &mut publishing).await {
        failpoints::hit(Point::RelayPublished);
        let (confirmed, away) = settle(&mut transaction, destination, &ids, results, None).await?;
        transaction.commit().await?;
        failpoints::hit(Point::RelayDeleted);
        return Ok(Turn::Settled(Settled { claimed, full, confirmed, away }));
    }
    let lease = async {
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

/// Locks the rows of the next batch. More may be locked than it takes.
async fn claim(conn: &mut PgConnection, destination: &str) -> sqlx::Result<Vec<PgRow>> {
    // Planned again each time: a plan made for the empty table would scan and sort a full one.
    sqlx::query(
        "WITH due AS MATERIALIZED (
             SELECT id, next_at, octet_length(body) AS bytes FROM outbox
             WHERE destination = $1 AND next_at <= now() ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
         summed AS (SELECT id, next_at, sum(bytes) OVER (ORDER BY next_at, id) - bytes AS before FROM due)
         SELECT id, message_id, kind, body FROM summed JOIN outbox USING (id)
         WHERE before < $3 ORDER BY summed.next_at, id",
    )
    .bind(destination)
    .bind(BATCH as i64)
    .bind(BATCH_BYTES as i64)
    .persistent(false)
    .fetch_all(conn)
    .await
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

fn outgoing(to: Destination, row: &PgRow) -> Result<Outgoing, String> {
    let read = || -> sqlx::Result<Outgoing> {
        Ok(Outgoing {
            destination: to,
            id: row.try_get("message_id")?,
            kind: row.try_get("kind")?,
            body: row.try_get::<String, _>("body")?.into(),
        })
    };
    let message = read().map_err(|error| error.to_string())?;
    if message.body.len() > MOST_BODY {
        return Err(format!("a body of {} bytes, expected at most {MOST_BODY}", message.body.len()));
    }
    Ok(message)
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
        let mut transaction = pool.begin().await?;
        let (confirmed, away) =
            settle(&mut transaction, &self.destination, &self.ids, results, self.lease).await?;
        transaction.commit().await?;
        failpoints::hit(Point::RelayDeleted);
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

/// Deletes what was confirmed, puts back what was refused, and gives up the lease of what was not sent. Returns how
/// many were confirmed, and why the broker did not take the rest.
async fn settle(
    conn: &mut PgConnection,
    destination: &str,
    ids: &[i64],
    results: Vec<Result<(), PublishError>>,
    lease: Option<DateTime<Utc>>,
) -> Result<(usize, Option<String>), Error> {
    let (mut confirmed, mut failed) = (Vec::with_capacity(ids.len()), Vec::new());
    let (mut unsent, mut away) = (Vec::new(), None);
    for (id, result) in ids.iter().copied().zip(results) {
        match result {
            Ok(()) => confirmed.push(id),
            Err(PublishError::Unavailable(reason)) => {
                unsent.push(id);
                away = Some(reason);
            }
            Err(error @ (PublishError::Unroutable(_) | PublishError::Refused { .. })) => {
                failed.push((id, error.to_string()));
            }
        }
    }
    sqlx::query("DELETE FROM outbox WHERE id = ANY($1)")
        .bind(&confirmed)
        .persistent(false)
        .execute(&mut *conn)
        .await?;
    put_back(conn, destination, failed).await?;
    if lease.is_some() && !unsent.is_empty() {
        // To where they were in the order.
        sqlx::query(
            "UPDATE outbox SET next_at = CASE WHEN attempts = 0 THEN created_at ELSE now() END
             WHERE id = ANY($1) AND next_at = $2",
        )
        .bind(&unsent)
        .bind(lease)
        .execute(conn)
        .await?;
    }
    Ok((confirmed.len(), away))
}

/// Keeps the error with each row and tries it again after 2 s, 4 s, … up to 5 min, so that rows that
/// nobody takes don't stand in the way of the others.
async fn put_back(
    conn: &mut PgConnection,
    destination: &str,
    failed: Vec<(i64, String)>,
) -> Result<(), Error> {
    let Some((_, error)) = failed.first() else { return Ok(()) };
    tracing::warn!(destination, rows = failed.len(), error, "outbox: not taken, will be tried again later");
    metrics().failed.with_label_values(&[destination]).inc_by(failed.len() as u64);
    let (ids, errors): (Vec<i64>, Vec<String>) =
        failed.into_iter().map(|(id, error)| (id, storable::text(&error).into_owned())).unzip();
    sqlx::query(
        "UPDATE outbox SET attempts = attempts + 1, last_error = failed.error,
                next_at = clock_timestamp()
                    + make_interval(secs => least(300, 2 ^ least(attempts + 1, 9)) * (0.8 + 0.2 * random()))
         FROM UNNEST($1::bigint[], $2::text[]) AS failed (id, error) WHERE outbox.id = failed.id",
    )
    .bind(&ids)
    .bind(&errors)
    .execute(conn)
    .await?;
    Ok(())
}
