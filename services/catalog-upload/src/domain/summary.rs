//! The counts of an import, whose sums always hold.

use super::{Decision, Outcome};

/// What became of the rows of an import:
/// `total = accepted + rejected` and `accepted = created + updated`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows that held something.
    pub total: u64,
    /// Rows that are products now.
    pub accepted: u64,
    /// Rows that are not.
    pub rejected: u64,
    /// Rows that met an existing product or an earlier row of the file, whether rejected or updated.
    pub duplicates: u64,
    /// Products that were not there before.
    pub created: u64,
    /// Products that were there before.
    pub updated: u64,
    /// Of the updated ones, those that were as the row says already: nothing was written.
    pub unchanged: u64,
}

impl Summary {
    /// Counts a row that broke the rules of its columns.
    pub fn count_invalid(&mut self) {
        self.total += 1;
        self.rejected += 1;
        debug_assert!(self.holds(), "{self:?}");
    }

    /// Counts a row that kept them.
    pub fn count(&mut self, decision: &Decision) {
        self.total += 1;
        self.duplicates += u64::from(decision.duplicate);
        match decision.outcome {
            Outcome::Create => {
                self.accepted += 1;
                self.created += 1;
            }
            Outcome::Update { .. } => {
                self.accepted += 1;
                self.updated += 1;
            }
            Outcome::Reject(_) => self.rejected += 1,
        }
        debug_assert!(self.holds(), "{self:?}");
    }

    /// Adds the counts of another part of the same import.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.duplicates += other.duplicates;
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        debug_assert!(self.holds(), "{self:?}");
    }

    /// Whether the sums hold.
    pub fn holds(&self) -> bool {
        self.total == self.accepted + self.rejected
            && self.accepted == self.created + self.updated
            && self.unchanged <= self.updated
            && self.updated <= self.duplicates
            && self.duplicates <= self.total - self.created
    }
}
