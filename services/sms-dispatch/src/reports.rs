//! Applies what providers told us: statuses in batches, whatever their order; and what people wrote to us in a lane of its own,
//! for an opt-out waits behind nothing.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chassis::db::{any_unavailable, in_time};
use chrono::{Days, Utc};
use failpoints::Point;
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    closings,
    domain::{
        keywords::{Keyword, keyword},
        message_id::MessageId,
        sender::ProviderName,
        webhooks::{Status, Webhook, telnyx, twilio},
    },
    metrics::Tally,
    opt_outs,
    settle::{self, Changed, Fact, Open},
    storage::{
        campaigns, help_answers, ledger,
        phone_sends::Effects,
        reports::{self, Kept},
    },
};

/// Statuses applied in one transaction.
const BATCH: i64 = 500;
/// Messages to us that are handled in one transaction.
const INBOUND: usize = 50;
/// Messages to us among which opt-outs are looked for first: more than wait, as a rule.
const LOOKED_THROUGH: i64 = 1_000;
/// Whoever writes to us answers a campaign of the last so many days.
const ANSWERS_DAYS: u64 = 90;
/// Longer than a transaction takes, whose statements the server ends. A server whose host is gone ends nothing.
const UNANSWERED: Duration = Duration::from_secs(180);
/// How often it looks where there was nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// What waits for nothing of the other.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    /// Reports on messages of ours.
    Statuses,
    /// What people wrote to us.
    Inbound,
}

/// The background tasks. Any number may run at once.
#[derive(Clone)]
pub struct Reports {
    pool: PgPool,
    patience: Duration,
}

impl Reports {
    pub fn new(pool: PgPool) -> Self {
        Self { pool, patience: UNANSWERED }
    }

    /// How long a transaction may take.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Works on one lane until `shutdown` is cancelled.
    pub async fn run(self, lane: Lane, shutdown: CancellationToken) {
        loop {
            let work = async {
                match lane {
                    Lane::Statuses => self.statuses().await,
                    Lane::Inbound => self.inbound().await,
                }
            };
            // What it does beside its transactions has an end too.
            let work =
                async { timeout(2 * self.patience, work).await.unwrap_or_else(|late| Err(late.into())) };
            let more = match shutdown.run_until_cancelled(work).await {
                None => return,
                Some(Ok(more)) => more,
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), ?lane, "what providers said is not applied yet");
                    false
                }
            };
            if !more && shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Applies the oldest statuses. Gives whether there may be more. One that can't be applied is set aside, and stops no
    /// other.
    ///
    /// # Errors
    /// The database can't be reached.
    pub async fn statuses(&self) -> anyhow::Result<bool> {
        let error = match self.batch().await {
            Err(error) if !any_unavailable(&error) => error,
            done => return done,
        };
        tracing::warn!(error = %format!("{error:#}"), "reports of providers are applied one by one");
        for id in reports::oldest(&self.pool, BATCH).await? {
            match self.one(id).await {
                Err(error) if !any_unavailable(&error) => {
                    let error = format!("{error:#}");
                    tracing::error!(report = id, error, "a report can't be applied and is set aside");
                    reports::set_aside(&self.pool, id, &error).await?;
                }
                done => done?,
            }
        }
        Ok(true)
    }

    async fn batch(&self) -> anyhow::Result<bool> {
        let mut conn = self.pool.acquire().await?;
        let applied = timeout(self.patience, apply_oldest(&mut conn)).await;
        let (applied, suppressed) = in_time(&mut conn, applied)?;
        drop(conn);
        opt_outs::follow(&self.pool, &suppressed).await;
        Ok(applied as i64 == BATCH)
    }

    async fn one(&self, id: i64) -> anyhow::Result<()> {
        let mut conn = self.pool.acquire().await?;
        let applied = timeout(self.patience, apply_one(&mut conn, id)).await;
        let suppressed = in_time(&mut conn, applied)?;
        drop(conn);
        opt_outs::follow(&self.pool, &suppressed).await;
        Ok(())
    }

    /// Handles the oldest messages to us. Gives whether there may be more.
    ///
    /// # Errors
    /// The database.
    pub async fn inbound(&self) -> anyhow::Result<bool> {
        let mut conn = self.pool.acquire().await?;
        // Opt-outs are committed first, those too that are handled later: nothing that is asked of the ledger below may keep them.
        let stopped = timeout(self.patience, take_stops(&mut conn)).await;
        let (open, suppressed) = in_time(&mut conn, stopped)?;
        if open.is_empty() {
            return Ok(false);
        }
        opt_outs::follow(&self.pool, &suppressed).await;
        let oldest = &open[..open.len().min(INBOUND)];
        let handled = timeout(self.patience, handle(&mut conn, oldest)).await;
        in_time(&mut conn, handled)?;
        Ok(open.len() > INBOUND)
    }
}

/// Suppresses who wants no more messages. Gives the oldest messages to us, and the phones that are suppressed by them.
async fn take_stops(conn: &mut PgConnection) -> anyhow::Result<(Vec<reports::Inbound>, Vec<String>)> {
    let mut transaction = conn.begin().await?;
    let open = reports::open_inbound(&mut transaction, LOOKED_THROUGH).await?;
    let stops = open.iter().filter(|inbound| keyword(&inbound.text) == Some(Keyword::Stop));
    let phones: Vec<String> = stops.map(|inbound| inbound.phone_e164.clone()).collect();
    let suppressed = opt_outs::suppress(&mut transaction, &phones, "respuesta", "recipient").await?;
    transaction.commit().await?;
    Ok((open, suppressed))
}

/// Notes what messages to us mean, and which campaigns they answer.
async fn handle(conn: &mut PgConnection, open: &[reports::Inbound]) -> anyhow::Result<()> {
    let mut transaction = conn.begin().await?;
    let phones: Vec<&str> = open.iter().map(|inbound| inbound.phone_e164.as_str()).collect();
    let since = Utc::now().date_naive() - Days::new(ANSWERS_DAYS);
    let campaigns: HashMap<String, i32> =
        reports::last_campaigns(&mut transaction, &phones, since).await?.into_iter().collect();
    for inbound in open {
        let meaning = match keyword(&inbound.text) {
            Some(Keyword::Stop) => "opt_out",
            Some(Keyword::Help) => "help",
            // Whoever wants messages again asks a person: a word that a phone sends by itself takes no opt-out back.
            Some(Keyword::Start) => "start",
            None => "reply",
        };
        let campaign = campaigns.get(&inbound.phone_e164).copied();
        let news = reports::handled(&mut transaction, inbound, meaning, campaign).await?;
        if news && meaning == "help" {
            help_answers::add(&mut transaction, inbound).await?;
        }
    }
    Ok(transaction.commit().await?)
}

/// Applies the oldest reports. Gives how many, and the phones that are suppressed by them.
async fn apply_oldest(conn: &mut PgConnection) -> anyhow::Result<(usize, Vec<String>)> {
    let mut transaction = conn.begin().await?;
    let kept = reports::take(&mut transaction, BATCH).await?;
    if kept.is_empty() {
        return Ok((0, Vec::new()));
    }
    let (suppressed, tally) = apply_all(&mut transaction, &kept).await?;
    failpoints::hit(Point::ReportsApplied);
    transaction.commit().await?;
    tally.count();
    Ok((kept.len(), suppressed))
}

/// Applies one report, unless somebody else has it. Gives the phones that are suppressed by it.
async fn apply_one(conn: &mut PgConnection, id: i64) -> anyhow::Result<Vec<String>> {
    let mut transaction = conn.begin().await?;
    let Some(kept) = reports::take_one(&mut transaction, id).await? else { return Ok(Vec::new()) };
    let (suppressed, tally) = apply_all(&mut transaction, &[kept]).await?;
    transaction.commit().await?;
    tally.count();
    Ok(suppressed)
}

/// Applies reports, whatever campaigns they are about. Gives the phones that are suppressed by them, and what to count once
/// that has committed.
async fn apply_all(conn: &mut PgConnection, kept: &[Kept]) -> anyhow::Result<(Vec<String>, Tally)> {
    // In the order of the campaigns' numbers, in which everybody locks who locks rows of several.
    let mut by_campaign: BTreeMap<i32, Vec<(MessageId, Status)>> = BTreeMap::new();
    for status in kept.iter().filter_map(read) {
        let id = status.callback.and_then(|callback| MessageId::parse(callback.message));
        // Not sent by this service.
        let Some(id) = id else { continue };
        by_campaign.entry(id.campaign).or_default().push((id, status));
    }
    let (mut phones, mut opted_out, mut applied) = (Effects::default(), Vec::new(), Vec::new());
    let mut tally = Tally::default();
    for (number, statuses) in by_campaign {
        let Some(one) = apply(conn, number, &statuses, &mut phones, &mut tally).await? else { continue };
        opted_out.extend_from_slice(&one.opted_out);
        applied.push(one);
    }
    phones.write(conn).await?;
    for Applied { open, facts, changed, .. } in &applied {
        closings::by_reports(conn, open, facts, changed).await?;
    }
    Ok((opt_outs::suppress(conn, &opted_out, "proveedor", "provider").await?, tally))
}

/// A status that was kept. It was read once before it was kept.
fn read(kept: &Kept) -> Option<Status> {
    let webhook = match ProviderName::parse(&kept.provider)? {
        ProviderName::Telnyx => telnyx::parse(kept.body.as_bytes()),
        ProviderName::Twilio => twilio::parse(&kept.url, kept.body.as_bytes(), Utc::now()),
        ProviderName::Log => return None,
    };
    match webhook {
        Ok(Webhook::Status(status)) => Some(status),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, report = kept.id, "a report that was understood is not any more");
            None
        }
    }
}

/// What statuses of one campaign came to.
struct Applied {
    open: Open,
    facts: Vec<Fact>,
    changed: Changed,
    /// The phones that opted out at the provider.
    opted_out: Vec<String>,
}

/// Applies statuses of one campaign; none where nothing is known of it.
async fn apply(
    conn: &mut PgConnection,
    number: i32,
    statuses: &[(MessageId, Status)],
    phones: &mut Effects,
    tally: &mut Tally,
) -> anyhow::Result<Option<Applied>> {
    let Some(campaign) = campaigns::by_number(conn, number).await? else { return Ok(None) };
    let Some(date) = campaign.date else { return Ok(None) };
    // Past retention nothing is known of a message any more.
    if !ledger::has_day(conn, date).await? {
        return Ok(None);
    }
    let open = Open::of(&campaign)?;
    let now = settle::now(conn).await?;
    let of_day = statuses.iter().filter(|(id, _)| id.date == date);
    let facts: Vec<Fact> = of_day
        .filter_map(|(id, status)| {
            // Messages go to numbers of Mexico: what is about another one is about none of them.
            let phone = Some(status.to?.to_string());
            let attempt = status.callback?.attempt;
            Some(Fact { phone, ..Fact::reported(id.position, attempt, &status.report, now) })
        })
        .collect();
    let mut changed = settle::observe_some(conn, &open, &facts, phones).await?;
    tally.extend(std::mem::take(&mut changed.tally));
    let suppressing: Vec<i32> =
        facts.iter().filter(|fact| fact.suppresses).map(|fact| fact.position).collect();
    let rows = ledger::lock(conn, date, number, &suppressing).await?;
    // A report names whose phone it is about: not the one that its message went to, where that is another.
    let says_so = |row: &ledger::Row| {
        let mut of_row = facts.iter().filter(|fact| fact.position == row.position);
        of_row.any(|fact| fact.suppresses && fact.phone.as_ref() == Some(&row.phone_e164))
    };
    let opted_out = rows.into_iter().filter(says_so).map(|row| row.phone_e164).collect();
    Ok(Some(Applied { open, facts, changed, opted_out }))
}
