use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a worker does right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// The kind of work.
    pub kind: String,
    /// The job's or message's id.
    pub id: Uuid,
    /// Since when, by this machine's clock.
    pub since: DateTime<Utc>,
}

/// What this process works on, for its [`crate::workers::Announcer`] to tell. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Activities {
    all: Arc<Mutex<(u64, BTreeMap<u64, Activity>)>>,
}

impl Activities {
    /// Notes a piece of work until the guard is dropped.
    pub fn begin(&self, kind: &str, id: Uuid) -> Guard {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        let key = all.0;
        all.1.insert(key, Activity { kind: kind.to_owned(), id, since: Utc::now() });
        Guard { activities: self.clone(), key }
    }

    /// All there is now, oldest first.
    pub fn list(&self) -> Vec<Activity> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).1.values().cloned().collect()
    }
}

/// A piece of work that goes on while this lives.
#[derive(Debug)]
pub struct Guard {
    activities: Activities,
    key: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.activities.all.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.key);
    }
}
