use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use sms_dispatch::storage::index_builds;
use sms_dispatch::storage::{doctor, indexes};
use stack::contacts::{Dirt, Spec, generate};
use stack::namespace::create_role;
use stack::process::{Running, Service};
use stack::server::{Durability, Postgres};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Rows that an import brings in: enough of them to be struck in their midst.
const ROWS: u64 = 100_000;
/// Rows that are there before, in imports into a full table. The generator gives equal phones to both files.
const BASE_ROWS: u64 = 60_000;
const BATCH: &str = "1000";

/// What is compared: all columns of a contact but its surrogate id, its import's number, and when it was written.
const COLUMNS: &str = "phone_e164, phone_original, full_name, address, neighborhood, municipality, state_code, lada, city, \
    is_valid, is_mobile, operator, status, consent, last_sent_at, send_count, opt_out_at, source_id, migrated_at";
/// What an import writes to.
const TABLES: [&str; 9] = [
    "imports",
    "contacts",
    "import_batches",
    "import_staged",
    "contact_rejects",
    "contact_merges",
    "contact_changes",
    "source_missing_ladas",
    "source_statistics",
];
/// Rows that are no contacts, and what is compared of them.
const LEDGERS: [(&str, &str); 3] = [
    ("contact_rejects", "source_id, value, reason"),
    ("contact_merges", "source_id, phone_e164, into_source_id"),
    ("contact_changes", "before, after"),
];

/// How an import comes into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Into an empty one.
    Fast,
    /// Into one that has contacts.
    Merge,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Merge => "merge",
        }
    }
}

/// What an import left.
pub struct Verdict {
    /// Whether the checksum is that of an undisturbed import.
    pub is_same: bool,
    /// Contacts and other outcomes that are missing, or not as they should be.
    pub lost: i64,
    /// Contacts and other outcomes that are there once too often.
    pub duplicated: i64,
    pub findings: Vec<String>,
}

/// A PostgreSQL as durable as in production, the service's schema, and what undisturbed imports come to.
pub struct Scene {
    pub postgres: Postgres,
    pub pool: PgPool,
    url: String,
    dir: PathBuf,
    /// What each step of an undisturbed import took, in seconds.
    seconds: BTreeMap<Way, BTreeMap<String, f64>>,
}

impl Scene {
    pub async fn start(name: &str, seed: u64, ways: &[Way]) -> Result<Self> {
        stack::install_tls();
        let dir = stack::home().join(format!("chaos/contacts-{name}-{}", stack::random_hex(3)));
        std::fs::create_dir_all(&dir)?;
        for (file, rows, seed) in [("base.db", BASE_ROWS, seed + 1_000), ("numeros.db", ROWS, seed)] {
            let path = dir.join(file);
            let dirt = Dirt { twins: 0.05, dirty_twins: 0.05, rejects: 0.002, ..Dirt::default() };
            let spec = Spec { rows, seed, dirt };
            tokio::task::spawn_blocking(move || generate(&path, &spec, |_| ())).await??;
        }
        let password = stack::random_hex(12);
        let postgres =
            Postgres::at(&dir.join("postgres"), stack::ports::free()?, &password, Durability::Full)?;
        postgres.start().await?;
        create_role(&postgres.url(), "sms", &password).await?;
        let url = postgres.url_of("sms", &password);
        let pool = stack::platform::connect(&url).await?;
        let mut scene = Self { postgres, pool, url, dir, seconds: BTreeMap::new() };
        scene.run(&["migrate"]).await?;
        if ways.contains(&Way::Merge) {
            scene.run(&["import", &scene.file("base.db")]).await?;
            for table in TABLES {
                scene.execute(&format!("create table base_{table} as select * from {table}")).await?;
            }
        }
        for way in ways {
            scene.remember(*way).await?;
        }
        Ok(scene)
    }

    /// Imports undisturbed, and keeps what came of it.
    async fn remember(&mut self, way: Way) -> Result<()> {
        self.reset(way).await?;
        self.run(&["import", &self.file("numeros.db"), "--batch-size", BATCH]).await?;
        let name = way.name();
        self.execute(&format!("create table {name}_contacts as select {COLUMNS} from contacts")).await?;
        for (table, columns) in LEDGERS {
            let keep = format!(
                "create table {name}_{table} as select {columns} from {table}
                 where import = (select max(number) from imports)"
            );
            self.execute(&keep).await?;
        }
        let timings: sqlx::types::Json<BTreeMap<String, f64>> =
            sqlx::query_scalar("select timings from imports order by number desc limit 1")
                .fetch_one(&self.pool)
                .await?;
        let rows: i64 = self.count(&format!("select count(*) from {name}_contacts")).await?;
        eprintln!("{name}: {rows} contacts, seconds {:?}", timings.0);
        let findings = doctor::doctor(&self.pool).await?;
        ensure!(findings.is_empty(), "an undisturbed import: {findings:#?}");
        self.seconds.insert(way, timings.0);
        Ok(())
    }

    /// Empties the tables, or puts the contacts in that are there before.
    pub async fn reset(&self, way: Way) -> Result<()> {
        self.execute(&format!("truncate {}; delete from jobs", TABLES.join(", "))).await?;
        index_builds::build(&self.pool, indexes::ALL, 2).await?;
        if way == Way::Merge {
            for table in TABLES {
                let back = format!("insert into {table} overriding system value select * from base_{table}");
                self.execute(&back).await?;
            }
            self.execute("vacuum analyze contacts").await?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn command(&self, args: &[&str]) -> Result<Service> {
        // Each in a log of its own: what a process said at its end is looked for there.
        let log = self.dir.join(format!("sms-dispatch-{}.log", stack::random_hex(4)));
        Ok(Service::new("lote-sms-dispatch", args, &log)?
            .env("DATABASE_URL", &self.url)
            // A dead one's import is soon free.
            .env("CONTACTS_LEASE_SECONDS", "2")
            .env("RUST_LOG", "warn"))
    }

    async fn run(&self, args: &[&str]) -> Result<()> {
        let service = self.command(args)?;
        let (status, _) = service.run().await?;
        ensure!(status.success(), "{args:?}: {status}, log {}", service.log().display());
        Ok(())
    }

    /// Starts the import that is to be struck, with these failpoints.
    pub fn import(&self, points: &str) -> Result<Running> {
        let file = self.file("numeros.db");
        let service = self.command(&["import", &file, "--batch-size", BATCH])?;
        service.env("FAILPOINTS", points).start_unready()
    }

    /// Waits until a question is answered with yes; not beyond the import's end.
    pub async fn wait_for(&self, question: &str, import: &Running) -> Result<bool> {
        while import.is_running() {
            if self.ask(question).await? {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Ok(false)
    }

    pub async fn ask(&self, question: &str) -> Result<bool> {
        let asked = sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_one(&self.pool);
        asked.await.context(question.to_owned())
    }

    /// How long some steps take when nobody disturbs them.
    pub fn span(&self, way: Way, steps: &[&str]) -> Duration {
        let seconds = self.seconds.get(&way);
        let took = |step: &&str| seconds.and_then(|seconds| seconds.get(*step)).copied().unwrap_or_default();
        Duration::from_secs_f64(steps.iter().map(took).sum())
    }

    /// Compares what is there with what an undisturbed import leaves.
    pub async fn verdict(&self, way: Way) -> Result<Verdict> {
        let name = way.name();
        let sum = |table: &str| {
            format!(
                "select count(*) || md5(string_agg(md5(c::text), '' order by phone_e164)) from (select {COLUMNS} from {table}) c"
            )
        };
        let same = format!("select ({}) = ({})", sum("contacts"), sum(&format!("{name}_contacts")));
        let mut verdict = Verdict {
            is_same: self.ask(&same).await?,
            lost: 0,
            duplicated: 0,
            findings: doctor::doctor(&self.pool).await?,
        };
        // The import that was struck is the first after those that were there before.
        let base = if way == Way::Merge { "(select max(number) from base_imports)" } else { "0" };
        let struck = format!("(select min(number) from imports where number > {base})");
        let contacts = [("contacts", COLUMNS, "true".to_owned())];
        let ledgers = LEDGERS.map(|(table, columns)| (table, columns, format!("import = {struck}")));
        for (table, columns, which) in contacts.into_iter().chain(ledgers) {
            let is = format!("select {columns} from {table} where {which}");
            let should = format!("select {columns} from {name}_{table}");
            let less = async |one: &str, other: &str| {
                self.count(&format!("select count(*) from ({one} except all {other}) d")).await
            };
            let (lost, duplicated) = (less(&should, &is).await?, less(&is, &should).await?);
            if lost + duplicated > 0 {
                eprintln!("{table}: {lost} rows are not as they should be, {duplicated} should not be there");
            }
            verdict.lost += lost;
            verdict.duplicated += duplicated;
        }
        Ok(verdict)
    }

    pub async fn count(&self, query: &str) -> Result<i64> {
        let counted = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&self.pool);
        counted.await.context(query.to_owned())
    }

    async fn execute(&self, statements: &str) -> Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await;
        done.map(drop).with_context(|| statements.to_owned())
    }

    /// Stops the server. Data and logs go too, where there is nothing in them to look at.
    pub async fn end(self, clean: bool) -> Result<()> {
        let Self { postgres, pool, dir, .. } = self;
        pool.close().await;
        postgres.stop().await?;
        if clean {
            postgres.remove_data()?;
            std::fs::remove_dir_all(&dir)?;
        } else {
            eprintln!("logs and data stay in {}", dir.display());
        }
        Ok(())
    }
}
