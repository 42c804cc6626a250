use super::orders::{FOR_GOOD, Order};
use contracts::Queue;
use sea_orm::sqlx::{self, Row, postgres::PgRow};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// What one queue's consumer owes one order, and what it did.
#[derive(Debug)]
pub struct Duty {
    pub number: i64,
    pub failures: i64,
    pub queue: String,
    pub message_id: Uuid,
    /// How often the handler ran.
    pub runs: i32,
    /// How often the effect was had.
    pub applied: i32,
    /// Letters in the archive.
    pub letters: i64,
}

impl Duty {
    pub fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            number: row.try_get("number")?,
            failures: row.try_get("failures")?,
            queue: row.try_get("queue")?,
            message_id: row.try_get("message_id")?,
            runs: row.try_get("runs")?,
            applied: row.try_get("applied")?,
            letters: row.try_get("letters")?,
        })
    }

    pub fn order(&self) -> Order {
        Order { number: self.number, failures: self.failures }
    }

    /// Whether it has come to an end, right or wrong.
    pub fn is_settled(&self) -> bool {
        self.applied > 0 || self.letters > 0
    }

    /// Whether its message may come by this queue.
    pub fn is_for(&self, queue: &Queue, part: Part) -> bool {
        let passes = match part {
            Part::Work => true,
            Part::Dead => self.failures == FOR_GOOD,
            Part::Tier(_) => self.failures > 0,
        };
        passes && self.queue == queue.name
    }

    /// Runs where each message comes once.
    fn due_runs(&self) -> i32 {
        if self.failures == FOR_GOOD { 1 } else { 1 + self.failures as i32 }
    }

    fn redelivered(&self) -> u32 {
        (self.runs - self.due_runs()).max(0).unsigned_abs()
    }

    /// How often it came too often; each time it may have failed as often as the first time.
    fn copies(&self) -> u32 {
        self.redelivered().div_ceil(self.due_runs().unsigned_abs())
    }
}

/// One of the broker's queues that make up a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Work,
    Dead,
    Tier(Duration),
}

impl Part {
    /// The broker's name.
    pub fn name(self, queue: &Queue) -> String {
        match self {
            Self::Work => queue.name.to_owned(),
            Self::Dead => format!("{}.dead", queue.name),
            Self::Tier(pause) => format!("{}.retry.{}ms", queue.name, pause.as_millis()),
        }
    }
}

/// What went with a queue: messages that the broker had confirmed, of orders up to a number. Later ones have no excuse: where
/// there was no queue to take them, nobody may have confirmed them.
pub struct Deleted {
    pub queue: &'static Queue,
    pub part: Part,
    pub up_to: i64,
}

impl Deleted {
    /// Whether this may have been in it.
    pub fn took(&self, duty: &Duty) -> bool {
        duty.number <= self.up_to && duty.is_for(self.queue, self.part)
    }

    /// Whether this is an event that was published when its subscriber had no queue: another subscriber's took it, so it
    /// did not come back.
    pub fn hid(&self, duty: &Duty) -> bool {
        let event = !self.queue.events.is_empty() && self.part == Part::Work;
        event && duty.number > self.up_to && duty.queue == self.queue.name
    }
}

/// What a round came to.
#[derive(Debug, Default)]
pub struct Account {
    pub orders: usize,
    pub right: usize,
    /// A sentence each.
    pub lost: Vec<String>,
    /// A sentence each.
    pub duplicated: Vec<String>,
    pub redelivered: u64,
    pub copies: u32,
}

impl Account {
    pub fn of(duties: &[Duty]) -> Self {
        let mut account = Self::default();
        let mut orders: BTreeMap<i64, bool> = BTreeMap::new();
        for duty in duties {
            let should = if duty.failures == FOR_GOOD { (0, 1) } else { (1, 0) };
            let is = (duty.applied, duty.letters);
            *orders.entry(duty.number).or_insert(true) &= is == should;
            let told = || {
                format!(
                    "order {} at {}: {} runs, {} effects, {} letters (fails {})",
                    duty.number, duty.queue, duty.runs, duty.applied, duty.letters, duty.failures
                )
            };
            if is.0 < should.0 || is.1 < should.1 {
                account.lost.push(format!("lost: {}", told()));
            }
            if is.0 > should.0 || is.1 > should.1 {
                account.duplicated.push(format!("too much: {}", told()));
            }
            account.redelivered += u64::from(duty.redelivered());
            account.copies = account.copies.max(duty.copies());
        }
        account.orders = orders.len();
        account.right = orders.values().filter(|right| **right).count();
        account
    }

    pub fn is_exact(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty()
    }
}
