//! The regulator's numbering plan: tens of thousands of ranges, read whole.

use sea_orm::sqlx::{self, PgConnection, PgPool};

use crate::domain::numbering_plan::{NumberingPlan, Range};

/// The plan; an empty one where none was imported.
///
/// # Errors
/// The database, or ranges that overlap.
pub async fn read(pool: &PgPool) -> anyhow::Result<NumberingPlan> {
    let rows: Vec<(i64, i64, bool, String)> = sqlx::query_as(
        "select first_number, last_number, is_mobile, operator from numbering_plan order by first_number",
    )
    .fetch_all(pool)
    .await?;
    let range = |(first, last, is_mobile, operator): (i64, i64, bool, String)| Range {
        first: first.unsigned_abs(),
        last: last.unsigned_abs(),
        is_mobile,
        operator,
    };
    Ok(NumberingPlan::from_ranges(rows.into_iter().map(range).collect())?)
}

/// Puts a plan in the place of the one there is.
pub async fn replace(conn: &mut PgConnection, plan: &NumberingPlan) -> sqlx::Result<()> {
    let ranges = plan.ranges();
    sqlx::query("delete from numbering_plan").execute(&mut *conn).await?;
    sqlx::query(
        "insert into numbering_plan (first_number, last_number, is_mobile, operator)
         select * from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::text[])",
    )
    .bind(ranges.iter().map(|range| number(range.first)).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| number(range.last)).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.is_mobile).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.operator.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Brings contacts up to the plan's ranges that begin between two numbers, but those whose phone a provider knew. Returns the number of contacts that changed.
pub async fn apply(conn: &mut PgConnection, first: u64, last: u64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update contacts c set is_mobile = p.is_mobile, operator = p.operator, updated_at = now()
         from numbering_plan p
         where c.phone_e164 between '+52' || p.first_number and '+52' || p.last_number
             and p.first_number between $1 and $2
             and (c.is_mobile is distinct from p.is_mobile or c.operator is distinct from p.operator)
             and not exists (
                 select from phone_lookups l
                 where l.phone_e164 = c.phone_e164 and (l.operator is not null or l.is_mobile is not null))",
    )
    .bind(number(first))
    .bind(number(last))
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Ten digits fit.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
