//! What is past its days goes, and nothing else, against the real servers.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use catalog_upload::{
    Resources, SERVICE,
    config::ImportSettings,
    live::Statuses,
    retention::Retention,
    storage::{
        imports::{self, Kind, Options, Source},
        migrations::Migrator,
        reports, search,
    },
};
use chassis::{
    config::{DatabaseSettings, Env, RedisSettings, S3Settings},
    db,
    redis::Redis,
    s3,
};
use chrono::{TimeDelta, Utc};
use jobs::NewJob;
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool};
use stack::{Namespace, aws::CREDENTIALS};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The ledgers, and what a row of each must have.
const LEDGERS: [(&str, &str); 5] = [
    ("import_changes", "import_id, row_number, product_id, action) select $1, n, n::text, 'created'"),
    ("import_rejections", "import_id, row_number, code, message) select $1, n, 'x', 'x'"),
    (
        "import_warnings",
        "import_id, row_number, code, \"column\", value, message) select $1, n, 'x', 'x', 'x', 'x'",
    ),
    ("import_unchanged", "import_id, first_row, version, product_ids) select $1, n, n, array[n::text]"),
    (
        "import_plan",
        "import_id, row_number, product_id, codigo, action) select $1, n, n::text, n::text, 'created'",
    ),
];

struct World {
    resources: Resources,
    pool: PgPool,
    _namespace: Namespace,
}

impl World {
    async fn new() -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create("retention").await?;
        let servers = namespace.servers();
        let settings = [
            ("DATABASE_URL", namespace.database_url.as_str()),
            ("REDIS_URL", &servers.redis_url),
            ("AWS_ENDPOINT_URL", &servers.aws_endpoint),
            ("S3_BUCKET_NAME", &namespace.bucket),
        ];
        let mut env = Env::from_map(settings.into_iter().chain(CREDENTIALS));
        let (database, redis) = (DatabaseSettings::read(&mut env), RedisSettings::read(&mut env));
        let (storage, imports) = (S3Settings::read(&mut env), ImportSettings::read(&mut env));
        env.finish()?;
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&database, SERVICE, &shutdown).await?;
        let database = db::connect(&database, SERVICE, &shutdown).await?;
        let resources = Resources {
            database: database.clone(),
            statuses: Statuses::new(&Redis::new(&redis)?),
            s3: s3::client(&storage).await,
            bucket: storage.bucket,
            settings: Arc::new(imports),
        };
        Ok(Self { resources, pool: database.pool, _namespace: namespace })
    }

    async fn put(&self, key: &str) -> Result<()> {
        let Resources { s3, bucket, .. } = &self.resources;
        s3.put_object().bucket(bucket).key(key).body(b"libro".to_vec().into()).send().await?;
        Ok(())
    }

    async fn objects(&self) -> Result<BTreeSet<String>> {
        let Resources { s3, bucket, .. } = &self.resources;
        let page = s3.list_objects_v2().bucket(bucket).send().await?;
        Ok(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect())
    }

    /// An import of a stored file, its annotated workbook and a row in each ledger; it ended so long ago, or runs.
    async fn import(&self, object_key: &str, ended: Option<TimeDelta>) -> Result<(Uuid, String)> {
        let mut transaction = self.pool.begin().await?;
        let (import, report) =
            (NewJob::plain("catalog.imports", "ana", 1), NewJob::plain("catalog.reports", "ana", 1));
        let (id, report_id) = (import.id, report.id);
        for job in [import, report] {
            jobs::create(&mut transaction, job).await?;
        }
        let source = Source {
            proveedor_id: "PROV001".to_owned(),
            filename: "libro.xlsx".to_owned(),
            object_key: object_key.to_owned(),
            size_bytes: 5,
            sha256: "x".to_owned(),
        };
        let options = Options {
            kind: Kind::Import,
            replace_duplicates: false,
            all_or_nothing: false,
            applies: None,
            corrects: None,
            undoes: None,
            sheet: None,
        };
        imports::create(&mut transaction, id, &source, &options, "ana").await?;
        ensure!(reports::create(&mut transaction, id, report_id).await?, "a report");
        let report_key = format!("reports/{id}.xlsx");
        let query = "update import_reports set object_key = $2, size_bytes = 5 where import_id = $1";
        sqlx::query(query).bind(id).bind(&report_key).execute(&mut *transaction).await?;
        for (table, rest) in LEDGERS {
            // More than are deleted at once.
            let rows = if table == "import_changes" { 10_500 } else { 3 };
            let statement = format!("insert into {table} ({rest} from generate_series(1, {rows}) n");
            sqlx::query(AssertSqlSafe(statement)).bind(id).execute(&mut *transaction).await?;
        }
        if let Some(ago) = ended {
            end(&mut transaction, id, ago).await?;
        }
        transaction.commit().await?;
        self.put(object_key).await?;
        self.put(&report_key).await?;
        Ok((id, report_key))
    }

    /// Whether an import's ledgers are there; all or none of them are.
    async fn has_ledgers(&self, id: Uuid) -> Result<bool> {
        let mut there = Vec::new();
        for (table, _) in LEDGERS.into_iter().chain([("import_reports", "")]) {
            let query = format!("select exists (select from {table} where import_id = $1)");
            there.push(sqlx::query_scalar(AssertSqlSafe(query)).bind(id).fetch_one(&self.pool).await?);
        }
        let some = there.contains(&true);
        ensure!(there.iter().all(|one| *one == some), "{there:?}");
        Ok(some)
    }

    async fn is_purged(&self, id: Uuid) -> Result<bool> {
        Ok(imports::get(&chassis::db::orm(&self.pool), id)
            .await?
            .context("its row stays")?
            .purged_at
            .is_some())
    }
}

async fn end(conn: &mut PgConnection, id: Uuid, ago: TimeDelta) -> Result<()> {
    let query =
        "update jobs set state = 'completed', finished_at = now() - make_interval(secs => $2) where id = $1";
    sqlx::query(query).bind(id).bind(ago.as_seconds_f64()).execute(conn).await?;
    Ok(())
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[tokio::test]
async fn originals_reports_and_ledgers_past_their_days_go_and_orphans_after_a_day() -> Result<()> {
    let world = World::new().await?;
    let (past, almost) = (TimeDelta::days(90), TimeDelta::days(90) - TimeDelta::minutes(10));
    let (old, old_report) = world.import("uploads/old", Some(past)).await?;
    // Sent again later: a younger import reads the same file.
    let (first, first_report) = world.import("uploads/shared", Some(past)).await?;
    let (again, again_report) = world.import("uploads/shared", Some(almost)).await?;
    let (active, active_report) = world.import("uploads/active", None).await?;
    // Of an API that died before it committed; and what is not ours.
    let foreign = ["campaign-reports/x.csv", "otro.txt"];
    for key in ["uploads/orphan", "reports/orphan.xlsx"].into_iter().chain(foreign) {
        world.put(key).await?;
    }
    let (retention, now) = (Retention::new(world.resources.clone()), Utc::now());

    let deleted = retention.sweep(now).await?;
    ensure!(deleted == 2, "{deleted}: the imports past their days");
    let mut left = set(&["uploads/shared", "uploads/active", "uploads/orphan", "reports/orphan.xlsx"]);
    left.extend(foreign.map(str::to_owned));
    left.extend([again_report, active_report]);
    ensure!(
        world.objects().await? == left,
        "{:?} without {old_report}, {first_report}",
        world.objects().await?
    );
    for (import, gone) in [(old, true), (first, true), (again, false), (active, false)] {
        ensure!(world.is_purged(import).await? == gone, "{import}");
        ensure!(world.has_ledgers(import).await? != gone, "{import}");
    }

    // What has no row may still get one, for a day.
    ensure!(retention.sweep(now + TimeDelta::hours(23)).await? == 0);
    ensure!(world.objects().await? == left, "{:?}", world.objects().await?);
    // Two sweeps later, doctor wonders why they are still there.
    let Resources { s3, bucket, .. } = &world.resources;
    let overlooked = async |hours| {
        catalog_upload::retention::overlooked(&world.pool, s3, bucket, now + TimeDelta::hours(hours)).await
    };
    ensure!(overlooked(26).await?.is_empty(), "{:?}", overlooked(26).await?);
    let found = overlooked(28).await?;
    ensure!(found.len() == 2 && found[0].contains("uploads/orphan"), "{found:?}");
    let deleted = retention.sweep(now + TimeDelta::hours(25)).await?;
    for orphan in ["uploads/orphan", "reports/orphan.xlsx"] {
        left.remove(orphan);
    }
    ensure!(deleted == 2 && world.objects().await? == left, "{deleted}: {:?}", world.objects().await?);

    // The last who reads a shared file takes it along.
    end(&mut *world.pool.acquire().await?, again, past).await?;
    // While somebody else is at it, nobody else is.
    let mut turn = world.pool.begin().await?;
    chassis::lock::hold(&mut turn, "retention").await?;
    ensure!(retention.sweep(now).await? == 0, "two at once");
    turn.rollback().await?;
    ensure!(retention.sweep(now).await? == 1);
    ensure!(!world.objects().await?.contains("uploads/shared"), "{:?}", world.objects().await?);
    ensure!(world.is_purged(again).await? && !world.is_purged(active).await?);
    Ok(())
}

#[tokio::test]
async fn the_file_of_an_import_that_goes_on_at_the_last_moment_stays() -> Result<()> {
    let world = World::new().await?;
    let (id, report) = world.import("uploads/again", Some(TimeDelta::days(91))).await?;
    // Somebody lets it go on: it is found due, and is not by the time it is held.
    let mut retry = world.pool.begin().await?;
    imports::lock(&mut retry, id).await?;
    let sweeping = tokio::spawn({
        let retention = Retention::new(world.resources.clone());
        async move { retention.sweep(Utc::now()).await }
    });
    stack::wait::until("the clean-up waits for the import", std::time::Duration::from_secs(60), || async {
        let waiting = "select exists (select from pg_stat_activity where usename = current_user
                 and wait_event_type = 'Lock' and query like '%imports%')";
        sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap_or(false)
    })
    .await?;
    let again = "update jobs set state = 'pending', finished_at = null, result = null where id = $1";
    sqlx::query(again).bind(id).execute(&mut *retry).await?;
    retry.commit().await?;
    ensure!(sweeping.await?? == 0);
    ensure!(world.objects().await? == set(&["uploads/again", &report]), "{:?}", world.objects().await?);
    ensure!(!world.is_purged(id).await? && world.has_ledgers(id).await?);
    Ok(())
}

/// The words of products follow an import that has ended, whatever an older one is at.
#[tokio::test]
async fn an_older_import_that_runs_keeps_nobody_from_being_found() -> Result<()> {
    let world = World::new().await?;
    let (running, _) = world.import("uploads/running", None).await?;
    let runs = "with i as (update imports set indexed_row = 1000000 where id = $1 returning id)
        update jobs j set state = 'running', owner = 'w', lease_until = now() + interval '1 hour' from i where j.id = i.id";
    sqlx::query(runs).bind(running).execute(&world.pool).await?;
    let (ended, _) = world.import("uploads/ended", Some(TimeDelta::zero())).await?;
    while search::index_next(&world.pool, 1_000).await? {}
    let indexed: Vec<Uuid> =
        sqlx::query_scalar("select id from imports where indexed").fetch_all(&world.pool).await?;
    ensure!(indexed == [ended], "{indexed:?}, not {ended}");
    Ok(())
}

/// A task about the file of another one: it waits, or ended so long ago.
async fn task_about(
    world: &World,
    object_key: &str,
    ended: Option<TimeDelta>,
    change: impl FnOnce(Options) -> Options,
) -> Result<Uuid> {
    let mut transaction = world.pool.begin().await?;
    let job = NewJob::plain("catalog.imports", "ana", 1);
    let id = job.id;
    jobs::create(&mut transaction, job).await?;
    let source = Source {
        proveedor_id: "PROV001".to_owned(),
        filename: "libro.xlsx".to_owned(),
        object_key: object_key.to_owned(),
        size_bytes: 5,
        sha256: "x".to_owned(),
    };
    let options = Options {
        kind: Kind::Import,
        replace_duplicates: false,
        all_or_nothing: false,
        applies: None,
        corrects: None,
        undoes: None,
        sheet: None,
    };
    imports::create(&mut transaction, id, &source, &change(options), "ana").await?;
    if let Some(ago) = ended {
        end(&mut transaction, id, ago).await?;
    }
    transaction.commit().await?;
    Ok(id)
}

#[tokio::test]
async fn what_a_live_task_goes_on_with_stays_until_it_has_ended() -> Result<()> {
    let world = World::new().await?;
    let past = TimeDelta::days(91);
    let (retention, now) = (Retention::new(world.resources.clone()), Utc::now());
    let mut followers = Vec::new();
    for kind in ["applies", "corrects", "undoes"] {
        let key = format!("uploads/{kind}");
        let (base, _) = world.import(&key, Some(past)).await?;
        // A correction brings a file of its own.
        let own = if kind == "corrects" { "uploads/correction" } else { key.as_str() };
        let follower = task_about(&world, own, None, |options| match kind {
            "applies" => Options { applies: Some(base), ..options },
            "corrects" => Options { corrects: Some(base), ..options },
            _ => Options { kind: Kind::Undo, undoes: Some(base), ..options },
        });
        followers.push((kind, base, follower.await?, key));
    }
    ensure!(retention.sweep(now).await? == 0, "something was deleted under a live task");
    for (kind, base, _, key) in &followers {
        ensure!(!world.is_purged(*base).await? && world.has_ledgers(*base).await?, "{kind}");
        ensure!(world.objects().await?.contains(key), "{kind}: {:?}", world.objects().await?);
    }
    for (_, _, follower, _) in &followers {
        end(&mut *world.pool.acquire().await?, *follower, TimeDelta::zero()).await?;
    }
    ensure!(retention.sweep(now).await? == 3, "the three that were kept");
    for (kind, base, ..) in &followers {
        ensure!(world.is_purged(*base).await? && !world.has_ledgers(*base).await?, "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn an_import_and_its_undo_that_are_due_together_leave_no_file() -> Result<()> {
    let world = World::new().await?;
    let past = TimeDelta::days(91);
    let (base, _) = world.import("uploads/both", Some(past)).await?;
    task_about(&world, "uploads/both", Some(past), |options| Options {
        kind: Kind::Undo,
        undoes: Some(base),
        ..options
    })
    .await?;
    let (retention, now) = (Retention::new(world.resources.clone()), Utc::now());
    ensure!(retention.sweep(now).await? == 2);
    ensure!(world.objects().await?.is_empty(), "{:?}", world.objects().await?);

    // A file that was left behind is named by no row that still has it.
    world.put("uploads/both").await?;
    ensure!(retention.sweep(now + TimeDelta::hours(25)).await? == 1);
    ensure!(world.objects().await?.is_empty(), "{:?}", world.objects().await?);
    Ok(())
}

#[tokio::test]
async fn an_import_whose_files_stay_keeps_nothing_else() -> Result<()> {
    let world = World::new().await?;
    let (id, _) = world.import("uploads/stays", Some(TimeDelta::days(91))).await?;
    // Of a product that was deleted while it was indexed.
    let stray = "insert into product_words (product_id, version, words) values ('gone', 1, to_tsvector('simple', 'gone'))";
    sqlx::query(stray).execute(&world.pool).await?;
    let nowhere = Resources { bucket: "a-bucket-that-is-not-there".to_owned(), ..world.resources.clone() };
    ensure!(Retention::new(nowhere).sweep(Utc::now()).await.is_err(), "the bucket is not there");
    let words: i64 = sqlx::query_scalar("select count(*) from product_words").fetch_one(&world.pool).await?;
    ensure!(words == 0, "what comes after the files was not done");
    ensure!(!world.is_purged(id).await? && world.has_ledgers(id).await?);
    // The turn of the sweep that failed ends a moment later.
    let retention = Retention::new(world.resources.clone());
    stack::wait::until("it is due again", std::time::Duration::from_secs(60), || async {
        retention.sweep(Utc::now()).await.is_ok_and(|deleted| deleted == 1)
    })
    .await?;
    ensure!(world.is_purged(id).await?);
    Ok(())
}

#[tokio::test]
async fn jobs_of_workbooks_that_are_gone_go_and_those_of_imports_stay() -> Result<()> {
    let world = World::new().await?;
    let (old, _) = world.import("uploads/old", Some(TimeDelta::days(91))).await?;
    let (young, _) = world.import("uploads/young", Some(TimeDelta::days(89))).await?;
    // All workbooks were made long ago, and one was forgotten, for its import went on.
    let (again, _) = world.import("uploads/again", None).await?;
    for query in [
        "update jobs set state = 'completed', finished_at = now() - interval '91 days' where kind = 'catalog.reports'",
        "delete from import_reports r using imports i where i.id = r.import_id and i.object_key = 'uploads/again'",
    ] {
        sqlx::query(query).execute(&world.pool).await?;
    }
    let retention = Retention::new(world.resources.clone());
    ensure!(
        retention.sweep(Utc::now()).await? == 3,
        "an import, its workbook's job, and the forgotten one's"
    );
    let left: Vec<Uuid> = sqlx::query_scalar(
        "select import_id from import_reports r join jobs j on j.id = r.job_id where j.kind = 'catalog.reports'",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(left == [young], "{left:?}");
    let jobs: i64 = sqlx::query_scalar("select count(*) from jobs where kind = 'catalog.reports'")
        .fetch_one(&world.pool)
        .await?;
    ensure!(jobs == 1, "{jobs} jobs of workbooks");
    for import in [old, young, again] {
        let there = imports::get(&chassis::db::orm(&world.pool), import).await?;
        ensure!(there.is_some(), "the status of {import}");
    }
    ensure!(retention.sweep(Utc::now()).await? == 0, "once");
    Ok(())
}
