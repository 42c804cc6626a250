//! `phone_sends`: what was sent to a phone, whatever became of its contact. SQL by hand: whole batches, in the order of the
//! phones, so that two campaigns take turns instead of deadlocking.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, PgConnection};

/// Takes the phones' turn of marketing for a campaign, unless another campaign had it less than `days` ago. Gives those that
/// it has now. Whoever comes second waits for the first one's commit: two campaigns can't both have one phone's turn.
pub async fn take_turns(
    conn: &mut PgConnection,
    campaign: i32,
    phones: &[&str],
    days: i32,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "insert into phone_sends as p (phone_e164, marketing_campaign, marketing_at)
         select phone, $1, now() from unnest($2::text[]) phone order by phone
         on conflict (phone_e164) do update
         set marketing_before = case when p.marketing_campaign = $1 then p.marketing_before else p.marketing_at end,
             marketing_campaign = $1, marketing_at = now()
         where p.marketing_campaign = $1 or p.marketing_at is null or p.marketing_at <= now() - make_interval(days => $3)
         returning phone_e164",
    )
    .bind(campaign)
    .bind(phones)
    .bind(days)
    .fetch_all(conn)
    .await
}

/// Gives turns back that a campaign took for messages which surely were not sent.
pub async fn give_back(conn: &mut PgConnection, campaign: i32, phones: &[&str]) -> sqlx::Result<()> {
    if phones.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with mine as materialized (
             select phone_e164 from phone_sends where phone_e164 = any($2) and marketing_campaign = $1
             order by phone_e164 for update)
         update phone_sends p set marketing_at = p.marketing_before, marketing_campaign = null, marketing_before = null
         from mine where p.phone_e164 = mine.phone_e164",
    )
    .bind(campaign)
    .bind(phones)
    .execute(conn)
    .await
    .map(drop)
}

/// A message that a provider has.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    pub phone: &'a str,
    pub at: DateTime<Utc>,
    pub sender: Option<&'a str>,
}

/// Counts messages that a provider has, one a phone.
pub async fn count(conn: &mut PgConnection, sent: &[Sent<'_>]) -> sqlx::Result<()> {
    if sent.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into phone_sends as p (phone_e164, sends, last_sent_at, sender)
         select phone, 1, at, sender from unnest($1::text[], $2::timestamptz[], $3::text[]) t (phone, at, sender) order by phone
         on conflict (phone_e164) do update
         set sends = p.sends + 1, last_sent_at = greatest(p.last_sent_at, excluded.last_sent_at),
             sender = coalesce(excluded.sender, p.sender)",
    )
    .bind(sent.iter().map(|one| one.phone).collect::<Vec<_>>())
    .bind(sent.iter().map(|one| one.at).collect::<Vec<_>>())
    .bind(sent.iter().map(|one| one.sender).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// The senders that phones had their last message from.
pub async fn senders(conn: &mut PgConnection, phones: &[&str]) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select phone_e164, sender from phone_sends where phone_e164 = any($1) and sender is not null",
    )
    .bind(phones)
    .fetch_all(conn)
    .await
}
