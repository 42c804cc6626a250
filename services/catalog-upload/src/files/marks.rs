//! What marks the decimals in each column of numbers that are texts, judged by the file's first rows.
//!
//! `1.234` is one number in a column of `12,5` and another in a column of `12.50`. Where the rows that are
//! looked at show both, or neither, a number that could be two stays refused.

use crate::domain::{Column, RawCell, RawRow, numbers::DecimalMark};

/// How far is looked: rows with values, or bytes of their texts, what comes first. All of them are held until
/// it is decided, so this is memory.
const SAMPLE_ROWS: usize = 512;
const SAMPLE_BYTES: usize = 1024 * 1024;

/// The look over the first rows.
#[derive(Debug, Default)]
pub(super) struct MarkSample {
    rows: usize,
    bytes: usize,
    seen: [Seen; Column::COUNT],
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    point: bool,
    comma: bool,
}

impl MarkSample {
    /// Looks at a row whose texts take so many bytes; passes over all that come once it is decided.
    pub fn look(&mut self, row: &RawRow, bytes: usize) {
        if self.is_complete() {
            return;
        }
        self.rows += 1;
        self.bytes += bytes;
        for column in Column::ALL.into_iter().filter(|column| column.is_number()) {
            let RawCell::Text(text) = row.cell(column) else { continue };
            let seen = &mut self.seen[column as usize];
            match DecimalMark::shown_by(text) {
                Some(DecimalMark::Point) => seen.point = true,
                Some(DecimalMark::Comma) => seen.comma = true,
                None => {}
            }
        }
    }

    /// Whether no further row counts.
    pub fn is_complete(&self) -> bool {
        self.rows >= SAMPLE_ROWS || self.bytes >= SAMPLE_BYTES
    }

    /// Tells rows what was decided.
    pub fn mark(&self, rows: &mut [RawRow]) {
        let marks = self.seen.map(|seen| match (seen.point, seen.comma) {
            (true, false) => Some(DecimalMark::Point),
            (false, true) => Some(DecimalMark::Comma),
            _ => None,
        });
        if marks.iter().any(Option::is_some) {
            rows.iter_mut().for_each(|row| row.set_marks(marks));
        }
    }
}
