use crate::aftermath;
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool};
use serde_json::json;
use simulators::messages::{Accepted, Faults, Summary};
use sms_dispatch::opt_outs;
use stack::daemon::Signal;
use stack::platform::sending::{self, Provider};
use stack::platform::{Client, Options, Place, Platform};
use stack::process::Running;
use stack::services::{REPORT, SMS_DISPATCH};
use stack::{Stack, wait};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const WORKERS: usize = 2;
/// Requests of one worker: its only sender has so many slices' places, of so many requests each.
pub const IN_FLIGHT: usize = 2 * 16;

/// How long campaigns may take to end before that counts as never. Requests of a dead worker are waited for half a minute.
const FINAL: Duration = Duration::from_secs(240);
/// How long it may take until something is sent.
const BEGUN: Duration = Duration::from_secs(60);
/// How long a stopped worker's slices may wait for another.
const TAKEN_OVER: Duration = Duration::from_secs(60);
/// Past the deadlines of all requests that a stopped worker had announced.
const PAST_DEADLINES: Duration = Duration::from_secs(33);
/// Seconds.
const LEASE: u64 = 3;
/// Messages a second.
const RATE: u32 = 150;
/// The provider answers as over a network, so that requests are in flight when something strikes.
const ANSWERS_AFTER_MS: u64 = 60;
/// Between two opt-outs.
const OPT_OUT_EVERY: Duration = Duration::from_millis(90);
/// Between two looks at totals.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Servers and services of one case's own, as durable as in production.
pub struct Scene {
    pub stack: Stack,
    pub provider: Provider,
    pub platform: Platform,
    pub client: Client,
    pub pool: PgPool,
    pub reports: PgPool,
    /// Opt-outs that were committed: the phone, and PostgreSQL's time after that.
    pub opt_outs: Vec<(String, DateTime<Utc>)>,
    /// Looks at totals, and those that found another sum than the ledger's.
    pub looks: (usize, usize),
    /// The first phone of the next round.
    next: i64,
    dir: PathBuf,
}

/// A phone, and when its opt-out was committed.
type OptOut = (String, DateTime<Utc>);

/// Two campaigns at once over the same phones, under way.
pub struct Round {
    pub ids: Vec<Uuid>,
    /// Whom each of them writes to.
    pub people: i64,
    over: CancellationToken,
    opting_out: Option<JoinHandle<Vec<OptOut>>>,
    looking: Option<JoinHandle<(usize, usize)>>,
}

impl Scene {
    pub async fn start(name: &str) -> Result<Self> {
        stack::install_tls();
        let dir = stack::home().join(format!("chaos/dispatch-{name}-{}", stack::random_hex(3)));
        let stack = Stack::start(&dir).await?;
        let provider = Provider::start(&dir).await?;
        let options = Options::new(dir.join("services"))
            .workers(0)
            .with(&SMS_DISPATCH, WORKERS)
            .with(&REPORT, 1)
            .env("SMS_QUIET_HOURS", false)
            // Few enough to count: what one death leaves unknown is that at most.
            .env("SMS_IN_FLIGHT", 16)
            .env("SMS_SLICES_AT_ONCE", 2)
            // The rate of campaigns is the account's less the tenth that is kept for single messages.
            .env("TELNYX_PARTS_PER_SECOND", f64::from(RATE) / 0.9)
            .env("SMS_APPROVE_ABOVE", 1_000_000)
            .env("SMS_APPROVE_ABOVE_COST", 1_000_000)
            // Dead holders are missed soon, and records are asked soon. One login for the whole case.
            .env("SMS_LEASE_SECONDS", LEASE)
            .env("SMS_UNKNOWN_PATIENCE_SECONDS", 2)
            .env("SMS_ACCEPTED_PATIENCE_SECONDS", 5)
            .env("SMS_RECORDS_AGAIN_SECONDS", 5)
            .env("SMS_RECORDS_PER_SECOND", 200)
            .env("ACCESS_TOKEN_SECONDS", 86_400);
        let platform =
            Platform::start(Place::whole(&stack.servers()).await?, &provider.settings(options)).await?;
        let (client, pool) = (platform.admin().await?, platform.contacts().await?);
        let reports = platform.reports().await?;
        sending::keep_sender(&client, 5_000.0, BEGUN).await?;
        let scene = Self {
            stack,
            provider,
            platform,
            client,
            pool,
            reports,
            opt_outs: Vec::new(),
            looks: (0, 0),
            next: 1_000_000,
            dir,
        };
        scene.note_claims().await?;
        let faults = Faults { answer_ms: ANSWERS_AFTER_MS, late_ms: 100, ..Faults::default() };
        scene.provider.set_faults(&faults).await?;
        Ok(scene)
    }

    /// From now on the database notes when each transaction began that submits a message. Nothing that a service keeps says
    /// that afterwards.
    async fn note_claims(&self) -> Result<()> {
        sqlx::raw_sql(
            "create table claims (campaign integer, position integer, phone text, attempt smallint, began timestamptz);
             create function note_claim() returns trigger language plpgsql as $$
             begin
                 insert into claims values (new.campaign, new.position, new.phone_e164, new.attempt, now());
                 return null;
             end $$;
             create trigger note_claim after update on messages for each row
                 when (new.state = 1 and old.state <> 1) execute function note_claim()",
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// From now on the provider loses answers, repeats reports and mixes up their order.
    pub async fn misbehave(&self, seed: u64) -> Result<()> {
        let faults = Faults {
            seed,
            answer_ms: ANSWERS_AFTER_MS,
            late_ms: 200,
            lost_answers: 0.01,
            doubled: 0.1,
            reordered: 0.1,
            early: 0.1,
            ..Faults::default()
        };
        self.provider.set_faults(&faults).await
    }

    /// Starts two campaigns of marketing over the same new phones, with somebody who opts out now and then.
    pub async fn begin(&mut self, number: u32, people: i64) -> Result<Round> {
        self.begin_with(number, people, true).await
    }

    /// The same, which wait for the provider to open where it is not `open`.
    pub async fn begin_with(&mut self, number: u32, people: i64, open: bool) -> Result<Round> {
        let (city, first) = (format!("Ronda {number}"), self.next);
        self.next += people;
        sending::people(&self.pool, &city, first, people).await?;
        if !open {
            self.close_provider().await?;
        }
        let mut plan = sending::plan(&json!({ "cities": [city] }));
        // What is killed here leaves unknowns, for which a campaign would pause by itself.
        plan["pause_above_percent"] = json!(100);
        let mut ids = Vec::new();
        for label in ["A", "B"] {
            let id = sending::start(&self.client, &format!("{city} {label}"), "marketing", &plan).await?;
            ids.push(Uuid::parse_str(&id)?);
        }
        let over = CancellationToken::new();
        let opting_out = tokio::spawn(opt_out(self.pool.clone(), first, people, over.clone()));
        let looking = tokio::spawn(look(self.pool.clone(), ids.clone(), over.clone()));
        Ok(Round { ids, people, over, opting_out: Some(opting_out), looking: Some(looking) })
    }

    /// Waits until a round's ledgers are written.
    pub async fn prepared(&self, round: &Round) -> Result<()> {
        wait::until("the ledgers should be written", BEGUN, async || {
            let written = "select count(*) from campaigns where id = any($1) and state = 'running'";
            let written = sqlx::query_scalar::<_, i64>(written).bind(&round.ids).fetch_one(&self.pool).await;
            written.is_ok_and(|written| written == round.ids.len() as i64)
        })
        .await
    }

    /// Whether one of a round's campaigns goes on.
    pub async fn is_running(&self, round: &Round) -> Result<bool> {
        let running =
            "select exists (select from campaigns where id = any($1) and state in ('preparing', 'running'))";
        Ok(sqlx::query_scalar(running).bind(&round.ids).fetch_one(&self.pool).await?)
    }

    /// Waits until a round's first messages are with the provider.
    pub async fn sending(&self, round: &Round) -> Result<()> {
        wait::until("something should be sent", BEGUN, async || {
            let sent = "select exists (select from messages m join campaigns c on c.number = m.campaign
                        where c.id = any($1) and m.state > 1)";
            sqlx::query_scalar(sent).bind(&round.ids).fetch_one(&self.pool).await.unwrap_or(false)
        })
        .await
    }

    /// Waits until such a part of a round's messages, at least one, was decided about.
    pub async fn reached(&self, round: &Round, part: f64) -> Result<()> {
        self.sending(round).await?;
        wait::until("a part of the messages should be sent", FINAL, async || {
            let sent = "select count(*) filter (where m.state > 1) >= $2 * count(*)
                        from messages m join campaigns c on c.number = m.campaign where c.id = any($1)";
            let sent = sqlx::query_scalar(sent).bind(&round.ids).bind(part).fetch_one(&self.pool).await;
            sent.unwrap_or(false)
        })
        .await
    }

    /// Whether a worker is at it, and will be for a while.
    pub async fn is_under_way(&self, round: &Round) -> Result<bool> {
        let at_it = "select exists (select from jobs where kind = 'sms.slices' and state = 'running')
                     and 60 < (select count(*) from messages m join campaigns c on c.number = m.campaign
                               where c.id = any($1) and c.state = 'running' and m.state in (0, 1))";
        Ok(sqlx::query_scalar(at_it).bind(&round.ids).fetch_one(&self.pool).await?)
    }

    /// Waits for the end of a round's campaigns, and of who opts out meanwhile. Those that never end are seen in the account.
    pub async fn ended(&mut self, round: &mut Round) -> Result<()> {
        let ids = &round.ids;
        let ended = self.completed(ids).await;
        if let Err(error) = &ended {
            eprintln!("{error:#}");
        }
        round.over.cancel();
        if let Some(opting_out) = round.opting_out.take() {
            self.opt_outs.extend(opting_out.await?);
        }
        if let Some(looking) = round.looking.take() {
            let (looks, wrong) = looking.await?;
            self.looks = (self.looks.0 + looks, self.looks.1 + wrong);
        }
        Ok(())
    }

    /// Waits until these campaigns have nothing more to send.
    pub async fn completed(&self, ids: &[Uuid]) -> Result<()> {
        let done = "select count(*) from campaigns where id = any($1) and state = 'completed'";
        wait::until("the campaigns should be completed", FINAL, async || {
            let done = sqlx::query_scalar::<_, i64>(done).bind(ids).fetch_one(&self.pool).await;
            done.is_ok_and(|done| done == ids.len() as i64)
        })
        .await
    }

    pub async fn summary(&self) -> Result<Summary> {
        self.provider.summary().await
    }

    /// All that the provider accepted.
    pub async fn record(&self) -> Result<Vec<Accepted>> {
        let mut record: Vec<Accepted> = Vec::new();
        loop {
            let page: Vec<Accepted> = self.provider.accepted(record.len()).await?;
            if page.is_empty() {
                return Ok(record);
            }
            record.extend(page);
        }
    }

    async fn close_provider(&self) -> Result<()> {
        // With an hour to open at: without one, money would open it.
        let close = "update sms_providers set closed_at = now(), closed_reason = 'a test', opens_at = now() + interval '1 hour'
                     where name = 'telnyx'";
        sqlx::query(close).execute(&self.pool).await?;
        Ok(())
    }

    pub async fn open_provider(&self) -> Result<()> {
        let opened = self.client.post("/api/v1/sms/providers/telnyx/open", &json!(null)).await?;
        ensure!(opened.status.is_success(), "open the provider: {opened}");
        Ok(())
    }

    pub async fn kill_workers(&self) -> Result<()> {
        self.platform.service(&SMS_DISPATCH).kill_workers().await
    }

    pub async fn kill_a_worker(&self, number: usize) -> Result<()> {
        self.worker(number)?.kill().await
    }

    fn worker(&self, number: usize) -> Result<&Running> {
        let workers = &self.platform.service(&SMS_DISPATCH).workers;
        workers.get(number % workers.len().max(1)).context("a worker")
    }

    pub async fn kill_api(&self) -> Result<()> {
        self.platform.service(&SMS_DISPATCH).api.kill().await
    }

    pub async fn restart_api(&mut self) -> Result<()> {
        self.platform.service_mut(&SMS_DISPATCH).api.restart().await
    }

    /// Starts those that do not run.
    pub async fn restart_workers(&mut self) -> Result<()> {
        self.platform.service_mut(&SMS_DISPATCH).restart_workers().await
    }

    /// The processes that send.
    pub fn workers(&mut self) -> Vec<&mut Running> {
        self.platform.service_mut(&SMS_DISPATCH).workers.iter_mut().collect()
    }

    /// All of sms-dispatch's processes.
    pub fn processes(&mut self) -> Vec<&mut Running> {
        self.platform.service_mut(&SMS_DISPATCH).all_mut().collect()
    }

    /// Stops a worker that sends until the other has taken a slice of its over, and lets it go on; `long`: only past the
    /// deadlines of the requests that it had announced. Whether that happened.
    pub async fn freeze_a_worker(&self, long: bool) -> Result<bool> {
        let Some(worker) = self.at_it().await? else { return Ok(false) };
        worker.daemon().signal(Signal::STOP);
        let (stopped, held) = (Instant::now(), self.held_by(worker).await?);
        let taken = wait::until("another worker should take over", TAKEN_OVER, async || {
            self.taken_over(&held).await.unwrap_or(false)
        });
        let taken = !held.is_empty() && taken.await.is_ok();
        if long && taken {
            tokio::time::sleep(PAST_DEADLINES.saturating_sub(stopped.elapsed())).await;
        }
        worker.daemon().signal(Signal::CONT);
        Ok(taken)
    }

    /// A worker that has slices at this moment.
    async fn at_it(&self) -> Result<Option<&Running>> {
        for number in 0..WORKERS {
            let worker = self.worker(number)?;
            if !self.held_by(worker).await?.is_empty() {
                return Ok(Some(worker));
            }
        }
        Ok(None)
    }

    /// The slices that a worker has, each with its epoch: owners are called by host and process.
    async fn held_by(&self, worker: &Running) -> Result<Vec<(Uuid, i64)>> {
        let held = "select id, epoch from jobs
                    where kind = 'sms.slices' and state = 'running' and split_part(owner, ':', 2) = $1";
        Ok(sqlx::query_as(held).bind(worker.daemon().pid().to_string()).fetch_all(&self.pool).await?)
    }

    /// Whether somebody else has one of these by now.
    async fn taken_over(&self, held: &[(Uuid, i64)]) -> Result<bool> {
        let taken = "select exists (select from unnest($1::uuid[], $2::bigint[]) h (id, epoch)
                     join jobs j using (id) where j.epoch > h.epoch)";
        let (ids, epochs): (Vec<Uuid>, Vec<i64>) = held.iter().copied().unzip();
        Ok(sqlx::query_scalar(taken).bind(ids).bind(epochs).fetch_one(&self.pool).await?)
    }

    /// What the doctors find once the dust has settled. These people come from no import of the numbering plan's time, and so
    /// have no operator of its.
    pub async fn findings(&self) -> Result<Vec<String>> {
        aftermath::findings(&self.platform, |finding| !finding.starts_with("contact ")).await
    }

    /// Stops everything. Data and logs go too, where there is nothing in them to look at.
    pub async fn end(self, clean: bool) -> Result<()> {
        let Self { stack, provider, platform, pool, reports, dir, .. } = self;
        pool.close().await;
        reports.close().await;
        drop(platform);
        drop(provider);
        aftermath::end(stack, &dir, clean).await
    }
}

/// Commits an opt-out now and then, of whoever it meets. Gives those that were surely committed, each with PostgreSQL's time
/// after the commit.
async fn opt_out(
    pool: PgPool,
    first: i64,
    people: i64,
    over: CancellationToken,
) -> Vec<(String, DateTime<Utc>)> {
    let mut committed = Vec::new();
    while over.run_until_cancelled(tokio::time::sleep(OPT_OUT_EVERY)).await.is_some() {
        let phone = format!("+52612{:07}", first + rand::rng().random_range(0..people));
        let suppress = async {
            let mut transaction = pool.begin().await?;
            opt_outs::suppress(&mut transaction, std::slice::from_ref(&phone), "prueba", "recipient").await?;
            transaction.commit().await?;
            anyhow::Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(&pool).await?)
        };
        // While PostgreSQL is away nobody opts out.
        if let Ok(at) = suppress.await {
            committed.push((phone, at));
        }
    }
    committed
}

/// Compares totals with the ledger in one snapshot, again and again. Gives how often, and how often they differed.
async fn look(pool: PgPool, ids: Vec<Uuid>, over: CancellationToken) -> (usize, usize) {
    const SAME: &str = "with of as (select number from campaigns where id = any($1)),
        ledger as (select campaign, state as status, count(*) as messages, sum(cost_micros)::bigint as cost
                   from messages where campaign in (select number from of) group by 1, 2),
        told as (select campaign, status, sum(messages)::bigint as messages, sum(cost_micros)::bigint as cost
                 from (select campaign, status, messages, cost_micros from campaign_totals
                       union all select campaign, status, messages, cost_micros from campaign_deltas) b
                 where campaign in (select number from of) group by 1, 2 having sum(messages) <> 0 or sum(cost_micros) <> 0)
        select count(*) from ledger l full join told t using (campaign, status)
        where (l.messages, l.cost) is distinct from (t.messages, t.cost)";
    let (mut looks, mut wrong) = (0, 0);
    while over.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Ok(differences) = sqlx::query_scalar::<_, i64>(SAME).bind(&ids).fetch_one(&pool).await else {
            continue;
        };
        looks += 1;
        if differences > 0 {
            eprintln!("totals differ from the ledger in {differences} states");
            wrong += 1;
        }
    }
    (looks, wrong)
}
