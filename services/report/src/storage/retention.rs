//! What is old enough to be deleted. SQL by hand for partitions, which only the catalogue knows, and to compare a
//! bucket's keys with the rows.

use std::time::Duration;

use chassis::db::Orm;
use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    Condition, ExprTrait as _, PaginatorTrait as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sqlx::{self, AssertSqlSafe, PgConnection, PgPool},
};

use super::{campaigns, days, files, runs};

/// Runs forgotten in one transaction.
const BATCH: u64 = 500;

/// Runs that ended longer ago than `age` and whose files are still there.
fn due(age: Duration) -> Select<runs::Entity> {
    let before = Expr::cust_with_values("now() - make_interval(secs => $1)", [age.as_secs_f64()]);
    runs::Entity::find()
        .filter(runs::Column::PurgedAt.is_null())
        .filter(Expr::col(runs::Column::FinishedAt).lt(before))
        .select_only()
        .column(runs::Column::Id)
}

/// Runs that ended longer ago than `age` and whose files are still there, the oldest first, each with its end; those after
/// one of them.
pub async fn due_runs(
    connection: &impl ConnectionTrait,
    age: Duration,
    after: Option<(Uuid, DateTime<Utc>)>,
    most: u64,
) -> Result<Vec<(Uuid, DateTime<Utc>)>, DbErr> {
    let place = Expr::tuple([Expr::col(runs::Column::FinishedAt), Expr::col(runs::Column::Id)]);
    let rest = after.map(|(id, at)| place.gt(Expr::tuple([at.into(), id.into()])));
    due(age)
        .filter(Condition::all().add_option(rest))
        .column(runs::Column::FinishedAt)
        .order_by_asc(runs::Column::FinishedAt)
        .order_by_asc(runs::Column::Id)
        .limit(most)
        .into_tuple()
        .all(connection)
        .await
}

/// Holds a run of [`due_runs`] until the transaction ends, so that nobody begins its failed files again meanwhile. False:
/// somebody just has, and it is not due any more.
pub async fn hold_due(conn: &mut PgConnection, run: Uuid, age: Duration) -> Result<bool, DbErr> {
    let run = due(age).filter(runs::Column::Id.eq(run)).lock_exclusive();
    Ok(run.into_tuple::<Uuid>().one(&Orm::on(conn)).await?.is_some())
}

/// Notes that a run's files are gone.
pub async fn purged(conn: &mut PgConnection, run: Uuid) -> Result<(), DbErr> {
    let purged = runs::change(run).col_expr(runs::Column::PurgedAt, Expr::cust("now()"));
    purged.exec(&Orm::on(conn)).await.map(drop)
}

/// Those of the keys, each with its run, that no file has or will get: a run that goes on may be about to name one.
pub async fn unnamed(pool: &PgPool, keys: Vec<(String, Uuid)>) -> sqlx::Result<Vec<String>> {
    let (keys, runs): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    sqlx::query_scalar(
        "select key from unnest($1::text[], $2::uuid[]) as stored (key, run)
         where not exists (select from runs r where r.id = stored.run
                           and (r.finished_at is null
                                or exists (select from run_files f where f.run_id = r.id and f.object_key = key)))",
    )
    .bind(keys)
    .bind(runs)
    .fetch_all(pool)
    .await
}

/// Whether a run has ended; one that is not there has.
pub async fn has_ended(connection: &impl ConnectionTrait, run: Uuid) -> Result<bool, DbErr> {
    let goes_on = runs::Entity::find_by_id(run).filter(runs::Column::FinishedAt.is_null());
    Ok(goes_on.count(connection).await? == 0)
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
pub async fn drop_day(pool: &PgPool, fecha: NaiveDate) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    let orm = Orm::on(&mut transaction);
    // The campaigns first: who writes rows finds that there is no campaign.
    campaigns::Entity::delete_many().filter(campaigns::Column::Fecha.eq(fecha)).exec(&orm).await?;
    days::Entity::delete_by_id(fecha).exec(&orm).await?;
    let statement = format!("drop table if exists {}", super::messages::partition(fecha));
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Forgets the runs of days before `first` whose files were deleted for their age, with what is known of those files. Gives how
/// many runs that was.
pub async fn forget_runs(pool: &PgPool, first: NaiveDate) -> anyhow::Result<u64> {
    let mut forgotten = 0;
    loop {
        let mut transaction = pool.begin().await?;
        let orm = Orm::on(&mut transaction);
        let old: Vec<Uuid> = runs::Entity::find()
            .select_only()
            .column(runs::Column::Id)
            .filter(runs::Column::Fecha.lt(first))
            .filter(runs::Column::PurgedAt.is_not_null())
            .order_by_asc(runs::Column::Fecha)
            .limit(BATCH)
            .lock_exclusive()
            .into_tuple()
            .all(&orm)
            .await?;
        files::Entity::delete_many().filter(files::Column::RunId.eq_any(old.clone())).exec(&orm).await?;
        let done = runs::Entity::delete_many().filter(runs::Column::Id.eq_any(old)).exec(&orm).await?;
        transaction.commit().await?;
        forgotten += done.rows_affected;
        if done.rows_affected < BATCH {
            return Ok(forgotten);
        }
    }
}
