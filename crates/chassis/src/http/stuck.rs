//! A pool whose connections all wait for a host that is gone, and that gives none although the database is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::{Instant, timeout};

use crate::db::Database;

/// How often the pool is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long a look waits for the pool, and for the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// A pool that gave none for so long, while its server answered others, gives none until the kernel gives its connections up,
/// which takes a quarter of an hour or for ever.
const GIVEN_UP: Duration = Duration::from_secs(120);

/// Sets `stuck` while only a new process would help. A server that is down is no reason: a new process would wait as well. Nor is
/// one that is slow, or a table that is locked: many wait in line for the pool then, and get their turns.
pub(super) async fn watch(database: Database, stuck: Arc<AtomicBool>) {
    let pool = &database.pool;
    let (mut since, mut given_back) = (None, database.given_back());
    while !pool.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
        let gives = matches!(timeout(PATIENCE, pool.acquire()).await, Ok(Ok(_)));
        let before = given_back;
        given_back = database.given_back();
        let works = gives || given_back != before;
        let answers = !works && server_answers(pool).await;
        let now = Instant::now();
        since = look(since, works, answers, now);
        let is_stuck = is_given_up(since, now);
        if is_stuck && !stuck.load(Ordering::Relaxed) {
            tracing::error!(
                "the pool gives no connection while the database answers: this process is to be restarted"
            );
        }
        stuck.store(is_stuck, Ordering::Relaxed);
    }
}

/// Whether a connection that is none of the pool's comes about.
async fn server_answers(pool: &PgPool) -> bool {
    let options = pool.connect_options();
    match timeout(PATIENCE, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => {
            // Whether it says goodbye is all the same.
            drop(timeout(PATIENCE, connection.close()).await);
            true
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Since when the pool has given nothing, and nobody was done with a connection of it, while its server answered; after one
/// more look.
fn look(since: Option<Instant>, works: bool, answers: bool, now: Instant) -> Option<Instant> {
    if works || !answers { None } else { since.or(Some(now)) }
}

fn is_given_up(since: Option<Instant>, now: Instant) -> bool {
    since.is_some_and(|since| now - since >= GIVEN_UP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_given_up_only_where_its_server_answers_others_for_minutes() {
        let start = Instant::now();
        let after = |looks: u32| start + LOOK_EVERY * looks;
        // What each look finds: whether the pool gives, whether the server answers.
        let given_up = |looks: &[(bool, bool)]| {
            let mut since = None;
            for (number, (gives, answers)) in (0..).zip(looks) {
                since = look(since, *gives, *answers, after(number));
            }
            is_given_up(since, after(looks.len() as u32 - 1))
        };
        assert!(given_up(&[(false, true); 9]));
        assert!(!given_up(&[(false, true); 8]), "too early");
        assert!(!given_up(&[(false, false); 100]), "the server is down");
        assert!(!given_up(&[(true, false); 100]), "it gives");
        let mut once = [(false, true); 16];
        once[8] = (true, false);
        assert!(!given_up(&once), "it gave one in between");
    }
}
