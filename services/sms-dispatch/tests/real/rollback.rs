//! What an import brought in is taken out, and nothing else.

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use stack::contacts::{self, Dirt, Spec};

use crate::{
    picture::{self, BUT_UPDATED_AT},
    source::{Row, numeros},
    world::World,
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
