use super::Case;
use crate::aftermath;
use anyhow::{Context, Result, ensure};
use chrono::{NaiveDate, Utc};
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stack::platform::{Campaign, Client, Options, Place, Platform, Publisher, Settled, Verdict};
use stack::process::Running;
use stack::proxy::Proxy;
use stack::services::REPORT;
use stack::{Servers, Stack};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long work may take to end before it counts as lost.
const FINAL: Duration = Duration::from_secs(120);
/// How long a sweep may take.
const SWEPT: Duration = Duration::from_secs(20);
/// Large campaigns need several parts of an upload; the small ones are many jobs.
const LARGE: (i64, i64) = (3, 120_000);
const SMALL: (i64, i64) = (20, 500);
/// Rows of a campaign that is told of while workers die.
const TOLD: usize = 20_000;

/// Servers and services of one case's own, as durable as in production.
pub struct Scene {
    pub stack: Stack,
    /// Before S3.
    pub aws: Proxy,
    platform: Platform,
    pub client: Client,
    pub pool: PgPool,
    pub publisher: Publisher,
    day: NaiveDate,
    dir: PathBuf,
}

/// What is under way.
pub enum Work {
    Run(String),
    Ingest(Campaign, Vec<Settled>),
}

impl Scene {
    pub async fn start(name: &str) -> Result<Self> {
        let dir = stack::home().join(format!("chaos/report-{name}-{}", stack::random_hex(3)));
        let stack = Stack::start(&dir).await?;
        let servers = stack.servers();
        let (aws, aws_endpoint) = Proxy::before(&servers.aws_endpoint).await?;
        let place = Place::whole(&servers).await?.through(Servers { aws_endpoint, ..servers });
        let options = Options::new(dir.join("services"))
            .workers(0)
            .with(&REPORT, 2)
            // Dead holders are missed soon. One login for the whole case.
            .env("REPORT_LEASE_SECONDS", 3)
            .env("REPORT_CONCURRENCY", 1)
            .env("ACCESS_TOKEN_SECONDS", 86_400);
        let platform = Platform::start(place, &options).await?;
        let (client, pool) = (platform.admin().await?, platform.reports().await?);
        let publisher = Publisher::new(&platform.place);
        let day = Utc::now().date_naive();
        let scene = Self { stack, aws, platform, client, pool, publisher, day, dir };
        for (label, (campaigns, rows)) in [("G", LARGE), ("P", SMALL)] {
            scene.fill(label, campaigns, rows).await?;
        }
        Ok(scene)
    }

    /// Campaigns with their rows, straight into the tables.
    async fn fill(&self, label: &str, campaigns: i64, rows: i64) -> Result<()> {
        sqlx::query("select ensure_day($1)").bind(self.day).execute(&self.pool).await?;
        sqlx::query(
            "with made as (
                 insert into ta_sms_maestro (fecha, nombre, estado, descripcion, origen, origen_id, filas, cambios)
                 select $1, $2 || n, 'COMPLETADA', '', 'carga', $2 || n, $4, 1 from generate_series(1, $3) n
                 returning id)
             insert into ta_sms_detalle (id_maestro, fecha, mensaje_id, version, telefono, mensaje, fecha_envio, estado)
             select made.id, $1, gen_random_uuid(), 1, '+57300' || n, 'Hola, su factura ' || n || ' vence mañana',
                    now(), 'ENVIADO'
             from made cross join generate_series(1, $4) n",
        )
        .bind(self.day)
        .bind(label)
        .bind(campaigns)
        .bind(rows)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The time in which the work of a case is done when nobody disturbs it, nearly.
    pub fn span(&self, case: Case) -> Duration {
        if case == Case::IngestKill { Duration::from_millis(600) } else { Duration::from_millis(1_800) }
    }

    /// Has the day's report made again.
    pub async fn ask(&self) -> Result<Work> {
        ask(self.client.clone(), self.day, true).await
    }

    /// Begins to ask for the day's report, as somebody does who repeats the request until it is answered.
    pub fn begin_to_ask(&self, force: bool) -> JoinHandle<Result<Work>> {
        tokio::spawn(ask(self.client.clone(), self.day, force))
    }

    /// Changes something of the day, so that its last report no longer holds.
    pub async fn change(&self) -> Result<()> {
        let query = "update ta_sms_maestro set cambios = cambios + 1 where fecha = $1";
        sqlx::query(query).bind(self.day).execute(&self.pool).await?;
        Ok(())
    }

    /// How many runs there are.
    pub async fn runs(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("select count(*) from runs").fetch_one(&self.pool).await?)
    }

    /// Begins to tell of a new campaign of another day. The task ends when all is said.
    pub fn tell(&self, round: u32) -> Result<(Work, JoinHandle<Result<()>>)> {
        let day = self.day.checked_sub_days(chrono::Days::new(1)).context("a day before")?;
        let campaign = Campaign::new(&format!("I{round}"), day);
        let rows: Vec<_> = (0..TOLD).map(|row| Settled::sent(row, "hola")).collect();
        // Half of them again, in a newer version.
        let newer = rows.iter().step_by(2);
        let newer: Vec<_> =
            newer.map(|row| Settled { version: 2, text: "nuevo".to_owned(), ..row.clone() }).collect();
        let telling = tokio::spawn({
            let (publisher, campaign, rows) = (self.publisher.clone(), campaign.clone(), rows.clone());
            async move {
                publisher.settled(&campaign, &rows).await?;
                publisher.settled(&campaign, &newer).await?;
                publisher.started(&campaign, TOLD).await
            }
        });
        Ok((Work::Ingest(campaign, rows), telling))
    }

    /// Whether the work has not ended yet.
    pub async fn is_under_way(&self, work: &Work) -> Result<bool> {
        let (query, id) = match work {
            Work::Run(id) => ("select finished_at is null from runs where id::text = $1", id),
            Work::Ingest(campaign, _) => (
                "select not coalesce((select nombre <> '' from ta_sms_maestro where origen_id = $1), false)",
                &campaign.id,
            ),
        };
        Ok(sqlx::query_scalar(query).bind(id).fetch_one(&self.pool).await?)
    }

    /// Waits for the end, and compares with what had to be.
    pub async fn verdict(&self, work: &Work) -> Result<Verdict> {
        match work {
            Work::Run(id) => self.files(id).await,
            Work::Ingest(campaign, rows) => self.rows(campaign, rows).await,
        }
    }

    async fn files(&self, id: &str) -> Result<Verdict> {
        let path = format!("/api/v1/reports/{id}");
        let end = Instant::now() + FINAL;
        loop {
            let run = self.client.get(&path).await;
            if run.as_ref().is_ok_and(|run| run.body["estado"] == "COMPLETADO") {
                break;
            }
            ensure!(Instant::now() < end, "run {id} is not complete: {run:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut verdict = Verdict::default();
        let manifest = self.client.get(&format!("{path}/manifest")).await?.body;
        let lines = manifest["archivos"].as_array().context("a manifest")?;
        let campaigns: Vec<(i64, i64)> = sqlx::query_as(
            "select m.id, count(d.id) from ta_sms_maestro m left join ta_sms_detalle d on d.id_maestro = m.id
             where m.fecha = $1 group by m.id",
        )
        .bind(self.day)
        .fetch_all(&self.pool)
        .await?;
        for (campaign, rows) in &campaigns {
            let of: Vec<_> = lines.iter().filter(|line| line["id_campana"] == *campaign).collect();
            match of.as_slice() {
                [] => verdict.lost.push(format!("the file of campaign {campaign} is missing")),
                [line] => self.file(&path, *campaign, *rows, line, &mut verdict).await?,
                many => verdict.duplicated.push(format!("campaign {campaign} has {} files", many.len())),
            }
        }
        let events: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&self.pool).await?;
        ensure!(events < 10_000, "the outbox is not relayed");
        Ok(verdict)
    }

    /// One file: its checksum, and each of the table's rows in it once.
    async fn file(
        &self,
        run: &str,
        campaign: i64,
        rows: i64,
        line: &Value,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let bytes = self.client.download(&format!("{run}/files/{campaign}/download?directo=true")).await?;
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if line["sha256"] != sha256 || line["bytes"] != bytes.len() {
            verdict.lost.push(format!("campaign {campaign}: the file is not the manifest's"));
        }
        let text = String::from_utf8(bytes)?;
        // The phones tell the rows of these campaigns apart.
        let mut phones: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').nth(3)).collect();
        let all = phones.len();
        phones.sort_unstable();
        phones.dedup();
        if phones.len() < all {
            verdict.duplicated.push(format!("campaign {campaign}: {} rows twice", all - phones.len()));
        }
        if line["filas"] != rows || i64::try_from(phones.len())? != rows {
            verdict.lost.push(format!("campaign {campaign}: {} of {rows} rows", phones.len()));
        }
        Ok(())
    }

    async fn rows(&self, campaign: &Campaign, rows: &[Settled]) -> Result<Verdict> {
        const COUNTS: &str = "select m.filas, count(d.id), count(distinct d.mensaje_id),
                count(*) filter (where d.version = 2 and d.mensaje = 'nuevo'), m.nombre <> ''
            from ta_sms_maestro m join ta_sms_detalle d on d.id_maestro = m.id where m.origen_id = $1 group by m.id";
        let should = i64::try_from(rows.len())?;
        let end = Instant::now() + FINAL;
        loop {
            let counts: Option<(i64, i64, i64, i64, bool)> =
                sqlx::query_as(COUNTS).bind(&campaign.id).fetch_optional(&self.pool).await?;
            if counts == Some((should, should, should, should / 2, true)) {
                return Ok(Verdict::default());
            }
            if Instant::now() > end {
                let duplicated =
                    counts.filter(|counts| counts.1 > should).map(|counts| format!("{counts:?}"));
                let lost = format!("campaign {} has {counts:?}, not {should} rows", campaign.name);
                return Ok(Verdict { lost: vec![lost], duplicated: duplicated.into_iter().collect() });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Multipart uploads that are left when the service has swept: a request that began one may have reached S3 without its
    /// answer. A process that starts sweeps at once.
    pub async fn stray_uploads(&mut self) -> Result<usize> {
        if self.unfinished_uploads().await? > 0 {
            self.platform.service_mut(&REPORT).api.restart().await?;
            let swept = async || self.unfinished_uploads().await.is_ok_and(|left| left == 0);
            // Past that, the count says it.
            let _ = stack::wait::until("the uploads should be swept up", SWEPT, swept).await;
        }
        self.unfinished_uploads().await
    }

    async fn unfinished_uploads(&self) -> Result<usize> {
        let place = &self.platform.place;
        let url = format!("{}/{}?uploads", place.servers().aws_endpoint, place.bucket());
        let text = stack::http().get(url).send().await?.error_for_status()?.text().await?;
        Ok(text.matches("<UploadId>").count())
    }

    pub async fn kill_workers(&self) -> Result<()> {
        self.platform.service(&REPORT).kill_workers().await
    }

    /// Starts those that do not run.
    pub async fn restart_workers(&mut self) -> Result<()> {
        self.platform.service_mut(&REPORT).restart_workers().await
    }

    /// All of report's processes.
    pub fn processes(&mut self) -> Vec<&mut Running> {
        self.platform.service_mut(&REPORT).all_mut().collect()
    }

    /// What the doctors find once the dust has settled.
    pub async fn findings(&self) -> Result<Vec<String>> {
        aftermath::findings(&self.platform, |_| true).await
    }

    /// Stops everything. Data and logs go too, where there is nothing in them to look at.
    pub async fn end(self, clean: bool) -> Result<()> {
        let Self { stack, platform, pool, dir, .. } = self;
        pool.close().await;
        drop(platform);
        aftermath::end(stack, &dir, clean).await
    }
}

/// Asks for a day's report until it is accepted.
async fn ask(client: Client, day: NaiveDate, force: bool) -> Result<Work> {
    let request = json!({ "fecha": day.format("%Y/%m/%d").to_string(), "forzar": force });
    let end = Instant::now() + FINAL;
    loop {
        let asked = client.post("/api/v1/reports", &request).await;
        if let Ok(asked) = &asked
            && asked.status == 202
        {
            return Ok(Work::Run(asked.body["id"].as_str().context("an id")?.to_owned()));
        }
        ensure!(Instant::now() < end, "not accepted: {asked:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
