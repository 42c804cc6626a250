//! What is old enough to be deleted.

use std::time::Duration;

use chrono::NaiveDate;
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

/// Runs that ended longer ago than `age` and whose files are still there.
pub async fn due_runs(pool: &PgPool, age: Duration, most: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select id from runs where purged_at is null and finished_at < now() - make_interval(secs => $1)
         order by finished_at limit $2",
    )
    .bind(age.as_secs_f64())
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Holds a run of [`due_runs`] until the transaction ends, so that nobody begins its failed files again meanwhile. False:
/// somebody just has, and it is not due any more.
pub async fn hold_due(conn: &mut PgConnection, run: Uuid, age: Duration) -> sqlx::Result<bool> {
    let held = sqlx::query(
        "select from runs where id = $1 and purged_at is null and finished_at < now() - make_interval(secs => $2)
         for update",
    )
    .bind(run)
    .bind(age.as_secs_f64())
    .fetch_optional(conn)
    .await?;
    Ok(held.is_some())
}

/// Notes that a run's files are gone.
pub async fn purged(conn: &mut PgConnection, run: Uuid) -> sqlx::Result<()> {
    sqlx::query("update runs set purged_at = now(), version = version + 1 where id = $1")
        .bind(run)
        .execute(conn)
        .await
        .map(drop)
}

/// Those of the keys that no file has or will get: a run that goes on may be about to name one.
pub async fn unknown(pool: &PgPool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select k from unnest($1::text[]) as k
         where not exists (select from runs r where r.id = split_part(k, '/', 2)::uuid
                           and (r.finished_at is null
                                or exists (select from run_files f where f.run_id = r.id and f.object_key = k)))",
    )
    .bind(keys)
    .fetch_all(pool)
    .await
}

/// Whether a run has ended; one that is not there has.
pub async fn has_ended(pool: &PgPool, run: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar("select not exists (select from runs where id = $1 and finished_at is null)")
        .bind(run)
        .fetch_one(pool)
        .await
}

/// The days before `first` that have campaigns or rows.
pub async fn old_days(pool: &PgPool, first: NaiveDate) -> sqlx::Result<Vec<NaiveDate>> {
    sqlx::query_scalar(
        "select fecha from campaigns_per_day where fecha < $1 and total > 0
         union
         select to_date(right(c.relname, 8), 'YYYYMMDD') from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'ta_sms_detalle'::regclass
             and right(c.relname, 8) < to_char($1::date, 'YYYYMMDD')
         order by 1",
    )
    .bind(first)
    .fetch_all(pool)
    .await
}

/// Deletes a day: its campaigns and, as a whole, its rows.
pub async fn drop_day(pool: &PgPool, fecha: NaiveDate) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    // The campaigns first: who writes rows finds that there is no campaign.
    sqlx::query("delete from ta_sms_maestro where fecha = $1").bind(fecha).execute(&mut *transaction).await?;
    sqlx::query("delete from campaigns_per_day where fecha = $1")
        .bind(fecha)
        .execute(&mut *transaction)
        .await?;
    let statement = format!("drop table if exists ta_sms_detalle_{}", fecha.format("%Y%m%d"));
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    transaction.commit().await
}
