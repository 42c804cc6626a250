//! Who must not be written to, by phone.

use sea_orm::sqlx::{self, PgPool};

/// Suppressions a transaction.
const BATCH: i64 = 10_000;

/// Marks the contacts whose suppression is in effect: what an import, a restore or the passing of a date makes necessary.
/// Returns how many it marked.
pub async fn apply(pool: &PgPool) -> sqlx::Result<u64> {
    let mut changed = 0;
    let mut after = String::new();
    loop {
        let mut transaction = pool.begin().await?;
        let (last, marked): (Option<String>, i64) = sqlx::query_as(
            "with batch as (
                 select phone_e164, effective_at from suppressions where phone_e164 > $1
                 order by phone_e164 fetch first ($2) rows with ties),
             -- All of a phone's reasons are in one batch; the earliest one marks it.
             due as (
                 select phone_e164, min(effective_at) as since from batch where effective_at <= now() group by 1),
             there as materialized (
                 select c.id, d.since from due d cross join lateral (
                     select id, opt_out_at from contacts c where c.phone_e164 = d.phone_e164 offset 0) c
                 where c.opt_out_at is null),
             marked as (
                 update contacts c set opt_out_at = t.since, updated_at = now()
                 from there t where c.id = t.id returning 1)
             select (select max(phone_e164) from batch), (select count(*) from marked)",
        )
        .bind(&after)
        .bind(BATCH)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        changed += marked.unsigned_abs();
        match last {
            Some(last) => after = last,
            None => return Ok(changed),
        }
    }
}
