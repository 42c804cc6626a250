//! What an import brought in is taken out, and nothing else.

use std::path::Path;

use anyhow::{Result, ensure};
use jobs::NewJob;
use sea_orm::sqlx;
use sms_dispatch::{
    domain::source::Kind,
    import::source::fingerprint,
    jobs::{import_contacts::LOCAL_KIND, roll_back_import},
    storage::imports::{self, NewImport, Options},
};
use stack::contacts::{self, Dirt, Spec};
use uuid::Uuid;

use crate::{
    picture::{self, BUT_UPDATED_AT},
    source::{Row, numeros},
    world::{World, settings},
};

fn generate(world: &World, name: &str, rows: u64, seed: u64) -> Result<std::path::PathBuf> {
    let path = world.path(name);
    let dirt = Dirt { twins: 0.05, dirty_twins: 0.05, rejects: 0.003, ..Dirt::default() };
    contacts::generate(&path, &Spec { rows, seed, dirt }, |_| ())?;
    Ok(path)
}

#[tokio::test]
async fn the_latest_goes_then_the_one_before() -> Result<()> {
    let world = World::new("smsroll").await?;
    let (first, _) = world.import(&generate(&world, "a.db", 6_000, 1)?).await?;
    let before = picture::take(&world.pool, BUT_UPDATED_AT).await?;
    let (second, report) = world.import(&generate(&world, "b.db", 9_000, 2)?).await?;
    ensure!(report.updated > 5_000 && report.created > 2_000, "{report:?}");

    let refused = world.run(&["contacts", "rollback", &first.id.to_string()]).await?;
    let told = format!("Revierta primero la importación {}", second.id);
    ensure!(!refused.0.success() && refused.2.contains(&told), "{}", refused.2);
    let nobody = world.run(&["contacts", "rollback", "00000000-0000-0000-0000-000000000001"]).await?;
    ensure!(!nobody.0.success() && nobody.2.contains("there is no import 00000000"), "{}", nobody.2);

    let (status, out, said) = world.run(&["contacts", "rollback", &second.id.to_string()]).await?;
    ensure!(status.success() && out.contains("rolled back"), "{said}");
    picture::same(&before, &picture::take(&world.pool, BUT_UPDATED_AT).await?)?;
    world.is_sound().await?;
    let views = "select sum(total_contacts) from contacts_by_state";
    ensure!(world.count(views).await? == i64::try_from(before.len())?, "the views count what is gone");
    // Again is no harm, and what came back can be taken out in its turn.
    world.roll_back(&second).await?;
    picture::same(&before, &picture::take(&world.pool, BUT_UPDATED_AT).await?)?;
    world.roll_back(&first).await?;
    for table in ["contacts", "contact_rejects", "contact_merges", "contact_changes", "import_batches"] {
        let rows = world.count(&format!("select count(*) from {table}")).await?;
        ensure!(rows == 0, "{table} holds {rows} rows");
    }
    world.is_sound().await?;
    // It is as if they had never been.
    let (import, report) = world.import(&world.path("a.db")).await?;
    ensure!(import.mode.map(|mode| mode.name()) == Some("fast") && report.created > 5_000, "{report:?}");
    world.is_sound().await
}

#[tokio::test]
async fn what_somebody_changed_since_stays() -> Result<()> {
    let world = World::new("smskept").await?;
    let rows = |name: &str| {
        [1, 2, 3]
            .map(|id| Row::new(id, format!("612100470{id}")).nombre(name).direccion(format!("{name} {id}")))
    };
    world.import(&numeros(&world, "a.db", &rows("ANA"))?).await?;
    let (second, _) = world.import(&numeros(&world, "b.db", &rows("BERTA"))?).await?;
    world
        .execute(
            "update contacts set full_name = 'CORREGIDA' where phone_e164 = '+526121004702';
             update contacts set city = 'La Paz', status = 'INACTIVE' where phone_e164 = '+526121004703'",
        )
        .await?;
    world.roll_back(&second).await?;
    let found: Vec<String> = sqlx::query_scalar(
        "select concat_ws('|', full_name, address, city, status) from contacts order by phone_e164",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(
        found == ["ANA|ANA 1|ACTIVE", "CORREGIDA|ANA 2|ACTIVE", "ANA|ANA 3|La Paz|INACTIVE"],
        "{found:?}"
    );
    world.is_sound().await
}

#[tokio::test]
async fn of_several_reasons_the_one_in_effect_counts_wherever_a_batch_ends() -> Result<()> {
    let world = World::new("smsbatchend").await?;
    // Suppressions are looked through 10,000 at a time; the 10,000th is the first of a phone's two.
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
                 select '+52' || 5500000000 + n, 'repep', now() - interval '1 day', 'repep.csv'
                 from generate_series(1, 9999) n;
             insert into suppressions (phone_e164, reason, effective_at, source) values
                 ('+526121004701', 'manual', now() + interval '30 days', 'ana'),
                 ('+526121004701', 'opt_out', now() - interval '1 day', 'sms')",
        )
        .await?;
    world.import(&numeros(&world, "a.db", &[Row::new(1, "6121004701")])?).await?;
    ensure!(world.count("select count(*) from contacts where opt_out_at is not null").await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn who_opted_out_stays_out() -> Result<()> {
    let world = World::new("smsoptout").await?;
    let rows: Vec<Row> = (1..=4).map(|id| Row::new(id, format!("612100470{id}"))).collect();
    let file = numeros(&world, "a.db", &rows)?;
    let (import, _) = world.import(&file).await?;
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source) values
                 ('+526121004701', 'opt_out', now() - interval '1 day', 'sms'),
                 ('+526121004702', 'repep', now() + interval '30 days', 'repep.csv'),
                 ('+526121004703', 'repep', now() - interval '2 days', 'repep.csv'),
                 ('+526121004703', 'manual', now() - interval '3 days', 'ana'),
                 ('+526121009999', 'opt_out', now() - interval '1 day', 'sms');
             update contacts set opt_out_at = now() where phone_e164 = '+526121004701'",
        )
        .await?;
    let out = "select string_agg(right(phone_e164, 1), '' order by phone_e164) from contacts where opt_out_at is not null";
    world.roll_back(&import).await?;
    ensure!(world.count("select count(*) from contacts").await? == 0);
    ensure!(world.count("select count(*) from suppressions").await? == 5);
    for mode in ["fast", "merge"] {
        let (import, _) = world.import(&file).await?;
        ensure!(import.mode.map(|mode| mode.name()) == Some(mode));
        let marked: Option<String> = sqlx::query_scalar(out).fetch_one(&world.pool).await?;
        // One whose date is to come may be written to until then.
        ensure!(marked.as_deref() == Some("13"), "{mode}: {marked:?}");
        let since =
            "select extract(day from now() - opt_out_at) from contacts where phone_e164 = '+526121004703'";
        ensure!(world.count(since).await? == 3, "the earliest reason counts");
        world.is_sound().await?;
    }
    Ok(())
}

/// An import that somebody asked for and that has not begun: it waits for its file, or for its next attempt.
async fn ask(world: &World, file: &Path) -> Result<()> {
    let id = Uuid::now_v7();
    let options = Options { batch_size: Some(settings().batch_rows), ..Options::default() };
    let mut transaction = world.pool.begin().await?;
    jobs::create(&mut transaction, NewJob { id, ..NewJob::plain(LOCAL_KIND, "test", 3) }).await?;
    let import = NewImport {
        id,
        source: "a.db",
        kind: Kind::Sqlite,
        object_key: None,
        path: file.to_str(),
        fingerprint: Some(&fingerprint(file)?),
        consent: "unknown",
        options: &options,
        imported_by: "test",
    };
    imports::insert(&mut transaction, &import).await?;
    transaction.commit().await?;
    Ok(())
}

#[tokio::test]
async fn the_import_that_wrote_last_goes_first_whichever_was_asked_for_first() -> Result<()> {
    let world = World::new("smsorder").await?;
    let early = numeros(&world, "a.db", &[Row::new(1, "6121004701"), Row::new(2, "6121004702")])?;
    let late = numeros(&world, "b.db", &[Row::new(1, "6121004701"), Row::new(2, "6121004703")])?;
    ask(&world, &early).await?;
    let (late, _) = world.import(&late).await?;
    // The one that was asked for first writes now, and finds one of its contacts there.
    let (early, report) = world.import(&early).await?;
    ensure!(early.number < late.number && report.unchanged == 1, "{early:?} {report:?}");

    let refused = world.run(&["contacts", "rollback", &late.id.to_string()]).await?;
    let told = format!("Revierta primero la importación {}", early.id);
    ensure!(!refused.0.success() && refused.2.contains(&told), "{}", refused.2);
    ensure!(world.count("select count(*) from contacts").await? == 3, "the earlier import lost a contact");
    world.roll_back(&early).await?;
    ensure!(world.count("select count(*) from contacts").await? == 2);
    world.is_sound().await?;
    world.roll_back(&late).await?;
    ensure!(world.count("select count(*) from contacts").await? == 0);
    world.is_sound().await
}

#[tokio::test]
async fn imports_that_wrote_by_turns_stand_on_each_other() -> Result<()> {
    let world = World::new("smsturns").await?;
    let first = generate(&world, "a.db", 6_000, 1)?;
    let second = generate(&world, "b.db", 3_000, 2)?;
    let args = ["import", &first.display().to_string(), "--batch-size", "1000"];
    let command = world.command(&args)?.env("FAILPOINTS", "batch-committed=3*off->1*return");
    let (status, _) = command.run().await?;
    ensure!(!status.success());
    let (second, _) = world.import(&second).await?;
    let (status, _, said) = world.run(&args).await?;
    ensure!(status.success(), "{said}");
    let first: Uuid = sqlx::query_scalar("select id from imports where id <> $1")
        .bind(second.id)
        .fetch_one(&world.pool)
        .await?;
    for (one, other) in [(first, second.id), (second.id, first)] {
        let refused = world.run(&["contacts", "rollback", &one.to_string()]).await?;
        let told = format!("Esta importación y la {other} escribieron por turnos");
        ensure!(!refused.0.success() && refused.2.contains(&told), "{}", refused.2);
    }
    world.is_sound().await
}

#[tokio::test]
async fn after_a_restore_a_rollback_is_done_again() -> Result<()> {
    let world = World::new("smsagain").await?;
    let (import, _) = world.import(&numeros(&world, "a.db", &[Row::new(1, "6121004701")])?).await?;
    let dump = world.path("sms.dump").display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &dump]).await?;
    ensure!(status.success(), "{said}");
    let ask = async || -> Result<Option<jobs::Job>> {
        let mut transaction = world.pool.begin().await?;
        let job = roll_back_import::create(&mut transaction, &settings(), import.id, "ana", None).await?;
        transaction.commit().await?;
        Ok(job)
    };
    let work = roll_back_import::RollBackImports { pool: world.pool.clone(), settings: settings().into() };
    let end = async |job: &jobs::Job| {
        let stop = tokio_util::sync::CancellationToken::new();
        jobs::Runner::new(world.pool.clone()).run(job.id, &stop, &work).await
    };
    for round in 0..3 {
        ensure!(world.count("select count(*) from contacts").await? == 1);
        let job = ask().await?;
        let job = job.ok_or_else(|| anyhow::anyhow!("round {round}: an old job is taken for this one"))?;
        // Asked twice, it is done once.
        ensure!(ask().await?.is_none(), "a second job was made");
        end(&job).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        ensure!(world.count("select count(*) from contacts").await? == 0, "round {round}");
        let (status, _, said) = world.run(&["contacts", "restore", &dump]).await?;
        ensure!(status.success(), "{said}");
    }
    world.is_sound().await
}

#[tokio::test]
async fn what_a_provider_said_since_stays() -> Result<()> {
    let world = World::new("smssaid").await?;
    let rows = [Row::new(1, "6121004701"), Row::new(2, "6121004702"), Row::new(3, "6121004703")];
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    world
        .execute(
            "update contacts set operator = 'TELCEL', is_mobile = true where right(phone_e164, 1) in ('1', '2');
             insert into numbering_plan values (6121004700, 6121004702, false, 'TELMEX')",
        )
        .await?;
    let invalid = rows.clone().map(|row| row.valido(0));
    let (second, report) = world.import(&numeros(&world, "b.db", &invalid)?).await?;
    ensure!(report.updated == 3, "{report:?}");
    // A provider says of two what the import left, so that nothing about their contacts changes.
    world
        .execute(
            "insert into phone_lookups (phone_e164, provider, operator, is_mobile, is_valid, validation) values
                 ('+526121004701', 'telnyx', 'TELMEX', false, null, gen_random_uuid()),
                 ('+526121004703', 'telnyx', null, null, false, gen_random_uuid())",
        )
        .await?;
    world.roll_back(&second).await?;
    let found: Vec<String> = sqlx::query_scalar(
        "select concat_ws('|', operator, is_mobile, is_valid, status) from contacts order by phone_e164",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(found == ["TELMEX|f|t|ACTIVE", "TELCEL|t|t|ACTIVE", "f|INVALID"], "{found:?}");
    Ok(())
}
