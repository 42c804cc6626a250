use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use chassis::{
    config::{DatabaseSettings, Env, S3Settings, Secret},
    db,
};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use sms_dispatch::{
    SERVICE,
    cli::{self, import::ImportRequest},
    config::ImportSettings,
    domain::source::Mapping,
    import::quality::Report,
    storage::{doctor, imports::Import, migrations::Migrator},
};
use stack::{Namespace, process::Service};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The service's tables, and a folder for files.
pub struct World {
    pub pool: PgPool,
    pub database: DatabaseSettings,
    pub folder: TempDir,
    /// Goes last.
    namespace: Namespace,
}

impl World {
    pub async fn new(label: &str) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let database = DatabaseSettings::at(namespace.database_url.as_str());
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&database, SERVICE, &shutdown).await?;
        let pool = db::connect(&database, SERVICE, &shutdown).await?.pool;
        Ok(Self { pool, database, folder: TempDir::new()?, namespace })
    }

    /// The namespace's bucket.
    pub fn bucket(&self) -> S3Settings {
        S3Settings {
            endpoint: Some(self.namespace.servers().aws_endpoint.clone()),
            region: "us-east-1".into(),
            credentials: Some(("test".into(), Secret::new("test".into()))),
            bucket: self.namespace.bucket.clone(),
        }
    }

    /// A file's path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of text into the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    pub async fn import_as(&self, request: &ImportRequest) -> Result<Import> {
        self.import_with(settings(), request).await
    }

    pub async fn import_with(&self, settings: ImportSettings, request: &ImportRequest) -> Result<Import> {
        cli::import::run(&self.database, settings, request, &CancellationToken::new()).await
    }

    /// Imports a file, and checks that the report's sums are those of the import's row and of the tables.
    pub async fn import(&self, file: &Path) -> Result<(Import, Report)> {
        let import = self.import_as(&request(file)).await?;
        let report = report(&import)?;
        let sums = (Some(report.rows), Some(report.created), Some(report.updated), Some(report.unchanged));
        ensure!(
            sums == (import.source_rows, import.created, import.updated, import.unchanged),
            "{report:?} and {import:?}"
        );
        ensure!((Some(report.merged), Some(report.rejected)) == (import.merged, import.rejected));
        let outcomes = report.created + report.updated + report.unchanged + report.merged + report.rejected;
        ensure!(outcomes == report.rows, "{report:?}");
        ensure!(report.sample.different.is_empty(), "{:#?}", report.sample);
        Ok((import, report))
    }

    /// What goes wrong with an import, as the user is told.
    pub async fn refused(&self, request: &ImportRequest) -> Result<String> {
        match self.import_as(request).await {
            Ok(import) => anyhow::bail!("the import went well: {:?}", import.report),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    pub async fn roll_back(&self, import: &Import) -> Result<()> {
        let shutdown = CancellationToken::new();
        cli::rollback::run(&self.database, settings(), import.id, "test", &shutdown).await
    }

    /// The binary, as its users call it.
    pub fn command(&self, args: &[&str]) -> Result<Service> {
        Ok(Service::new("lote-sms-dispatch", args, &self.path("sms-dispatch.log"))?
            .env("DATABASE_URL", &self.namespace.database_url)
            .env("CONTACTS_LEASE_SECONDS", "2")
            .env("USER", "ana"))
    }

    /// Runs the binary to its end: its status, what it printed, and all that it said so far on standard error.
    pub async fn run(&self, args: &[&str]) -> Result<(ExitStatus, String, String)> {
        let (status, out) = self.command(args)?.run().await?;
        Ok((status, out, std::fs::read_to_string(self.path("sms-dispatch.log"))?))
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

    /// Fails where the doctor finds anything; an index that is missing is among what it finds.
    pub async fn is_sound(&self) -> Result<()> {
        let findings = doctor::doctor(&self.pool).await?;
        ensure!(findings.is_empty(), "{findings:#?}");
        Ok(())
    }
}

/// Small batches, so that small files have many.
pub fn settings() -> ImportSettings {
    ImportSettings {
        batch_rows: 1_000,
        workers: 3,
        index_builders: 2,
        lease: Duration::from_secs(10),
        ..ImportSettings::read(&mut Env::from_map([("CONTACTS_MAX_ATTEMPTS", "3")]))
    }
}

pub fn request(file: &Path) -> ImportRequest {
    ImportRequest {
        file: file.to_owned(),
        consent: None,
        dry_run: false,
        limit: None,
        batch_size: None,
        workers: None,
        mapping: Mapping::default(),
        actor: "test".to_owned(),
    }
}

pub fn report(import: &Import) -> Result<Report> {
    let report = import.report.clone().context("a completed import has a report")?;
    Ok(serde_json::from_value(report)?)
}
