use crate::aftermath;
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Days, SecondsFormat};
use sea_orm::sqlx::{self, PgPool};
use sea_orm::{Database, DatabaseConnection};
use serde_json::{Value, json};
use simulators::bigquery::{self, BigQuery, demo};
use simulators::bsale::{Bsale, Fault, Shop, Size, truth};
use stack::daemon::Signal;
use stack::platform::{Client, Options, Place, Platform};
use stack::process::Running;
use stack::services::ETL;
use stack::{Namespace, Stack, wait};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long work may take to end before it counts as lost.
const FINAL: Duration = Duration::from_secs(180);
/// How long a stopped worker's streams may wait for another.
const TAKEN_OVER: Duration = Duration::from_secs(30);
/// Seconds; the shortest that a stopped worker must sleep.
const LEASE: u64 = 3;
const TOKEN: &str = "a token of chaos";
/// Bsale answers as it does over a network, so that there is a middle to strike.
const ANSWERS_AFTER: Duration = Duration::from_millis(3);
const SLOW_ANSWERS: usize = 400;
/// The same of BigQuery's pages, which are small: so that there are many.
const PAGES_AFTER: Duration = Duration::from_millis(25);
const PAGE_ROWS: usize = 60;
/// Accounts of the collections.
const ACCOUNTS: u64 = 300;
/// Days of BigQuery's: two slices of 31 days.
const DAYS: u64 = 40;
/// Those of them that every run reads. The days before are compared, and read again one by one where [`demo::live`] has changed
/// a row of theirs.
const LOOK_BACK: u64 = 10;

/// Servers and services of one case's own, as durable as in production.
pub struct Scene {
    pub stack: Stack,
    pub bsale: Bsale,
    pub bigquery: BigQuery,
    today: chrono::NaiveDate,
    rounds: u64,
    platform: Platform,
    client: Client,
    pool: PgPool,
    sales: DatabaseConnection,
    _sales: Namespace,
    dir: PathBuf,
}

/// What is under way: all runs since then.
pub struct Work {
    since: chrono::DateTime<chrono::Utc>,
    /// How many there must be in the end.
    runs: usize,
    /// Queries that BigQuery had been asked for before.
    queries: u64,
}

/// Which sources' streams are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Both,
    Collections,
}

/// How a run has ended.
pub struct Run {
    pub lane: String,
    pub state: String,
    pub error: String,
}

impl Run {
    pub fn has_completed(&self) -> bool {
        self.state == "completed"
    }

    fn goes_on(&self) -> bool {
        self.state == "pending" || self.state == "running"
    }
}

impl Scene {
    pub async fn start(name: &str, seed: u64) -> Result<Self> {
        stack::install_tls();
        let dir = stack::home().join(format!("chaos/etl-{name}-{}", stack::random_hex(3)));
        let stack = Stack::start(&dir).await?;
        let servers = stack.servers();
        let size = Size { clients: 150, products: 40, days: 5, documents_a_day: 30 };
        let bsale = Bsale::start(Shop::new(seed, size), TOKEN)?;
        // All of the last day has passed.
        let (bigquery, today) = (BigQuery::start()?, chrono::Utc::now().date_naive() - chrono::Days::new(1));
        demo::fill(&bigquery, seed, ACCOUNTS, today);
        bigquery.page_size(PAGE_ROWS);
        bigquery.slow_down(PAGES_AFTER);
        let namespace = Namespace::create_on(&servers, "sales").await?;
        let url = namespace.mysql_database().await?;
        let start = bsale.shop(|shop| shop.today) - chrono::Days::new(40);
        let options = Options::new(dir.join("services"))
            .workers(0)
            .with(&ETL, 2)
            .env("SALES_DATABASE_URL", &url)
            .env("BSALE_API_URL", bsale.url())
            .env("BSALE_API_TOKEN", TOKEN)
            .env("BSALE_REQUESTS_PER_SECOND", 2_000)
            .env("BSALE_START_DATE", start)
            .env("BIGQUERY_URL", bigquery.url())
            .env("BIGQUERY_PROJECT_ID", "chaos")
            .env("BIGQUERY_DATASET", "cobranzas")
            .env("BIGQUERY_ANONYMOUS", true)
            .env("BIGQUERY_REQUESTS_PER_SECOND", 2_000)
            .env("COLLECTIONS_START_DATE", today - chrono::Days::new(DAYS))
            .env("COLLECTIONS_LOOK_BACK_DAYS", LOOK_BACK)
            .env("COLLECTIONS_CHECK_DAYS", 2 * DAYS)
            .env("COLLECTIONS_LAG_SECONDS", 0)
            // Dead holders are missed soon, and what failed comes again soon. One login for the whole case.
            .env("ETL_LEASE_SECONDS", LEASE)
            .env("ETL_MAX_ATTEMPTS", 50)
            .env("ACCESS_TOKEN_SECONDS", 86_400);
        let platform = Platform::start(Place::whole(&servers).await?, &options).await?;
        let (client, pool) = (platform.admin().await?, platform.syncs().await?);
        // Nothing but what a case asks for.
        sqlx::query("update schedules set next_at = now() + interval '1 year'").execute(&pool).await?;
        let sales = Database::connect(url).await?;
        let (rounds, _sales) = (0, namespace);
        Ok(Self { stack, bsale, bigquery, today, rounds, platform, client, pool, sales, _sales, dir })
    }

    async fn now(&self) -> Result<chrono::DateTime<chrono::Utc>> {
        Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.pool).await?)
    }

    fn slow_down(&self) {
        self.bsale.fail_next([Fault::Slow(ANSWERS_AFTER); SLOW_ANSWERS]);
    }

    /// What happens at both sources between two rounds.
    pub fn live(&mut self) {
        self.bsale.shop(|shop| shop.live_a_day(5));
        demo::live(&self.bigquery, self.rounds, self.today);
        self.rounds += 1;
    }

    /// Asks for a run of each stream and for a backfill beside them, as somebody does who repeats the request until it is
    /// answered.
    pub async fn ask(&self, asked: Asked) -> Result<Work> {
        self.slow_down();
        let (since, queries) = (self.now().await?, self.bigquery.asked().0);
        let mut runs = 0;
        if asked == Asked::Both {
            runs += self.ask_at("/etl/run-full-sync", &json!({})).await?;
        }
        runs += self.ask_at("/api/v1/etl/refresh/dashboard", &json!({})).await?;
        let days = json!({
            "tabla": "bigquery.voicebot_gestiones",
            "desde": self.today - Days::new(6), "hasta": self.today - Days::new(3),
        });
        runs += self.ask_at("/api/v1/etl/backfill", &days).await?;
        Ok(Work { since, runs, queries })
    }

    /// How many runs that is.
    async fn ask_at(&self, path: &str, body: &Value) -> Result<usize> {
        let end = Instant::now() + FINAL;
        loop {
            let asked = self.client.post(path, body).await;
            if let Ok(asked) = &asked
                && asked.status.is_success()
            {
                return Ok(asked.body["runs"].as_array().context("the runs")?.len());
            }
            ensure!(Instant::now() < end, "not accepted: {asked:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Lets a schedule of each source fall due.
    pub async fn fall_due(&self) -> Result<Work> {
        self.slow_down();
        let (since, queries) = (self.now().await?, self.bigquery.asked().0);
        let due = "update schedules set next_at = now(), version = version + 1
                   where active and (params ->> 'source', params ->> 'mode') in (('bsale', 'full'), ('bigquery', 'daily'))";
        let due = sqlx::query(due).execute(&self.pool).await?.rows_affected();
        ensure!(due == 2, "{due} schedules, one of each source");
        wait::until("the schedules should fire", FINAL, async || {
            let waiting = "select count(*) from schedules where active and next_at <= now()";
            sqlx::query_scalar::<_, i64>(waiting)
                .fetch_one(&self.pool)
                .await
                .is_ok_and(|waiting| waiting == 0)
        })
        .await?;
        let begun = "select count(*) from jobs where kind = 'etl.runs' and created_at >= $1";
        let runs: i64 = sqlx::query_scalar(begun).bind(since).fetch_one(&self.pool).await?;
        Ok(Work { since, runs: usize::try_from(runs)?, queries })
    }

    /// Has a record in quarantine read again while streams are read. It came long ago, of a row that the source still has as it
    /// was: whatever it meets, it changes nothing.
    pub async fn redrive(&self) -> Result<()> {
        let debts = self.bigquery.table("trandeuda").context("the source has debts")?;
        let mut record = debts.rows.into_iter().next().context("one of them")?;
        let at = record.get("creado_el").and_then(Value::as_i64).and_then(DateTime::from_timestamp_micros);
        let at = at.context("a moment")?.to_rfc3339_opts(SecondsFormat::Micros, true);
        record.insert("creado_el".to_owned(), at.into());
        let record = Value::Object(record);
        wait::until("a record should be read again", FINAL, async || {
            self.redrive_once(&record).await.is_ok_and(|recovered| recovered == 1)
        })
        .await
    }

    async fn redrive_once(&self, record: &Value) -> Result<u64> {
        let keep = "insert into raw_quarantine (id, stream, clave, regla, registro, corrida, leido_en, visto_en)
                    values ('chaos', 'bigquery.trandeuda', '', '', $1, $2, '2020-01-01T00:00:00Z', now()) on conflict do nothing";
        sqlx::query(keep).bind(record).bind(Uuid::nil()).execute(&self.pool).await?;
        let asked = json!({ "flujo": "bigquery.trandeuda" });
        let answer = self.client.post("/api/v1/etl/quarantine/redrive", &asked).await?;
        ensure!(answer.status.is_success(), "{answer:?}");
        answer.body["recuperados"].as_u64().context("how many")
    }

    /// Waits until the dashboards show what the streams have read.
    pub async fn shown(&self) -> Result<()> {
        let shown = "select held_back is null and not exists (select from raw_changes) from mart_version";
        wait::until("the dashboards should show it", FINAL, async || {
            sqlx::query_scalar::<_, bool>(shown).fetch_one(&self.pool).await.unwrap_or(false)
        })
        .await
    }

    /// Whether a worker is at it.
    pub async fn is_under_way(&self, work: &Work) -> Result<bool> {
        let running = "select exists (select from jobs where kind = 'etl.runs' and created_at >= $1 and state = 'running')";
        Ok(sqlx::query_scalar(running).bind(work.since).fetch_one(&self.pool).await?)
    }

    /// Queries beyond one for each slice of each run, and the one that compares the days of a stream that has some, which a
    /// backfill does not: a worker that took over began again instead of reading on.
    pub async fn queries_begun_again(&self, work: &Work) -> Result<u64> {
        const DUE: &str = "select coalesce(sum((checkpoint ->> 'slice')::bigint), 0)::bigint
                + count(*) filter (where params ->> 'mode' <> 'backfill' and params ->> 'stream' in (
                      'bigquery.asignaciones', 'bigquery.trandeuda', 'bigquery.pagos', 'bigquery.voicebot_gestiones',
                      'bigquery.mibotair_gestiones'))
            from jobs where kind = 'etl.runs' and created_at >= $1 and params ->> 'stream' like 'bigquery.%'";
        let due: i64 = sqlx::query_scalar(DUE).bind(work.since).fetch_one(&self.pool).await?;
        Ok((self.bigquery.asked().0 - work.queries).saturating_sub(due.unsigned_abs()))
    }

    /// Waits for the end of the runs. Those that go on past the limit are told as they are.
    pub async fn ended(&self, work: &Work) -> Result<Vec<Run>> {
        let end = Instant::now() + FINAL;
        loop {
            match self.runs_of(work).await {
                Ok(runs) if runs.len() >= work.runs && !runs.iter().any(Run::goes_on) => return Ok(runs),
                runs if Instant::now() > end => return runs,
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn runs_of(&self, work: &Work) -> Result<Vec<Run>> {
        let query = "select params ->> 'lane', state, coalesce(error, '') from jobs
                     where kind = 'etl.runs' and created_at >= $1 order by created_at, id";
        let runs: Vec<(String, String, String)> =
            sqlx::query_as(query).bind(work.since).fetch_all(&self.pool).await?;
        Ok(runs.into_iter().map(|(lane, state, error)| Run { lane, state, error }).collect())
    }

    /// Streams that were run beside themselves, or more often than was asked for.
    pub async fn twice(&self, work: &Work) -> Result<Vec<String>> {
        const BESIDE: &str = "select format('%s has run %s beside %s', a.params ->> 'lane', a.id, b.id)
            from jobs a join jobs b on b.params ->> 'lane' = a.params ->> 'lane' and b.id > a.id
                and b.created_at < a.finished_at
            where a.kind = 'etl.runs' and b.kind = 'etl.runs' and a.created_at >= $1 and b.created_at >= $1";
        const MORE: &str = "select format('%s was run %s times', lane, runs)
            from (select params ->> 'lane' as lane, count(*) as runs from jobs
                  where kind = 'etl.runs' and created_at >= $1 group by 1) counted where runs > 1";
        let mut twice: Vec<String> =
            sqlx::query_scalar(BESIDE).bind(work.since).fetch_all(&self.pool).await?;
        twice.extend(sqlx::query_scalar::<_, String>(MORE).bind(work.since).fetch_all(&self.pool).await?);
        Ok(twice)
    }

    /// Whether the sales tables are the shop, and the raw ones BigQuery's.
    pub async fn compare(&self) -> Result<()> {
        let shop = self.bsale.shop(|shop| shop.clone());
        truth::tables(&self.sales, &shop).await?;
        bigquery::truth::tables(&self.pool, &self.bigquery).await
    }

    pub async fn kill_workers(&self) -> Result<()> {
        self.platform.service(&ETL).kill_workers().await
    }

    pub async fn kill_a_worker(&self) -> Result<()> {
        self.a_worker()?.kill().await
    }

    fn a_worker(&self) -> Result<&Running> {
        self.platform.service(&ETL).all().last().context("a worker")
    }

    /// Stops a worker until another has taken over a stream, and lets it go on. Whether that happened.
    pub async fn stall_a_worker(&self) -> Result<bool> {
        let claims = async || -> Result<Vec<(Uuid, i64)>> {
            let query = "select id, epoch from jobs where kind = 'etl.runs' and state = 'running'";
            Ok(sqlx::query_as(query).fetch_all(&self.pool).await?)
        };
        let worker = self.a_worker()?;
        worker.daemon().signal(Signal::STOP);
        let before = claims().await?;
        let epoch_of = "select epoch from jobs where id = $1";
        let taken = wait::until("another worker should take over", TAKEN_OVER, async || {
            for (id, epoch) in &before {
                let now = sqlx::query_scalar::<_, i64>(epoch_of).bind(id).fetch_one(&self.pool).await;
                if now.is_ok_and(|now| now > *epoch) {
                    return true;
                }
            }
            // All that ran were the other's.
            claims().await.is_ok_and(|claims| claims.is_empty())
        });
        let taken = taken.await.is_ok();
        worker.daemon().signal(Signal::CONT);
        let mut again = false;
        for (id, epoch) in &before {
            again |= sqlx::query_scalar::<_, i64>(epoch_of).bind(id).fetch_one(&self.pool).await? > *epoch;
        }
        Ok(taken && again)
    }

    /// Starts those that do not run.
    pub async fn restart_workers(&mut self) -> Result<()> {
        self.platform.service_mut(&ETL).restart_workers().await
    }

    /// All of etl's processes.
    pub fn processes(&mut self) -> Vec<&mut Running> {
        self.platform.service_mut(&ETL).all_mut().collect()
    }

    /// What the doctors find once the dust has settled.
    pub async fn findings(&self) -> Result<Vec<String>> {
        aftermath::findings(&self.platform, |_| true).await
    }

    /// Stops everything. Data and logs go too, where there is nothing in them to look at.
    pub async fn end(self, clean: bool) -> Result<()> {
        let Self { stack, platform, pool, sales, _sales, dir, .. } = self;
        pool.close().await;
        sales.close().await?;
        drop(platform);
        drop(_sales);
        aftermath::end(stack, &dir, clean).await
    }
}
