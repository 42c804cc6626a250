use std::{borrow::Cow, collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};
use contracts::Queue;
use failpoints::Point;
use messaging::{Broker, DeadLetter, Envelope, Letters};
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{metrics::metrics, storable};

/// Letters held without an ack because the database takes them in no form. RabbitMQ sends [`Letters::HELD`] without
/// an ack: the rest is for the others.
const ASIDE: usize = Letters::HELD / 2;
/// Longer than the server lets a statement take.
const UNANSWERED: Duration = Duration::from_secs(90);
/// Between two letters of which one comes back at once.
const ASIDE_PAUSE: Duration = Duration::from_secs(1);

/// Moves a service's dead letters from the broker into its table: insert, commit, then ack. A letter that
/// comes twice is archived once. What the table can't hold of a letter is replaced; only a database that is away
/// makes the others wait.
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
    let mut aside = VecDeque::new();
    while let Some(letter) = shutdown.run_until_cancelled(letters.next()).await {
        match archive(&pool, queue.name, &letter, &shutdown).await {
            Outcome::Archived => acknowledge(queue.name, letter).await,
            Outcome::Refused => {
                aside.push_back(letter);
                if aside.len() > ASIDE {
                    // Back to the broker, which sends it again.
                    drop(aside.pop_front());
                    shutdown.run_until_cancelled(sleep(ASIDE_PAUSE)).await;
                }
            }
            Outcome::ShutDown => return,
        }
    }
}

enum Outcome {
    Archived,
    /// The database takes it in no form.
    Refused,
    /// Not archived, and not to be waited for.
    ShutDown,
}

/// Archives a letter, and waits for a database that is away.
async fn archive(pool: &PgPool, queue: &str, letter: &DeadLetter, shutdown: &CancellationToken) -> Outcome {
    let mut row = Row::of(letter);
    let mut failures = 0_u32;
    loop {
        // A server whose host is gone ends no statement.
        let inserted =
            timeout(UNANSWERED, row.insert(pool, queue)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let Err(error) = inserted else { return Outcome::Archived };
        if storable::refuses(&error) {
            if row.bare {
                tracing::error!(queue, message_id = letter.id.map(tracing::field::display), %error,
                    "the archive takes this dead letter in no form: it stays in the broker");
                return Outcome::Refused;
            }
            row = Row::bare(letter, &error);
            continue;
        }
        if failures == 0 {
            tracing::warn!(queue, %error, "dead letter not archived, it waits in the broker");
        }
        let pause = Duration::from_millis(500 << failures.min(5)).mul_f64(rand::rng().random_range(0.8..1.2));
        failures = failures.saturating_add(1);
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return Outcome::ShutDown;
        }
    }
}

async fn acknowledge(queue: &str, letter: DeadLetter) {
    failpoints::hit(Point::LetterArchived);
    tracing::warn!(
        queue,
        message_id = letter.id.map(tracing::field::display),
        kind = letter.kind,
        reason = letter.reason,
        error = letter.error,
        attempts = letter.attempts,
        "dead letter archived"
    );
    metrics().archived.with_label_values(&[queue, &storable::text(&letter.reason)]).inc();
    if let Err(error) = letter.ack().await {
        tracing::debug!(queue, error = format!("{error:#}"), "it will come again");
    }
}

/// A letter as the table can hold it.
struct Row<'a> {
    message_id: Option<Uuid>,
    kind: Option<Cow<'a, str>>,
    /// As text where it is text, else as bytes.
    body: Result<&'a str, &'a [u8]>,
    decodable: bool,
    reason: Cow<'a, str>,
    error: String,
    attempts: i32,
    first_failed_at: Option<DateTime<Utc>>,
    failed_at: DateTime<Utc>,
    /// The time of the failure where `failed_at` can't be it: the letter is recognised by it all the same.
    died_at: Option<String>,
    origin: Cow<'a, str>,
    replay_count: i32,
    /// Whether this is all of the letter that the table can be expected to take.
    bare: bool,
}

impl<'a> Row<'a> {
    fn of(letter: &'a DeadLetter) -> Self {
        let body = match std::str::from_utf8(&letter.body) {
            Ok(text) if !text.contains('\0') => Ok(text),
            _ => Err(&letter.body[..]),
        };
        // From the text: serde skips members that it does not know without asking whether they are UTF-8, and a
        // letter that can be replayed is one whose text is kept.
        let envelope = body.ok().and_then(|text| serde_json::from_str::<Envelope>(text).ok());
        let (message_id, kind, replay_count) = match &envelope {
            Some(envelope) => (Some(envelope.id), Some(envelope.kind.as_str()), envelope.replay_count),
            None => (letter.id, letter.kind.as_deref(), 0),
        };
        let mut error = storable::text(&letter.error).into_owned();
        let mut not_kept = |name: &str, time: DateTime<Utc>| {
            let line = format!("{name} is {time:?}: not a time that the archive can hold");
            error = if error.is_empty() { line } else { format!("{error}\n{line}") };
        };
        let first_failed_at = letter.first_failed_at.and_then(|time| {
            storable::time(time).or_else(|| {
                not_kept("first_failed_at", time);
                None
            })
        });
        let (failed_at, died_at) = match storable::time(letter.failed_at) {
            Some(time) => (time, None),
            None => {
                not_kept("failed_at", letter.failed_at);
                (Utc::now(), Some(format!("{:?}", letter.failed_at)))
            }
        };
        Self {
            message_id,
            kind: kind.map(|kind| storable::text(kind).into_owned().into()),
            body,
            decodable: envelope.is_some(),
            reason: storable::text(&letter.reason),
            error,
            attempts: i32::try_from(letter.attempts).unwrap_or(i32::MAX),
            first_failed_at,
            failed_at,
            died_at,
            origin: storable::text(&letter.origin),
            replay_count: i32::try_from(replay_count).unwrap_or(i32::MAX),
            bare: false,
        }
    }

    /// The body as bytes, and why there is no more. For what [`Row::of`] does not foresee.
    fn bare(letter: &'a DeadLetter, refusal: &sqlx::Error) -> Self {
        let full = Self::of(letter);
        Self {
            kind: None,
            body: Err(&letter.body),
            decodable: false,
            reason: "unarchivable".into(),
            error: storable::text(&format!("the archive refused the letter as it was: {refusal}"))
                .into_owned(),
            attempts: 0,
            first_failed_at: None,
            origin: "".into(),
            bare: true,
            ..full
        }
    }

    /// A message dies once a replay. The same death delivered twice changes nothing; one that is newer (the
    /// broker's own redrive sent the message round again) opens the letter again. What can't be read has no
    /// id: it is recognised by its content and the time of its failure.
    async fn insert(&self, pool: &PgPool, queue: &str) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO dead_letters (id, queue, message_id, fingerprint, kind, body, body_raw, decodable, reason,
                     error, attempts, first_failed_at, failed_at, origin, replay_count)
             VALUES ($1, $2, $3,
                     coalesce($3::text, encode(sha256(coalesce($6, convert_to($5, 'UTF8'))), 'hex')
                         || ':' || coalesce($15, extract(epoch FROM $12)::text)) || '/' || $14,
                     $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (queue, fingerprint) DO UPDATE
             SET state = 'open', resolved_by = NULL, resolved_at = NULL, reason = excluded.reason,
                 error = excluded.error, attempts = excluded.attempts, failed_at = excluded.failed_at,
                 archived_at = now()
             WHERE excluded.failed_at > dead_letters.failed_at",
        )
        .bind(Uuid::now_v7())
        .bind(queue)
        .bind(self.message_id)
        .bind(self.kind.as_deref())
        .bind(self.body.ok())
        .bind(self.body.err())
        .bind(self.decodable)
        .bind(&*self.reason)
        .bind(&self.error)
        .bind(self.attempts)
        .bind(self.first_failed_at)
        .bind(self.failed_at)
        .bind(&*self.origin)
        .bind(self.replay_count)
        .bind(&self.died_at)
        .execute(pool)
        .await?;
        Ok(())
    }
}
