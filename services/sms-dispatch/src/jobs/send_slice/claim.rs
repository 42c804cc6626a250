//! The transaction before the requests: what it has not committed is not sent.

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use failpoints::Point;
use jobs::{Position, Progress};
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection};

use super::{Left, SendSlices, Sending, UNDER_WAY, Waits, batch::Letter};
use crate::{
    domain::{
        campaign::{CAP_DAYS, Kind, State},
        message_state::MessageState,
    },
    settle::{self, Open},
    storage::{
        ledger::{self, Row},
        phone_sends, totals,
    },
};

pub(super) enum Claim {
    /// These are to be sent now; the others were skipped, or are somebody else's.
    Claimed(Vec<Claimed>),
    Waits(Left),
}

/// A message whose request may be made.
pub(super) struct Claimed {
    pub letter: Letter,
    /// Its place among the letters, and so its start.
    pub place: usize,
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
        if let Some(left) = self.may_not(&mut transaction, sending).await? {
            return Ok(Claim::Waits(left));
        }
        // Before the rows: whoever waits for the budget holds nothing.
        let mut budget = match &sending.campaign.plan.most_cost {
            Some(most) => {
                let spent = totals::cost_held(&mut transaction, open.number, &most.currency)
                    .await
                    .map_err(JobError::retry)?;
                Some(most.micros - spent)
            }
            None => None,
        };
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
        let now = settle::now(&mut transaction).await.map_err(JobError::retry)?;
        let (mut claimed, mut needs) = (Vec::new(), None);
        let mut changes: Vec<(Row, Row)> = Vec::new();
        for before in &rows {
            let before = before.clone();
            let mut after = before.clone();
            (after.version, after.changed_at) = (before.version + 1, now);
            let skip = unsendable.get(&before.position).or_else(|| skips.get(&before.phone_e164));
            if let Some(skip) = skip {
                after.set_state(MessageState::Skipped);
                (after.code, after.reason) = (Some(skip.code().to_owned()), Some(skip.reason().to_owned()));
                changes.push((before, after));
                continue;
            }
            let found = letters.iter().enumerate().find(|(_, one)| one.row.position == before.position);
            let (Some((place, letter)), Some(next)) = (found, before.standing().claim()) else { continue };
            let cost = letter.sender.price_micros.unwrap_or_default() * i64::from(letter.parts);
            if let Some(left) = &mut budget {
                // What is behind it may be shorter: it waits for its turn all the same.
                *left -= cost;
                if *left < 0 {
                    needs = Some(cost);
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
            claimed.push(Claimed { letter: Letter { row: after.clone(), ..letter.clone() }, place });
            changes.push((before, after));
        }
        if changes.is_empty() && budget.is_some_and(|left| left < 0) {
            let left = Left { needs_micros: needs, ..Left::until(Utc::now(), Some(Waits::Budget)) };
            return Ok(Claim::Waits(left));
        }
        if budget.is_some_and(|left| left < 0) && open.kind == Kind::Marketing {
            // They took their turns above. A turn of an earlier attempt was for a message that may have gone.
            let is_left = |row: &&Row| {
                row.attempt == 0 && !changes.iter().any(|(before, _)| before.position == row.position)
            };
            // Of phones that this transaction has locked.
            let mut effects = phone_sends::Effects::default();
            for row in rows.iter().filter(is_left) {
                effects.give_back(&row.phone_e164, open.number);
            }
            effects.write(&mut transaction).await.map_err(JobError::retry)?;
        }
        let tally = settle::apply(&mut transaction, open, &changes).await.map_err(JobError::Retry)?;
        // The lease is compared in the transaction: a worker that lost it commits nothing. How many there are in all is
        // not said: what waits is another job's.
        let progress = Progress { total: None, processed: sent, successful: sent, failed: 0 };
        let (nothing, position) = (serde_json::json!({}), Position::new(0, sent));
        sending.run.checkpoint(&mut transaction, &nothing, position, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        tally.count();
        failpoints::hit(Point::BatchCommitted);
        Ok(Claim::Claimed(claimed))
    }

    /// Why nothing of the slice may be sent now.
    async fn may_not(
        &self,
        conn: &mut PgConnection,
        sending: &Sending<'_>,
    ) -> Result<Option<Left>, JobError> {
        let state: String = sqlx::query_scalar("select state from campaigns where number = $1")
            .bind(sending.open.number)
            .fetch_one(&mut *conn)
            .await
            .map_err(JobError::retry)?;
        if state != State::Running.name() {
            return Ok(Some(Left::now()));
        }
        let zone: Option<i16> =
            sqlx::query_scalar("select zone from slices where campaign = $1 and first_position = $2")
                .bind(sending.grant.campaign)
                .bind(sending.grant.first)
                .fetch_optional(conn)
                .await
                .map_err(JobError::retry)?;
        let now = Utc::now();
        // Single messages are exempt: whoever sends one knows why.
        let zone = zone.filter(|_| !sending.campaign.single);
        let opens = zone.and_then(|zone| self.settings.opens_at(zone, now)).filter(|opens| *opens > now);
        Ok(opens.map(|due| Left::until(due, Some(Waits::Hours))))
    }
}

/// Which phones must not be written to, and why. Marketing takes the phones' turns: two campaigns can't both have one.
async fn skips(conn: &mut PgConnection, open: &Open, rows: &[&Row]) -> sqlx::Result<HashMap<String, Skip>> {
    let phones: Vec<&str> = rows.iter().map(|row| row.phone_e164.as_str()).collect();
    let suppressed: Vec<(String, String)> = sqlx::query_as(
        // Not `now()`, which is this transaction's beginning: an opt-out may have been committed since. The first of a phone's
        // reasons counts, in the order in which audiences have them.
        "select phone_e164, reason from suppressions
         where phone_e164 = any($1) and effective_at <= clock_timestamp()
         order by array_position(array['opt_out', 'manual', 'repep', 'reus'], reason)",
    )
    .bind(&phones)
    .fetch_all(&mut *conn)
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
    if marketing {
        let may: Vec<&str> = phones.into_iter().filter(|phone| !skips.contains_key(*phone)).collect();
        let have = phone_sends::take_turns(conn, open.number, &may, CAP_DAYS).await?;
        for phone in may.into_iter().filter(|phone| !have.iter().any(|had| had == phone)) {
            skips.insert(phone.to_owned(), Skip::Cap);
        }
    }
    Ok(skips)
}
