//! What becomes of a row that meets the table.

use std::collections::HashMap;

use super::table::{Row, Table};

/// What the table says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub fingerprint: String,
    pub version: i64,
    pub deleted: bool,
}

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The key is new.
    Insert,
    /// The row differs, or was deleted.
    Update,
    /// It is as it was: it is not written.
    Same,
    /// The table has a newer one.
    Older,
}

/// Judges a row by what the table has under its key.
pub fn judge(known: Option<&Known>, fingerprint: &str, version: i64) -> Verdict {
    match known {
        None => Verdict::Insert,
        Some(known) if version < known.version => Verdict::Older,
        Some(known) if known.fingerprint == fingerprint && !known.deleted => Verdict::Same,
        Some(_) => Verdict::Update,
    }
}

/// One row a key, the newest (of equal versions the last), in the order of the keys: writers that lock rows in one
/// order don't wait for each other in a circle.
pub fn dedupe<'a>(table: &Table, rows: &'a [Row]) -> Vec<(String, &'a Row)> {
    let mut newest: HashMap<String, &Row> = HashMap::with_capacity(rows.len());
    for row in rows {
        let key = row.key(table);
        if newest.get(&key).is_none_or(|known| known.version <= row.version) {
            newest.insert(key, row);
        }
    }
    let mut rows: Vec<_> = newest.into_iter().collect();
    rows.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::table::{Cell as _, Column, Kind};

    const TABLE: Table = Table {
        name: "t",
        columns: &[Column::new("id", Kind::Int), Column::nullable("a", Kind::Text(9))],
        key: 1,
        indexes: &[],
    };

    fn row(id: i64, text: Option<&str>, version: i64) -> Row {
        Row::new(vec![id.cell(), text.map(str::to_owned).cell()], version)
    }

    #[test]
    fn unchanged_rows_are_not_written_and_older_ones_do_not_beat_newer() {
        let fingerprint = row(1, Some("a"), 5).fingerprint;
        let known = Known { fingerprint: fingerprint.clone(), version: 5, deleted: false };
        assert_eq!(judge(None, &fingerprint, 1), Verdict::Insert);
        assert_eq!(judge(Some(&known), &fingerprint, 5), Verdict::Same);
        assert_eq!(judge(Some(&known), &fingerprint, 9), Verdict::Same);
        let other = row(1, Some("b"), 5).fingerprint;
        assert_eq!(judge(Some(&known), &other, 4), Verdict::Older);
        assert_eq!(judge(Some(&known), &other, 5), Verdict::Update);
        // What was deleted and is there again is written, though it looks the same.
        let deleted = Known { deleted: true, ..known };
        assert_eq!(judge(Some(&deleted), &fingerprint, 6), Verdict::Update);
    }

    #[test]
    fn of_a_batch_the_newest_of_a_key_stays_and_keys_are_in_order() {
        let rows =
            vec![row(10, Some("x"), 1), row(9, Some("a"), 2), row(9, Some("b"), 1), row(10, Some("y"), 1)];
        let rows = dedupe(&TABLE, &rows);
        let kept: Vec<_> = rows.iter().map(|(key, row)| (key.as_str(), (*row).clone())).collect();
        assert_eq!(kept, [("9", row(9, Some("a"), 2)), ("10", row(10, Some("y"), 1))]);
    }

    #[test]
    fn null_and_empty_and_shifted_texts_have_fingerprints_of_their_own() {
        let all = [
            row(1, None, 1).fingerprint,
            row(1, Some(""), 1).fingerprint,
            row(1, Some("1"), 1).fingerprint,
            row(11, Some(""), 1).fingerprint,
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
