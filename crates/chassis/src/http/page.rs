//! Pages by key: where a page ended is where the next one begins, whatever was added meanwhile.

use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Problem;

/// Una página de una lista.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Las filas.
    pub items: Vec<T>,
    /// El `cursor` de la página siguiente; nulo en la última.
    pub next_cursor: Option<String>,
}

/// Where a page ended that is ordered by time and id, newest first. To clients it is a text without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last row's time, to the microsecond.
    pub at: DateTime<Utc>,
    /// The last row's id.
    pub id: Uuid,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.at.timestamp_micros(), self.id)
    }
}

impl Cursor {
    /// The cursor that stands in the parameter `name`, which an answer gave as `given`.
    ///
    /// # Errors
    /// 400 where it is none of ours.
    pub fn parse(name: &str, text: &str, given: &str) -> Result<Self, Problem> {
        let parts = text.split_once('_').and_then(|(micros, id)| {
            let at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
            // Other years are none of ours, and PostgreSQL's dates end before chrono's do.
            (1..=9999).contains(&at.year()).then_some(())?;
            Some(Self { at, id: Uuid::parse_str(id).ok()? })
        });
        let detail = || format!("{name} {text:?} inválido; use el valor de «{given}»");
        parts.ok_or_else(|| Problem::bad_request("invalid_cursor", detail()))
    }

    /// The row that the page before ended with, for a query that goes on after it; none where the parameter is missing, and
    /// the page is the first.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn before(
        name: &str,
        text: Option<&str>,
        given: &str,
    ) -> Result<Option<(DateTime<Utc>, Uuid)>, Problem> {
        let cursor = text.map(|text| Self::parse(name, text, given)).transpose()?;
        Ok(cursor.map(|cursor| (cursor.at, cursor.id)))
    }
}

/// Cuts a page out of rows of which one more than its `size` was asked for, and gives the cursor of the next page, if there is
/// one, by its last row.
pub fn cut<T, C>(rows: &mut Vec<T>, size: i64, cursor: impl FnOnce(&T) -> C) -> Option<C> {
    let size = usize::try_from(size).unwrap_or_default();
    let more = rows.len() > size;
    rows.truncate(size);
    rows.last().filter(|_| more).map(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_given_and_nothing_else_is() {
        let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("a time");
        let cursor = Cursor { at, id: Uuid::from_u128(7) };
        assert_eq!(Cursor::parse("cursor", &cursor.to_string(), "next_cursor").ok(), Some(cursor));
        for wrong in ["", "_", "1", "1_2", "x_00000000-0000-0000-0000-000000000007", "9999999999999999999_x"]
        {
            let problem = Cursor::parse("cursor", wrong, "next_cursor").expect_err(wrong);
            assert_eq!(problem.code(), "invalid_cursor");
        }
    }

    #[test]
    fn the_row_too_many_only_says_that_there_is_more() {
        let mut rows = vec![1, 2, 3];
        assert_eq!(cut(&mut rows, 2, |last| *last), Some(2));
        assert_eq!(rows, [1, 2]);
        assert_eq!(cut(&mut rows, 2, |last| *last), None);
        assert_eq!(cut(&mut Vec::<i32>::new(), 2, |last| *last), None);
    }
}
