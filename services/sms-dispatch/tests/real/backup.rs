//! A backup is rehearsed: made, damaged, restored into a table that went on.

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use stack::contacts::{self, Dirt, Spec};

use crate::{
    picture,
    source::{Row, numeros},
    world::World,
};

/// What a restore brings back as it was. Who opted out later stays out, and is written to for it.
const BROUGHT_BACK: &[&str] = &["opt_out_at", "updated_at"];

#[tokio::test]
async fn a_backup_is_restored_and_nobody_who_opted_out_comes_back() -> Result<()> {
    let world = World::new("smsbackup").await?;
    let file = world.path("numeros.db");
    let dirt = Dirt { twins: 0.05, dirty_twins: 0.05, rejects: 0.003, damaged: 0.01, ..Dirt::default() };
    contacts::generate(&file, &Spec { rows: 5_000, seed: 1, dirt }, |_| ())?;
    world.import(&file).await?;
    // Texts that a dump must quote.
    world
        .execute(
            r"update contacts set full_name = E'A\tB\\.\nC', address = '\N' where id in (select id from contacts limit 3);
              insert into suppressions (phone_e164, reason, effective_at, source)
                  select phone_e164, 'opt_out', now() - interval '1 day', 'sms' from contacts order by id limit 10;
              update contacts c set opt_out_at = s.effective_at from suppressions s where s.phone_e164 = c.phone_e164",
        )
        .await?;
    let ledgers =
        "select (select count(*) from contact_rejects) * 1000000 + (select count(*) from contact_merges)";
    let (before, ledgers_before) =
        (picture::take(&world.pool, BROUGHT_BACK).await?, world.count(ledgers).await?);

    let dump = world.path("sms.dump");
    let name = dump.display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &name]).await?;
    ensure!(status.success(), "{said}");
    // One that is there is overwritten by who says so.
    let (status, _, said) = world.run(&["contacts", "backup", &name]).await?;
    ensure!(!status.success() && said.contains("--overwrite"), "{status}: {said}");
    let (status, out, said) = world.run(&["contacts", "backup", "--overwrite", &name]).await?;
    ensure!(status.success(), "{said}");
    let sum = std::fs::read_to_string(world.path("sms.dump.sha256"))?;
    ensure!(
        sum.ends_with("  sms.dump\n") && out.contains(sum.split(' ').next().unwrap_or("?")),
        "{sum} {out}"
    );
    ensure!(!world.path("sms.dump.partial").exists());

    // Life goes on: another import, opt-outs come and, by somebody's mistake, go.
    let more: Vec<Row> = (0..50).map(|id| Row::new(id, format!("80099988{id:02}")).nombre("NUEVA")).collect();
    let (later, _) = world.import(&numeros(&world, "more.db", &more)?).await?;
    world
        .execute(
            "delete from suppressions where phone_e164 in (select phone_e164 from suppressions order by 1 limit 4);
             insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'opt_out', now() - interval '1 hour', 'sms' from contacts
                 where opt_out_at is null order by id limit 5;
             insert into suppressions (phone_e164, reason, effective_at, source)
                 values ('+528009998801', 'opt_out', now() - interval '1 hour', 'sms');
             update contacts set full_name = 'OTRA', city = null; delete from contacts where id % 7 = 0",
        )
        .await?;
    let last_id = world.count("select max(id) from contacts").await?;

    let (status, out, said) = world.run(&["contacts", "restore", &name]).await?;
    ensure!(status.success(), "{said}");
    let told = format!("{} contacts restored, 4 suppressions added", before.len());
    ensure!(out.contains(&told), "{out}, not {told}");
    picture::same(&before, &picture::take(&world.pool, BROUGHT_BACK).await?)?;
    ensure!(world.count(ledgers).await? == ledgers_before);
    ensure!(world.count("select count(*) from suppressions").await? == 16);
    ensure!(world.count("select count(*) from contacts where opt_out_at is not null").await? == 15);
    ensure!(world.count("select count(*) from imports").await? == 1, "a later import is still there");
    world.is_sound().await?;

    // Neither an id nor an import's number is given twice: what was noted down of them means somebody else.
    let (again, report) = world.import(&numeros(&world, "again.db", &more)?).await?;
    ensure!(report.created == 50 && again.number > later.number, "{again:?} after {later:?}");
    let first: i64 = sqlx::query_scalar("select min(id) from contacts where import = $1")
        .bind(again.number)
        .fetch_one(&world.pool)
        .await?;
    ensure!(first > last_id, "{first} was given before: {last_id} was the last");
    let out = "select count(*) from contacts where phone_e164 = '+528009998801' and opt_out_at is not null";
    ensure!(world.count(out).await? == 1, "who opted out after the backup can be written to");
    world.is_sound().await?;
    world.roll_back(&again).await?;
    picture::same(&before, &picture::take(&world.pool, BROUGHT_BACK).await?)?;
    world.is_sound().await
}

#[tokio::test]
async fn what_providers_said_since_a_backup_stands_after_it() -> Result<()> {
    let world = World::new("smsbackup").await?;
    let rows: Vec<Row> = (1..=3).map(|id| Row::new(id, format!("612100470{id}")).nombre("ANA")).collect();
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    // One of which a provider said that it can't be, and somebody otherwise since.
    world
        .execute(
            "insert into phone_lookups (phone_e164, provider, is_valid, validation, looked_up_at)
                 values ('+526121004701', 'telnyx', false, gen_random_uuid(), now() - interval '1 day')",
        )
        .await?;
    let name = world.path("sms.dump").display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &name]).await?;
    ensure!(status.success(), "{said}");
    world
        .execute(
            "insert into phone_lookups (phone_e164, provider, is_valid, validation)
                 values ('+526121004702', 'telnyx', false, gen_random_uuid());
             update contacts set is_valid = false, status = 'INVALID', updated_at = now()
             where phone_e164 = '+526121004702'",
        )
        .await?;
    let (status, _, said) = world.run(&["contacts", "restore", &name]).await?;
    ensure!(status.success(), "{said}");
    let found: Vec<String> =
        sqlx::query_scalar("select status from contacts order by phone_e164").fetch_all(&world.pool).await?;
    ensure!(found == ["ACTIVE", "INVALID", "ACTIVE"], "{found:?}");
    world.is_sound().await
}

/// What was sent was sent, whatever contacts there are.
#[tokio::test]
async fn neither_a_restore_nor_a_rollback_changes_what_phones_were_sent() -> Result<()> {
    let world = World::new("smsbackup").await?;
    let rows: Vec<Row> = (1..=3).map(|id| Row::new(id, format!("612100470{id}")).nombre("ANA")).collect();
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    let sent = "update phone_sends set sends = sends + 1, last_sent_at = now(), sender = 'LOTE';
                update messages set state = 5, attempt = 1, version = version + 2, sent_at = now()";
    // To those three, and to one who comes with a later file.
    world
        .execute(
            "select ensure_message_day('2026-11-26');
             insert into messages (campaign, position, date, phone_e164, lada, vars, variant)
                 select 1, n, date '2026-11-26', '+52612100470' || n, '612', '{}'::text[], 0 from generate_series(1, 4) n;
             insert into phone_sends (phone_e164, marketing_campaign, marketing_at)
                 select phone_e164, 1, now() from messages",
        )
        .await?;
    let name = world.path("sms.dump").display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &name]).await?;
    ensure!(status.success(), "{said}");
    world.execute(sent).await?;
    let picture = async || {
        let rows =
            "select m::text || p::text from messages m join phone_sends p using (phone_e164) order by 1";
        anyhow::Ok(sqlx::query_scalar::<_, String>(rows).fetch_all(&world.pool).await?)
    };
    let before = picture().await?;
    ensure!(before.len() == 4, "{before:?}");
    let (status, _, said) = world.run(&["contacts", "restore", &name]).await?;
    ensure!(status.success(), "{said}");
    ensure!(picture().await? == before, "a restore changed it");
    let later = [Row::new(4, "6121004704".to_owned()).nombre("EVA")];
    let (import, _) = world.import(&numeros(&world, "more.db", &later)?).await?;
    ensure!(world.count("select count(*) from contacts").await? == 4);
    world.roll_back(&import).await?;
    ensure!(world.count("select count(*) from contacts").await? == 3);
    ensure!(picture().await? == before, "a rollback changed it");
    Ok(())
}

#[tokio::test]
async fn what_is_damaged_or_comes_at_the_wrong_time_is_refused() -> Result<()> {
    let world = World::new("smsbackup").await?;
    let rows: Vec<Row> = (0..50).map(|id| Row::new(id, format!("61210047{id:02}")).nombre("ANA")).collect();
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    let dump = world.path("sms.dump");
    let name = dump.display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &name]).await?;
    ensure!(status.success(), "{said}");
    let before = picture::take(&world.pool, picture::ALL).await?;
    let refused = async |told: &str| -> Result<()> {
        let (status, out, said) = world.run(&["contacts", "restore", &name]).await?;
        ensure!(!status.success() && out.is_empty(), "{out}");
        let last = said.lines().last().unwrap_or_default();
        ensure!(said.contains(told), "{told:?} is not in {last}");
        picture::same(&before, &picture::take(&world.pool, picture::ALL).await?)?;
        world.is_sound().await
    };
    let good = std::fs::read(&dump)?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&dump, &bad)?;
    refused("is damaged: its SHA-256 is").await?;
    std::fs::write(&dump, &good[..good.len() - 100])?;
    refused("is damaged: its SHA-256 is").await?;

    // Another program's file, with its own checksum: nothing is emptied before it is read.
    let sums = world.path("sms.dump.sha256");
    let kept = std::fs::read(&sums)?;
    std::fs::write(&dump, "hola")?;
    std::fs::write(&sums, "b221d9dbb083a7f33428d7c2a3c3198ae925614d70210e28716ccaa7cd4ddb79  sms.dump\n")?;
    refused("pg_restore").await?;
    std::fs::remove_file(&sums)?;
    refused("sms.dump.sha256 can't be read").await?;
    std::fs::write(&sums, kept)?;
    std::fs::write(&dump, good)?;

    let mut turn = world.pool.acquire().await?;
    let lock = "select pg_advisory_lock(hashtext(current_schema() || '.contact imports'))";
    sqlx::query(lock).execute(&mut *turn).await?;
    refused("an import or a rollback runs").await?;
    turn.close().await?;
    let (status, out, said) = world.run(&["contacts", "restore", &name]).await?;
    ensure!(status.success() && out.starts_with("50 contacts restored, 0 suppressions"), "{out} {said}");
    world.is_sound().await
}
