//! `phone_sends`: what was sent to a phone, whatever became of its contact. SQL by hand: whole batches, in the order of the
//! phones, so that two campaigns take turns instead of deadlocking.

use std::collections::BTreeMap;

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

/// What a transaction does to phones: all of it at its end, in one statement in the order of the phones. Whoever took some
/// phones, and later others, would deadlock with who takes the same ones in their order.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    by_phone: BTreeMap<String, Effect>,
}

#[derive(Clone, Debug, Default)]
struct Effect {
    sends: i32,
    last: Option<(DateTime<Utc>, Option<String>)>,
    /// Campaigns whose turn is given back.
    back: Vec<i32>,
}

impl Effects {
    /// A provider has a message to this phone.
    pub fn sent(&mut self, phone: &str, at: DateTime<Utc>, sender: Option<&str>) {
        let effect = self.by_phone.entry(phone.to_owned()).or_default();
        effect.sends += 1;
        if effect.last.as_ref().is_none_or(|(last, _)| *last <= at) {
            effect.last = Some((at, sender.map(str::to_owned)));
        }
    }

    /// The turn that a campaign took for a message which surely was not sent is given back.
    pub fn give_back(&mut self, phone: &str, campaign: i32) {
        self.by_phone.entry(phone.to_owned()).or_default().back.push(campaign);
    }

    /// Writes them.
    pub async fn write(mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        // A phone's second turn to give back is another statement, of phones that are locked by then.
        while !self.by_phone.is_empty() {
            let some: Vec<(&String, &Effect)> = self.by_phone.iter().collect();
            sqlx::query(
                "insert into phone_sends as p (phone_e164, sends, last_sent_at, sender, marketing_campaign)
                 select * from unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[], $5::int[])
                     t (phone, sends, at, sender, back) order by phone
                 on conflict (phone_e164) do update
                 set sends = p.sends + excluded.sends, last_sent_at = greatest(p.last_sent_at, excluded.last_sent_at),
                     sender = coalesce(excluded.sender, p.sender),
                     marketing_at = case when p.marketing_campaign = excluded.marketing_campaign then p.marketing_before
                                         else p.marketing_at end,
                     marketing_before = case when p.marketing_campaign = excluded.marketing_campaign then null
                                             else p.marketing_before end,
                     marketing_campaign = nullif(p.marketing_campaign, excluded.marketing_campaign)",
            )
            .bind(some.iter().map(|(phone, _)| phone.as_str()).collect::<Vec<_>>())
            .bind(some.iter().map(|(_, effect)| effect.sends).collect::<Vec<_>>())
            .bind(some.iter().map(|(_, effect)| effect.last.as_ref().map(|last| last.0)).collect::<Vec<_>>())
            .bind(some.iter().map(|(_, effect)| effect.last.as_ref()?.1.as_deref()).collect::<Vec<_>>())
            .bind(some.iter().map(|(_, effect)| effect.back.last().copied()).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
            self.by_phone.retain(|_, effect| {
                effect.back.pop();
                (effect.sends, effect.last) = (0, None);
                !effect.back.is_empty()
            });
        }
        Ok(())
    }
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
