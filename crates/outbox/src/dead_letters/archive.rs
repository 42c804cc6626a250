use std::time::Duration;

use contracts::Queue;
use failpoints::Point;
use messaging::{Broker, DeadLetter, Envelope};
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, metrics::metrics};

/// Moves a service's dead letters from the broker into its table: insert, commit, then ack. A letter that
/// comes twice is archived once.
pub struct Archiver {
    pool: PgPool,
    broker: Broker,
    queues: Vec<&'static Queue>,
}

impl Archiver {
    /// Archives the dead letters of the queues that this service consumes.
    pub fn new(pool: PgPool, broker: Broker, queues: &[&'static Queue]) -> Self {
        Self { pool, broker, queues: queues.to_vec() }
    }

    /// Returns when `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        for queue in self.queues {
            tasks.spawn(archive_queue(self.pool.clone(), self.broker.clone(), queue, shutdown.clone()));
        }
        tasks.join_all().await;
    }
}

async fn archive_queue(pool: PgPool, broker: Broker, queue: &'static Queue, shutdown: CancellationToken) {
    let mut letters = broker.letters(queue);
    while let Some(letter) = shutdown.run_until_cancelled(letters.next()).await {
        let mut failures = 0_u32;
        while let Err(error) = insert(&pool, queue.name, &letter).await {
            if failures == 0 {
                tracing::warn!(queue = queue.name, %error, "dead letter not archived, it waits in the broker");
            }
            let pause =
                Duration::from_millis(500 << failures.min(5)).mul_f64(rand::rng().random_range(0.8..1.2));
            failures = failures.saturating_add(1);
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
        failpoints::hit(Point::LetterArchived);
        tracing::warn!(
            queue = queue.name,
            message_id = letter.id.map(tracing::field::display),
            kind = letter.kind,
            reason = letter.reason,
            error = letter.error,
            attempts = letter.attempts,
            "dead letter archived"
        );
        metrics().archived.with_label_values(&[queue.name, &letter.reason]).inc();
        if let Err(error) = letter.ack().await {
            tracing::debug!(queue = queue.name, error = format!("{error:#}"), "it will come again");
        }
    }
}

/// A message dies once a replay. The same death delivered twice changes nothing; one that is newer (the
/// broker's own redrive sent the message round again) opens the letter anew. What can't be read has no
/// id: it is recognised by its content and the time of its failure.
async fn insert(pool: &PgPool, queue: &str, letter: &DeadLetter) -> Result<(), Error> {
    let envelope = serde_json::from_slice::<Envelope>(&letter.body).ok();
    let text = std::str::from_utf8(&letter.body).ok().filter(|text| !text.contains('\0'));
    let raw = text.is_none().then_some(&letter.body[..]);
    let message_id = envelope.as_ref().map(|envelope| envelope.id).or(letter.id);
    let kind = envelope.as_ref().map(|envelope| &envelope.kind).or(letter.kind.as_ref());
    let replay_count = envelope.as_ref().map_or(0, |envelope| envelope.replay_count);
    sqlx::query(
        "INSERT INTO dead_letters (id, queue, message_id, fingerprint, kind, body, body_raw, decodable, reason,
                 error, attempts, first_failed_at, failed_at, origin, replay_count)
         VALUES ($1, $2, $3,
                 coalesce($3::text, encode(sha256(coalesce($6, convert_to($5, 'UTF8'))), 'hex')
                     || ':' || extract(epoch FROM $12)) || '/' || $14,
                 $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (queue, fingerprint) DO UPDATE
         SET state = 'open', resolved_by = NULL, resolved_at = NULL, reason = excluded.reason,
             error = excluded.error, attempts = excluded.attempts, failed_at = excluded.failed_at,
             archived_at = now()
         WHERE excluded.failed_at > dead_letters.failed_at",
    )
    .bind(Uuid::now_v7())
    .bind(queue)
    .bind(message_id)
    .bind(kind)
    .bind(text)
    .bind(raw)
    .bind(envelope.is_some())
    .bind(clean(&letter.reason))
    .bind(clean(&letter.error))
    .bind(i32::try_from(letter.attempts).unwrap_or(i32::MAX))
    .bind(letter.first_failed_at)
    .bind(letter.failed_at)
    .bind(clean(&letter.origin))
    .bind(i32::try_from(replay_count).unwrap_or(i32::MAX))
    .execute(pool)
    .await?;
    Ok(())
}

/// PostgreSQL's text holds no NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
