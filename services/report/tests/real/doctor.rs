//! The doctor finds what is wrong, each kind of it.

use anyhow::{Result, ensure};
use jobs::NewJob;
use report::{
    domain::params::Params,
    storage::{doctor, runs},
};
use sea_orm::sqlx;

use crate::world::{World, day};

/// What goes wrong, how it is put right again, and what must be said of it.
const WRONGS: [(&str, &str, &str); 8] = [
    (
        "update run_files set object_key = 'x', sha256 = 'x', rows = 0, bytes = 0",
        "update run_files set object_key = null, sha256 = null, rows = null, bytes = null",
        "says 0 files done and 0 failed, its files say 1 and 0",
    ),
    ("update runs set rows = 7", "update runs set rows = 0", "says 7 rows and 0 bytes, its files have 0 and 0"),
    ("update runs set files = 2", "update runs set files = 1", "has 1 files, its row says 2"),
    (
        "update runs set failed = 1",
        "update runs set failed = 0",
        "all of its files have ended, and it has not",
    ),
    (
        "update run_files set job_id = run_id;
         update jobs set state = 'completed', finished_at = now()",
        "update run_files set job_id = null;
         update jobs set state = 'pending', finished_at = null",
        "has a completed job and no file",
    ),
    (
        "update campaigns_per_day set total = 2",
        "update campaigns_per_day set total = 1",
        "campaigns_per_day says 2 campaigns, there are 1",
    ),
    (
        "update ta_sms_maestro set filas = 6",
        "update ta_sms_maestro set filas = 5",
        "has 5 rows, its row says 6",
    ),
    (
        "insert into schedules (id, cron, zone, missed, params, active, next_at, created_by)
         values (gen_random_uuid(), '0 6 * * *', 'UTC', 'ultima', '{}', true, now() - interval '1 hour', 'ana')",
        "delete from schedules",
        "has been due for 3600 s",
    ),
];

#[tokio::test]
async fn each_wrong_is_found_and_what_is_right_is_not() -> Result<()> {
    let world = World::new("reportdoctor").await?;
    let fecha = day("2025-01-27")?;
    world.campaign(fecha, "Una", 5).await?;
    let mut transaction = world.pool.begin().await?;
    let job = NewJob::plain("report.runs", "ana", 1);
    let id = job.id;
    jobs::create(&mut transaction, job).await?;
    ensure!(runs::create(&mut transaction, id, fecha, &Params::default(), "ana").await?.is_some());
    transaction.commit().await?;
    for (wrong, right, told) in WRONGS {
        let before = doctor::doctor(&world.pool).await?;
        ensure!(before.is_empty(), "before {wrong}: {before:#?}");
        sqlx::raw_sql(wrong).execute(&world.pool).await?;
        let found = doctor::doctor(&world.pool).await?;
        ensure!(found.iter().any(|found| found.contains(told)), "{wrong}: {found:#?}");
        sqlx::raw_sql(right).execute(&world.pool).await?;
    }
    ensure!(doctor::doctor(&world.pool).await?.is_empty());
    Ok(())
}
