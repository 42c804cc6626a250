//! Asks the records of providers about messages that nothing was heard of: those of which nobody knows whether they went out,
//! and those that a provider took and never reported on. One worker asks at a time, at a limited rate.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use chassis::db::{any_unavailable, in_time};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use sea_orm::sqlx::{self, Connection as _, PgConnection, PgPool};
use tokio::time::{Interval, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    advisory_lock::{AdvisoryLock, RECONCILER},
    closings,
    config::SmsSettings,
    domain::{
        Phone,
        callback::Callback,
        campaign::FrozenSender,
        message_state::{MessageState, Observed},
        sender::Sender,
    },
    opt_outs,
    providers::{
        Providers,
        messaging::{AskError, Messaging, OutgoingMessage, Report, Sought, UNDER_WAY},
    },
    settle::{self, Fact, Open},
    storage::{
        campaigns::{self, Campaign},
        ledger::{self, Row},
        unheard::{self, Due, Unswept},
    },
};

/// How often it looks whether there is something to ask.
const PAUSE: Duration = Duration::from_secs(15);
/// Whoever asks and has not said for so long that it is there asks no more.
const LAPSES_AFTER: Duration = Duration::from_secs(90);
/// Longer than a step between two questions takes, whose statements the server ends. A server whose host is gone ends nothing.
const UNANSWERED: Duration = Duration::from_secs(180);
/// Messages that are asked about before what was learnt is written.
const BATCH: i64 = 50;
/// Messages of one campaign that are asked about before it is another one's turn.
const MOST_ASKED: usize = 500;
/// So many questions in a row of which a provider has too much are enough: the others are not to wait for it.
const MOST_THROTTLED: usize = 3;
/// Slices that are looked through in one transaction.
const SLICES: i64 = 100;
/// Campaigns of so many days are looked at: the longest sends for weeks.
const DAYS: u64 = 60;
/// After a provider refused to answer it is asked again so much later.
const OFFENDED: Duration = Duration::from_secs(60);
/// After it refused to answer about a campaign's message, that campaign is asked about again so much later.
const REFUSED: TimeDelta = TimeDelta::minutes(5);
/// Whoever sets a longer patience waits for so long: no date is past the calendar's end then.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// What a provider's clock may differ by.
const CLOCKS: TimeDelta = TimeDelta::seconds(30);

/// How long nothing is asked, for the webhook may still come.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Of those of which nobody knows whether they went out.
    pub unknown: TimeDelta,
    /// Of those that a provider has.
    pub accepted: TimeDelta,
    /// After so long a provider's silence is its last word.
    pub unconfirmed: TimeDelta,
    /// Between the first two questions about the same message. Each time it is twice as long, up to sixteen times.
    pub again: TimeDelta,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            unknown: TimeDelta::minutes(5),
            accepted: TimeDelta::hours(1),
            unconfirmed: TimeDelta::hours(72),
            again: TimeDelta::minutes(30),
        }
    }
}

impl Patience {
    /// As the settings say.
    pub fn of(settings: &SmsSettings) -> Self {
        let delta = |time: Duration| TimeDelta::from_std(time.min(LONGEST)).unwrap_or_default();
        Self {
            unknown: delta(settings.unknown_patience),
            accepted: delta(settings.accepted_patience),
            again: delta(settings.records_again),
            ..Self::default()
        }
    }
}

/// What was learnt of some messages.
#[derive(Default)]
struct Learnt {
    facts: Vec<Fact>,
    /// The positions of those that were asked about.
    asked: Vec<i32>,
    /// Of those of which no more is expected.
    ended: Vec<i32>,
}

/// What the records say of a message.
enum Told {
    /// Nothing new, or this.
    Fact(Option<Fact>),
    /// They were asked too much. It was no question.
    Throttled,
}

/// The background task. Any number may run at once: one asks.
pub struct Reconciler {
    pool: PgPool,
    providers: Providers,
    settings: Arc<SmsSettings>,
    patience: Patience,
}

impl Reconciler {
    pub fn new(pool: PgPool, providers: Providers, settings: Arc<SmsSettings>, patience: Patience) -> Self {
        Self { pool, providers, settings, patience }
    }

    /// Asks until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            match shutdown.run_until_cancelled(self.round()).await {
                None => return,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "providers' records are not asked, will try again");
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Asks about all messages that are due. Gives how many of them changed; none where another worker asks.
    ///
    /// # Errors
    /// The database; a provider that does not answer.
    pub async fn round(&self) -> anyhow::Result<Option<usize>> {
        let Some(mut lock) = AdvisoryLock::try_take_lapsing(&self.pool, RECONCILER, LAPSES_AFTER).await?
        else {
            return Ok(None);
        };
        let done = self.campaigns(&mut lock).await;
        lock.end().await?;
        done.map(Some)
    }

    async fn campaigns(&self, lock: &mut AdvisoryLock) -> anyhow::Result<usize> {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / self.settings.records_per_second));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let since = Utc::now().date_naive() - Days::new(DAYS);
        loop {
            let mut conn = self.pool.acquire().await?;
            let until = Utc::now() - self.patience.accepted;
            let looked = timeout(UNANSWERED, look_through(&mut conn, since, until)).await;
            let more = in_time(&mut conn, looked)?;
            drop(conn);
            if !more {
                break;
            }
            lock.holds().await?;
        }
        let mut changed = 0;
        // Those first of which nobody knows whether they went out, of all campaigns.
        for unknown in [true, false] {
            let mut conn = self.pool.acquire().await?;
            let due = timeout(UNANSWERED, unheard::campaigns(&mut conn, since, self.due(unknown))).await;
            let due = in_time(&mut conn, due)?;
            drop(conn);
            for id in due {
                let Some(campaign) = campaigns::get(&self.pool, id).await? else { continue };
                lock.holds().await?;
                match self.campaign(&campaign, unknown, lock, &mut pace).await {
                    Ok(some) => changed += some,
                    Err(error) if any_unavailable(&error) => return Err(error),
                    // What is wrong with one stops no other.
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(campaign = %campaign.id, error, "a campaign's messages are not asked about");
                        self.put_off(campaign.number, Utc::now() + REFUSED).await?;
                    }
                }
            }
        }
        Ok(changed)
    }

    fn due(&self, unknown: bool) -> Due {
        let now = Utc::now();
        Due { unknown, unheard_since: now - self.patience.unknown, asked_before: now - self.patience.again }
    }

    /// Asks about a campaign's messages: those of which nobody knows whether they went out, or the others.
    async fn campaign(
        &self,
        campaign: &Campaign,
        unknown: bool,
        lock: &mut AdvisoryLock,
        pace: &mut Interval,
    ) -> anyhow::Result<usize> {
        let open = Open::of(campaign)?;
        let (mut changed, mut tried, mut throttled, mut after) = (0, 0, 0, 0);
        loop {
            lock.holds().await?;
            let mut conn = self.pool.acquire().await?;
            let next = timeout(UNANSWERED, self.next(&mut conn, &open, unknown, after)).await;
            let (due, rows) = in_time(&mut conn, next)?;
            // Not while providers are asked.
            drop(conn);
            let Some(last) = due.last() else { break };
            after = *last;
            let is_open = |row: &&Row| unheard::OPEN.contains(&row.state());
            let (mut learnt, mut refused) = (Learnt::default(), None);
            for row in rows.iter().filter(is_open) {
                pace.tick().await;
                lock.holds().await?;
                tried += 1;
                match self.ask(campaign, &open, row).await {
                    Ok(Told::Fact(fact)) => {
                        learnt.facts.extend(fact);
                        throttled = 0;
                    }
                    Ok(Told::Throttled) => {
                        throttled += 1;
                        if throttled == MOST_THROTTLED {
                            refused = Some(anyhow!("it has too much of our questions"));
                            break;
                        }
                        continue;
                    }
                    Err(error) => refused = Some(error),
                }
                // Whatever is said: it may be refused for this message alone, and the others are not to wait for it.
                learnt.asked.push(row.position);
                if refused.is_some() {
                    break;
                }
            }
            let open_ones: Vec<i32> = rows.iter().filter(is_open).map(|row| row.position).collect();
            learnt.ended = due.into_iter().filter(|position| !open_ones.contains(position)).collect();
            changed += self.write(&open, &learnt).await?;
            if let Some(error) = refused {
                // The other campaigns, and other providers, are not to wait for this one.
                tracing::warn!(campaign = %open.id, error = %format!("{error:#}"), "a provider's records are not told");
                self.put_off(open.number, Utc::now() + REFUSED).await?;
                return Ok(changed);
            }
            if tried >= MOST_ASKED {
                break;
            }
        }
        // The others come before it.
        self.put_off(open.number, Utc::now()).await?;
        Ok(changed)
    }

    /// The next messages of a campaign to ask about, behind a position, and their rows.
    async fn next(
        &self,
        conn: &mut PgConnection,
        open: &Open,
        unknown: bool,
        after: i32,
    ) -> sqlx::Result<(Vec<i32>, Vec<Row>)> {
        let due = unheard::due(conn, open.number, self.due(unknown), after, BATCH).await?;
        let rows = match ledger::has_day(conn, open.date).await? {
            true => ledger::at(conn, open.date, open.number, &due).await?,
            // Past retention nothing is known of a message any more.
            false => Vec::new(),
        };
        Ok((due, rows))
    }

    /// Has a campaign asked about again then.
    async fn put_off(&self, campaign: i32, until: DateTime<Utc>) -> sqlx::Result<()> {
        let mut conn = self.pool.acquire().await?;
        let put_off = timeout(UNANSWERED, unheard::put_off(&mut conn, campaign, until)).await;
        in_time(&mut conn, put_off)
    }

    /// What the records say of a message.
    async fn ask(&self, campaign: &Campaign, open: &Open, row: &Row) -> anyhow::Result<Told> {
        let Some(sender) = open.sender(row) else { return Ok(Told::Fact(None)) };
        let Some(client) = self.providers.get(&sender.provider) else { return Ok(Told::Fact(None)) };
        let found = match row.provider_id {
            Some(id) => client.fetch(id).await,
            None => self.find(campaign, open, row, sender, client.as_ref()).await?,
        };
        let now = Utc::now();
        match found {
            Ok(Some(report)) if row.standing().after(row.attempt, report.observed).is_some() => {
                Ok(Told::Fact(Some(Fact::reported(row.position, row.attempt, &report, now))))
            }
            // What is absent may still be queued; what a provider took, and says nothing of for so long, has no more to come.
            Ok(_) => {
                let silent =
                    row.state() != MessageState::Unknown && row.changed_at <= now - self.patience.unconfirmed;
                Ok(Told::Fact(silent.then(|| Fact {
                    reason: Some("El proveedor no informó si llegó".to_owned()),
                    ..Fact::plain(row.position, row.attempt, Observed::Unconfirmed, now)
                })))
            }
            Err(AskError::Throttled(pause)) => {
                tokio::time::sleep(pause.min(OFFENDED)).await;
                Ok(Told::Throttled)
            }
            Err(error) => {
                Err(anyhow::Error::from(error).context(format!("{}'s records", sender.provider.name())))
            }
        }
    }

    /// Looks for a message that has no id of the provider's. What may be another message of ours to the same phone is not it.
    async fn find(
        &self,
        campaign: &Campaign,
        open: &Open,
        row: &Row,
        sender: &FrozenSender,
        client: &dyn Messaging,
    ) -> anyhow::Result<Result<Option<Report>, AskError>> {
        let Some(to) = Phone::from_e164(&row.phone_e164) else { return Ok(Ok(None)) };
        let (text, encoding, _) = open.texts.write(row, sender.provider, sender.kind);
        let id = row.id(open.date, open.number);
        let callback = Callback { message: id, attempt: row.attempt };
        let (from, until) = asked_between(campaign, row);
        let message = OutgoingMessage {
            id,
            attempt: row.attempt,
            to,
            from: Sender { kind: sender.kind, value: sender.address.clone() },
            text,
            encoding,
            validity: None,
            callback_url: callback.url(&self.settings.public_url, sender.provider),
        };
        let mut found = match client.find(&Sought { message, from, until }).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        found.dedup_by_key(|report| report.provider_id);
        if found.is_empty() {
            return Ok(Ok(None));
        }
        let known = ledger::provider_ids(&self.pool, &row.phone_e164, from.date_naive()).await?;
        found.retain(|report| !known.contains(&report.provider_id));
        if found.len() > 1 {
            tracing::warn!(message = %id, found = found.len(), "a provider has several messages that may be this one");
            return Ok(Ok(None));
        }
        Ok(Ok(found.pop()))
    }

    /// Writes what was learnt. Gives how many messages changed.
    async fn write(&self, open: &Open, learnt: &Learnt) -> anyhow::Result<usize> {
        let mut conn = self.pool.acquire().await?;
        let written = timeout(UNANSWERED, write(&mut conn, open, learnt)).await;
        let (changed, suppressed) = in_time(&mut conn, written)?;
        drop(conn);
        opt_outs::follow(&self.pool, &suppressed).await;
        if changed > 0 {
            tracing::info!(campaign = %open.id, messages = changed, "learnt from a provider's records");
        }
        Ok(changed)
    }
}

/// Looks through slices that were sent before `until` for messages of which more is expected. False after the last one.
async fn look_through(
    conn: &mut PgConnection,
    since: NaiveDate,
    until: DateTime<Utc>,
) -> anyhow::Result<bool> {
    let slices = unheard::unswept(conn, since, until, SLICES).await?;
    let mut done = 0;
    for slice in &slices {
        match take_over(conn, slice).await {
            Err(error) if any_unavailable(&error) => return Err(error),
            // What is wrong with one campaign stops no other.
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    campaign = slice.campaign,
                    error,
                    "requests of a worker that is gone stay as they are"
                );
            }
            Ok(()) => {}
        }
        let mut transaction = conn.begin().await?;
        done += usize::from(unheard::sweep(&mut transaction, slice).await?);
        transaction.commit().await?;
    }
    // What is under way is looked at in the next round.
    Ok(slices.len() as i64 == SLICES && done > 0)
}

/// Of requests of a slice that are past their deadline nobody knows whether they were made: their worker is gone, and nobody has had
/// the slice since, for its hours are over, or its campaign is paused.
async fn take_over(conn: &mut PgConnection, slice: &Unswept) -> anyhow::Result<()> {
    if !ledger::has_day(conn, slice.date).await? {
        return Ok(());
    }
    let campaign = campaigns::by_number(conn, slice.campaign).await?;
    let open = Open::of(&campaign.context("the campaign of a slice")?)?;
    let mut transaction = conn.begin().await?;
    let range = (slice.first_position, slice.last_position);
    let lapsed = settle::lapsed(&mut transaction, &open, range).await?;
    transaction.commit().await?;
    lapsed.tally.count();
    Ok(())
}

/// Writes what was learnt. Gives how many messages changed, and the phones that are suppressed by it.
async fn write(
    conn: &mut PgConnection,
    open: &Open,
    learnt: &Learnt,
) -> anyhow::Result<(usize, Vec<String>)> {
    let facts = &learnt.facts;
    let mut transaction = conn.begin().await?;
    let changed = settle::observe(&mut transaction, open, facts).await?;
    unheard::asked(&mut transaction, open.number, &learnt.asked, &learnt.ended).await?;
    closings::by_reports(&mut transaction, open, facts, &changed).await?;
    let stopped: Vec<i32> = facts.iter().filter(|fact| fact.suppresses).map(|fact| fact.position).collect();
    let rows = ledger::lock(&mut transaction, open.date, open.number, &stopped).await?;
    let phones: Vec<String> = rows.into_iter().map(|row| row.phone_e164).collect();
    let suppressed = opt_outs::suppress(&mut transaction, &phones, "proveedor", "provider").await?;
    transaction.commit().await?;
    changed.tally.count();
    Ok((changed.rows.len(), suppressed))
}

/// Between when and when a message's request was made.
fn asked_between(campaign: &Campaign, row: &Row) -> (DateTime<Utc>, DateTime<Utc>) {
    let under_way = TimeDelta::from_std(UNDER_WAY).unwrap_or_default();
    match row.deadline {
        Some(deadline) => (deadline - under_way - CLOCKS, deadline + CLOCKS),
        None => (campaign.started_at.unwrap_or(campaign.created_at), row.changed_at + CLOCKS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chassis::config::Env;

    #[test]
    fn patience_is_as_the_settings_say_and_never_past_the_calendars_end() {
        let read = |values: &[(&str, &str)]| {
            Patience::of(&SmsSettings::read(&mut Env::from_map(values.iter().copied())))
        };
        let (usual, default) = (read(&[]), Patience::default());
        assert_eq!(
            (usual.unknown, usual.accepted, usual.again),
            (default.unknown, default.accepted, default.again)
        );
        let short = read(&[("SMS_UNKNOWN_PATIENCE_SECONDS", "2"), ("SMS_ACCEPTED_PATIENCE_SECONDS", "7")]);
        assert_eq!((short.unknown, short.accepted), (TimeDelta::seconds(2), TimeDelta::seconds(7)));
        assert_eq!(short.unconfirmed, default.unconfirmed);
        let endless = read(&[("SMS_RECORDS_AGAIN_SECONDS", "99999999999")]);
        assert!(Utc::now().checked_add_signed(endless.again).is_some());
    }
}
