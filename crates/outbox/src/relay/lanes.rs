use std::{collections::HashMap, time::Duration};

use messaging::Broker;
use rand::RngExt as _;
use sea_orm::sqlx::PgPool;
use tokio::{
    task::{self, JoinSet},
    time::Instant,
};

use super::{
    answered,
    batch::{self, Settled, Turn},
};
use crate::{Error, metrics::metrics};

/// Batches that hold a connection at once. The pool is the service's, too.
const TURNS: usize = 4;
/// How many of these may go to destinations in doubt, so that there are always some for the others.
const DOUBTFUL_TURNS: usize = TURNS / 2;
/// Batches of one destination at once, where it has many rows: the next is claimed while the broker confirms one.
const AT_ONCE: usize = 3;

/// The destinations, and the batches under way.
pub(super) struct Lanes {
    pool: PgPool,
    broker: Broker,
    tasks: JoinSet<Result<Turn, Error>>,
    stages: HashMap<task::Id, (String, Stage)>,
    lanes: HashMap<String, Lane>,
    /// Turns given so far.
    turns: u64,
}

/// What a task does.
enum Stage {
    /// A turn, which holds a connection.
    Turn,
    /// Waits for late confirms, and holds none.
    Late,
}

/// A destination.
#[derive(Default)]
struct Lane {
    /// Whether it has rows due, as far as is known.
    due: bool,
    /// Whether there were more rows than a batch takes.
    deep: bool,
    turns: usize,
    late: usize,
    /// Number of its last turn.
    served: u64,
    away: Option<Away>,
}

/// Its broker does not take what is there.
struct Away {
    failures: u32,
    until: Instant,
}

impl Lane {
    /// Whether its next batch may well be one that nobody confirms.
    fn doubtful(&self) -> bool {
        self.away.is_some() || self.late > 0
    }

    fn busy(&self) -> usize {
        self.turns + self.late
    }

    fn ready(&self, now: Instant) -> bool {
        let most = if self.deep && !self.doubtful() { AT_ONCE } else { 1 };
        self.due && self.busy() < most && self.away.as_ref().is_none_or(|away| away.until <= now)
    }
}

impl Lanes {
    pub fn new(pool: PgPool, broker: Broker) -> Self {
        Self { pool, broker, tasks: JoinSet::new(), stages: HashMap::new(), lanes: HashMap::new(), turns: 0 }
    }

    /// Takes note of all destinations that have rows due.
    pub fn due(&mut self, destinations: Vec<String>) {
        self.lanes.retain(|_, lane| lane.due || lane.busy() > 0);
        for destination in destinations {
            self.lanes.entry(destination).or_default().due = true;
        }
    }

    /// Gives the turns that are free.
    pub fn start(&mut self) {
        while let Some(destination) = next(&self.lanes, Instant::now()) {
            let Some(lane) = self.lanes.get_mut(&destination) else { return };
            self.turns += 1;
            lane.served = self.turns;
            lane.turns += 1;
            let task = self.tasks.spawn({
                let (pool, broker, destination) =
                    (self.pool.clone(), self.broker.clone(), destination.clone());
                async move { answered(batch::relay(&pool, &broker, &destination)).await }
            });
            self.stages.insert(task.id(), (destination, Stage::Turn));
        }
    }

    /// Waits for a batch to end. Returns whether it had rows; none, at once, where none is under way.
    pub async fn ended(&mut self) -> Option<bool> {
        let (id, end) = match self.tasks.join_next_with_id().await? {
            Ok((id, end)) => (id, end.map_err(|error| error.to_string())),
            // A batch that panicked has rolled back, or its lease lapses.
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let (destination, stage) = self.stages.remove(&id)?;
        let lane = self.lanes.entry(destination.clone()).or_default();
        match stage {
            Stage::Turn => lane.turns -= 1,
            Stage::Late => lane.late -= 1,
        }
        let settled = match end {
            Ok(Turn::Settled(settled)) => settled,
            Ok(Turn::Late(late)) => {
                lane.late += 1;
                let pool = self.pool.clone();
                let task = self.tasks.spawn(async move { late.settle(&pool).await.map(Turn::Settled) });
                self.stages.insert(task.id(), (destination, Stage::Late));
                return Some(true);
            }
            Err(reason) => Settled { claimed: 0, full: false, confirmed: 0, away: Some(reason) },
        };
        metrics().published.with_label_values(&[&destination]).inc_by(settled.confirmed as u64);
        Some(lane.settled(&destination, settled))
    }

    /// Waits for all batches under way.
    pub async fn drain(&mut self) {
        while self.ended().await.is_some() {}
    }
}

impl Lane {
    /// Returns whether there was work.
    fn settled(&mut self, destination: &str, settled: Settled) -> bool {
        let Some(reason) = settled.away else {
            let worked = settled.claimed > 0;
            self.due = worked;
            self.deep = settled.full;
            if worked && let Some(away) = self.away.take() {
                tracing::info!(destination, failures = away.failures, "outbox: publishing again");
            }
            return worked;
        };
        let failures = self.away.as_ref().map_or(0, |away| away.failures);
        if failures == 0 {
            tracing::warn!(destination, reason, "outbox: cannot publish, rows stay until it works");
        }
        let pause = Duration::from_millis(100 << failures.min(4)).mul_f64(rand::rng().random_range(0.8..1.2));
        self.away = Some(Away { failures: failures.saturating_add(1), until: Instant::now() + pause });
        self.due = true;
        false
    }
}

/// Whose turn it is: of the destinations with the fewest batches under way, the one whose last turn is the longest
/// ago. None where all turns are given, or nobody can use the one that is free.
fn next(lanes: &HashMap<String, Lane>, now: Instant) -> Option<String> {
    let given: usize = lanes.values().map(|lane| lane.turns).sum();
    if given >= TURNS {
        return None;
    }
    let doubtful: usize = lanes.values().filter(|lane| lane.doubtful()).map(|lane| lane.turns).sum();
    lanes
        .iter()
        .filter(|(_, lane)| lane.ready(now) && (!lane.doubtful() || doubtful < DOUBTFUL_TURNS))
        .min_by_key(|(_, lane)| (lane.busy(), lane.served))
        .map(|(destination, _)| destination.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives turns until none is left, and returns who got them.
    fn give(lanes: &mut HashMap<String, Lane>) -> Vec<String> {
        let mut given = Vec::new();
        while let Some(name) = next(lanes, Instant::now()) {
            let turn = 1 + lanes.values().map(|lane| lane.served).max().unwrap_or(0);
            let lane = lanes.get_mut(&name).expect("a lane that was chosen");
            (lane.turns, lane.served) = (lane.turns + 1, turn);
            given.push(name);
        }
        given
    }

    fn lanes(names: &[&str], deep: bool) -> HashMap<String, Lane> {
        let lane = |served| Lane { due: true, deep, served, ..Lane::default() };
        names.iter().zip(1..).map(|(name, served)| ((*name).to_owned(), lane(served))).collect()
    }

    #[test]
    fn who_waited_longest_is_next_and_nobody_has_two_turns_while_another_waits() {
        let mut all = lanes(&["a", "b", "c", "d", "e", "f"], true);
        assert_eq!(give(&mut all), ["a", "b", "c", "d"]);
        for name in ["b", "d"] {
            all.get_mut(name).expect("a lane").turns = 0;
        }
        assert_eq!(give(&mut all), ["e", "f"]);
        // Alone, a destination with many rows has three; one with few has one.
        assert_eq!(give(&mut lanes(&["a"], true)), ["a", "a", "a"]);
        assert_eq!(give(&mut lanes(&["a"], false)), ["a"]);
    }

    #[test]
    fn destinations_in_doubt_leave_half_of_the_turns_to_the_others() {
        let mut all = lanes(&["a", "b", "c", "d", "e", "f"], true);
        for name in ["a", "b", "c"] {
            let away = Away { failures: 1, until: Instant::now() };
            all.get_mut(name).expect("a lane").away = Some(away);
        }
        all.get_mut("d").expect("a lane").late = 1;
        assert_eq!(give(&mut all), ["a", "b", "e", "f"]);
        // While its batch is late, a destination gets no other; while it is left alone, none at all.
        let mut all = lanes(&["a", "b"], true);
        all.get_mut("a").expect("a lane").late = 1;
        let away = Away { failures: 1, until: Instant::now() + Duration::from_secs(60) };
        all.get_mut("b").expect("a lane").away = Some(away);
        assert_eq!(give(&mut all), Vec::<String>::new());
    }
}
