//! Which ids and codes a file's rows have had so far: which of its rows have nothing to do with one another.

use std::hash::RandomState;

use fastbloom::BloomFilter;

use super::ProductRow;

/// One in so many keys is taken for one that was there before.
const FALSE_ALARMS: f64 = 0.01;

/// The ids and codes of the rows of one file, first to last. It may take a key for one that it has seen, never one
/// that it has seen for new.
pub struct Seen {
    keys: BloomFilter<RandomState>,
}

impl Seen {
    /// Of a file of which nothing is read yet. `max_rows` is what is reserved for, 2.5 bytes a row.
    pub fn nothing(max_rows: u32) -> Self {
        let keys = BloomFilter::with_false_pos(FALSE_ALARMS)
            .hasher(RandomState::new())
            .expected_items(2 * max_rows.max(1) as usize);
        Self { keys }
    }

    /// Takes the next rows; tells of each whether it is apart: no row before it had its id or its code.
    ///
    /// Rows that are apart have no key in common, so what becomes of one of them doesn't depend on any row before
    /// it, and all of them may be written at once. Every other row comes after the rows whose keys it shares.
    pub fn apart(&mut self, rows: &[ProductRow]) -> Vec<bool> {
        let mut apart = |row: &ProductRow| {
            // Ids and codes are kept apart: many suppliers use one for both.
            let had_id = self.keys.insert(&('i', row.id.as_str()));
            let had_code = self.keys.insert(&('c', row.codigo.as_str()));
            !had_id && !had_code
        };
        rows.iter().map(&mut apart).collect()
    }
}
