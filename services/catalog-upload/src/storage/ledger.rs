//! What became of every row of every file. SQL by hand: a batch of rows is one statement, and what is listed comes out of
//! several tables.

use std::collections::HashMap;

use chassis::db::{Orm, sql};
use sea_orm::{
    ConnectionTrait, DbErr, DeriveActiveEnum, EnumIter, FromQueryResult, JsonValue as Json,
    sqlx::{self, AssertSqlSafe, PgConnection, PgExecutor},
};
use uuid::Uuid;

use crate::domain::{Column, ProductRow, RowError, RowWarning};

/// How many errors and ids a status lists; the rest is told by `truncado`.
pub const LISTED: i64 = 1_000;

/// What an import did to a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Action {
    Created,
    Updated,
    /// An undo removed what an import had created.
    Deleted,
    /// An undo gave back what an import had updated.
    Restored,
}

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
        }
    }
}

/// Records the products that a batch created, in the order of their rows.
pub async fn record_creations(
    conn: &mut PgConnection,
    import: Uuid,
    version: i64,
    created: &[&ProductRow],
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_creations (import_id, version, first_row, last_row, amount, row_numbers, product_ids)
        values ($1, $2, $3, $4, cardinality($5), $5, $6)";
    let (Some(first), Some(last)) = (created.first(), created.last()) else { return Ok(()) };
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(version)
        .bind(first.row as i32)
        .bind(last.row as i32)
        .bind(created.iter().map(|row| row.row as i32).collect::<Vec<_>>())
        .bind(created.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// Records the products that rows of a batch found to be as they say, in a version above that of each.
pub async fn record_unchanged(
    conn: &mut PgConnection,
    import: Uuid,
    version: i64,
    first_row: u32,
    products: &[&str],
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_unchanged (import_id, first_row, version, product_ids) values ($1, $2, $3, $4)";
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(first_row as i32)
        .bind(version)
        .bind(products)
        .execute(conn)
        .await
        .map(drop)
}

/// Records the rows that were refused.
pub async fn record_rejections<'a>(
    conn: &mut PgConnection,
    import: Uuid,
    rejections: impl Iterator<Item = &'a RowError>,
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_rejections (import_id, row_number, code, \"column\", value, message, product_id)
        select $1, * from unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])";
    let errors: Vec<&RowError> = rejections.collect();
    if errors.is_empty() {
        return Ok(());
    }
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(errors.iter().map(|error| error.row as i32).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.code).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.column.map(Column::name)).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.value.as_deref()).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.id.as_deref()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// Records what a person should look at.
pub async fn record_warnings(
    conn: &mut PgConnection,
    import: Uuid,
    warnings: &[RowWarning],
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_warnings (import_id, row_number, code, \"column\", value, message)
        select $1, * from unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[])";
    if warnings.is_empty() {
        return Ok(());
    }
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(warnings.iter().map(|warning| warning.row as i32).collect::<Vec<_>>())
        .bind(warnings.iter().map(|warning| warning.code).collect::<Vec<_>>())
        .bind(warnings.iter().map(|warning| warning.column.name()).collect::<Vec<_>>())
        .bind(warnings.iter().map(|warning| warning.value.as_str()).collect::<Vec<_>>())
        .bind(warnings.iter().map(|warning| warning.message.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// An error or a warning of a row, as it is kept.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Note {
    pub row_number: i32,
    /// Whether the row was refused.
    pub is_error: bool,
    pub code: String,
    pub column: Option<String>,
    pub value: Option<String>,
    pub message: String,
}

/// Errors and warnings after a row, in the order of the sheet, errors first. Whole rows: a page ends with
/// a row's last note, so it may be a little longer than `size`.
pub async fn notes(
    connection: &impl ConnectionTrait,
    import: Uuid,
    after_row: i32,
    size: i64,
) -> Result<Vec<Note>, DbErr> {
    const QUERY: &str = "
        with noted as (
            (select row_number from import_rejections where import_id = $1 and row_number > $2
                order by row_number limit $3)
            union all
            (select row_number from import_warnings where import_id = $1 and row_number > $2
                order by row_number limit $3)
        ), until as (
            select max(row_number) as last from (select row_number from noted order by row_number limit $3) first
        )
        select row_number, true as is_error, code, \"column\", value, message from import_rejections, until
        where import_id = $1 and row_number > $2 and row_number <= until.last
        union all
        select row_number, false, code, \"column\", value, message from import_warnings, until
        where import_id = $1 and row_number > $2 and row_number <= until.last
        order by row_number, is_error desc, \"column\"";
    let query = sql(QUERY, [import.into(), after_row.into(), size.into()]);
    Note::find_by_statement(query).all(connection).await
}

/// The first rejections of an import, in the order of the sheet.
pub async fn first_rejections(conn: &mut PgConnection, import: Uuid) -> Result<Vec<Note>, DbErr> {
    const QUERY: &str = "
        select row_number, true as is_error, code, \"column\", value, message from import_rejections
        where import_id = $1 order by row_number limit $2";
    Note::find_by_statement(sql(QUERY, [import.into(), LISTED.into()])).all(&Orm::on(conn)).await
}

/// The first warnings of an import, in the order of the sheet, and how many there are.
pub async fn first_warnings(conn: &mut PgConnection, import: Uuid) -> anyhow::Result<(Vec<Note>, u64)> {
    const QUERY: &str = "
        select row_number, false as is_error, code, \"column\", value, message from import_warnings
        where import_id = $1 order by row_number limit $2";
    let first = sql(QUERY, [import.into(), LISTED.into()]);
    let first = Note::find_by_statement(first).all(&Orm::on(conn)).await?;
    if first.len() < LISTED as usize {
        let count = first.len() as u64;
        return Ok((first, count));
    }
    let count: i64 = sqlx::query_scalar("select count(*) from import_warnings where import_id = $1")
        .bind(import)
        .fetch_one(conn)
        .await?;
    Ok((first, count.unsigned_abs()))
}

/// An import's changes after row $2, in the order of the sheet, $3 at most; to be read as a table.
pub(super) const CHANGES_AFTER: &str = "(
    select * from (
        (select row_number, product_id, action, version, before from import_changes
            where import_id = $1 and row_number > $2 order by row_number limit $3)
        union all
        (select r.row_number, r.product_id, 'created', c.version, null
            from import_creations c, unnest(c.row_numbers, c.product_ids) as r (row_number, product_id)
            where c.import_id = $1 and c.last_row > $2 and r.row_number > $2
            order by c.first_row, r.row_number limit $3)
        union all
        (select r.row_number, r.product_id, 'updated', u.version, r.before from import_updates u, update_lines(u) r
            where u.import_id = $1 and u.last_row > $2 and r.row_number > $2
            order by u.first_row, r.row_number limit $3)) all_kinds
    order by row_number limit $3)";

/// The same before row $2, from the last to the first.
pub(super) const CHANGES_BEFORE: &str = "(
    select * from (
        (select row_number, product_id, action, version, before from import_changes
            where import_id = $1 and row_number < $2 order by row_number desc limit $3)
        union all
        (select r.row_number, r.product_id, 'created', c.version, null
            from import_creations c, unnest(c.row_numbers, c.product_ids) as r (row_number, product_id)
            where c.import_id = $1 and c.first_row < $2 and r.row_number < $2
            order by c.first_row desc, r.row_number desc limit $3)
        union all
        (select r.row_number, r.product_id, 'updated', u.version, r.before from import_updates u, update_lines(u) r
            where u.import_id = $1 and u.first_row < $2 and r.row_number < $2
            order by u.first_row desc, r.row_number desc limit $3)) all_kinds
    order by row_number desc limit $3)";

/// The first products that an import changed so, in the order of the sheet.
pub async fn first_changes(
    conn: &mut PgConnection,
    import: Uuid,
    action: Action,
) -> sqlx::Result<Vec<String>> {
    // No more batches than it takes: the ids of a batch are unpacked all at once.
    let of_batches = |table: &str| {
        format!(
            "with c as (
                select first_row, row_numbers, product_ids, sum(amount) over (order by first_row) - amount as before
                from {table} where import_id = $1
            )
            select r.row_number, r.product_id
            from c, unnest(c.row_numbers, c.product_ids) as r (row_number, product_id)
            where c.before < $3 and $2 in ('created', 'updated') order by c.first_row, r.row_number limit $3"
        )
    };
    let lines = "select row_number, product_id from import_changes
        where import_id = $1 and action = $2 order by row_number limit $3";
    let query = match action {
        Action::Created => of_batches("import_creations"),
        Action::Updated => format!("({}) union all ({lines})", of_batches("import_updates")),
        Action::Deleted | Action::Restored => lines.to_owned(),
    };
    let query = format!("select product_id from ({query}) changed order by row_number limit $3");
    sqlx::query_scalar(AssertSqlSafe(query))
        .bind(import)
        .bind(action.name())
        .bind(LISTED)
        .fetch_all(conn)
        .await
}

/// A change of a product by an import, or one that a dry run would make.
#[derive(Clone, Debug, FromQueryResult)]
pub struct ChangeLine {
    pub row_number: i32,
    pub product_id: String,
    pub action: Action,
    /// The product before, as JSON.
    pub before: Option<Json>,
    /// The columns that a dry run would change.
    pub fields: Option<Vec<String>>,
}

/// Changes after a row, in the order of the sheet: those made, or, of a dry run, those that it would make.
pub async fn changes(
    connection: &impl ConnectionTrait,
    import: Uuid,
    after_row: i32,
    size: i64,
) -> Result<Vec<ChangeLine>, DbErr> {
    let query = format!(
        "(select row_number, product_id, action, before, null::text[] as fields from {CHANGES_AFTER} made)
        union all
        (select row_number, product_id, action, null, fields from import_plan
            where import_id = $1 and row_number > $2 and fields is distinct from '{{}}'
                and exists (select from imports where id = $1 and kind = 'dry_run')
            order by row_number limit $3)
        order by row_number"
    );
    let query = sql(query, [import.into(), after_row.into(), size.into()]);
    ChangeLine::find_by_statement(query).all(connection).await
}

/// Which rows of a part of the file the import rejected, each with the id that its correction must have, if it can't be
/// another.
pub async fn rejected_between(
    executor: impl PgExecutor<'_>,
    import: Uuid,
    first: u32,
    last: u32,
) -> sqlx::Result<HashMap<u32, Option<String>>> {
    let rows: Vec<(i32, Option<String>)> = sqlx::query_as(
        "select row_number, product_id from import_rejections where import_id = $1 and row_number between $2 and $3",
    )
    .bind(import)
    .bind(i32::try_from(first).unwrap_or(i32::MAX))
    .bind(i32::try_from(last).unwrap_or(i32::MAX))
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|(row, id)| (row.unsigned_abs(), id)).collect())
}
