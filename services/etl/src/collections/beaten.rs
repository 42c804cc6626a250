//! Rows that lose to another one with their key. Where the source has both, the table has the winner alone; so it is kept of which
//! days the losers are, and these are read again when the winner goes. SQL by hand: a page is noted in one statement.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx::{self, Arguments as _, AssertSqlSafe, PgConnection, postgres::PgArguments};

use super::{
    arrays::{self, Keys},
    question::today,
    rows::{Datum, Row},
    streams::{RawTable, Slice},
};

/// A row that is not in the table.
pub(super) struct Beaten<'a> {
    /// Of a row with its key.
    values: &'a [Datum],
    day: NaiveDate,
    /// The snapshot that says so, or when it was seen to happen.
    read_at: DateTime<Utc>,
}

impl<'a> Beaten<'a> {
    /// This row, which stands at `moment`.
    pub fn new(row: &'a Row, moment: DateTime<Utc>) -> Self {
        Self { values: &row.values, day: today(moment), read_at: row.read_at }
    }

    /// The row that the table had at `moment` under this one's key, until now. A backfill that has met it there, in a snapshot
    /// that is newer than this row's, must not forget it at its end.
    pub fn by(row: &'a Row, moment: DateTime<Utc>) -> Self {
        Self { values: &row.values, day: today(moment), read_at: row.read_at.max(Utc::now()) }
    }
}

/// Notes rows as beaten, in the caller's transaction.
///
/// # Errors
/// The database.
pub(super) async fn note(conn: &mut PgConnection, table: &RawTable, rows: &[Beaten<'_>]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let values: Vec<&[Datum]> = rows.iter().map(|row| row.values).collect();
    let days: Vec<NaiveDate> = rows.iter().map(|row| row.day).collect();
    let read_at: Vec<DateTime<Utc>> = rows.iter().map(|row| row.read_at).collect();
    let mut arguments = PgArguments::default();
    let Keys { arrays, names, hash } = arrays::keys(&mut arguments, table, &values)?;
    let first = arguments.len() + 1;
    let added =
        arguments.add(days).and_then(|()| arguments.add(read_at)).and_then(|()| arguments.add(table.stream));
    added.map_err(sqlx::Error::Encode)?;
    let sql = format!(
        "insert into raw_beaten (stream, clave, dia, leido_en)
         select ${stream}::text, {hash}, p.dia, max(p.leido_en)
         from unnest({arrays}, ${first}::date[], ${second}::timestamptz[]) as p ({names}, dia, leido_en)
         group by 2, 3
         on conflict (stream, clave, dia) do update set leido_en = greatest(raw_beaten.leido_en, excluded.leido_en)",
        stream = first + 2,
        second = first + 1,
        arrays = arrays.join(", "),
        names = names.join(", "),
    );
    sqlx::query_with(AssertSqlSafe(sql), arguments).execute(conn).await.map(drop)
}

/// Forgets those that a whole slice has not met: the source does not have them any more.
///
/// # Errors
/// The database.
pub(super) async fn forget(
    conn: &mut PgConnection,
    table: &RawTable,
    slice: Slice,
    snapshot: DateTime<Utc>,
) -> sqlx::Result<()> {
    let Some((from, to)) = slice else { return Ok(()) };
    // Of a day that the slice ends within, it has not met all.
    sqlx::query("delete from raw_beaten where stream = $1 and dia >= $2 and dia < $3 and leido_en < $4")
        .bind(table.stream)
        .bind(today(from))
        .bind(today(to))
        .bind(snapshot)
        .execute(conn)
        .await
        .map(drop)
}
