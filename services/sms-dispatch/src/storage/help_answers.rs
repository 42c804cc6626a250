//! `help_answers`: who asked for help on which day, and what became of the answer. SQL by hand: a row is taken by whoever comes
//! first, and never twice.

use chrono::NaiveDate;
use sea_orm::{
    FromQueryResult,
    sqlx::{self, PgConnection, PgPool},
};

use super::reports::Inbound;
use chassis::db::decode;

/// An answer to be sent.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Answer {
    pub phone_e164: String,
    pub day: NaiveDate,
    pub provider: String,
    /// The number that was written to.
    pub sender: String,
}

/// Somebody asked for help: the first time of a day there is an answer to be sent, unless the phone is suppressed.
pub async fn add(conn: &mut PgConnection, inbound: &Inbound) -> sqlx::Result<()> {
    sqlx::query(
        "insert into help_answers (phone_e164, day, provider, sender)
         select $1, (now() at time zone 'America/Mexico_City')::date, $2, $3
         where not exists (select from suppressions where phone_e164 = $1 and reason in ('opt_out', 'manual')
                           and effective_at <= now())
         on conflict do nothing",
    )
    .bind(&inbound.phone_e164)
    .bind(&inbound.provider)
    .bind(&inbound.sender)
    .execute(conn)
    .await
    .map(drop)
}

/// Takes the oldest answer through one of these providers, for good: whoever has it sends it, or nobody. What nobody could
/// send for an hour is left.
pub async fn take(pool: &PgPool, providers: &[&str]) -> sqlx::Result<Option<Answer>> {
    let row = sqlx::query(
        "update help_answers h set taken_at = now()
         from (select phone_e164, day from help_answers
               where taken_at is null and provider = any($1) and created_at > now() - interval '1 hour'
                   and not exists (select from suppressions s where s.phone_e164 = help_answers.phone_e164
                                   and s.reason in ('opt_out', 'manual') and s.effective_at <= now())
               order by created_at limit 1 for update skip locked) one
         where h.phone_e164 = one.phone_e164 and h.day = one.day
         returning h.phone_e164, h.day, h.provider, h.sender",
    )
    .bind(providers)
    .fetch_optional(pool)
    .await?;
    row.map(decode).transpose()
}

/// Whether a phone's owner still wants messages: asked once more before the answer goes.
pub async fn is_wanted(pool: &PgPool, phone: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select not exists (select from suppressions where phone_e164 = $1 and reason in ('opt_out', 'manual')
                            and effective_at <= now())",
    )
    .bind(phone)
    .fetch_one(pool)
    .await
}

/// Notes what became of an answer, for people.
pub async fn note(pool: &PgPool, answer: &Answer, outcome: &str) -> sqlx::Result<()> {
    sqlx::query("update help_answers set outcome = $3 where phone_e164 = $1 and day = $2")
        .bind(&answer.phone_e164)
        .bind(answer.day)
        .bind(outcome)
        .execute(pool)
        .await
        .map(drop)
}
