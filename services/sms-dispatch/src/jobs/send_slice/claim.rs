//! The transaction before the requests: what it has not committed is not sent.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use failpoints::Point;
use jobs::{Position, Progress};
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection};
use tokio::runtime::Handle;

use super::{
    Left, SendSlices, Sending, Waits,
    letter::{Claimed, Letter},
    record::take_back,
};
use crate::{
    domain::{
        campaign::{CAP_DAYS, Kind, State},
        message_state::{MessageState, Observed},
    },
    providers::messaging::UNDER_WAY,
    settle::{self, Fact, Open},
    storage::{
        earlier_attempts,
        ledger::{self, Row},
        phone_sends, totals,
    },
};

/// Turns that were not had after so long were waited for.
const WAITED: Duration = Duration::from_millis(100);

pub(super) enum Claim {
    /// These are to be sent now, and until then, where their hours end; the others were skipped, or are somebody else's.
    Claimed(Vec<Claimed>, Option<DateTime<Utc>>),
    Waits(Left),
}

/// Why a message is not sent after all.
#[derive(Clone, Copy)]
pub(super) enum Skip {
    /// The phone is none by today's numbering plan.
    Invalid,
    /// A value that its text needs is not there.
    NoValue,
    /// More parts than a provider takes.
    TooLong,
    /// Nobody needs it any more.
    Expired,
    /// Its attempts have no more numbers.
    TooOften,
    OptedOut,
    Manual,
    Repep,
    Reus,
    Cap,
}

impl Skip {
    const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NoValue => "no_value",
            Self::TooLong => "too_long",
            Self::Expired => "expired",
            Self::TooOften => "too_often",
            Self::OptedOut => "opt_out",
            Self::Manual => "manual",
            Self::Repep => "repep",
            Self::Reus => "reus",
            Self::Cap => "cap",
        }
    }

    /// For people.
    const fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "El número no es válido",
            Self::NoValue => "Falta un dato que el texto necesita",
            Self::TooLong => "El texto pasa de 10 partes",
            Self::Expired => "Venció antes de poder enviarse",
            Self::TooOften => "Se intentó demasiadas veces sin que saliera",
            Self::OptedOut => "El destinatario se dio de baja",
            Self::Manual => "El número está en la lista de supresión",
            Self::Repep => "El número está inscrito en REPEP",
            Self::Reus => "El número está inscrito en REUS",
            Self::Cap => "El número ya recibió publicidad en los últimos 7 días",
        }
    }
}

impl SendSlices {
    /// Sets `submitting` with attempt and deadline for those letters that may go now, and `skipped` for those that never may.
    /// Whoever gets them makes their requests before the next await: nobody else will.
    pub(super) async fn claim(
        &self,
        sending: &Sending<'_>,
        letters: &[Letter],
        unsendable: &HashMap<i32, Skip>,
        sent: i64,
    ) -> Result<Claim, JobError> {
        let open = &sending.open;
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        // A failover must not forget that a request was made.
        sqlx::raw_sql("set local synchronous_commit = on")
            .execute(&mut *transaction)
            .await
            .map_err(JobError::retry)?;
        let (now, until) = match self.may(&mut transaction, sending).await? {
            May::Send { now, until } => (now, until),
            May::Wait(left) => return Ok(Claim::Waits(left)),
        };
        // Before the rows: whoever waits for the budget holds nothing.
        let budget = budget_left(&mut transaction, sending).await?;
        let positions = letters.iter().map(|letter| letter.row.position);
        let positions: Vec<i32> = positions.chain(unsendable.keys().copied()).collect();
        let rows = ledger::lock(&mut transaction, open.date, open.number, &positions).await;
        let rows: Vec<Row> = rows
            .map_err(JobError::retry)?
            .into_iter()
            .filter(|row| row.state() == MessageState::Pending)
            .collect();
        let sendable: Vec<&Row> = rows.iter().filter(|row| !unsendable.contains_key(&row.position)).collect();
        let skips = skips(&mut transaction, open, &sendable).await.map_err(JobError::retry)?;
        let skip = |row: &Row| {
            let known = unsendable.get(&row.position).or_else(|| skips.get(&row.phone_e164)).copied();
            known.or_else(|| row.standing().claim().is_none().then_some(Skip::TooOften))
        };
        let Judged { claimed, changes, lacks } = judge(&rows, letters, skip, budget, now);
        if let Some(needs) = lacks {
            if changes.is_empty() {
                let left = Left { needs_micros: Some(needs), ..Left::until(Utc::now(), Some(Waits::Budget)) };
                return Ok(Claim::Waits(left));
            }
            give_turns_back(&mut transaction, open, &rows, &changes).await.map_err(JobError::retry)?;
        }
        let tally = settle::apply(&mut transaction, open, &changes).await.map_err(JobError::Retry)?;
        // The lease is compared in the transaction: a worker that lost it commits nothing. How many there are in all is
        // not said: what waits is another job's.
        let sent = sent + (claimed.len() + unsendable.len()) as i64;
        let progress = Progress { total: None, processed: sent, successful: sent, failed: 0 };
        let (nothing, position) = (serde_json::json!({}), Position::new(0, sent));
        sending.run.checkpoint(&mut transaction, &nothing, position, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        let attempt =
            |one: &Claimed| (one.letter.row.position, one.letter.row.attempt, one.letter.row.deadline);
        let mut unmade = Unmade { of: self, open, attempts: claimed.iter().map(attempt).collect() };
        transaction.commit().await.map_err(JobError::retry)?;
        unmade.attempts.clear();
        tally.count();
        failpoints::hit(Point::BatchCommitted);
        Ok(Claim::Claimed(claimed, until))
    }

    /// Whether the slice may be sent now.
    async fn may(&self, conn: &mut PgConnection, sending: &Sending<'_>) -> Result<May, JobError> {
        let looked: (String, Option<i16>, DateTime<Utc>) = sqlx::query_as(
            "select c.state, s.zone, now() from campaigns c
                 left join slices s on s.campaign = c.number and s.first_position = $2
             where c.number = $1",
        )
        .bind(sending.open.number)
        .bind(sending.grant.first)
        .fetch_one(conn)
        .await
        .map_err(JobError::retry)?;
        let (state, zone, now) = looked;
        if state != State::Running.name() {
            return Ok(May::Wait(Left::now()));
        }
        // Single messages are exempt: whoever sends one knows why.
        let Some(zone) = zone.filter(|_| !sending.campaign.single) else {
            return Ok(May::Send { now, until: None });
        };
        let here = Utc::now();
        Ok(match self.settings.opens_at(zone, here).filter(|opens| *opens > here) {
            Some(due) => May::Wait(Left::until(due, Some(Waits::Hours))),
            None => May::Send { now, until: self.settings.closes_at(zone, here) },
        })
    }
}

/// Whether a slice may be sent.
enum May {
    /// Now, which is the transaction's time, and until then, where its hours end.
    Send {
        now: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
    },
    Wait(Left),
}

/// Claimed messages whose claim is not known to be committed: its answer did not come, or nobody waits for it any more, for the
/// job was dropped. Nobody makes their requests, so that all that may have been written of them is taken back when this is
/// dropped; they would wait for their deadline otherwise, and then for a person.
///
/// What was committed is told from what was not by the rows themselves. Who locks them waits for the end of the claim. Where it
/// was rolled back, the next claim of a row has the same attempt, and its request may be under way; but it has another
/// deadline: whoever has the slice by then has changed the job that this one holds, and so begins after its end.
struct Unmade<'a> {
    of: &'a SendSlices,
    open: &'a Open,
    /// Positions, attempts, and the deadlines that were written.
    attempts: Vec<(i32, i16, Option<DateTime<Utc>>)>,
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.attempts.is_empty() {
            return;
        }
        let now = Utc::now();
        let unasked = |(position, attempt, claimed_until)| Fact {
            unasked: true,
            claimed_until,
            ..Fact::plain(position, attempt, Observed::NotAccepted, now)
        };
        let facts: Vec<Fact> = self.attempts.drain(..).map(unasked).collect();
        let (pool, open) = (self.of.pool.clone(), self.open.clone());
        // Among the requests whose answers are not written yet: a process ends after them.
        self.of.under_way.spawn_on(async move { take_back(&pool, &open, &facts).await }, &runtime);
    }
}

/// What the campaign may still cost, in millionths of its budget's currency; none where it has no budget.
async fn budget_left(conn: &mut PgConnection, sending: &Sending<'_>) -> Result<Option<i64>, JobError> {
    let Some(most) = &sending.campaign.plan.most_cost else { return Ok(None) };
    let spent = totals::cost_held(conn, sending.open.number, &most.currency).await;
    Ok(Some(most.micros - spent.map_err(JobError::retry)?))
}

/// What a claim makes of its rows.
struct Judged {
    claimed: Vec<Claimed>,
    /// Each row as it was and as it is.
    changes: Vec<(Row, Row)>,
    /// What the first message costs for which the budget has no room.
    lacks: Option<i64>,
}

/// Claims the letters whose rows still wait, as far as the budget reaches, and skips those of which `skip` says why.
fn judge(
    rows: &[Row],
    letters: &[Letter],
    skip: impl Fn(&Row) -> Option<Skip>,
    mut budget: Option<i64>,
    now: DateTime<Utc>,
) -> Judged {
    let mut judged = Judged { claimed: Vec::new(), changes: Vec::new(), lacks: None };
    for before in rows {
        let before = before.clone();
        let mut after = before.clone();
        (after.version, after.changed_at) = (before.version + 1, now);
        if let Some(skip) = skip(&before) {
            after.set_state(MessageState::Skipped);
            (after.code, after.reason) = (Some(skip.code().to_owned()), Some(skip.reason().to_owned()));
            judged.changes.push((before, after));
            continue;
        }
        let found = letters.iter().enumerate().find(|(_, one)| one.row.position == before.position);
        let (Some((place, letter)), Some(next)) = (found, before.standing().claim()) else { continue };
        let cost = letter.sender.price_micros.unwrap_or_default() * i64::from(letter.parts);
        if let Some(left) = &mut budget {
            // What is behind it may be shorter: it waits for its turn all the same.
            *left -= cost;
            if *left < 0 {
                judged.lacks = Some(cost);
                break;
            }
        }
        after.set_state(next.state);
        after.attempt = next.attempt;
        after.deadline = Some(now + TimeDelta::from_std(UNDER_WAY).unwrap_or_default());
        after.sender = Some(letter.sender.address.clone());
        after.parts = i16::try_from(letter.parts).unwrap_or(i16::MAX);
        after.cost_micros = cost;
        after.currency.clone_from(&letter.sender.currency);
        (after.code, after.reason) = (None, None);
        judged.claimed.push(Claimed { letter: Letter { row: after.clone(), ..letter.clone() }, place });
        judged.changes.push((before, after));
    }
    judged
}

/// Gives back the turns that phones gave to messages which the budget has no room for.
async fn give_turns_back(
    conn: &mut PgConnection,
    open: &Open,
    rows: &[Row],
    changes: &[(Row, Row)],
) -> sqlx::Result<()> {
    if open.kind != Kind::Marketing {
        return Ok(());
    }
    let is_left = |row: &&Row| !changes.iter().any(|(before, _)| before.position == row.position);
    let left: Vec<&Row> = rows.iter().filter(is_left).collect();
    // Of an earlier attempt that may have gone the turn stays.
    let twice: Vec<i32> = left.iter().filter(|row| row.attempt > 0).map(|row| row.position).collect();
    let may_have_gone = earlier_attempts::of(conn, open.number, &twice).await?;
    // Of phones that this transaction has locked.
    let mut effects = phone_sends::Effects::default();
    for row in left.into_iter().filter(|row| !may_have_gone.contains(&row.position)) {
        effects.give_back(&row.phone_e164, open.number);
    }
    effects.write(conn).await
}

/// Which phones must not be written to, and why. Marketing takes the phones' turns: two campaigns can't both have one.
async fn skips(conn: &mut PgConnection, open: &Open, rows: &[&Row]) -> sqlx::Result<HashMap<String, Skip>> {
    let phones: Vec<&str> = rows.iter().map(|row| row.phone_e164.as_str()).collect();
    let mut skips = suppressed(conn, open, &phones).await?;
    if open.kind != Kind::Marketing {
        return Ok(skips);
    }
    let may: Vec<&str> = phones.into_iter().filter(|phone| !skips.contains_key(*phone)).collect();
    let began = Instant::now();
    let have = phone_sends::take_turns(conn, open.number, &may, CAP_DAYS).await?;
    // Somebody else had one of the phones: an opt-out may have been committed while this waited.
    if began.elapsed() >= WAITED {
        skips.extend(suppressed(conn, open, &may).await?);
    }
    for phone in may.into_iter().filter(|phone| !have.iter().any(|had| had == phone)) {
        skips.entry(phone.to_owned()).or_insert(Skip::Cap);
    }
    Ok(skips)
}

/// Which of these phones are suppressed for messages of this kind by what is committed now.
async fn suppressed(
    conn: &mut PgConnection,
    open: &Open,
    phones: &[&str],
) -> sqlx::Result<HashMap<String, Skip>> {
    let suppressed: Vec<(String, String)> = sqlx::query_as(
        // Not `now()`, which is this transaction's beginning: an opt-out may have been committed since. The first of a phone's
        // reasons counts, in the order in which audiences have them.
        "select phone_e164, reason from suppressions
         where phone_e164 = any($1) and effective_at <= clock_timestamp()
         order by array_position(array['opt_out', 'manual', 'repep', 'reus'], reason)",
    )
    .bind(phones)
    .fetch_all(conn)
    .await?;
    let marketing = open.kind == Kind::Marketing;
    let mut skips = HashMap::new();
    for (phone, reason) in suppressed {
        let skip = match reason.as_str() {
            "opt_out" => Skip::OptedOut,
            "manual" => Skip::Manual,
            "repep" if marketing => Skip::Repep,
            "reus" if marketing => Skip::Reus,
            _ => continue,
        };
        skips.entry(phone).or_insert(skip);
    }
    Ok(skips)
}
