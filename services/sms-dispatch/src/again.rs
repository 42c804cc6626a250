//! What a person decides about messages that nothing else ends: those of which nobody knows whether they went out, and those
//! that failed for a reason which may have passed.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::Set,
    sqlx::{Connection as _, PgConnection},
};
use serde_json::json;

use crate::{
    campaigns::{self, Refused},
    domain::{
        campaign::{Action, State},
        message_state::MessageState,
    },
    settle::{self, Open},
    storage::{
        audit,
        campaigns::{ActiveModel, Campaign},
        ledger::{self, Row},
    },
};

/// Messages that one request decides about at most: they change in one transaction.
pub const MOST: usize = 10_000;
/// Rows that are changed together.
const BATCH: i64 = 500;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    pub messages: usize,
    /// There are more than one request decides about.
    pub more: bool,
}

/// Decides about messages of a campaign that the caller has locked, in the caller's transaction; a dry run only counts.
///
/// # Errors
/// [`Refused::State`] where nothing of the campaign is sent any more.
pub async fn decide(
    conn: &mut PgConnection,
    campaign: &Campaign,
    which: Which,
    order: Order,
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
    let mut work = conn.begin().await?;
    let decided = change(&mut work, &open, which, order).await?;
    if dry_run {
        work.rollback().await?;
        return Ok(decided);
    }
    work.commit().await?;
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

async fn change(conn: &mut PgConnection, open: &Open, which: Which, order: Order) -> anyhow::Result<Decided> {
    let now = settle::now(conn).await?;
    let (states, before): (&[MessageState], DateTime<Utc>) = match which {
        Which::Unknown { since } => (&[MessageState::Unknown], now - since),
        Which::Failed => (&[MessageState::Failed, MessageState::Expired], now),
    };
    let mut decided = Decided { messages: 0, more: false };
    let mut after = 0;
    loop {
        let rows = ledger::undecided(conn, open.date, open.number, states, before, after, BATCH).await?;
        let Some(last) = rows.last() else { return Ok(decided) };
        if decided.messages >= MOST {
            return Ok(Decided { more: true, ..decided });
        }
        after = last.position;
        let changes: Vec<(Row, Row)> = rows
            .into_iter()
            .filter_map(|before| Some((before.clone(), decided_row(before, order, now)?)))
            .collect();
        settle::apply(conn, open, &changes).await?;
        decided.messages += changes.len();
    }
}

fn decided_row(row: Row, order: Order, now: DateTime<Utc>) -> Option<Row> {
    let mut next = row;
    match order {
        Order::Resend => {
            let again = next.standing().again()?;
            next.set_state(again.state);
            next.attempt = again.attempt;
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
