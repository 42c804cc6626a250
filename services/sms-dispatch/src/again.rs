//! What a person decides about messages that nothing else ends: those of which nobody knows whether they went out, and those
//! that failed for a reason which may have passed.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveValue::Set, sqlx::PgConnection};
use serde_json::json;

use crate::{
    campaigns::{self, Refused},
    domain::{
        campaign::{Action, State},
        message_state::MessageState,
    },
    metrics::Tally,
    settle::{self, Open},
    storage::{
        audit,
        campaigns::{ActiveModel, Campaign},
        earlier_attempts,
        ledger::{self, Row},
        totals,
    },
};

/// Messages that one request decides about at most: they change in one transaction.
pub const MOST: i64 = 10_000;
/// Rows that are changed together.
const BATCH: i64 = 500;
/// Positions that one query looks at, and that one request does.
const LOOK: i32 = 20_000;
const MOST_LOOKED_AT: i32 = 1_000_000;

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of which nobody has known for so long whether they went out.
    Unknown { since: TimeDelta },
    /// Those that failed or expired, where their code allows another attempt.
    Failed,
}

/// What is to become of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Another attempt. Of those that did go out the recipient has it twice: only a person may risk that.
    Resend,
    /// Failed.
    GiveUp,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "its tally is to be counted when the transaction has committed"]
pub struct Decided {
    pub messages: i64,
    /// There may be more behind this position: one request looks at so many and decides about so many.
    pub next: Option<i32>,
    pub tally: Tally,
}

/// Decides about messages of a campaign that the caller has locked, behind a position, in the caller's transaction. A dry run
/// only counts them, by the totals and so by whole hours: those that came into their state in the hour of the limit count.
///
/// # Errors
/// [`Refused::State`] where nothing of the campaign is sent any more.
pub async fn decide(
    conn: &mut PgConnection,
    campaign: &Campaign,
    which: Which,
    order: Order,
    after: i32,
    dry_run: bool,
    actor: &str,
) -> Result<Decided, Refused> {
    let ended = matches!(campaign.state, State::Cancelled | State::Failed);
    let refuses = match order {
        Order::Resend => campaign.state.after(Action::Retry).is_none(),
        Order::GiveUp => !ended && campaign.state.after(Action::Retry).is_none(),
    };
    if refuses || campaign.date.is_none() {
        return Err(Refused::State(campaign.state));
    }
    let open = Open::of(campaign)?;
    if !ledger::has_day(conn, open.date).await? {
        return Err(Refused::State(campaign.state));
    }
    let now = settle::now(conn).await?;
    let (states, before): (&[MessageState], DateTime<Utc>) = match which {
        Which::Unknown { since } => (&[MessageState::Unknown], now - since),
        Which::Failed => (&[MessageState::Failed, MessageState::Expired], now),
    };
    let repeatable = which == Which::Failed;
    let most = totals::count(conn, campaign.number, states, Some(before), repeatable).await?;
    if dry_run {
        return Ok(Decided { messages: most, next: None, tally: Tally::default() });
    }
    let decided = match most {
        0 => Decided { messages: 0, next: None, tally: Tally::default() },
        _ => change(conn, &open, (states, before), order, (after, most), now).await?,
    };
    if decided.messages > 0 && order == Order::Resend {
        let change = ActiveModel { finished_at: Set(None), ..Default::default() };
        campaigns::act(conn, campaign, Action::Retry, actor, change).await?;
    }
    let details =
        json!({ "which": format!("{which:?}"), "order": format!("{order:?}"), "messages": decided.messages });
    let id = campaign.id.to_string();
    audit::record(conn, actor, "messages_decided", Some(&id), &details).await?;
    Ok(decided)
}

/// Changes the rows behind a position, of which there are `most` in the whole campaign.
async fn change(
    conn: &mut PgConnection,
    open: &Open,
    which: (&[MessageState], DateTime<Utc>),
    order: Order,
    (mut after, most): (i32, i64),
    now: DateTime<Utc>,
) -> anyhow::Result<Decided> {
    let last = ledger::last_position(conn, open.date, open.number).await?;
    let end = after.saturating_add(MOST_LOOKED_AT);
    let (mut messages, mut tally) = (0, Tally::default());
    while after < last && messages < most {
        if messages >= MOST || after >= end {
            return Ok(Decided { messages, next: Some(after), tally });
        }
        let until = after.saturating_add(LOOK).min(last);
        let rows = ledger::undecided(conn, open.date, open.number, which, (after, until), BATCH).await?;
        // A batch that is full may have more behind it.
        let full = rows.len() as i64 == BATCH;
        after = rows.last().filter(|_| full).map_or(until, |row| row.position);
        let changes: Vec<(Row, Row)> = rows
            .into_iter()
            .filter_map(|before| Some((before.clone(), decided_row(before, order, now)?)))
            .collect();
        if order == Order::Resend {
            // What was surely refused cost nothing. All else is paid, or may be.
            let had = changes.iter().map(|(before, _)| before).filter(|row| !settle::was_refused(row));
            earlier_attempts::keep(conn, open.number, &had.collect::<Vec<_>>()).await?;
        }
        tally.extend(settle::apply(conn, open, &changes).await?);
        messages += changes.len() as i64;
    }
    Ok(Decided { messages, next: None, tally })
}

fn decided_row(row: Row, order: Order, now: DateTime<Utc>) -> Option<Row> {
    let mut next = row;
    match order {
        Order::Resend => {
            let again = next.standing().again()?;
            next.set_state(again.state);
            next.attempt = again.attempt;
            // It has all its attempts again, and its sender waits no longer for it than for a message that was never refused.
            next.unasked = again.attempt;
            (next.parts, next.cost_micros, next.provider_id, next.sent_at) = (0, 0, None, None);
            (next.code, next.reason) = (None, None);
        }
        Order::GiveUp => {
            next.set_state(MessageState::Failed);
            next.code = Some("given_up".to_owned());
            next.reason = Some("No se supo si se envió; se dio por perdido".to_owned());
        }
    }
    next.repeatable = false;
    next.deadline = None;
    (next.version, next.changed_at) = (next.version + 1, now);
    Some(next)
}
