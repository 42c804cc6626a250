//! Which logins were ended while access tokens of theirs are still about. Each replica keeps them in memory: it reads
//! them from the database at its start, right after it has ended one itself, and every second.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Identity;
use crate::storage::ended_sessions;

/// How late a replica learns what another one ended.
const EVERY: Duration = Duration::from_secs(1);

/// Ended logins, as of the last look.
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    ids: watch::Sender<Arc<HashSet<Uuid>>>,
    /// Held while reading: what is read first is also stored first.
    turn: Mutex<()>,
}

impl EndedSessions {
    pub(super) fn contains(&self, session: Uuid) -> bool {
        self.ids.borrow().contains(&session)
    }
}

impl Identity {
    /// Waits until a login was ended.
    pub async fn session_ended(&self, session: Uuid) {
        let mut ids = self.ended().ids.subscribe();
        if ids.wait_for(|ids| ids.contains(&session)).await.is_err() {
            // The sender lives as long as `self`.
            std::future::pending::<()>().await;
        }
    }

    /// Looks for ended logins until `shutdown`. While the database can't be asked, nobody can end one either; what is
    /// known stays.
    pub async fn watch_sessions(&self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let read = self.read_ended_sessions().await;
            if let Err(error) = &read
                && !failing
            {
                tracing::warn!(%error, "could not look for ended logins, trying every second");
            }
            failing = read.is_err();
        }
    }

    /// To be called after a transaction that ended logins: this replica refuses their tokens from now on.
    pub(crate) async fn apply_ended_sessions(&self) {
        if let Err(error) = self.read_ended_sessions().await {
            tracing::warn!(%error, "could not read ended logins, their tokens are refused a second later");
        }
    }

    pub(super) async fn read_ended_sessions(&self) -> Result<(), sea_orm::DbErr> {
        let _turn = self.ended().turn.lock().await;
        let ids: HashSet<Uuid> = ended_sessions::all(self.orm(), self.now()).await?.into_iter().collect();
        self.ended().ids.send_if_modified(|known| {
            let changed = **known != ids;
            if changed {
                *known = Arc::new(ids);
            }
            changed
        });
        Ok(())
    }
}
