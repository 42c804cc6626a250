use anyhow::Context as _;
use jobs::{Job, Position, Progress};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::Summary,
    storage::imports::{Kind, Options},
};

/// Where an import goes on after its worker died: written with each batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    #[serde(default)]
    pub phase: Phase,
    /// The sheet's last row whose outcome is recorded.
    pub last_row: u32,
    total: u64,
    accepted: u64,
    rejected: u64,
    duplicates: u64,
    created: u64,
    updated: u64,
    #[serde(default)]
    unchanged: u64,
    /// Rows with errors that refused the whole file.
    #[serde(default)]
    pub errors: u64,
    /// What refused the whole file, where that was none of its rows.
    #[serde(default)]
    pub reason: Option<String>,
    /// Of a correction, rows that the other import had rejected.
    #[serde(default)]
    pub corrected: u64,
    /// Columns of the file that mean nothing here.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// Other sheets that have products.
    #[serde(default)]
    pub omitted_sheets: Vec<String>,
}

/// What an import is about to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Rows become products, batch by batch.
    #[default]
    Write,
    /// Rows become a plan, batch by batch: a dry run, or the first pass of all or nothing.
    Plan,
    /// The whole file was refused for some of its rows.
    Refused,
    /// The whole file was written, in one transaction.
    Written,
}

impl Checkpoint {
    /// Where an import with these options begins.
    pub fn start(options: &Options) -> Self {
        let plans = options.kind == Kind::DryRun || options.all_or_nothing;
        Self { phase: if plans { Phase::Plan } else { Phase::Write }, ..Self::default() }
    }

    /// Where a job of these options stands.
    pub fn of(job: &Job, options: &Options) -> anyhow::Result<Self> {
        let place = job.checkpoint_as().context("the checkpoint")?;
        Ok(place.unwrap_or_else(|| Self::start(options)))
    }

    pub const fn summary(&self) -> Summary {
        let Self { total, accepted, rejected, duplicates, created, updated, unchanged, .. } = *self;
        Summary { total, accepted, rejected, duplicates, created, updated, unchanged }
    }

    /// The same with other sums.
    #[must_use]
    pub fn with(mut self, summary: &Summary) -> Self {
        let Summary { total, accepted, rejected, duplicates, created, updated, unchanged } = *summary;
        self.total = total;
        self.accepted = accepted;
        self.rejected = rejected;
        self.duplicates = duplicates;
        self.created = created;
        self.updated = updated;
        self.unchanged = unchanged;
        self
    }

    /// What was done to products. A plan that was not carried out did nothing.
    pub fn done(&self, kind: Kind) -> Summary {
        if self.phase == Phase::Plan && kind == Kind::Import {
            return Summary { total: self.rejected, rejected: self.rejected, ..Summary::default() };
        }
        self.summary()
    }

    pub fn to_value(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    /// How near to its end it is. A file that is planned again, because the catalog changed under its plan, is no
    /// nearer than it was.
    pub const fn position(&self) -> Position {
        match self.phase {
            Phase::Write | Phase::Plan => Position::new(0, self.last_row as i64),
            Phase::Refused | Phase::Written => Position::new(1, 0),
        }
    }

    /// How far it is, of so many rows.
    pub fn progress(&self, total: Option<u64>) -> Progress {
        Progress {
            total: total.map(|total| total.max(self.total) as i64),
            processed: self.total as i64,
            successful: self.accepted as i64,
            failed: self.rejected as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_nearer_to_its_end_row_by_row_and_not_by_being_planned_again() {
        let options = Options {
            kind: Kind::Import,
            replace_duplicates: false,
            all_or_nothing: true,
            applies: None,
            corrects: None,
            undoes: None,
            sheet: None,
        };
        let start = Checkpoint::start(&options);
        let at = |phase, last_row| Checkpoint { phase, last_row, ..start.clone() }.position();
        let way = [start.position(), at(Phase::Plan, 10), at(Phase::Plan, 11), at(Phase::Written, 11)];
        assert!(way.is_sorted_by(|a, b| a < b), "{way:?}");
        assert_eq!(at(Phase::Refused, 11), at(Phase::Written, 11), "either way the file is decided");
        // The catalog changed under its plan: it begins again, and is further only where it ends.
        let again = [start.position(), at(Phase::Plan, 11)];
        assert!(again.iter().all(|position| *position <= at(Phase::Plan, 11)), "{again:?}");
        assert_eq!(at(Phase::Write, 7), at(Phase::Plan, 7), "by batches, rows count alike");
    }
}
