//! Workers that die, and workers that only seem to.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use async_trait::async_trait;
use etl::{
    bsale::{self, tables, views},
    domain::run::{Mode, RunParams},
    request_run::Requested,
    target::{self, Claim, CommitError, Sql, Target},
};
use jobs::{Job, JobRun, Outcome, State, Work};
use messaging::JobError;
use sea_orm::{
    ConnectionTrait as _, TransactionTrait as _,
    sqlx::{PgConnection, PgPool},
};
use serde_json::json;
use simulators::bsale::{Fault, Shop, Size, truth};
use stack::wait;
use tokio_util::sync::CancellationToken;

use crate::world::{Kind, World};

#[tokio::test]
async fn a_stream_has_one_run_at_a_time() -> Result<()> {
    let world = World::new("etlone", Kind::Postgres, Shop::new(2, Size::default())).await?;
    let params = RunParams::new("bsale.clientes", Mode::Daily);
    let (one, other) = tokio::try_join!(world.ask(&params), world.ask(&params))?;
    ensure!(one.job().id == other.job().id, "{one:?} {other:?}");
    ensure!([&one, &other].iter().filter(|asked| matches!(asked, Requested::New(_))).count() == 1);
    // A backfill runs beside it, and the index holds where somebody forgets to ask.
    let backfill = world.ask(&RunParams::new("bsale.clientes", Mode::Backfill)).await?;
    ensure!(matches!(backfill, Requested::New(_)));
    let second = sea_orm::sqlx::query(
        "insert into jobs (id, kind, params, max_attempts)
         select gen_random_uuid(), kind, params, max_attempts from jobs where id = $1",
    );
    let error = second.bind(one.job().id).execute(&world.resources.database.pool).await.err();
    ensure!(error.is_some_and(|error| error.to_string().contains("jobs_one_run_a_stream")));
    Ok(())
}

/// A worker is dropped in the middle of a scan, as by SIGKILL; the next one goes on from the committed page.
async fn killed(label: &str, kind: Kind) -> Result<()> {
    let size = Size { clients: 400, products: 40, days: 5, documents_a_day: 60 };
    let world = World::new(label, kind, Shop::new(2, size)).await?;
    for stream in ["bsale.clientes", "bsale.documentos"] {
        let id = world.ask(&RunParams::new(stream, Mode::Full)).await?.job().id;
        let mut kills = 0;
        loop {
            // Slow enough that it is struck in its middle.
            world.bsale.fail_next([Fault::Slow(Duration::from_millis(25)); 40]);
            // Later each time: what is read is committed once a second.
            let struck =
                tokio::time::timeout(Duration::from_millis(300 + 300 * kills), world.attempt(id)).await;
            match struck {
                Err(_) => kills += 1,
                Ok(job) => {
                    let job = job?;
                    ensure!(job.state == State::Completed, "{stream}: {:?}", job.error);
                    break;
                }
            }
            ensure!(kills < 60, "{stream} never ends");
            // Its lease lapses.
            let lapse = "update jobs set lease_until = now() - interval '1 second' where id = $1 and state = 'running'";
            sea_orm::sqlx::query(lapse).bind(id).execute(&world.resources.database.pool).await?;
        }
        ensure!(kills > 0, "{stream} was not struck");
    }
    for stream in [
        "bsale.tipos_documento",
        "bsale.tipos_producto",
        "bsale.productos",
        "bsale.variantes",
        "bsale.stock",
        "bsale.listas_precio",
        "bsale.costos",
    ] {
        world.sync(stream, Mode::Full).await?;
    }
    truth::tables(&world.ours().target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn killed_workers_lose_and_double_nothing_in_mariadb() -> Result<()> {
    killed("etlkillmaria", Kind::MariaDb).await
}

#[tokio::test]
async fn killed_workers_lose_and_double_nothing_in_postgresql() -> Result<()> {
    killed("etlkillpg", Kind::Postgres).await
}

/// A worker dies when all of a run is in the sales database, and the run's end is not in the service's.
async fn ended_twice(label: &str, kind: Kind) -> Result<()> {
    // Fewer rows than the fuse cares for.
    let size = Size { products: 4, clients: 4, ..Size::default() };
    let world = World::new(label, kind, Shop::new(2, size)).await?;
    for stream in bsale::STREAMS {
        for mode in [Mode::Full, Mode::Daily] {
            let job = world.sync(stream.name, mode).await?;
            let not_ended =
                "update jobs set state = 'pending', result = null, finished_at = null, next_run_at = now()
                             where id = $1";
            sea_orm::sqlx::query(not_ended).bind(job.id).execute(&world.resources.database.pool).await?;
            let again = world.attempt(job.id).await?;
            ensure!(again.state == State::Completed, "{} {mode:?}: {:?}", stream.name, again.error);
            // A database keeps microseconds.
            let mark = |job: &jobs::Job| {
                let mark = job.result.as_ref().and_then(|result| result["marca"].as_str());
                mark.map(|mark| mark.chars().take("2026-11-26T20:04:18.206772".len()).collect::<String>())
            };
            ensure!(mark(&again) == mark(&job), "{} {mode:?}: {job:?} {again:?}", stream.name);
        }
    }
    truth::tables(&world.ours().target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn a_run_that_had_all_but_its_end_ends_the_same_in_mariadb() -> Result<()> {
    ended_twice("etlendmaria", Kind::MariaDb).await
}

#[tokio::test]
async fn a_run_that_had_all_but_its_end_ends_the_same_in_postgresql() -> Result<()> {
    ended_twice("etlendpg", Kind::Postgres).await
}

/// A worker that was paused past its lease wakes up after another has taken over: what it has read does not get in.
async fn stale(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(2, Size { clients: 120, ..Size::default() })).await?;
    let target = &world.ours().target;
    let id = world.ask(&RunParams::new("bsale.clientes", Mode::Full)).await?.job().id;
    // The first worker waits for an answer that takes its time.
    world.bsale.fail_next([Fault::Slow(Duration::from_secs(5))]);
    let (runner, runs) = (world.runner.clone(), world.runs.clone());
    let paused = tokio::spawn(async move { runner.run(id, &CancellationToken::new(), &*runs).await });
    let pool = &world.resources.database.pool;
    wait::until("the first worker should have claimed the stream", Duration::from_secs(60), async || {
        target::lane(&target.db, "bsale.clientes")
            .await
            .is_ok_and(|lane| lane.is_some_and(|lane| lane.epoch > 0))
    })
    .await?;
    let first = target::lane(&target.db, "bsale.clientes").await?.context("a lane")?.epoch;
    // It is taken for dead. What it would write is not what the second one reads.
    sea_orm::sqlx::query("update jobs set lease_until = now() - interval '1 second' where id = $1")
        .bind(id)
        .execute(pool)
        .await?;
    let job = world.attempt(id).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    let second = target::lane(&target.db, "bsale.clientes").await?.context("a lane")?;
    ensure!(second.epoch > first, "{first} {second:?}");
    drop(paused.await?);
    let after = target::lane(&target.db, "bsale.clientes").await?.context("a lane")?;
    ensure!(after == second, "the stale worker wrote: {second:?} {after:?}");
    // And the job is not what it says either.
    ensure!(world.job(id).await?.state == State::Completed);
    Ok(())
}

#[tokio::test]
async fn a_stale_workers_commit_fails_in_mariadb() -> Result<()> {
    stale("etlstalemaria", Kind::MariaDb).await
}

#[tokio::test]
async fn a_stale_workers_commit_fails_in_postgresql() -> Result<()> {
    stale("etlstalepg", Kind::Postgres).await
}

#[tokio::test]
async fn an_epoch_above_all_of_ours_is_overtaken() -> Result<()> {
    let world = World::new("etlepoch", Kind::MariaDb, Shop::new(2, Size::default())).await?;
    // The sales database outlived a schema that was made again.
    let db = &world.ours().target.db;
    let now = chrono::Utc::now();
    let row = Sql::new(
        "INSERT INTO lote_streams (stream, epoca, actualizado_en) VALUES ('bsale.clientes', 5000, ?)",
    );
    row.bind(now).run(db).await?;
    world.sync("bsale.clientes", Mode::Full).await?;
    let lane = target::lane(db, "bsale.clientes").await?.context("a lane")?;
    ensure!(lane.epoch > 5_000, "{lane:?}");
    Ok(())
}

/// Work that sleeps after it has taken the lane of a run, until a later run has the lane.
struct Sleeper {
    target: Target,
    pool: PgPool,
    lane: String,
}

#[async_trait]
impl Work for Sleeper {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let (claim, _) = Claim::take(&self.target, &self.pool, run, &self.lane).await?;
        let meanwhile = async {
            let later = Sql::new("UPDATE lote_streams SET epoca = epoca + 1 WHERE stream = ?");
            later.bind(self.lane.as_str()).run(&self.target.db).await?;
            let met =
                Sql::new("INSERT INTO lote_vistos (stream, corrida, clave) VALUES (?, 'a later run', '7')");
            met.bind(self.lane.as_str()).run(&self.target.db).await
        };
        meanwhile.await.map_err(JobError::fail)?;
        match claim.forget_others().await {
            Err(CommitError::Stale(_)) => Ok(Outcome::Done(json!({}))),
            other => Err(JobError::fail(anyhow!("{other:?}"))),
        }
    }

    async fn ended(&self, _: &mut PgConnection, _: &Job) -> Result<()> {
        Ok(())
    }
}

async fn sleeper(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(2, Size::default())).await?;
    let (target, pool) = (world.ours().target.clone(), world.resources.database.pool.clone());
    let lane = "bsale.stock".to_owned();
    let id = world.ask(&RunParams::new(&lane, Mode::Full)).await?.job().id;
    let work = Sleeper { target: target.clone(), pool, lane: lane.clone() };
    let ran = world.runner.run(id, &CancellationToken::new(), &work).await;
    ran.map_err(|error| anyhow!("{error:?}"))?;
    let job = world.job(id).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    ensure!(target::count_met(&target.db, &lane, "a later run", &[]).await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_stale_worker_forgets_nothing_that_a_later_run_has_met() -> Result<()> {
    sleeper("etlsleepmaria", Kind::MariaDb).await?;
    sleeper("etlsleeppg", Kind::Postgres).await
}

/// People build on our views; a new version of the service must not take that away.
async fn views_stay(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(3, Size { clients: 3, ..Size::default() })).await?;
    let ours = world.ours();
    ours.target.db.execute_unprepared("CREATE VIEW nombres AS SELECT nombre FROM cliente").await?;
    ours.target.migrate(tables::ALL, &views::all(&ours.settings, ours.target.backend())).await?;
    ours.target.db.execute_unprepared("SELECT nombre FROM nombres").await?;
    Ok(())
}

#[tokio::test]
async fn views_that_people_have_on_ours_outlast_a_migration() -> Result<()> {
    views_stay("etlviewspg", Kind::Postgres).await?;
    views_stay("etlviewsmy", Kind::MariaDb).await
}

#[tokio::test]
async fn a_statement_that_an_operator_ends_is_tried_again() -> Result<()> {
    let world = World::new("etlkilled", Kind::MariaDb, Shop::new(2, Size::default())).await?;
    let db = &world.ours().target.db;
    let insert = Sql::new("INSERT INTO lote_streams (stream, epoca, actualizado_en) VALUES ('x', 0, now())");
    insert.run(db).await?;
    let holder = db.begin().await?;
    Sql::new("UPDATE lote_streams SET epoca = 1 WHERE stream = 'x'").run(&holder).await?;
    let waiting = db.begin().await?;
    let number = Sql::new("SELECT CAST(connection_id() AS SIGNED) AS id").one(&waiting).await?;
    let id: i64 = number.context("its number")?.try_get("", "id")?;
    let blocked =
        async { Sql::new("UPDATE lote_streams SET epoca = 2 WHERE stream = 'x'").run(&waiting).await };
    let killing = async {
        wait::until("it should wait for the row", Duration::from_secs(20), async || {
            let statement = "SELECT count(*) AS n FROM information_schema.processlist WHERE id = ? AND info LIKE 'UPDATE%'";
            let waits = Sql::new(statement).bind(id).one(db).await;
            waits.ok().flatten().and_then(|row| row.try_get::<i64>("", "n").ok()) == Some(1)
        })
        .await?;
        db.execute_unprepared(&format!("KILL QUERY {id}")).await?;
        anyhow::Ok(())
    };
    let (ended, killed) = tokio::join!(blocked, killing);
    killed?;
    let error = ended.err().context("it was ended")?;
    ensure!(target::is_transient(&error), "{error:?}");
    ensure!(matches!(JobError::from(CommitError::Database(error)), JobError::Retry(_)));
    holder.rollback().await?;
    Ok(())
}

#[tokio::test]
async fn a_statement_that_a_timer_ends_is_tried_again() -> Result<()> {
    let world = World::new("etltimer", Kind::MariaDb, Shop::new(1, Size::default())).await?;
    // MariaDB's number, MySQL's, and one of a statement that will never do.
    for (number, again) in [(1969, true), (3024, true), (1146, false)] {
        let statement =
            format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'a test'");
        let error = world.ours().target.db.execute_unprepared(&statement).await.err();
        let error = error.with_context(|| format!("{number} is no error"))?;
        ensure!(target::is_transient(&error) == again, "{error:?}");
    }
    Ok(())
}
