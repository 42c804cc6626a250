//! Feeds slices to workers: only what may go now, and no more than some seconds of the rate ahead. All else waits as rows. And
//! ends campaigns that have nothing more to send. One worker feeds at a time.

mod turns;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chrono::Utc;
use failpoints::Point;
use jobs::{JobKind, NewJob};
use sea_orm::{
    ActiveValue::Set,
    sqlx::{self, PgConnection, PgPool},
};
use tokio_util::sync::CancellationToken;

use self::turns::{Candidate, PIECES};
use crate::{
    advisory_lock::{AdvisoryLock, FEEDER},
    approvals,
    campaigns::{self, Refused},
    config::SmsSettings,
    domain::{
        campaign::{Action, State},
        message_state::{MessageState, Observed},
        windows::Clocks,
    },
    jobs::send_slice,
    metrics::Tally,
    settle::{self, Fact, Open},
    start_campaign::start_campaign,
    storage::{
        campaigns::{self as rows, ActiveModel, Campaign},
        ledger::{self, Row},
        providers, senders, slices,
        slices::{Grant, Slice, Wait},
        totals,
    },
    watch::{self, Course},
};

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How often those look who don't feed.
const LOOK: Duration = Duration::from_secs(2);
/// Who has not said for so long that it is there feeds no more: it was stopped, or its machine is gone.
const LAPSES_AFTER: Duration = Duration::from_secs(15);
/// How often it says so while a round goes on.
const KEEP: Duration = Duration::from_secs(3);
/// A round that takes longer hangs. Its steps are transactions of their own: another worker goes on where it stopped.
const LONGEST_ROUND: Duration = Duration::from_secs(25);
/// Batches of totals that one round folds at most.
const MOST_FOLDED: usize = 20;
/// So many seconds of the rate are with workers at most.
const AHEAD_SECONDS: f64 = 10.0;
/// How often the outcomes of a campaign are looked at of which all may go: its totals are many rows.
const OUTCOMES: Duration = Duration::from_secs(1);
/// Slices that one round feeds at most.
const MOST_FED: usize = 200;
/// Slices of a cancelled campaign that one round settles.
const MOST_SETTLED: usize = 40;
/// Messages of a slice, which is settled in one transaction.
const SLICE: i64 = 10_000;
/// When a slice is looked at again of which requests may be under way.
const LOOK_AGAIN_SECONDS: f64 = 1.0;

/// The background task. Any number may run at once: one feeds.
pub struct Feeder {
    pool: PgPool,
    settings: Arc<SmsSettings>,
    /// When campaigns were looked at of which all may go.
    looked: Mutex<HashMap<i32, Instant>>,
}

impl Feeder {
    pub fn new(pool: PgPool, settings: Arc<SmsSettings>) -> Self {
        Self { pool, settings, looked: Mutex::default() }
    }

    /// Feeds until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut lock: Option<AdvisoryLock> = None;
        loop {
            let feeds = lock.is_some();
            let round = async {
                if lock.is_none() {
                    lock = AdvisoryLock::try_take_lapsing(&self.pool, FEEDER, LAPSES_AFTER).await?;
                }
                match &mut lock {
                    Some(held) => self.held_round(held).await,
                    None => Ok(()),
                }
            };
            match shutdown.run_until_cancelled(round).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), "campaigns are not fed, will keep trying");
                    lock = None;
                }
            }
            let pause = if feeds { PAUSE } else { LOOK };
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One round, as long as the lock is held. It ends with its connection: whoever can't use that any more has lost it.
    async fn held_round(&self, held: &mut AdvisoryLock) -> anyhow::Result<()> {
        let mut round = pin!(tokio::time::timeout(LONGEST_ROUND, self.round()));
        loop {
            held.holds().await?;
            tokio::select! {
                done = &mut round => return done.context("a round does not end")?,
                () = tokio::time::sleep(KEEP) => {}
            }
        }
    }

    /// One round: folds totals, opens what may open, ends what has ended, and feeds.
    ///
    /// # Errors
    /// The database.
    pub async fn round(&self) -> anyhow::Result<()> {
        for _ in 0..MOST_FOLDED {
            if !totals::fold(&self.pool).await? {
                break;
            }
        }
        let mut conn = self.pool.acquire().await?;
        providers::open(&mut conn, None).await?;
        let (mut running, mut scheduled) = (Vec::new(), Vec::new());
        for campaign in rows::live(&mut conn).await? {
            let step = async {
                match campaign.state {
                    State::Cancelled | State::Failed => {
                        self.settle_rest(&mut conn, &campaign).await.map(|()| false)
                    }
                    State::Running => self.ends(&mut conn, &campaign).await.map(|ended| !ended),
                    _ => Ok(false),
                }
            };
            match step.await {
                Ok(true) => running.push(campaign),
                Ok(false) if campaign.state == State::Scheduled => scheduled.push(campaign),
                Ok(false) => {}
                Err(error) => stands_still(&campaign, &error),
            }
        }
        let fed = self.feed(&mut conn, &running).await;
        drop(conn);
        // Last: whom they reach is counted again, and nothing else waits for that.
        for campaign in &scheduled {
            if let Err(error) = self.start(campaign).await {
                stands_still(campaign, &error);
            }
        }
        fed
    }

    /// Starts a scheduled campaign whose time has come. One that comes too late, or that can't start any more, is cancelled
    /// with the reason.
    async fn start(&self, campaign: &Campaign) -> anyhow::Result<()> {
        let now = Utc::now();
        if campaign.start_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        let late = campaign.expires_at.is_some_and(|expires| expires <= now);
        let reason = if late {
            "Su hora pasó sin que pudiera iniciar".to_owned()
        } else {
            let mut transaction = self.pool.begin().await?;
            let Some(locked) = rows::lock(&mut transaction, campaign.id).await? else { return Ok(()) };
            // Somebody may have taken it back, or put it off.
            if locked.state != State::Scheduled || locked.start_at != campaign.start_at {
                return Ok(());
            }
            match self.begin(&mut transaction, &locked).await {
                Ok(_) => return Ok(transaction.commit().await?),
                Err(Refused::Other(error)) => return Err(error),
                Err(refused) => format!("No pudo iniciar: {refused}"),
            }
        };
        let mut transaction = self.pool.begin().await?;
        let Some(locked) = rows::lock(&mut transaction, campaign.id).await? else { return Ok(()) };
        if locked.state != State::Scheduled || locked.start_at != campaign.start_at {
            return Ok(());
        }
        let change = ActiveModel { reason: Set(Some(reason)), ..Default::default() };
        campaigns::act(&mut transaction, &locked, Action::Cancel, "schedule", change).await?;
        Ok(transaction.commit().await?)
    }

    /// Starts a campaign that was scheduled, if it is still what it was then.
    async fn begin(&self, conn: &mut PgConnection, campaign: &Campaign) -> Result<Campaign, Refused> {
        if campaigns::audience_changed(conn, campaign, campaign.updated_at).await? {
            return Err(Refused::Changed);
        }
        // There may be more contacts than there were, or another price. What is fed lasts longer than this may take; one that can't
        // be counted in that time is tried again in the next round.
        sqlx::raw_sql("set local statement_timeout = '5s'").execute(&mut *conn).await?;
        approvals::check(conn, &self.settings, campaign).await?;
        sqlx::raw_sql("set local statement_timeout to default").execute(&mut *conn).await?;
        start_campaign(conn, campaign, "schedule", None, &self.settings.public_url).await
    }

    /// Ends a campaign of which nothing is left to send.
    async fn ends(&self, conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<bool> {
        // Single messages may come until the end of their day.
        let today = campaigns::day(&campaign.plan, Utc::now());
        let goes_on = campaign.single && campaign.date.is_some_and(|date| date >= today);
        if goes_on || !slices::all_done(conn, campaign.number).await? {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await?;
        let Some(campaign) = rows::lock(&mut transaction, campaign.id).await? else { return Ok(true) };
        // A retry may have come between.
        if campaign.state != State::Running || !slices::all_done(&mut transaction, campaign.number).await? {
            return Ok(false);
        }
        let change = ActiveModel { finished_at: Set(Some(Utc::now())), ..Default::default() };
        let ended = campaigns::act(&mut transaction, &campaign, Action::Complete, "system", change).await?;
        campaigns::tell_end(&mut transaction, &ended).await?;
        transaction.commit().await?;
        tracing::info!(campaign = %campaign.id, recipients = campaign.recipients, "campaign completed");
        Ok(true)
    }

    /// Settles what a cancelled or failed campaign has not sent, in batches, and then ends it.
    async fn settle_rest(&self, conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<()> {
        if campaign.date.is_some() {
            let open = Open::of(campaign)?;
            for _ in 0..MOST_SETTLED {
                let mut transaction = self.pool.begin().await?;
                let Some(slice) = slices::next_open(&mut transaction, open.number).await? else { break };
                let tally = settle_slice(&mut transaction, &open, &slice).await?;
                transaction.commit().await?;
                tally.count();
            }
            // Those that workers have end by themselves.
            if !slices::all_done(conn, open.number).await? {
                return Ok(());
            }
        }
        let mut transaction = self.pool.begin().await?;
        let change = ActiveModel { finished_at: Set(Some(Utc::now())), ..Default::default() };
        let ended = rows::change(&mut transaction, campaign.id, change).await?;
        // One that never began has no day: whoever was told of its draft is told of its end.
        campaigns::tell_end(&mut transaction, &ended).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Feeds slices of running campaigns.
    async fn feed(&self, conn: &mut PgConnection, running: &[Campaign]) -> anyhow::Result<()> {
        let states = providers::list(&chassis::db::Orm::on(conn)).await?;
        let rates: HashMap<_, _> = states
            .iter()
            .filter(|state| state.closed_at.is_none())
            .map(|state| (state.name, state.per_second))
            .collect();
        let ahead = (rates.values().sum::<f64>() * AHEAD_SECONDS).max(1.0);
        let mut room = ahead;
        let mut candidates = Vec::new();
        for campaign in running {
            let with_workers = slices::with_workers(conn, campaign.number).await?;
            let fed = with_workers.messages as f64;
            room -= fed;
            let rate = self.rate(conn, campaign, &rates).await?;
            if campaign.single {
                self.feed_singles(conn, campaign, rate.is_none()).await?;
                continue;
            }
            let course = self.course(campaign).await?;
            if course == Course::Paused {
                continue;
            }
            // What all of its slices wait for stands with the campaign: there may be tens of thousands.
            let held = campaign.held_until.is_some_and(|until| until > Utc::now());
            let waits = match (course, rate) {
                (Course::Ramp, _) => Some(Wait::Ramp),
                (_, None) => Some(Wait::Provider),
                _ if held => Some(Wait::Provider),
                _ if self.lacks_money(conn, campaign).await? => Some(Wait::Budget),
                _ => None,
            };
            rows::wait(conn, campaign, waits.map(Wait::name)).await?;
            let (Course::On(most), Some(rate), None) = (course, rate, waits) else { continue };
            // The slowest sends one message after the other.
            let ahead = (rate * AHEAD_SECONDS).max(1.0);
            let zones = self.open_zones(conn, campaign).await?;
            let slices = slices::open(conn, campaign.number, &zones, PIECES).await?;
            let candidate = Candidate {
                campaign: campaign.number,
                zones,
                fed,
                may: ahead.min(most.map_or(f64::INFINITY, |most| most as f64)) - fed,
                ahead,
                slices,
                fed_at: with_workers.fed_at,
            };
            if !candidate.zones.is_empty() {
                candidates.push(candidate);
            }
        }
        self.take_turns(candidates, room, ahead).await
    }

    /// Feeds single messages: what waits again goes before all others, at whatever hour; without a sender it expires.
    async fn feed_singles(
        &self,
        conn: &mut PgConnection,
        campaign: &Campaign,
        waits: bool,
    ) -> anyhow::Result<()> {
        // What all of it waits for stands with the campaign.
        rows::wait(conn, campaign, waits.then_some(Wait::Provider.name())).await?;
        let zones = slices::zones(conn, campaign.number).await?;
        let kind = send_slice::single_kind(&self.settings);
        for _ in 0..MOST_FED {
            if self.feed_one(&kind, campaign.number, &zones, 1.0).await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// How a campaign goes on, by what became of its messages.
    async fn course(&self, campaign: &Campaign) -> anyhow::Result<Course> {
        let looked = || self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked().get(&campaign.number).is_some_and(|at| at.elapsed() < OUTCOMES) {
            return Ok(Course::On(None));
        }
        let course = watch::look(&self.pool, campaign, self.settings.pause_above_percent).await?;
        let mut looked = looked();
        looked.retain(|_, at| at.elapsed() < OUTCOMES);
        if course == Course::On(None) {
            looked.insert(campaign.number, Instant::now());
        }
        Ok(course)
    }

    /// Messages a second that a campaign may send; none where no sender of it is open.
    async fn rate(
        &self,
        conn: &mut PgConnection,
        campaign: &Campaign,
        rates: &HashMap<crate::domain::sender::ProviderName, f64>,
    ) -> anyhow::Result<Option<f64>> {
        let frozen = campaign.frozen.as_ref().map(|frozen| frozen.senders.as_slice()).unwrap_or_default();
        let addresses: Vec<String> = frozen.iter().map(|sender| sender.address.clone()).collect();
        let now = Utc::now();
        let open: Vec<_> = senders::of(conn, &addresses)
            .await?
            .into_iter()
            .filter(|sender| sender.is_usable(now) && rates.contains_key(&sender.provider))
            .collect();
        if open.is_empty() {
            return Ok(None);
        }
        let of_senders: f64 = open.iter().map(|sender| sender.per_second).sum();
        let wished = campaign.plan.per_minute.map_or(f64::INFINITY, |rate| f64::from(rate) / 60.0);
        Ok(Some(of_senders.min(wished)))
    }

    /// Whether a campaign's next message costs more than its budget has left. What fails costs nothing: it is looked at in each
    /// round, and written down when it has changed.
    async fn lacks_money(&self, conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<bool> {
        let (Some(needs), Some(most)) = (campaign.budget_needs_micros, &campaign.plan.most_cost) else {
            return Ok(false);
        };
        let spent = totals::cost(conn, campaign.number, &most.currency).await?;
        let lacks = spent.saturating_add(needs) > most.micros;
        if !lacks {
            rows::has_room(conn, campaign.number).await?;
        }
        Ok(lacks)
    }

    /// The zones of a campaign whose window is open, and whose own hour has come where it has one: nobody looks through slices
    /// that are not due.
    async fn open_zones(&self, conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<Vec<i16>> {
        let now = Utc::now();
        let own_hour = campaign.frozen.as_ref().and_then(|frozen| frozen.own_hour);
        let has_come = |zone: i16| {
            let due = own_hour.zip(Clocks::from_code(zone)).and_then(|(hour, clocks)| hour.at(clocks));
            due.is_none_or(|due| due <= now)
        };
        let is_open = |zone: i16| self.settings.opens_at(zone, now).is_some_and(|at| at <= now);
        let zones = slices::zones(conn, campaign.number).await?.into_iter();
        Ok(zones.filter(|zone| is_open(*zone) && has_come(*zone)).collect())
    }

    /// Gives the next slice to a job. Gives how many messages that may send; none where there is no slice.
    async fn feed_one(
        &self,
        kind: &JobKind,
        campaign: i32,
        zones: &[i16],
        most: f64,
    ) -> anyhow::Result<Option<f64>> {
        let mut transaction = self.pool.begin().await?;
        let Some(slice) = slices::next(&mut transaction, campaign, zones).await? else { return Ok(None) };
        let all = f64::from(slice.last_position - slice.first_position + 1);
        let messages = all.min(most.floor());
        let (first, last) = (slice.first_position, slice.last_position);
        let grant = Grant { campaign, first, last, messages: messages as i32 };
        let job = NewJob { params: serde_json::to_value(grant)?, ..kind.job("system") };
        slices::feed(&mut transaction, job.id, grant).await?;
        kind.create(&mut transaction, job, None).await?;
        transaction.commit().await?;
        failpoints::hit(Point::SliceFed);
        Ok(Some(messages))
    }
}

/// What is wrong with one campaign stops no other.
fn stands_still(campaign: &Campaign, error: &anyhow::Error) {
    tracing::warn!(campaign = %campaign.id, error = %format!("{error:#}"), "a campaign does not go on");
}

/// Cancels what a slice has not sent. Of requests past their deadline nobody knows whether they were made. Gives what to
/// count once that has committed.
async fn settle_slice(conn: &mut PgConnection, open: &Open, slice: &Slice) -> anyhow::Result<Tally> {
    let range = (slice.first_position, slice.last_position);
    let now = settle::now(conn).await?;
    let submitting =
        ledger::in_state(conn, open.date, open.number, range, MessageState::Submitting, SLICE).await?;
    let under_way = submitting.iter().any(|row| row.deadline.is_some_and(|deadline| deadline >= now));
    let lapsed: Vec<Fact> = submitting
        .iter()
        .filter(|row| row.deadline.is_none_or(|deadline| deadline < now))
        .map(|row| Fact::plain(row.position, row.attempt, Observed::Unknown, now))
        .collect();
    let mut tally = settle::observe(conn, open, &lapsed).await?.tally;
    let pending = ledger::in_state(conn, open.date, open.number, range, MessageState::Pending, SLICE).await?;
    let positions: Vec<i32> = pending.iter().map(|row| row.position).collect();
    let changes: Vec<(Row, Row)> = ledger::lock(conn, open.date, open.number, &positions)
        .await?
        .into_iter()
        .filter(|row| row.state() == MessageState::Pending)
        .map(|before| {
            let mut after = before.clone();
            after.set_state(MessageState::Cancelled);
            (after.version, after.changed_at) = (before.version + 1, now);
            after.code = Some("cancelled".to_owned());
            after.reason = Some(settle::default_reason(MessageState::Cancelled).to_owned());
            (before, after)
        })
        .collect();
    tally.extend(settle::apply(conn, open, &changes).await?);
    let again = under_way.then_some(LOOK_AGAIN_SECONDS);
    slices::close(conn, open.number, slice.first_position, again).await?;
    Ok(tally)
}
