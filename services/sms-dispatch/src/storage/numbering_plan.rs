//! `numbering_plan`: the regulator's numbering plan, tens of thousands of ranges, read whole. SQL by hand to write all of
//! them at once, and where contacts follow.

use chassis::db::{NoRelation as Relation, Orm, orm};
use sea_orm::{
    QueryOrder as _,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};

use crate::domain::numbering_plan::{NumberingPlan, Range, Span};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "numbering_plan")]
pub struct Model {
    /// Ten digits, as the last one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub first_number: i64,
    pub last_number: i64,
    pub is_mobile: bool,
    pub operator: String,
}

impl ActiveModelBehavior for ActiveModel {}

/// The plan; an empty one where none was imported.
///
/// # Errors
/// The database, or ranges that overlap.
pub async fn read(pool: &PgPool) -> anyhow::Result<NumberingPlan> {
    let rows = Entity::find().order_by_asc(Column::FirstNumber).all(&orm(pool)).await?;
    let range = |row: Model| Range {
        first: row.first_number.unsigned_abs(),
        last: row.last_number.unsigned_abs(),
        is_mobile: row.is_mobile,
        operator: row.operator,
    };
    Ok(NumberingPlan::from_ranges(rows.into_iter().map(range).collect())?)
}

/// Puts a plan in the place of the one there is.
pub async fn replace(conn: &mut PgConnection, plan: &NumberingPlan) -> anyhow::Result<()> {
    let ranges = plan.ranges();
    Entity::delete_many().exec(&Orm::on(conn)).await?;
    sqlx::query(
        "insert into numbering_plan (first_number, last_number, is_mobile, operator)
         select * from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::text[])",
    )
    .bind(ranges.iter().map(|range| number(range.first)).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| number(range.last)).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.is_mobile).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.operator.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Brings contacts up to some of the plan's spans, a range or what lies between two: there nothing is known any more. What a
/// provider said of a phone stands above the plan. Returns the number of contacts that changed.
pub async fn apply(conn: &mut PgConnection, spans: &[Span<'_>]) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "with spans as materialized (
             select '+52' || first as first, '+52' || last as last, is_mobile, operator
             from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::text[]) s (first, last, is_mobile, operator)),
         differ as materialized (
             select c.id, c.phone_e164, s.is_mobile, s.operator
             from spans s join contacts c on c.phone_e164 between s.first and s.last
             where c.is_mobile is distinct from s.is_mobile or c.operator is distinct from s.operator),
         right_ones as (
             select d.id, coalesce(l.is_mobile, d.is_mobile) as is_mobile, coalesce(l.operator, d.operator) as operator
             from differ d left join phone_lookups l using (phone_e164))
         update contacts c set is_mobile = r.is_mobile, operator = r.operator, updated_at = now()
         from right_ones r
         where c.id = r.id and (c.is_mobile is distinct from r.is_mobile or c.operator is distinct from r.operator)",
    )
    .bind(spans.iter().map(|span| number(span.first)).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| number(span.last)).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.range.map(|range| range.is_mobile)).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.range.map(|range| range.operator.as_str())).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Brings the rows that imports have staged and not merged yet up to the plan: they were read beside the old one.
pub async fn apply_to_staged(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update import_staged s set is_mobile = p.is_mobile, operator = p.operator
         from import_staged t left join lateral (
             select * from (
                 select * from numbering_plan n where n.first_number <= substr(t.phone_e164, 4)::bigint
                 order by n.first_number desc limit 1) n
             where n.last_number >= substr(t.phone_e164, 4)::bigint) p on true
         where s.ctid = t.ctid and (s.is_mobile is distinct from p.is_mobile or s.operator is distinct from p.operator)",
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Ten digits fit.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
