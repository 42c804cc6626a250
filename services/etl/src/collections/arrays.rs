//! Rows as the arrays of a statement's arguments, and their keys as it hashes them.

use sea_orm::sqlx::{self, Arguments as _, postgres::PgArguments};

use super::{
    rows::Datum,
    streams::{Kind, RawTable},
};

/// A column's name, as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Adds a column of rows as an array. Gives the argument as SQL has it.
fn add(arguments: &mut PgArguments, kind: Kind, rows: &[&[Datum]], place: usize) -> sqlx::Result<String> {
    fn column<'a, T>(
        rows: &[&'a [Datum]],
        place: usize,
        pick: impl Fn(&'a Datum) -> Option<T>,
    ) -> Vec<Option<T>> {
        rows.iter().map(|values| pick(&values[place])).collect()
    }
    let (kind, added) = match kind {
        Kind::Text | Kind::Code => ("text", arguments.add(column(rows, place, Datum::text))),
        Kind::Date => ("date", arguments.add(column(rows, place, Datum::date))),
        Kind::Time => ("timestamptz", arguments.add(column(rows, place, Datum::time))),
        Kind::Amount => ("numeric", arguments.add(column(rows, place, Datum::amount))),
        Kind::Int => ("bigint", arguments.add(column(rows, place, Datum::int))),
    };
    added.map_err(sqlx::Error::Encode)?;
    Ok(format!("${}::{kind}[]", arguments.len()))
}

/// Adds columns of rows to a statement's arguments. Gives the arrays and the columns that they are of.
pub(super) fn columns(
    arguments: &mut PgArguments,
    table: &RawTable,
    rows: &[&[Datum]],
    wanted: impl Fn(&str) -> bool,
) -> sqlx::Result<(Vec<String>, Vec<String>)> {
    let (mut arrays, mut names) = (Vec::new(), Vec::new());
    for (place, (name, kind)) in table.columns.iter().enumerate() {
        if wanted(name) {
            arrays.push(add(arguments, *kind, rows, place)?);
            names.push(quoted(name));
        }
    }
    Ok((arrays, names))
}

/// Keys of rows, as a statement has them.
pub(super) struct Keys {
    pub arrays: Vec<String>,
    /// The columns that the arrays are of.
    pub names: Vec<String>,
    /// What a key of `p`, which has these columns, is hashed to.
    pub hash: String,
}

/// Adds the keys of rows to a statement's arguments.
pub(super) fn keys(arguments: &mut PgArguments, table: &RawTable, rows: &[&[Datum]]) -> sqlx::Result<Keys> {
    let (arrays, names) = columns(arguments, table, rows, |name| table.key.contains(&name))?;
    // As the table spells them: [`sweep`](super::raw::sweep) compares hashes of texts.
    let spelt = |name: &&str| {
        let cast = if table.kind(name) == Some(Kind::Amount) { "::numeric(18, 4)" } else { "" };
        format!("p.{}{cast}", quoted(name))
    };
    let key: Vec<String> = table.key.iter().map(spelt).collect();
    Ok(Keys { arrays, names, hash: hashed(&key) })
}

/// What the parts of a key are hashed to.
pub(super) fn hashed(key: &[String]) -> String {
    format!("hashtextextended(concat_ws('|', {}), 0)", key.join(", "))
}
