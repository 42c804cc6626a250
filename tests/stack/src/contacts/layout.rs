//! Which row is what: the counts of a file, and the place of each row in them.

use anyhow::{Result, ensure};

use super::dice::Shuffle;
use super::numbers::different;
use super::{Reject, Spec, Truth};

/// What a row is. `contact` counts the contacts of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one row of its contact, ten digits.
    Clean { contact: u64 },
    /// The one row of its contact, in another spelling.
    Legacy { contact: u64 },
    /// One of two rows of a contact; `first` is the clean one, where one is.
    Twin { contact: u64, first: bool, clean: bool },
    /// No contact; `number` counts the rows of that reason.
    Reject { reject: Reject, number: u64 },
}

/// The counts of a file.
pub(super) struct Layout {
    pub(super) rows: u64,
    pub(super) contacts: u64,
    clean: u64,
    legacy: u64,
    /// Pairs.
    twins: u64,
    /// Pairs.
    dirty_twins: u64,
    rejects: [u64; Reject::ALL.len()],
    order: Shuffle,
}

impl Layout {
    pub(super) fn new(spec: &Spec) -> Result<Self> {
        let rows = spec.rows;
        let share = |share: f64| (rows as f64 * share) as u64;
        let legacy = share(spec.dirt.legacy);
        let twins = share(spec.dirt.twins) / 2;
        let dirty_twins = share(spec.dirt.dirty_twins) / 2;
        let rejects = Reject::ALL.map(|reject| share(spec.dirt.rejects).min(different(reject)));
        let dirty = legacy + 2 * (twins + dirty_twins) + rejects.iter().sum::<u64>();
        ensure!(dirty <= rows, "{dirty} dirty rows of {rows}: the shares are too large");
        let clean = rows - dirty;
        let contacts = clean + legacy + twins + dirty_twins;
        let order = Shuffle::new(spec.seed, rows);
        Ok(Self { rows, contacts, clean, legacy, twins, dirty_twins, rejects, order })
    }

    /// What row `row`, counted from 0, is.
    pub(super) fn kind(&self, row: u64) -> Kind {
        let mut place = self.order.place(row);
        if place < self.clean {
            return Kind::Clean { contact: place };
        }
        place -= self.clean;
        let mut contact = self.clean;
        if place < self.legacy {
            return Kind::Legacy { contact: contact + place };
        }
        place -= self.legacy;
        contact += self.legacy;
        for (pairs, clean) in [(self.twins, true), (self.dirty_twins, false)] {
            if place < 2 * pairs {
                return Kind::Twin { contact: contact + place / 2, first: place.is_multiple_of(2), clean };
            }
            place -= 2 * pairs;
            contact += pairs;
        }
        let mut last = Kind::Reject { reject: Reject::Empty, number: place };
        for (reject, count) in Reject::ALL.into_iter().zip(self.rejects) {
            if place < count {
                last = Kind::Reject { reject, number: place };
                break;
            }
            place -= count;
        }
        last
    }

    /// What the counts say; what depends on single rows is still 0.
    pub(super) fn truth(&self) -> Truth {
        let rejected = Reject::ALL.into_iter().zip(self.rejects).filter(|(_, count)| *count > 0);
        Truth {
            rows: self.rows,
            contacts: self.contacts,
            merged: self.twins + self.dirty_twins,
            rejected: rejected.map(|(reject, count)| (reject.code().to_owned(), count)).collect(),
            changed: self.legacy + self.twins + 2 * self.dirty_twins,
            ..Truth::default()
        }
    }
}
