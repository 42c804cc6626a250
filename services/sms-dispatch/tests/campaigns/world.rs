use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use chassis::{
    config::{DatabaseSettings, Env, RedisSettings, Secret},
    db,
    redis::Redis,
};
use chrono::{DateTime, Utc};
use jobs::Runner;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use serde_json::{Value, json};
use sms_dispatch::{
    SERVICE,
    buckets::Buckets,
    campaigns as acts,
    config::SmsSettings,
    domain::{
        campaign::{Action, Kind, Plan},
        sender::{ProviderName, SenderKind},
    },
    feeder::Feeder,
    jobs::{prepare_campaign::PrepareCampaigns, send_slice::SendSlices},
    providers::messaging::{
        AskError, Balance, Messaging, Observed, OptOutPage, OutgoingMessage, Receipt, Report, Sought,
        Submission,
    },
    storage::{
        campaigns::{self, ActiveModel, Campaign, Wish},
        doctor,
        migrations::Migrator,
        providers, senders,
    },
};
use stack::Namespace;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub const SENDER: &str = "+525550001111";

/// The service's tables, and a provider.
pub struct World {
    pub pool: PgPool,
    pub provider: Arc<Truth>,
    pub settings: Arc<SmsSettings>,
    redis: Redis,
    /// Goes last.
    _namespace: Namespace,
}

/// A provider that remembers what it accepted.
#[derive(Debug, Default)]
pub struct Truth {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: Vec<OutgoingMessage>,
    /// What the next submissions come to, in place of being accepted.
    answers: VecDeque<Submission>,
    /// What all submissions come to, where that is said.
    refused: Option<Submission>,
    /// Requests that are never answered, though they are accepted.
    silent: bool,
    /// How long an answer takes.
    slow: Duration,
}

impl Truth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was accepted, by phone.
    pub fn accepted(&self) -> HashMap<String, Vec<OutgoingMessage>> {
        let mut by_phone: HashMap<String, Vec<OutgoingMessage>> = HashMap::new();
        for message in &self.state().accepted {
            by_phone.entry(message.to.to_string()).or_default().push(message.clone());
        }
        by_phone
    }

    pub fn answer_next(&self, answers: impl IntoIterator<Item = Submission>) {
        self.state().answers.extend(answers);
    }

    pub fn refuse(&self, all: Option<Submission>) {
        self.state().refused = all;
    }

    pub fn answer_after(&self, slow: Duration) {
        self.state().slow = slow;
    }

    pub fn fall_silent(&self, silent: bool) {
        self.state().silent = silent;
    }
}

#[async_trait]
impl Messaging for Truth {
    fn name(&self) -> ProviderName {
        ProviderName::Telnyx
    }

    async fn send(&self, message: &OutgoingMessage) -> Submission {
        let (silent, slow) = {
            let mut state = self.state();
            let refused = state.refused.clone();
            if let Some(answer) = refused.or_else(|| state.answers.pop_front()) {
                return answer;
            }
            state.accepted.push(message.clone());
            (state.silent, state.slow)
        };
        tokio::time::sleep(slow).await;
        if silent {
            std::future::pending::<()>().await;
        }
        Submission::Accepted(Receipt {
            provider_id: Uuid::new_v4(),
            observed: Observed::Accepted,
            parts: Some(1),
            wait: None,
            cost: None,
        })
    }

    async fn find(&self, _: &Sought) -> Result<Vec<Report>, AskError> {
        Ok(Vec::new())
    }

    async fn fetch(&self, _: Uuid) -> Result<Option<Report>, AskError> {
        Ok(None)
    }

    async fn balance(&self) -> Result<Option<Balance>, AskError> {
        Ok(None)
    }

    async fn opt_outs(&self, _: DateTime<Utc>, _: u32) -> Result<OptOutPage, AskError> {
        Ok(OptOutPage::default())
    }
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
        let wish = senders::Wish {
            address: SENDER.to_owned(),
            provider: ProviderName::Telnyx,
            kind: SenderKind::LongCode,
            per_second: 5_000.0,
            price: Some((5_100, "USD".to_owned())),
            enabled: true,
        };
        senders::put(&mut *pool.acquire().await?, &wish, "test").await?;
        let (provider, settings) = (Arc::default(), Arc::new(settings));
        Ok(Self { pool, provider, settings, redis, _namespace: namespace })
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
        let wish = Wish { name: "Prueba".to_owned(), description: String::new(), kind, plan };
        Ok(campaigns::insert(&mut *self.pool.acquire().await?, &wish, "ana").await?)
    }

    /// Starts a campaign and writes its ledger.
    pub async fn started(&self, kind: Kind, plan: Plan) -> Result<Campaign> {
        let draft = self.draft(kind, plan).await?;
        let mut transaction = self.pool.begin().await?;
        acts::start(&mut transaction, &draft, "ana", None, "https://lote.mx").await?;
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

    pub async fn waiting(&self, kind: &str) -> Result<Vec<Uuid>> {
        let ids = sqlx::query_scalar(
            "select id from jobs where kind = $1 and (state = 'pending' and next_run_at <= now()
                 or state = 'running' and lease_until < now()) order by created_at",
        );
        Ok(ids.bind(kind).fetch_all(&self.pool).await?)
    }

    pub async fn prepare(&self) -> Result<()> {
        let runner = Runner::new(self.pool.clone());
        let work = PrepareCampaigns { pool: self.pool.clone() };
        for id in self.waiting("sms.audiences").await? {
            let ran = runner.run(id, &CancellationToken::new(), &work).await;
            ran.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    pub async fn round(&self) -> Result<()> {
        Feeder::new(self.pool.clone(), Arc::clone(&self.settings)).round().await
    }

    /// A worker's part in sending slices.
    pub fn sender(&self) -> SendSlices {
        let provider: Arc<dyn Messaging> = Arc::clone(&self.provider) as _;
        SendSlices {
            pool: self.pool.clone(),
            buckets: Arc::new(Buckets::new(self.redis.clone(), self.pool.clone())),
            providers: Arc::new(HashMap::from([(ProviderName::Telnyx, provider)])),
            settings: Arc::clone(&self.settings),
            under_way: TaskTracker::new(),
        }
    }

    /// Runs the slices that are with workers. Gives how many.
    pub async fn send(&self) -> Result<usize> {
        self.send_of("sms.slices").await
    }

    /// The same of one kind of jobs.
    pub async fn send_of(&self, kind: &str) -> Result<usize> {
        let runner = Runner::new(self.pool.clone()).lease(Duration::from_secs(2));
        let work = self.sender();
        let ids = self.waiting(kind).await?;
        let runs = ids.iter().map(|id| {
            let (runner, work) = (&runner, &work);
            async move { runner.run(*id, &CancellationToken::new(), work).await }
        });
        for ran in futures::future::join_all(runs).await {
            ran.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(ids.len())
    }

    /// Feeds and sends until the campaign has ended.
    pub async fn finish(&self, id: Uuid) -> Result<Campaign> {
        for _ in 0..200 {
            self.round().await?;
            self.send().await?;
            let campaign = self.campaign(id).await?;
            if campaign.finished_at.is_some() {
                return Ok(campaign);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("the campaign does not end: {:?}", self.campaign(id).await?)
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
