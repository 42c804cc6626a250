//! `suppressions`: who must not be written to, by phone. SQL by hand where contacts follow, each batch in one statement; and
//! for the advisory lock.

use chassis::db::{NoRelation as Relation, Orm, sql};
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use sea_orm::{
    QueryOrder as _,
    entity::prelude::*,
    sqlx::{self, Connection as _, PgConnection, PgPool},
};

use super::indexes;
use crate::domain::{Phone, set_aside::SetAside, suppression::Cause};

/// Suppressions a transaction.
const BATCH: i64 = 10_000;

/// Marks the contacts whose suppression is in effect: what an import, a restore or the passing of a date makes necessary.
/// Returns how many it marked.
pub async fn apply(pool: &PgPool) -> sqlx::Result<u64> {
    let mut changed = 0;
    let mut after = String::new();
    loop {
        let mut transaction = pool.begin().await?;
        turn(&mut transaction).await?;
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

/// Marks those contacts whose suppressions came into effect after `since`; gives until when it looked. None where the contacts
/// have no index of phones, as during a load into an empty table: whoever is loaded is marked at its end, and no segment has
/// them until then.
pub async fn apply_since(pool: &PgPool, since: DateTime<Utc>) -> sqlx::Result<Option<DateTime<Utc>>> {
    let mut conn = pool.acquire().await?;
    if !indexes::there(&mut *conn).await?.iter().any(|name| name == indexes::PHONE.name) {
        return Ok(None);
    }
    let until = now(&mut conn).await?;
    let mut after = String::new();
    loop {
        let mut transaction = conn.begin().await?;
        turn(&mut transaction).await?;
        let last: Option<String> = sqlx::query_scalar(
            "with due as materialized (
                 select distinct phone_e164 from suppressions
                 where effective_at > $1 and effective_at <= $2 and phone_e164 > $3 order by phone_e164 limit $4),
             there as materialized (
                 select c.id, c.phone_e164 from due d cross join lateral (
                     select id, phone_e164, opt_out_at from contacts c where c.phone_e164 = d.phone_e164 offset 0) c
                 where c.opt_out_at is null),
             marked as (
                 update contacts c set updated_at = now(), opt_out_at = (
                     select min(s.effective_at) from suppressions s
                     where s.phone_e164 = t.phone_e164 and s.effective_at <= now())
                 from there t where c.id = t.id)
             select max(phone_e164) from due",
        )
        .bind(since)
        .bind(until)
        .bind(&after)
        .bind(BATCH)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        match last {
            Some(last) => after = last,
            None => return Ok(Some(until)),
        }
    }
}

/// Marks all contacts whose suppression is in effect in one pass over them, in the caller's transaction: for a restore, which
/// has put the indexes away and must not let anybody see contacts that are not marked.
pub async fn apply_to_all(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let marked = sqlx::query(
        "update contacts c set opt_out_at = s.since, updated_at = now()
         from (select phone_e164, min(effective_at) as since from suppressions where effective_at <= now() group by 1) s
         where s.phone_e164 = c.phone_e164 and c.opt_out_at is null",
    )
    .execute(conn)
    .await?;
    Ok(marked.rows_affected())
}

/// The phones whose suppression is in effect or whose consent was taken back, for a load.
pub async fn set_aside(pool: &PgPool) -> sqlx::Result<SetAside> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql("set local statement_timeout = 0").execute(&mut *transaction).await?;
    let all = "select phone_e164 from suppressions where effective_at <= now()
               union all select phone_e164 from consent_withdrawals";
    let mut rows = sqlx::query_scalar::<_, String>(all).fetch(&mut *transaction);
    let mut set = SetAside::default();
    while let Some(phone) = rows.try_next().await? {
        if let Some(phone) = Phone::from_e164(&phone) {
            set.insert(phone);
        }
    }
    Ok(set)
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "suppressions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub phone_e164: String,
    #[sea_orm(primary_key, auto_increment = false, column_name = "reason")]
    pub cause: Cause,
    pub effective_at: DateTime<Utc>,
    pub source: String,
    pub created_by: Option<String>,
    pub created_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// One suppression.
pub type Suppression = Model;

/// The time that effective dates are judged by: PostgreSQL's, for one that a faster clock of ours calls past might still be to
/// come there.
pub async fn now(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select now()").fetch_one(conn).await
}

/// All that is known against writing to a phone.
pub async fn of_phone(conn: &mut PgConnection, phone: &str) -> Result<Vec<Suppression>, DbErr> {
    Entity::find()
        .filter(Column::PhoneE164.eq(phone))
        .order_by_asc(Column::EffectiveAt)
        .order_by_asc(Column::Cause)
        .all(&Orm::on(conn))
        .await
}

/// Makes those take turns who change suppressions and contacts together: one that took a phone's last suppression away while
/// another gave it a new one, each unseen by the other, would leave the contact unmarked. An [`opt_out`] waits for nobody; its
/// contact is marked in a turn after it.
pub async fn turn(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext(current_schema() || '.suppressions'))")
        .execute(conn)
        .await
        .map(drop)
}

/// What a batch of suppressions came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// New ones.
    pub added: i64,
    /// Contacts that they take out now.
    pub opted_out: i64,
}

/// Adds suppressions, in the caller's turn. One that is there already keeps its source, and the earlier of both dates.
/// Contacts follow in the same transaction, but during a load into an empty table: without the index of phones each would be
/// looked for in all of it, and whoever is loaded is marked at the load's end.
pub async fn add(conn: &mut PgConnection, batch: &[New], source: &str, actor: &str) -> sqlx::Result<Added> {
    let can_follow = indexes::there(&mut *conn).await?.iter().any(|name| name == indexes::PHONE.name);
    let phones: Vec<&str> = batch.iter().map(|new| new.phone.as_str()).collect();
    let causes: Vec<&str> = batch.iter().map(|new| new.cause.name()).collect();
    let effects: Vec<DateTime<Utc>> = batch.iter().map(|new| new.effective_at).collect();
    let (added, opted_out) = sqlx::query_as(
        "with given as materialized (
             select phone_e164, reason, min(effective_at) as effective_at
             from unnest($1::text[], $2::text[], $3::timestamptz[]) g (phone_e164, reason, effective_at) group by 1, 2),
         written as (
             insert into suppressions as s (phone_e164, reason, effective_at, source, created_by)
             select phone_e164, reason, effective_at, $4, $5 from given order by phone_e164, reason
             on conflict (phone_e164, reason) do update set effective_at = excluded.effective_at
             where excluded.effective_at < s.effective_at
             -- Of a row that was there already, the writing of the new version is marked in the old one's place.
             returning (s.xmax = 0) as is_new),
         due as (
             select phone_e164, min(effective_at) as since from given where effective_at <= now() and $6 group by 1),
         -- Look-ups one by one: the planner doesn't know how few there are.
         there as materialized (
             select c.id, d.since from due d cross join lateral (
                 select id, opt_out_at from contacts c where c.phone_e164 = d.phone_e164 offset 0) c
             where c.opt_out_at is null),
         marked as (
             update contacts c set opt_out_at = t.since, updated_at = now() from there t where c.id = t.id returning 1)
         select (select count(*) from written where is_new), (select count(*) from marked)",
    )
    .bind(phones)
    .bind(causes)
    .bind(effects)
    .bind(source)
    .bind(actor)
    .bind(can_follow)
    .fetch_one(conn)
    .await?;
    Ok(Added { added, opted_out })
}

/// Adds opt-outs that are in effect at once, and nothing else: it waits for nobody's turn. Gives the phones whose opt-out is
/// news. Contacts follow with [`try_follow`], or with the next [`apply_since`].
pub async fn opt_out(
    conn: &mut PgConnection,
    phones: &[String],
    source: &str,
    actor: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "insert into suppressions as s (phone_e164, reason, effective_at, source, created_by)
         select distinct phone, 'opt_out', now(), $2, $3 from unnest($1::text[]) phone order by phone
         on conflict (phone_e164, reason) do update set effective_at = excluded.effective_at
         where excluded.effective_at < s.effective_at
         returning phone_e164",
    )
    .bind(phones)
    .bind(source)
    .bind(actor)
    .fetch_all(conn)
    .await
}

/// Marks the contacts of these phones, if nobody has the turn and contacts can be found by phone. Gives whether it did.
pub async fn try_follow(pool: &PgPool, phones: &[String]) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql("set local lock_timeout = '1s'").execute(&mut *transaction).await?;
    let free: bool =
        sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext(current_schema() || '.suppressions'))")
            .fetch_one(&mut *transaction)
            .await?;
    if !free || !indexes::there(&mut *transaction).await?.iter().any(|name| name == indexes::PHONE.name) {
        return Ok(false);
    }
    sqlx::query(
        "with due as materialized (
             select phone_e164, min(effective_at) as since from suppressions
             where phone_e164 = any($1) and effective_at <= now() group by 1),
         there as materialized (
             select c.id, d.since from due d cross join lateral (
                 select id, opt_out_at from contacts c where c.phone_e164 = d.phone_e164 offset 0) c
             where c.opt_out_at is null)
         update contacts c set opt_out_at = t.since, updated_at = now() from there t where c.id = t.id",
    )
    .bind(phones)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// A suppression to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    pub phone: String,
    pub cause: Cause,
    pub effective_at: DateTime<Utc>,
}

/// Takes a phone's suppressions for these causes away, in the caller's turn, and lets its contact follow. Gives how many.
pub async fn remove(conn: &mut PgConnection, phone: &str, causes: &[Cause]) -> Result<u64, DbErr> {
    let orm = Orm::on(conn);
    let removed = Entity::delete_many()
        .filter(Column::PhoneE164.eq(phone))
        .filter(Column::Cause.is_in(causes.iter().copied()))
        .exec(&orm)
        .await?
        .rows_affected;
    let follow = sql(
        "update contacts c set opt_out_at = s.since, updated_at = now()
         from (select min(effective_at) as since from suppressions where phone_e164 = $1 and effective_at <= now()) s
         where c.phone_e164 = $1 and c.opt_out_at is distinct from s.since",
        [phone.into()],
    );
    orm.execute_raw(follow).await?;
    Ok(removed)
}
