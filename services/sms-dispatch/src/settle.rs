//! How the ledger changes. Whoever changes rows does it here, in one transaction with what follows: the totals, what is known
//! of the phones, report's rows, and slices that have something to send again.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use contracts::sms::v1::{MessageState as Told, MessagesSettled, SettledMessage};
use outbox::Meta;
use sea_orm::{
    ActiveValue::Set,
    sqlx::{self, Connection as _, PgConnection},
};
use uuid::Uuid;

use crate::{
    SERVICE, campaigns,
    domain::{
        campaign::{Action, FrozenSender, Kind, State},
        message_state::{MessageState, Observed},
        money::Money,
        outcomes::Outcome,
        report::Report,
    },
    metrics::Tally,
    storage::{
        campaigns::{self as rows, ActiveModel, Campaign},
        earlier_attempts,
        ledger::{self, Row},
        phone_sends::Effects,
        singles, slices, totals, unheard,
    },
    texts::Texts,
};

/// Rows of one event: report locks the campaign's row for each.
const TOLD_TOGETHER: usize = 500;

/// A campaign whose ledger is written.
#[derive(Clone, Debug)]
pub struct Open {
    pub id: Uuid,
    pub number: i32,
    pub date: NaiveDate,
    pub kind: Kind,
    pub texts: Texts,
    senders: Vec<FrozenSender>,
    /// The currency of the most that it may cost, where there is such.
    budget: Option<String>,
}

impl Open {
    /// # Errors
    /// A campaign that never started; texts that can't be read, which its start has.
    pub fn of(campaign: &Campaign) -> anyhow::Result<Self> {
        let date = campaign.date.ok_or_else(|| anyhow::anyhow!("campaign {} never started", campaign.id))?;
        let file = campaign.frozen.as_ref().and_then(|frozen| frozen.file.as_ref());
        let mut texts = if campaign.single { Texts::verbatim() } else { Texts::of(&campaign.plan, file)? };
        if let Some(frozen) = &campaign.frozen {
            texts = texts.linked(frozen, date, campaign.number);
        }
        let senders = campaign.frozen.as_ref().map(|frozen| frozen.senders.clone()).unwrap_or_default();
        let budget = campaign.plan.most_cost.as_ref().map(|most| most.currency.clone());
        Ok(Self {
            id: campaign.id,
            number: campaign.number,
            date,
            kind: campaign.kind,
            texts,
            senders,
            budget,
        })
    }

    /// In whose name a message was sent last; none where it was not.
    pub fn sender(&self, row: &Row) -> Option<&FrozenSender> {
        self.senders.iter().find(|sender| Some(&sender.address) == row.sender.as_ref())
    }

    /// What a message says, as its sender sent it.
    pub fn text(&self, row: &Row) -> String {
        self.texts.render(row, self.sender(row).map(|sender| (sender.provider, sender.kind)))
    }
}

/// What a report says of more than its own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    /// Of all messages of its sender.
    Sender,
    /// Of all messages through its provider.
    Provider,
}

/// What somebody saw of one attempt at a message: the provider's answer, its webhook, its records.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    pub position: i32,
    pub attempt: i16,
    /// The deadline that the attempt must have been claimed with, where its number says too little: after a claim that was rolled
    /// back another one may have it. A fact about another claim is none.
    pub claimed_until: Option<DateTime<Utc>>,
    pub observed: Observed,
    /// What the message must be to; a fact about another phone is none.
    pub phone: Option<String>,
    pub provider_id: Option<Uuid>,
    /// None where the provider doesn't know.
    pub parts: Option<i16>,
    pub cost: Option<Money>,
    /// The provider's code, and why, for people.
    pub code: Option<String>,
    pub reason: Option<String>,
    /// Whether sending it once more can make sense, where it failed.
    pub repeatable: bool,
    /// Nothing was asked of the provider, or it refused for a reason that has nothing to do with the message: such an attempt
    /// does not count.
    pub unasked: bool,
    /// The phone's owner has opted out at the provider.
    pub suppresses: bool,
    /// What a report closes besides; answers say it by themselves.
    pub closes: Option<Closes>,
    pub at: DateTime<Utc>,
}

impl Fact {
    /// Nothing but what was observed.
    pub fn plain(position: i32, attempt: i16, observed: Observed, at: DateTime<Utc>) -> Self {
        Self {
            position,
            attempt,
            claimed_until: None,
            observed,
            phone: None,
            provider_id: None,
            parts: None,
            cost: None,
            code: None,
            reason: None,
            repeatable: false,
            unasked: false,
            suppresses: false,
            closes: None,
            at,
        }
    }

    /// What a provider says of an attempt, in a webhook or its records.
    pub fn reported(position: i32, attempt: i16, report: &Report, now: DateTime<Utc>) -> Self {
        let verdict = report.verdict.as_ref();
        Self {
            provider_id: Some(report.provider_id),
            parts: report.parts.filter(|parts| *parts > 0).and_then(|parts| parts.try_into().ok()),
            cost: report.cost,
            code: verdict.and_then(|verdict| verdict.code).map(|code| code.to_string()),
            reason: verdict.map(|verdict| verdict.reason.clone()),
            repeatable: verdict.is_some_and(|verdict| verdict.repeatable),
            suppresses: verdict.is_some_and(|verdict| verdict.suppresses),
            closes: match verdict.map(|verdict| verdict.outcome) {
                Some(Outcome::SenderClosed) => Some(Closes::Sender),
                Some(Outcome::ProviderClosed) => Some(Closes::Provider),
                _ => None,
            },
            ..Self::plain(position, attempt, report.observed, report.at.unwrap_or(now))
        }
    }
}

/// How often a provider is asked to take a message that it surely does not accept, where that has no time after which nobody needs it.
const MOST_ATTEMPTS: i16 = 20;
/// Above this, in millionths of any currency, it is no message's cost.
const MOST_COST: i64 = 10_000_000_000;

/// How long after it completed a campaign still sends what turns out not to have been sent. Later nobody expects it: it failed, and
/// a person may send it again.
const BEGINS_AGAIN_WITHIN: TimeDelta = TimeDelta::hours(24);

/// What changed.
#[derive(Debug, Default)]
#[must_use = "its tally is to be counted when the transaction has committed"]
pub struct Changed {
    /// Rows, as they are now.
    pub rows: Vec<Row>,
    /// The deadlines that those had before of which nobody had heard yet, by position: they say when their requests were made.
    pub deadlines: HashMap<i32, DateTime<Utc>>,
    pub tally: Tally,
}

/// Applies facts, whatever their order, in the caller's transaction: states only move forward. Gives what changed.
/// Call it last: it locks phones, which have no place in any other order.
///
/// # Errors
/// The database; an event that has no JSON form.
pub async fn observe(conn: &mut PgConnection, campaign: &Open, facts: &[Fact]) -> anyhow::Result<Changed> {
    let mut phones = Effects::default();
    let changed = observe_some(conn, campaign, facts, &mut phones).await?;
    phones.write(conn).await?;
    Ok(changed)
}

/// The same where the transaction applies facts of several campaigns: what they do to phones is collected, for the caller to
/// write at the end.
///
/// # Errors
/// As [`observe`].
pub async fn observe_some(
    conn: &mut PgConnection,
    campaign: &Open,
    facts: &[Fact],
    phones: &mut Effects,
) -> anyhow::Result<Changed> {
    let mut positions: Vec<i32> = facts.iter().map(|fact| fact.position).collect();
    positions.sort_unstable();
    positions.dedup();
    // Before the rows. What makes a row pending again holds the campaign: it must not end meanwhile.
    let again = facts.iter().any(|fact| fact.observed == Observed::NotAccepted);
    let (sends_on, completed) = match again {
        true => held(conn, campaign).await?,
        false => (sends_on(conn, campaign.number).await?, None),
    };
    let rows = ledger::lock(conn, campaign.date, campaign.number, &positions).await?;
    let now = now(conn).await?;
    let changes: Vec<(Row, Row)> = rows
        .into_iter()
        .filter_map(|before| {
            let of_row = facts.iter().filter(|fact| fact.position == before.position);
            let after = of_row.fold(before.clone(), |row, fact| {
                after(row, fact, now, sends_on, campaign.budget.as_deref())
            });
            (after != before).then_some((before, after))
        })
        .collect();
    if let Some(completed) = completed
        && changes.iter().any(|(_, after)| after.state() == MessageState::Pending)
    {
        let change = ActiveModel { finished_at: Set(None), ..Default::default() };
        campaigns::act(conn, &completed, Action::Retry, "system", change).await?;
    }
    let tally = apply_some(conn, campaign, &changes, phones).await?;
    let deadlines =
        changes.iter().filter_map(|(before, _)| Some((before.position, before.deadline?))).collect();
    Ok(Changed { rows: changes.into_iter().map(|(_, after)| after).collect(), deadlines, tally })
}

/// Rows that one transaction takes over.
const TAKEN_OVER: i64 = 500;

/// Notes of requests in a range that are past their deadline that nobody knows whether they were made, of some in one call. Gives
/// them.
///
/// # Errors
/// As [`observe`].
pub async fn lapsed(conn: &mut PgConnection, campaign: &Open, range: (i32, i32)) -> anyhow::Result<Changed> {
    let rows = ledger::lapsed(conn, campaign.date, campaign.number, range, TAKEN_OVER).await?;
    if rows.is_empty() {
        return Ok(Changed::default());
    }
    let now = now(conn).await?;
    let facts: Vec<Fact> =
        rows.iter().map(|row| Fact::plain(row.position, row.attempt, Observed::Unknown, now)).collect();
    observe(conn, campaign, &facts).await
}

/// Whether what is pending will be sent.
async fn sends_on(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<bool> {
    let state = sqlx::query_scalar("select state from campaigns where number = $1");
    let state: String = state.bind(campaign).fetch_one(conn).await?;
    Ok(is_open(&state))
}

fn is_open(state: &str) -> bool {
    [State::Running, State::Paused].iter().any(|open| open.name() == state)
}

/// Whether what is pending will be sent, until the transaction ends. A campaign that completed not long ago sends it too, once
/// it has begun again: that one is given. (A worker that slept past its deadlines says only when it wakes that it made no
/// requests.)
async fn held(conn: &mut PgConnection, campaign: &Open) -> anyhow::Result<(bool, Option<Campaign>)> {
    // One that has ended is locked for a change at once: of two that share it neither could begin it again. One that ends just now
    // is let go before.
    if sends_on(conn, campaign.number).await? {
        let mut sharing = conn.begin().await?;
        let state = sqlx::query_scalar("select state from campaigns where number = $1 for share");
        let state: String = state.bind(campaign.number).fetch_one(&mut *sharing).await?;
        if is_open(&state) {
            sharing.commit().await?;
            return Ok((true, None));
        }
        sharing.rollback().await?;
    }
    let now = now(conn).await?;
    let Some(locked) = rows::lock(conn, campaign.id).await? else { return Ok((false, None)) };
    if is_open(locked.state.name()) {
        return Ok((true, None));
    }
    let recent = locked.finished_at.is_some_and(|at| now - at < BEGINS_AGAIN_WITHIN);
    // A day has one open campaign of single messages. One that was asked for at midnight may have begun another.
    let begins = locked.state == State::Completed
        && recent
        && !(locked.single && singles::lock_day(conn, campaign.date).await?.is_some());
    Ok((begins, begins.then_some(locked)))
}

/// The row after one fact. A campaign with a `budget` keeps its own prices where a provider reports in another currency: what
/// was reserved of the budget would be free again.
fn after(row: Row, fact: &Fact, now: DateTime<Utc>, sends_on: bool, budget: Option<&str>) -> Row {
    if fact.phone.as_ref().is_some_and(|phone| *phone != row.phone_e164) {
        tracing::warn!(position = row.position, "what a provider says of a message is about another phone");
        return row;
    }
    if fact.claimed_until.is_some() && row.deadline != fact.claimed_until {
        return row;
    }
    let Some(state) = row.standing().after(fact.attempt, fact.observed) else { return row };
    let mut next = row;
    next.unasked = next.unasked.saturating_add(i16::from(fact.unasked));
    let tired = !fact.unasked && next.expires_at.is_none() && next.asked() >= MOST_ATTEMPTS;
    let gives_up = state == MessageState::Pending && (!sends_on || tired);
    let state = if gives_up { MessageState::Failed } else { state };
    next.set_state(state);
    next.version += 1;
    next.changed_at = now;
    // Of an unknown it says when its request was made, for who looks for it in the provider's records.
    next.deadline = next.deadline.filter(|_| state == MessageState::Unknown);
    next.provider_id = fact.provider_id.or(next.provider_id);
    if state == MessageState::Pending {
        (next.parts, next.cost_micros, next.provider_id) = (0, 0, None);
    }
    if was_refused(&next) {
        next.cost_micros = 0;
    }
    next.parts = fact.parts.unwrap_or(next.parts);
    let counts = |cost: &Money| {
        (0..=MOST_COST).contains(&cost.micros) && budget.is_none_or(|budget| budget == cost.currency())
    };
    if let Some(cost) = fact.cost.filter(counts) {
        (next.cost_micros, next.currency) = (cost.micros, Some(cost.currency().to_owned()));
    }
    next.code.clone_from(&fact.code);
    next.reason.clone_from(&fact.reason);
    next.repeatable = gives_up || fact.repeatable;
    if fact.observed != Observed::NotAccepted && fact.observed != Observed::Unknown {
        let accepted = state.reached_provider() || next.provider_id.is_some();
        next.sent_at = next.sent_at.or(accepted.then_some(fact.at));
    }
    next
}

/// Whether no provider ever had it.
pub fn was_refused(row: &Row) -> bool {
    row.state() == MessageState::Failed && row.provider_id.is_none()
}

/// The transaction's time, which all of its changes carry.
///
/// # Errors
/// The database.
pub async fn now(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select now()").fetch_one(conn).await
}

/// Writes changes of rows that the caller has locked, each as it was and as it is, with all that follows from them. Call it
/// last, as [`observe`]. Gives what to count once the transaction has committed.
///
/// # Errors
/// The database; an event that has no JSON form.
pub async fn apply(
    conn: &mut PgConnection,
    campaign: &Open,
    changes: &[(Row, Row)],
) -> anyhow::Result<Tally> {
    let mut phones = Effects::default();
    let tally = apply_some(conn, campaign, changes, &mut phones).await?;
    phones.write(conn).await?;
    Ok(tally)
}

async fn apply_some(
    conn: &mut PgConnection,
    campaign: &Open,
    changes: &[(Row, Row)],
    phones: &mut Effects,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    if changes.is_empty() {
        return Ok(tally);
    }
    for (_, after) in changes.iter().filter(|(before, after)| before.state() != after.state()) {
        tally.add(campaign.sender(after).map(|sender| sender.provider), after.state());
    }
    let rows: Vec<&Row> = changes.iter().map(|(_, after)| after).collect();
    ledger::write(conn, campaign.date, campaign.number, &rows).await?;
    totals::append(conn, campaign.number, changes).await?;
    let unknown = changes.iter().filter(|(before, after)| {
        after.state() == MessageState::Unknown && before.state() != MessageState::Unknown
    });
    unheard::add(conn, campaign.number, &unknown.map(|(_, after)| after.position).collect::<Vec<_>>())
        .await?;

    let again = |(before, after): &&(Row, Row)| {
        before.state() != MessageState::Pending && after.state() == MessageState::Pending
    };
    let positions: Vec<i32> = changes.iter().filter(again).map(|(_, after)| after.position).collect();
    if !positions.is_empty() {
        slices::open_again(conn, campaign.number, &positions).await?;
    }
    if campaign.kind == Kind::Marketing {
        // By the provider's answer alone: of what a person gives up or has sent again nobody knows that it never went.
        let unsent: Vec<&Row> = changes
            .iter()
            .filter(|(before, _)| before.state() == MessageState::Submitting)
            .filter(|change| again(change) || was_refused(&change.1))
            .map(|(_, after)| after)
            .collect();
        // Nor is it known of one whose earlier attempt may have gone: the answer is about the last one.
        let twice: Vec<i32> = unsent.iter().filter(|row| row.attempt > 1).map(|row| row.position).collect();
        let may_have_gone = earlier_attempts::of(conn, campaign.number, &twice).await?;
        for row in unsent.iter().filter(|row| !may_have_gone.contains(&row.position)) {
            phones.give_back(&row.phone_e164, campaign.number);
        }
    }
    for (_, after) in changes.iter().filter(|(before, _)| before.sent_at.is_none()) {
        if let Some(at) = after.sent_at {
            phones.sent(&after.phone_e164, at, after.sender.as_deref());
        }
    }

    let settled: Vec<SettledMessage> =
        changes.iter().filter_map(|(before, after)| told(campaign, before, after)).collect();
    let events = settled.chunks(TOLD_TOGETHER).map(|rows| {
        let event = MessagesSettled {
            campaign_id: campaign.id.to_string(),
            campaign_date: campaign.date.to_string(),
            rows: rows.to_vec(),
        };
        (event, Meta::about(campaign.id))
    });
    outbox::publish_all(conn, SERVICE, events.collect()).await?;
    Ok(tally)
}

/// What report learns of a state; nothing of what is still to be sent.
fn told_state(state: MessageState) -> Option<Told> {
    match state {
        MessageState::Pending | MessageState::Submitting => None,
        MessageState::Unknown => Some(Told::Pending),
        MessageState::Accepted | MessageState::Sent | MessageState::Delivered | MessageState::Unconfirmed => {
            Some(Told::Sent)
        }
        MessageState::Failed | MessageState::Expired | MessageState::Skipped | MessageState::Cancelled => {
            Some(Told::Failed)
        }
    }
}

fn told(campaign: &Open, before: &Row, after: &Row) -> Option<SettledMessage> {
    let state = told_state(after.state())?;
    if told_state(before.state()) == Some(state) && before.reason == after.reason {
        return None;
    }
    Some(SettledMessage {
        message_id: after.id(campaign.date, campaign.number).to_string(),
        version: u64::from(after.version.unsigned_abs()),
        contact_id: after.contact_id.map(|id| id.to_string()).unwrap_or_default(),
        phone: after.phone_e164.clone(),
        text: campaign.text(after),
        sent_at: after.sent_at.map(Into::into),
        state: state.into(),
        error: match state {
            Told::Sent => String::new(),
            _ => after.reason.clone().unwrap_or_else(|| default_reason(after.state()).to_owned()),
        },
    })
}

/// Why a message ended so, where nobody said.
pub const fn default_reason(state: MessageState) -> &'static str {
    match state {
        MessageState::Unknown => "Sin respuesta del proveedor: no se sabe si se envió",
        MessageState::Expired => "No llegó dentro de su vigencia",
        MessageState::Skipped => "No se envió",
        MessageState::Cancelled => "La campaña se canceló antes de enviarlo",
        _ => "El proveedor no lo entregó",
    }
}
