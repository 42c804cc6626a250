//! The hint to poll now.
//!
//! PostgreSQL holds one lock for the whole cluster from a notifying transaction's pre-commit to the end
//! of its commit, so transactions that notify commit one after the other, an fsync each. That is why there
//! is no trigger: [`crate::publish`] notifies in the statement that writes the row, and at most once in
//! [`INTERVAL`] a process. A message to an idle relay is hinted at once; under load nearly every commit
//! goes without, and the relay, which stays awake a little longer than `INTERVAL` after it had work, finds
//! the rows by itself. A lost hint costs one poll, a second at most.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::sqlx::{self, PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// The least time between two hints of one process.
pub(crate) const INTERVAL: Duration = Duration::from_millis(25);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When the next hint may go out, in milliseconds after `START`.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Whether the present write should notify.
pub(crate) fn is_due() -> bool {
    let now = START.elapsed().as_millis() as u64;
    let next = NEXT.load(Ordering::Relaxed);
    now >= next
        && NEXT
            .compare_exchange(next, now + INTERVAL.as_millis() as u64, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

/// Listens, on a connection of its own, through reconnects, until the handle is dropped.
pub(crate) fn listen(pool: PgPool) -> (Arc<Notify>, AbortOnDropHandle<()>) {
    let hint = Arc::new(Notify::new());
    let task = tokio::spawn({
        let hint = hint.clone();
        async move {
            loop {
                if let Err(error) = listen_once(&pool, &hint).await {
                    tracing::debug!(%error, "no hints from the database, polling only");
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    });
    (hint, AbortOnDropHandle::new(task))
}

async fn listen_once(pool: &PgPool, hint: &Notify) -> sqlx::Result<()> {
    let channel: String = sqlx::query_scalar("SELECT 'outbox_' || current_schema()").fetch_one(pool).await?;
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&channel).await?;
    // What was written while nobody listened.
    hint.notify_one();
    loop {
        listener.recv().await?;
        hint.notify_one();
    }
}
