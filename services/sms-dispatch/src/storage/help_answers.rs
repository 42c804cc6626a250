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

/// Somebody asked for help: the first time of a day there is an answer to be sent, unless the phone is suppressed, or the answer
/// of the day before is still to be sent.
pub async fn add(conn: &mut PgConnection, inbound: &Inbound) -> sqlx::Result<()> {
    sqlx::query(
        "insert into help_answers (phone_e164, day, provider, sender)
         select $1, (now() at time zone 'America/Mexico_City')::date, $2, $3
         where not exists (select from suppressions where phone_e164 = $1 and reason in ('opt_out', 'manual')
                           and effective_at <= now())
             and not exists (select from help_answers where phone_e164 = $1 and taken_at is null)
         on conflict do nothing",
    )
    .bind(&inbound.phone_e164)
    .bind(&inbound.provider)
    .bind(&inbound.sender)
    .execute(conn)
    .await
    .map(drop)
}

/// Ends what nobody gets any more, and says why: whose phone is suppressed by now, and what could be sent neither on its day nor
/// within an hour.
pub async fn lapse(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query(
        "update help_answers h set taken_at = now(),
             outcome = case when s.suppressed then 'El destinatario se dio de baja' else 'No se pudo contestar a tiempo' end
         from (select phone_e164, day, exists (
                   select from suppressions where suppressions.phone_e164 = help_answers.phone_e164
                       and reason in ('opt_out', 'manual') and effective_at <= now()) as suppressed
               from help_answers where taken_at is null) s
         where h.phone_e164 = s.phone_e164 and h.day = s.day and h.taken_at is null
             and (s.suppressed or h.created_at <= now() - interval '1 hour'
                  and h.day < (now() at time zone 'America/Mexico_City')::date)",
    )
    .execute(pool)
    .await
    .map(drop)
}

/// The oldest answer of each sender through one of these providers that waits: where one of them can't go, others can.
pub async fn waiting(pool: &PgPool, providers: &[&str]) -> sqlx::Result<Vec<Answer>> {
    let rows = sqlx::query(
        "select distinct on (provider, sender) phone_e164, day, provider, sender
         from help_answers where taken_at is null and provider = any($1) order by provider, sender, created_at",
    )
    .bind(providers)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(decode).collect()
}

/// Takes an answer, for good unless it is given back: whoever has it sends it, or nobody. False where somebody else has it, or its
/// phone is suppressed.
pub async fn take(pool: &PgPool, answer: &Answer) -> sqlx::Result<bool> {
    let taken = sqlx::query(
        "update help_answers set taken_at = now(), outcome = 'No se supo si se envió'
         where phone_e164 = $1 and day = $2 and taken_at is null
             and not exists (select from suppressions where phone_e164 = $1 and reason in ('opt_out', 'manual')
                             and effective_at <= now())",
    )
    .bind(&answer.phone_e164)
    .bind(answer.day)
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Gives an answer back that was surely not sent.
pub async fn give_back(conn: &mut PgConnection, answer: &Answer, why: &str) -> sqlx::Result<()> {
    sqlx::query("update help_answers set taken_at = null, outcome = $3 where phone_e164 = $1 and day = $2")
        .bind(&answer.phone_e164)
        .bind(answer.day)
        .bind(why)
        .execute(conn)
        .await
        .map(drop)
}

/// Notes what became of an answer that was taken, for people.
pub async fn note(conn: &mut PgConnection, answer: &Answer, outcome: &str) -> sqlx::Result<()> {
    sqlx::query("update help_answers set outcome = $3 where phone_e164 = $1 and day = $2")
        .bind(&answer.phone_e164)
        .bind(answer.day)
        .bind(outcome)
        .execute(conn)
        .await
        .map(drop)
}
