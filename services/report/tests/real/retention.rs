//! What is past its days goes, and nothing else.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use jobs::NewJob;
use report::{
    domain::params::Params,
    retention::Retention,
    storage::{doctor, runs},
};
use sea_orm::sqlx;
use uuid::Uuid;

use crate::world::{World, day};

pub async fn put(world: &World, key: &str) -> Result<()> {
    let resources = &world.resources;
    let body = b"datos".to_vec().into();
    resources.s3.put_object().bucket(&resources.bucket).key(key).body(body).send().await?;
    Ok(())
}

/// Begins an upload under a key that nobody ends.
pub async fn begin(world: &World, key: &str) -> Result<()> {
    let resources = &world.resources;
    resources.s3.create_multipart_upload().bucket(&resources.bucket).key(key).send().await?;
    Ok(())
}

pub async fn objects(world: &World) -> Result<BTreeSet<String>> {
    let resources = &world.resources;
    let page = resources.s3.list_objects_v2().bucket(&resources.bucket).send().await?;
    Ok(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect())
}

pub async fn uploads(world: &World) -> Result<BTreeSet<String>> {
    let resources = &world.resources;
    let page = resources.s3.list_multipart_uploads().bucket(&resources.bucket).send().await?;
    Ok(page.uploads().iter().filter_map(|upload| upload.key().map(str::to_owned)).collect())
}

/// A run of a day that ended so long ago, or has not, and the key of its one file.
async fn run(world: &World, fecha: NaiveDate, ended: Option<TimeDelta>) -> Result<(Uuid, String)> {
    let mut transaction = world.pool.begin().await?;
    let job = NewJob::plain("report.runs", "ana", 1);
    let id = job.id;
    jobs::create(&mut transaction, job).await?;
    let run = runs::create(&mut transaction, id, fecha, &Params::default(), "ana").await?;
    ensure!(run.context("a campaign")?.files == 1, "one file");
    let key = format!("campaign-reports/{id}/1/1/report_campaign_1.csv");
    if let Some(ago) = ended {
        sqlx::query("update run_files set object_key = $2, rows = 1, bytes = 5, sha256 = 'x', changes = 1 where run_id = $1")
            .bind(id)
            .bind(&key)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "update runs set state = 'completed', done = 1, rows = 1, bytes = 5,
                    finished_at = now() - make_interval(secs => $2) where id = $1",
        )
        .bind(id)
        .bind(ago.as_seconds_f64())
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    put(world, &key).await?;
    Ok((id, key))
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

async fn purged(world: &World, run: Uuid) -> Result<bool> {
    Ok(runs::get(&world.resources.database.orm, run).await?.context("a run")?.purged_at.is_some())
}

#[tokio::test]
async fn files_past_their_days_and_leftovers_go() -> Result<()> {
    let world = World::new("reportfiles").await?;
    let (now, fecha) = (Utc::now(), Utc::now().date_naive());
    world.campaign(fecha, "Una", 1).await?;
    let almost = TimeDelta::days(90) - TimeDelta::minutes(10);
    let (old, old_key) = run(&world, fecha, Some(TimeDelta::days(90))).await?;
    let (young, young_key) = run(&world, fecha, Some(almost)).await?;
    let (active, active_key) = run(&world, fecha, None).await?;
    // Of an attempt whose worker died after it had stored its file; of nobody's run; and what is not ours.
    let stray = format!("campaign-reports/{young}/1/2/report_campaign_1.csv");
    let nobodys = format!("campaign-reports/{}/1/1/report_campaign_1.csv", Uuid::now_v7());
    let foreign = ["campaign-reports/léame.txt", "uploads/libro.xlsx"];
    for key in [stray.as_str(), &nobodys].into_iter().chain(foreign) {
        put(&world, key).await?;
    }
    begin(&world, &stray).await?;
    begin(&world, &active_key).await?;
    begin(&world, foreign[1]).await?;

    let retention = Retention::new(world.resources.clone());
    let deleted = retention.sweep(now).await?;
    ensure!(deleted == 2, "{deleted}: the old run's files, and one upload");
    ensure!(purged(&world, old).await? && !purged(&world, young).await? && !purged(&world, active).await?);
    // What has no row may still get one: nothing that young is deleted.
    let mut left = set(&foreign);
    left.extend([young_key.clone(), active_key.clone(), stray.clone(), nobodys.clone()]);
    ensure!(objects(&world).await? == left, "{:?} without {old_key}", objects(&world).await?);
    ensure!(uploads(&world).await? == set(&[&active_key, foreign[1]]), "{:?}", uploads(&world).await?);

    ensure!(retention.sweep(now + TimeDelta::hours(23)).await? == 0);
    // Two sweeps after that, doctor wonders why they are still there.
    let resources = &world.resources;
    let overlooked = async |hours| {
        let then = now + TimeDelta::hours(hours);
        report::retention::overlooked(&world.pool, &resources.s3, &resources.bucket, then).await
    };
    ensure!(overlooked(26).await?.is_empty(), "{:?}", overlooked(26).await?);
    let found = overlooked(28).await?;
    ensure!(found.len() == 2 && found.iter().any(|found| found.contains(&stray)), "{found:?}");
    // A day later nobody can be at work on what no run names, but for a run that goes on: a worker that slept for a
    // day names its file when it wakes.
    let deleted = retention.sweep(now + TimeDelta::hours(25)).await?;
    ensure!(
        deleted == 2 && objects(&world).await?.contains(&active_key),
        "{deleted}: {:?}",
        objects(&world).await?
    );
    finish(&world, active, &active_key).await?;
    let deleted = deleted + retention.sweep(now + TimeDelta::hours(25)).await?;
    left.remove(&stray);
    left.remove(&nobodys);
    ensure!(objects(&world).await? == left, "{:?}", objects(&world).await?);
    ensure!(deleted == 3, "{deleted}: two objects, and the upload of a run that has ended");
    ensure!(uploads(&world).await? == set(&[foreign[1]]), "{:?}", uploads(&world).await?);
    ensure!(retention.sweep(now + TimeDelta::hours(25)).await? == 0, "once");
    Ok(())
}

/// Ends an active run: its file is made.
async fn finish(world: &World, run: Uuid, key: &str) -> Result<()> {
    sqlx::query("update run_files set object_key = $2, rows = 1, bytes = 5, sha256 = 'x', changes = 1 where run_id = $1")
        .bind(run)
        .bind(key)
        .execute(&world.pool)
        .await?;
    sqlx::query(
        "update runs set state = 'completed', done = 1, rows = 1, bytes = 5, finished_at = now() where id = $1",
    )
    .bind(run)
    .execute(&world.pool)
    .await?;
    Ok(())
}

#[tokio::test]
async fn the_files_of_a_run_that_is_begun_again_at_the_last_moment_stay() -> Result<()> {
    let world = World::new("reportagain").await?;
    let (now, fecha) = (Utc::now(), Utc::now().date_naive());
    world.campaign(fecha, "Una", 1).await?;
    let (id, key) = run(&world, fecha, Some(TimeDelta::days(91))).await?;
    // Somebody begins its failed files again: the run is found due, and is not by the time it is held.
    let mut retry = world.pool.begin().await?;
    runs::lock(&mut retry, id).await?;
    let sweeping = tokio::spawn({
        let retention = Retention::new(world.resources.clone());
        async move { retention.sweep(now).await }
    });
    stack::wait::until("the clean-up waits for the run", std::time::Duration::from_secs(60), || async {
        let waiting = "select exists (select from pg_stat_activity where usename = current_user
                 and wait_event_type = 'Lock' and query like '%runs%')";
        sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap_or(false)
    })
    .await?;
    sqlx::query("update runs set state = 'running', finished_at = null where id = $1")
        .bind(id)
        .execute(&mut *retry)
        .await?;
    retry.commit().await?;
    ensure!(sweeping.await?? == 0);
    ensure!(
        !purged(&world, id).await? && objects(&world).await? == set(&[&key]),
        "{:?}",
        objects(&world).await?
    );
    Ok(())
}

#[tokio::test]
async fn days_past_their_days_go_with_their_rows() -> Result<()> {
    let world = World::new("reportdays").await?;
    // In Bogotá it is still the ninth.
    let now: DateTime<Utc> = "2028-01-10T04:59:59Z".parse()?;
    let settings = &world.resources.settings;
    let first = day("2028-01-09")? - Days::new(1_100);
    ensure!(settings.first_day(now) == first, "{}", settings.first_day(now));
    ensure!(!settings.is_past(first, now) && settings.is_past(first - Days::new(1), now));
    let (past, empty) = (first - Days::new(1), first - Days::new(400));
    world.campaign(past, "Vieja", 20).await?;
    world.campaign(past, "También", 20).await?;
    let kept = world.campaign(first, "Todavía", 30).await?;
    // A day whose campaigns never had a row, and a day of rows only.
    world.campaign(empty - Days::new(1), "Sin filas", 0).await?;
    sqlx::query("select ensure_day($1)").bind(empty).execute(&world.pool).await?;

    // While somebody else is at it, nobody else is.
    let retention = Retention::new(world.resources.clone());
    let mut turn = world.pool.begin().await?;
    chassis::lock::hold(&mut turn, "retention").await?;
    ensure!(retention.sweep(now).await? == 0, "two at once");
    turn.rollback().await?;

    let deleted = retention.sweep(now).await?;
    ensure!(deleted == 3, "{deleted} days");
    let campaigns: Vec<(i64, NaiveDate)> =
        sqlx::query_as("select id, fecha from ta_sms_maestro").fetch_all(&world.pool).await?;
    ensure!(campaigns == [(kept, first)], "{campaigns:?}");
    let rows: i64 = sqlx::query_scalar("select count(*) from ta_sms_detalle where id_maestro = $1")
        .bind(kept)
        .fetch_one(&world.pool)
        .await?;
    ensure!(rows == 30, "{rows} rows");
    let days: Vec<(NaiveDate, i64)> =
        sqlx::query_as("select fecha, total from campaigns_per_day").fetch_all(&world.pool).await?;
    ensure!(days == [(first, 1)], "{days:?}");
    let partitions: Vec<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'ta_sms_detalle'::regclass",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(partitions == [format!("ta_sms_detalle_{}", first.format("%Y%m%d"))], "{partitions:?}");
    ensure!(retention.sweep(now).await? == 0, "once");
    ensure!(doctor::doctor(&world.pool).await?.is_empty(), "{:?}", doctor::doctor(&world.pool).await?);
    // A second later it is the tenth in Bogotá.
    ensure!(retention.sweep(now + TimeDelta::seconds(1)).await? == 1);
    Ok(())
}

#[tokio::test]
async fn runs_go_with_their_day_and_take_their_jobs_along() -> Result<()> {
    let world = World::new("reportruns").await?;
    let (now, fecha) = (Utc::now(), Utc::now().date_naive());
    world.campaign(fecha, "Una", 1).await?;
    let (purged_run, _) = run(&world, fecha, Some(TimeDelta::days(95))).await?;
    let (recent, _) = run(&world, fecha, Some(TimeDelta::days(1))).await?;
    let retention = Retention::new(world.resources.clone());
    retention.sweep(now).await?;
    ensure!(purged(&world, purged_run).await? && !purged(&world, recent).await?);
    // Their jobs ended as long ago as they, and each file has one.
    sqlx::query(
        "with files as (
             insert into jobs (id, kind, params, max_attempts, state, finished_at)
             select gen_random_uuid(), 'report.files', '{}', 1, 'completed', now() - interval '95 days'
             from run_files returning id),
         numbered as (select id, row_number() over () as n from files),
         given as (
             update run_files f set job_id = numbered.id from numbered,
                 (select run_id, row_number() over () as n from run_files) r
             where r.n = numbered.n and f.run_id = r.run_id)
         update jobs set state = 'completed', finished_at = now() - interval '95 days' where kind = 'report.runs'",
    )
    .execute(&world.pool)
    .await?;
    let jobs =
        async || sqlx::query_scalar::<_, i64>("select count(*) from jobs").fetch_one(&world.pool).await;
    ensure!(
        retention.sweep(now).await? == 0 && jobs().await? == 4,
        "what a run shows stays: {}",
        jobs().await?
    );

    // Its day is over. The other's files are kept for longer.
    let days = i32::try_from(world.resources.settings.row_days)?;
    sqlx::query("update runs set fecha = fecha - $1::int").bind(days + 2).execute(&world.pool).await?;
    ensure!(retention.sweep(now).await? == 3, "a run and its two jobs");
    ensure!(runs::get(&world.resources.database.orm, purged_run).await?.is_none());
    ensure!(!purged(&world, recent).await? && jobs().await? == 2, "{} jobs", jobs().await?);
    ensure!(retention.sweep(now).await? == 0, "once");
    Ok(())
}
