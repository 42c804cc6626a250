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

/// Somebody asked for help: the first time of a day there is an answer to be sent, unless the phone is suppressed. One of the day
/// before that still waits becomes this day's, which does not lapse with that day.
pub async fn add(conn: &mut PgConnection, inbound: &Inbound) -> sqlx::Result<()> {
    sqlx::query(
        "with today as (select (now() at time zone 'America/Mexico_City')::date as day),
         renewed as (
             update help_answers h set day = today.day, provider = $2, sender = $3, created_at = now(), outcome = null
             from today
             where h.phone_e164 = $1 and h.taken_at is null and h.day < today.day
                 and h.day = (select max(day) from help_answers where phone_e164 = $1 and taken_at is null)
                 and not exists (select from help_answers o where o.phone_e164 = $1 and o.day = today.day)
             returning h.day)
         insert into help_answers (phone_e164, day, provider, sender)
         select $1, today.day, $2, $3 from today
         where not exists (select from renewed)
             and not exists (select from suppressions where phone_e164 = $1 and reason in ('opt_out', 'manual')
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

/// The oldest answer of each sender through one of these providers that waits: where one of them can't go, others can. Whoever
/// has a turn for the sender takes the one that is the oldest by then.
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

/// Takes the oldest answer of a sender that waits and that nobody is taking, for good unless it is given back: whoever has it sends
/// it, or nobody. None where others have them all, or their phones are suppressed.
pub async fn take(pool: &PgPool, provider: &str, sender: &str) -> sqlx::Result<Option<Answer>> {
    let taken = sqlx::query(
        "with oldest as materialized (
             select phone_e164, day from help_answers h
             where taken_at is null and provider = $1 and sender = $2
                 and not exists (select from suppressions s where s.phone_e164 = h.phone_e164
                                 and s.reason in ('opt_out', 'manual') and s.effective_at <= now())
             order by created_at limit 1 for update of h skip locked)
         update help_answers a set taken_at = now(), outcome = 'No se supo si se envió'
         from oldest where a.phone_e164 = oldest.phone_e164 and a.day = oldest.day
         returning a.phone_e164, a.day, a.provider, a.sender",
    )
    .bind(provider)
    .bind(sender)
    .fetch_optional(pool)
    .await?;
    taken.map(decode).transpose()
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
