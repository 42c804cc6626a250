//! `login_throttle`: failed logins, counted; by SQL, which counts and forgets in one statement. An attempt is charged before its password is looked at and refunded when it was
//! right: a thousand guesses sent at once are a thousand failures, not one.

use std::time::Duration;

use chassis::db::{NoRelation as Relation, sql};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveValue::Set, FromQueryResult as _, entity::prelude::*};

use crate::domain::throttle::Policy;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "login_throttle")]
pub struct Model {
    /// An account from an address, or an address.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub failures: i32,
    pub last_failed_at: DateTime<Utc>,
    pub blocked_until: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It may.
    Free,
    /// Not yet. Not counted either.
    Blocked(Duration),
}

/// Charges one attempt to `key`. Two statements, of which the first locks the row: run it in a transaction.
pub async fn charge(
    connection: &impl ConnectionTrait,
    key: &str,
    policy: Policy,
    now: DateTime<Utc>,
) -> Result<Charge, DbErr> {
    let forgotten = now - TimeDelta::from_std(policy.forget).unwrap_or(TimeDelta::MAX);
    let charge = sql(
        "INSERT INTO login_throttle AS t (key, failures, last_failed_at, blocked_until)
             VALUES ($1, 1, $2, $2)
             ON CONFLICT (key) DO UPDATE SET
                 failures = CASE WHEN t.blocked_until > $2 THEN t.failures
                                 WHEN t.last_failed_at < $3 THEN 1
                                 ELSE t.failures + 1 END,
                 last_failed_at = CASE WHEN t.blocked_until > $2 THEN t.last_failed_at ELSE $2 END
             RETURNING key, failures, last_failed_at, blocked_until",
        [key.into(), now.into(), forgotten.into()],
    );
    let charged = Model::find_by_statement(charge).one(connection).await?;
    let charged = charged.ok_or_else(|| DbErr::RecordNotFound("an upsert returns its row".into()))?;
    if let Ok(wait) = (charged.blocked_until - now).to_std()
        && !wait.is_zero()
    {
        return Ok(Charge::Blocked(wait));
    }
    let delay = policy.delay(u32::try_from(charged.failures).unwrap_or(u32::MAX));
    if !delay.is_zero() {
        let until = now + TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        let blocked = ActiveModel { blocked_until: Set(until), ..Default::default() };
        Entity::update_many().set(blocked).filter(Column::Key.eq(key)).exec(connection).await?;
    }
    Ok(Charge::Free)
}

/// Forgets the failures of `key`: its password was right.
pub async fn clear(connection: &impl ConnectionTrait, key: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(key).exec(connection).await.map(drop)
}

/// Takes back one attempt and the wait it caused, but not the failures before it.
pub async fn refund(connection: &impl ConnectionTrait, key: &str, now: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::update_many()
        .set(ActiveModel { blocked_until: Set(now), ..Default::default() })
        .col_expr(Column::Failures, Expr::cust("greatest(failures - 1, 0)"))
        .filter(Column::Key.eq(key))
        .exec(connection)
        .await
        .map(drop)
}

/// Deletes rows without a failure since `before`.
pub async fn prune(connection: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let pruned = Entity::delete_many().filter(Column::LastFailedAt.lt(before)).exec(connection).await?;
    Ok(pruned.rows_affected)
}
