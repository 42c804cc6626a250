//! Imports of contacts: one at a time, resumed where they were, the same for a worker and for the command line.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::{Message as _, queues::SMS_IMPORTS, sms::v1::ImportContacts as Replaced};
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, State, Work};
use messaging::JobError;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde_json::{Value, json};

use crate::{
    Resources, SERVICE,
    advisory_lock::{self, AdvisoryLock},
    config::ImportSettings,
    domain::set_aside::SetAside,
    import::{
        dry_run,
        encode::Common,
        files::{Files, Spool},
        load::Load,
        merge, settle, side_tables,
        source::{Source, fingerprint},
        watch::{Phase, Show, Watch},
    },
    metrics,
    storage::{
        audit, batches,
        imports::{self, Import, Mode},
        index_builds, indexes, numbering_plan, suppressions,
    },
};

/// Jobs of files on the machine of who runs the command line: no worker could read them.
pub const LOCAL_KIND: &str = "sms.local_imports";

/// Imports of files that workers fetch from S3. They take turns anyway: one writes many contacts at a time.
pub fn kind(settings: &ImportSettings) -> JobKind {
    JobKind {
        deadline: settings.deadline,
        lease: settings.lease,
        max_attempts: settings.max_attempts,
        replaces: Some(Replaced::TYPE),
        ..JobKind::new(SERVICE, "sms.imports", &SMS_IMPORTS)
    }
}

/// Brings contacts in.
pub struct ImportContacts {
    pub pool: PgPool,
    pub settings: Arc<ImportSettings>,
    /// Told of each step.
    pub show: Box<Show>,
    /// Where the file is, by its import.
    pub files: Box<dyn Files>,
}

impl ImportContacts {
    /// As workers do it: from S3, and nobody watches.
    pub(crate) fn from_s3(resources: &Resources) -> Self {
        let Resources { database, s3, bucket, settings, .. } = resources;
        let spool = Spool { client: s3.clone(), bucket: bucket.clone(), dir: settings.spool.clone() };
        Self {
            pool: database.pool.clone(),
            settings: Arc::clone(settings),
            show: Box::new(|_, _| {}),
            files: Box::new(spool),
        }
    }
}

#[async_trait]
impl Work for ImportContacts {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let import = imports::get(&self.pool, run.job.id).await.map_err(JobError::retry)?;
        let import = import.ok_or_else(|| JobError::fail(anyhow!("the job has no import")))?;
        if import.rolled_back_at.is_some() {
            return Err(JobError::fail(anyhow!("La importación fue revertida; cargue el archivo otra vez")));
        }
        let file = self.files.fetch(&import, &run.lease).await?;
        let opened = tokio::task::spawn_blocking({
            let (path, options) = (file.path.clone(), import.options.clone());
            move || anyhow::Ok((fingerprint(&path)?, Source::open(&path, options.limit, &options.mapping)?))
        });
        let (fingerprint, source) = opened.await.map_err(JobError::retry)?.map_err(JobError::Fail)?;
        if let Some(known) = &import.fingerprint
            && *known != fingerprint
        {
            return Err(JobError::fail(anyhow!(
                "{} is not the file that this import began with",
                import.source
            )));
        }
        let _lock = AdvisoryLock::take(&self.pool, advisory_lock::IMPORTS, run).await?;
        // A restore may have had the turn before.
        if imports::get(&self.pool, import.id).await.map_err(JobError::retry)?.is_none() {
            return Err(JobError::fail(anyhow!("the job's import was taken away by a restore")));
        }
        imports::number_turn(&self.pool, import.id).await.map_err(JobError::retry)?;
        let steps = Steps { work: self, run, import: &import, source: Arc::new(source) };
        steps.run(&fingerprint).await.map(Outcome::Done)
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        if job.state == State::Completed {
            let report = job.result.clone().context("a completed import has a report")?;
            let number = imports::number(conn, job.id).await?;
            let sums = match report.get("dry_run") {
                Some(_) => None,
                None => Some(batches::sums(conn, number).await?),
            };
            imports::record_end(conn, job.id, sums.as_ref(), &report).await?;
        }
        let actor = job.user.as_deref().unwrap_or("unknown");
        let details = json!({"state": job.state.name(), "error": job.error});
        audit::record(conn, actor, "import_ended", Some(&job.id.to_string()), &details).await?;
        Ok(())
    }

    async fn committed(&self, job: &Job) {
        metrics::count_import(job.state);
    }
}

/// The steps of one attempt.
struct Steps<'a> {
    work: &'a ImportContacts,
    run: &'a JobRun,
    import: &'a Import,
    source: Arc<Source>,
}

impl Steps<'_> {
    /// Takes every step that is not taken yet, and gives the quality report.
    async fn run(&self, fingerprint: &str) -> Result<Value, JobError> {
        let (pool, settings, import) = (&self.work.pool, &self.work.settings, self.import);
        let batch = import.options.batch_size.unwrap_or(settings.batch_rows);
        let mode = match import.mode {
            Some(mode) => mode,
            None => self.begin(fingerprint, batch).await.map_err(JobError::retry)?,
        };
        let before = {
            let mut conn = pool.acquire().await.map_err(JobError::retry)?;
            batches::sums(&mut conn, import.number).await.map_err(JobError::retry)?
        };
        let has_contacts = match mode {
            // It was empty when this import began. Another one may have begun while this one lay broken off.
            Mode::Fast => batches::of_others(pool, import.number).await.map_err(JobError::retry)?,
            Mode::Merge => true,
            Mode::DryRun => imports::has_contacts(pool).await.map_err(JobError::retry)?,
        };
        let total = self.source.rows();
        let watch = Watch::new(self.run, &*self.work.show, total, (before.rows, before.rejected));
        let plan = numbering_plan::read(pool).await.map_err(JobError::Retry)?;
        let stage_all = has_contacts || !self.source.phones_are_unique();
        let common = Common {
            import: import.number,
            consent: import.consent.clone(),
            stage_all,
            // A dry run writes nothing, and whatever is staged is merged with what is known.
            set_aside: match mode {
                Mode::Fast if !stage_all => suppressions::set_aside(pool).await.map_err(JobError::retry)?,
                _ => SetAside::default(),
            },
        };
        let (common, plan) = (Arc::new(common), Arc::new(plan));
        if mode == Mode::DryRun {
            let sizes = (batch, settings.workers);
            let forecast =
                dry_run::run(pool, &self.source, &common, &plan, sizes, &settings.spool, self.run.stopping())
                    .await?;
            return serde_json::to_value(forecast).map_err(JobError::fail);
        }
        self.keep_side_tables().await.map_err(JobError::Retry)?;
        if mode == Mode::Merge {
            // They are there, unless a load was cancelled in its midst.
            index_step(&watch, pool, Phase::Prepare, indexes::ALL, settings.index_builders).await?;
        }
        let load = Load {
            pool,
            source: &self.source,
            common: &common,
            plan: &plan,
            watch: &watch,
            batch,
            workers: settings.workers,
        };
        self.timed("load", load.run()).await?;
        let builders = settings.index_builders;
        if mode == Mode::Fast {
            self.timed("index", index_step(&watch, pool, Phase::PhoneIndex, &[indexes::PHONE], 1)).await?;
        }
        self.timed("merge", merge::run(pool, import.number, &import.consent, &watch)).await?;
        if mode == Mode::Fast {
            self.timed("index", index_step(&watch, pool, Phase::Indexes, indexes::ALL, builders)).await?;
            let vacuum = async {
                begin_phase(&watch, pool, Phase::Vacuum, 0).await?;
                index_builds::vacuum(pool).await.map_err(JobError::retry)
            };
            self.timed("vacuum", vacuum).await?;
        }
        let follow = async {
            begin_phase(&watch, pool, Phase::Settle, 0).await?;
            settle::follow(pool, import.number).await.map_err(JobError::Retry)
        };
        self.timed("settle", follow).await?;
        let report = settle::report(pool, import, &self.source).await?;
        serde_json::to_value(report).map_err(JobError::fail)
    }

    /// Decides how to write; before a load into an empty table its indexes go.
    async fn begin(&self, fingerprint: &str, batch: i64) -> anyhow::Result<Mode> {
        let mut transaction = self.work.pool.begin().await?;
        let mode = imports::begin(&mut transaction, self.import, fingerprint, batch).await?;
        if mode == Mode::Fast {
            index_builds::drop_all(&mut transaction, indexes::ALL).await?;
        }
        transaction.commit().await?;
        failpoints::hit(Point::ImportBegun);
        tracing::info!(import = %self.import.id, mode = mode.name(), rows = self.source.rows(), "import begins");
        Ok(mode)
    }

    async fn keep_side_tables(&self) -> anyhow::Result<()> {
        let Source::Sqlite(sqlite) = &*self.source else { return Ok(()) };
        let sqlite = sqlite.clone();
        let tables = tokio::task::spawn_blocking(move || side_tables::read(&sqlite)).await??;
        let mut transaction = self.work.pool.begin().await?;
        side_tables::keep(&mut transaction, self.import.number, &tables).await?;
        transaction.commit().await?;
        failpoints::hit(Point::SideTablesKept);
        Ok(())
    }

    /// Adds how long a step took to the import's row: over all attempts that finished it.
    async fn timed(
        &self,
        step: &str,
        work: impl Future<Output = Result<(), JobError>>,
    ) -> Result<(), JobError> {
        let started = Instant::now();
        work.await?;
        let seconds = started.elapsed().as_secs_f64();
        imports::add_time(&self.work.pool, self.import.id, step, seconds).await.map_err(JobError::retry)?;
        tracing::info!(import = %self.import.id, step, seconds, "import step done");
        self.run.proceed()
    }
}

/// Builds the indexes that are not there. Those that are there say how near the phase is to its end: an attempt that
/// dies after it built one has advanced, as the next one tells.
async fn index_step(
    watch: &Watch<'_>,
    pool: &PgPool,
    phase: Phase,
    which: &[indexes::Index],
    builders: usize,
) -> Result<(), JobError> {
    let there = indexes::count(pool, which).await.map_err(JobError::retry)?;
    if there == which.len() {
        return Ok(());
    }
    begin_phase(watch, pool, phase, i64::try_from(there).map_err(JobError::fail)?).await?;
    index_builds::build(pool, which, builders).await.map_err(JobError::Retry)
}

/// Writes that a phase begins, or goes on, before it does what it does in transactions of its own.
async fn begin_phase(watch: &Watch<'_>, pool: &PgPool, phase: Phase, step: i64) -> Result<(), JobError> {
    let mut transaction = pool.begin().await.map_err(JobError::retry)?;
    watch.step(&mut transaction, phase, step).await?;
    transaction.commit().await.map_err(JobError::retry)
}
