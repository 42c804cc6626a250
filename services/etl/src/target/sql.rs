//! Statements that both databases run: written once, with `?` for values.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

/// Rows of one statement, or keys of one list: few sizes, so that a table has few texts. A connection prepares each once
/// and keeps it. With a text for every number of rows each statement would be prepared again (MySQL answers that with a
/// packet for every `?`) and would push the others out. 65,535 values are the databases' limit; the widest table has
/// some 30 columns.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// `rows` in pieces of those sizes.
pub(super) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rest.len())?;
        let (piece, after) = rest.split_at(size);
        rest = after;
        Some(piece)
    })
}

/// `keys` in lists of those sizes. The last one comes as often as fills its list: for statements to which a key that
/// comes twice is as one.
pub(super) fn lists<T>(keys: &[T]) -> impl Iterator<Item = Vec<&T>> {
    keys.chunks(SIZES[0]).map(|list| {
        let size = SIZES.into_iter().rev().find(|size| *size >= list.len()).unwrap_or(SIZES[0]);
        let fill = list.last().into_iter().cycle().take(size - list.len());
        list.iter().chain(fill).collect()
    })
}

/// So many of `one`, with commas between them.
pub(super) fn repeated(one: &str, times: usize) -> String {
    vec![one; times].join(", ")
}

/// An array as PostgreSQL writes it. SeaORM's arrays hold no nulls.
#[derive(Default)]
pub(super) struct Array(String);

impl Array {
    /// Its next value.
    pub fn push(&mut self, value: Option<&str>) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        let Some(value) = value else { return self.0.push_str("NULL") };
        self.0.push('"');
        if value.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
            self.0.push_str(&value.replace('\\', "\\\\").replace('"', "\\\""));
        } else {
            self.0.push_str(value);
        }
        self.0.push('"');
    }

    /// All of it.
    pub fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// An array of values that are there.
pub(super) fn array<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut array = Array::default();
    values.into_iter().for_each(|value| array.push(Some(value)));
    array.end()
}

/// A statement and its values. `?` stands for a value; there is none in texts.
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// The value of the next `?`.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The values of the next ones.
    #[must_use]
    pub fn bind_all(mut self, values: impl IntoIterator<Item = Value>) -> Self {
        self.values.extend(values);
        self
    }

    fn statement(self, backend: DbBackend) -> Statement {
        let text = if backend == DbBackend::Postgres { numbered(&self.text) } else { self.text };
        Statement::from_sql_and_values(backend, text, self.values)
    }

    /// Runs it. Gives how many rows it changed: of MySQL, how many it met.
    ///
    /// # Errors
    /// The database.
    pub async fn run(self, conn: &impl ConnectionTrait) -> Result<u64, DbErr> {
        let statement = self.statement(conn.get_database_backend());
        Ok(conn.execute_raw(statement).await?.rows_affected())
    }

    /// The rows that it gives.
    ///
    /// # Errors
    /// The database.
    pub async fn all(self, conn: &impl ConnectionTrait) -> Result<Vec<QueryResult>, DbErr> {
        let statement = self.statement(conn.get_database_backend());
        conn.query_all_raw(statement).await
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// The database.
    pub async fn one(self, conn: &impl ConnectionTrait) -> Result<Option<QueryResult>, DbErr> {
        let statement = self.statement(conn.get_database_backend());
        conn.query_one_raw(statement).await
    }
}

/// `$1`, `$2`, … for `?`, as PostgreSQL has them.
fn numbered(text: &str) -> String {
    let mut numbered = String::with_capacity(text.len() + 16);
    for (index, part) in text.split('?').enumerate() {
        if index > 0 {
            numbered.push('$');
            numbered.push_str(&index.to_string());
        }
        numbered.push_str(part);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_have_nulls_and_quotes() {
        let array = |values: &[Option<&str>]| {
            let mut array = Array::default();
            values.iter().for_each(|value| array.push(*value));
            array.end()
        };
        assert_eq!(array(&[]), "{}");
        assert_eq!(array(&[None, Some(""), Some("NULL"), Some("-1.50")]), r#"{NULL,"","NULL","-1.50"}"#);
        assert_eq!(array(&[Some(r#"{"a":"\u00f1"}"#), Some("b,}")]), r#"{"{\"a\":\"\\u00f1\"}","b,}"}"#);
    }

    #[test]
    fn statements_have_few_sizes_and_all_rows() {
        for number in 0..1_000_usize {
            let rows: Vec<usize> = (0..number).collect();
            let sizes: Vec<usize> = pieces(&rows).map(<[usize]>::len).collect();
            assert!(sizes.iter().all(|size| SIZES.contains(size)), "{number}: {sizes:?}");
            assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);

            let lists: Vec<_> = lists(&rows).collect();
            assert!(lists.iter().all(|list| SIZES.contains(&list.len())), "{number}: {lists:?}");
            let mut all: Vec<usize> = lists.into_iter().flatten().copied().collect();
            all.dedup();
            assert_eq!(all, rows);
        }
    }
}
