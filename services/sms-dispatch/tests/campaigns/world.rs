mod provider;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chassis::{
    config::{DatabaseSettings, Env, RedisSettings, Secret},
    db,
    redis::Redis,
};
use jobs::Runner;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use serde_json::{Value, json};
use sms_dispatch::{
    SERVICE,
    buckets::Buckets,
    campaigns as acts,
    config::SmsSettings,
    domain::{
        callback::Callback,
        campaign::{Action, Kind, Plan},
        message_id::MessageId,
        message_state::MessageState,
        sender::{ProviderName, SenderKind},
    },
    feeder::Feeder,
    in_flight::InFlight,
    jobs::{prepare_campaign::PrepareCampaigns, send_slice::SendSlices},
    providers::{Providers, messaging::Messaging},
    start_campaign::start_campaign,
    storage::{
        campaigns::{self, ActiveModel, Campaign, CampaignValues},
        doctor,
        migrations::Migrator,
        providers, reports, senders,
    },
};
use stack::Namespace;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use self::provider::Truth;

pub const SENDER: &str = "+525550001111";
/// However busy the machine is, what a test waits for has come by then.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The service's tables, and a provider.
pub struct World {
    pub pool: PgPool,
    pub provider: Arc<Truth>,
    /// Another one, which takes no messages before a test configures it.
    pub twilio: Arc<Truth>,
    pub settings: Arc<SmsSettings>,
    pub redis: Redis,
    /// Goes last.
    pub namespace: Namespace,
}

impl World {
    pub async fn new(label: &str) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let database = DatabaseSettings::at(namespace.database_url.as_str());
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&database, SERVICE, &shutdown).await?;
        let pool = db::connect(&database, SERVICE, &shutdown).await?.pool;
        let redis = Redis::new(&RedisSettings {
            url: Secret::new(namespace.servers().redis_url.clone()),
            prefix: namespace.redis_prefix.clone(),
        })?;
        let settings = SmsSettings::read(&mut Env::from_map([
            ("SMS_QUIET_HOURS", "false"),
            ("SMS_LEASE_SECONDS", "2"),
            ("SMS_IN_FLIGHT", "50"),
        ]));
        providers::configure(&pool, ProviderName::Telnyx, 5_000.0).await?;
        let values = senders::SenderValues {
            address: SENDER.to_owned(),
            provider: ProviderName::Telnyx,
            kind: SenderKind::LongCode,
            per_second: 5_000.0,
            price: Some((5_100, "USD".to_owned())),
            enabled: true,
        };
        senders::put(&mut *pool.acquire().await?, &values, "test").await?;
        let (provider, twilio, settings) = (Arc::default(), Arc::default(), Arc::new(settings));
        Ok(Self { pool, provider, twilio, settings, redis, namespace })
    }

    /// As many active contacts with names and consent, of several states.
    pub async fn contacts(&self, many: i32) -> Result<()> {
        self.execute(&format!(
            "insert into contacts (phone_e164, full_name, city, lada, state_code, is_valid, is_mobile, status, consent, import,
                                   source_id)
             select '+52612' || lpad((1000000 + n * 7)::text, 7, '0'), 'PERSONA ' || n, 'La Paz', '612',
                    case when n % 3 = 0 then 'BCS' when n % 3 = 1 then 'SON' end, true, true, 'ACTIVE', 'contrato', 1, n
             from generate_series(1, {many}) n"
        ))
        .await
    }

    pub fn plan(change: impl FnOnce(&mut Value)) -> Plan {
        let mut plan = json!({
            "texts": [{ "text": "Hola {nombre}" }], "audience": { "filter": {} }, "senders": [{ "address": SENDER }],
        });
        change(&mut plan);
        let plan: Plan = serde_json::from_value(plan).expect("a plan's fields");
        plan.checked().expect("a good plan")
    }

    pub async fn draft(&self, kind: Kind, plan: Plan) -> Result<Campaign> {
        let values = CampaignValues { name: "Prueba".to_owned(), description: String::new(), kind, plan };
        Ok(campaigns::insert(&mut *self.pool.acquire().await?, &values, "ana").await?)
    }

    /// Starts a campaign and writes its ledger.
    pub async fn started(&self, kind: Kind, plan: Plan) -> Result<Campaign> {
        let draft = self.draft(kind, plan).await?;
        let mut transaction = self.pool.begin().await?;
        start_campaign(&mut transaction, &draft, "ana", None, "https://lote.mx").await?;
        transaction.commit().await?;
        self.prepare().await?;
        self.campaign(draft.id).await
    }

    pub async fn campaign(&self, id: Uuid) -> Result<Campaign> {
        campaigns::get(&self.pool, id).await?.context("the campaign")
    }

    pub async fn act(&self, id: Uuid, action: Action) -> Result<Campaign> {
        let mut transaction = self.pool.begin().await?;
        let campaign = campaigns::lock(&mut transaction, id).await?.context("the campaign")?;
        let changed = acts::act(&mut transaction, &campaign, action, "ana", ActiveModel::default()).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Takes in a report of Telnyx's on an attempt at a message, as its webhook brings it.
    pub async fn reported(
        &self,
        id: Uuid,
        attempt: i16,
        phone: &str,
        status: &str,
        cost: (&str, &str),
    ) -> Result<()> {
        self.reported_code(id, attempt, phone, status, None, cost).await
    }

    /// The same with the code of an error.
    pub async fn reported_code(
        &self,
        id: Uuid,
        attempt: i16,
        phone: &str,
        status: &str,
        code: Option<u32>,
        cost: (&str, &str),
    ) -> Result<()> {
        let errors: Vec<Value> = code.iter().map(|code| json!({ "code": code.to_string() })).collect();
        let url = Callback { message: id, attempt }.url("https://lote.mx", ProviderName::Telnyx);
        let body = json!({ "data": { "id": Uuid::new_v4(), "event_type": "message.finalized", "payload": {
            "id": Uuid::new_v4(), "direction": "outbound", "from": { "phone_number": SENDER },
            "to": [{ "phone_number": phone, "status": status }], "webhook_url": url, "parts": 1,
            "cost": { "amount": cost.0, "currency": cost.1 }, "errors": errors,
        } } });
        let report = reports::Report { provider: "telnyx", url: String::new(), body: body.to_string() };
        Ok(reports::keep(&self.pool, &[report]).await?)
    }

    /// The ids of a campaign's messages with their phones, in the order of their phones.
    pub async fn messages(&self, campaign: &Campaign) -> Result<Vec<(Uuid, String)>> {
        let date = campaign.date.context("a started campaign has its day")?;
        let rows: Vec<(i32, String)> = sqlx::query_as(
            "select position, phone_e164 from messages where campaign = $1 order by phone_e164",
        )
        .bind(campaign.number)
        .fetch_all(&self.pool)
        .await?;
        let id = |position| MessageId { date, campaign: campaign.number, position }.uuid();
        Ok(rows.into_iter().map(|(position, phone)| (id(position), phone)).collect())
    }

    /// Waits until somebody waits for a lock with a query that has this in it.
    pub async fn blocked(&self, query: &str) -> Result<()> {
        let waiting = format!(
            "select count(*) from pg_stat_activity
             where wait_event_type = 'Lock' and pid <> pg_backend_pid() and query like '%{query}%'"
        );
        let began = Instant::now();
        while self.count(&waiting).await? == 0 {
            ensure!(began.elapsed() < LIMIT, "nobody waits with {query:?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    pub async fn waiting(&self, kind: &str) -> Result<Vec<Uuid>> {
        let ids = sqlx::query_scalar(
            "select id from jobs where kind = $1 and (state = 'pending' and next_run_at <= now()
                 or state = 'running' and lease_until < now()) order by created_at",
        );
        Ok(ids.bind(kind).fetch_all(&self.pool).await?)
    }

    pub async fn prepare(&self) -> Result<()> {
        let runner = Runner::new(self.pool.clone());
        let work = PrepareCampaigns::new(self.pool.clone());
        for id in self.waiting("sms.audiences").await? {
            let ran = runner.run(id, &CancellationToken::new(), &work).await;
            ran.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    pub async fn round(&self) -> Result<()> {
        Feeder::new(self.pool.clone(), Arc::clone(&self.settings)).round().await
    }

    pub fn providers(&self) -> Providers {
        let provider = |truth: &Arc<Truth>| -> Arc<dyn Messaging> { Arc::clone(truth) as _ };
        Arc::new(HashMap::from([
            (ProviderName::Telnyx, provider(&self.provider)),
            (ProviderName::Twilio, provider(&self.twilio)),
        ]))
    }

    /// A worker's part in sending slices.
    pub fn sender(&self) -> SendSlices {
        SendSlices {
            pool: self.pool.clone(),
            buckets: Arc::new(Buckets::new(self.redis.clone(), self.pool.clone())),
            providers: self.providers(),
            settings: Arc::clone(&self.settings),
            in_flight: InFlight::default(),
            under_way: TaskTracker::new(),
        }
    }

    /// Runs the slices that are with workers. Gives how many.
    pub async fn send(&self) -> Result<usize> {
        self.run("sms.slices", 1).await
    }

    /// The same of one kind of jobs.
    pub async fn send_of(&self, kind: &str) -> Result<usize> {
        self.run(kind, 1).await
    }

    /// Runs the slices with so many workers.
    pub async fn send_with(&self, workers: usize) -> Result<usize> {
        self.run("sms.slices", workers).await
    }

    async fn run(&self, kind: &str, workers: usize) -> Result<usize> {
        let runner = Runner::new(self.pool.clone()).lease(Duration::from_secs(2));
        let works: Vec<SendSlices> = (0..workers).map(|_| self.sender()).collect();
        let ids = self.waiting(kind).await?;
        let runs = ids.iter().zip(works.iter().cycle()).map(|(id, work)| {
            let runner = &runner;
            async move { runner.run(*id, &CancellationToken::new(), work).await }
        });
        for ran in futures::future::join_all(runs).await {
            ran.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(ids.len())
    }

    /// Feeds and sends until that is so. Answers may come after their job has ended, and a request that would begin too late is not
    /// made and has another turn: how many rounds something takes is the machine's affair.
    pub async fn until(&self, what: &str, so: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !so().await? {
            let accepted = self.provider.accepted().len();
            ensure!(began.elapsed() < LIMIT, "in vain: {what}; {accepted} were accepted");
            self.round().await?;
            if self.send().await? == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// The same until so many messages of a campaign are in a state, or more, and once more.
    pub async fn sends_and_stops(&self, campaign: &Campaign, state: MessageState, many: i64) -> Result<()> {
        let so = async || anyhow::Ok(self.in_state(campaign, state.code()).await? >= many);
        self.until("so many should be sent", so).await?;
        self.round().await?;
        self.send().await.map(drop)
    }

    /// Feeds and sends until the campaign has ended.
    pub async fn finish(&self, id: Uuid) -> Result<Campaign> {
        let ended = async || anyhow::Ok(self.campaign(id).await?.finished_at.is_some());
        if let Err(error) = self.until("the campaign should end", ended).await {
            return Err(error.context(format!("{:?}", self.campaign(id).await?)));
        }
        self.campaign(id).await
    }

    /// How many messages of a campaign are in a state.
    pub async fn in_state(&self, campaign: &Campaign, state: i16) -> Result<i64> {
        self.count(&format!(
            "select count(*) from messages where campaign = {} and state = {state}",
            campaign.number
        ))
        .await
    }

    /// Fails unless the totals are the ledger's, report is told what the ledger says, and nothing went out twice.
    pub async fn is_sound(&self) -> Result<()> {
        let findings = doctor::doctor(&self.pool).await?;
        let of_campaigns: Vec<_> =
            findings.into_iter().filter(|finding| finding.starts_with("campaign")).collect();
        ensure!(of_campaigns.is_empty(), "{of_campaigns:#?}");
        for (phone, messages) in self.provider.accepted() {
            let mut attempts: Vec<_> = messages.iter().map(|message| (message.id, message.attempt)).collect();
            attempts.sort_unstable();
            attempts.dedup();
            ensure!(attempts.len() == messages.len(), "an attempt at {phone} went out twice");
        }
        Ok(())
    }

    /// The one value of a query.
    pub async fn count(&self, query: &str) -> Result<i64> {
        let query = format!("select ({query})::bigint");
        let one = sqlx::query_scalar(AssertSqlSafe(query.clone())).fetch_one(&self.pool);
        one.await.context(query)
    }

    pub async fn execute(&self, statements: &str) -> Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await;
        done.map(drop).with_context(|| statements.to_owned())
    }
}
