//! Generated databases become what their generator says they come to.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use sms_dispatch::import::quality::Report;
use stack::contacts::{self, Dirt, Spec, Truth};

use crate::{
    picture::{self, ALL, CONTENT, PEOPLE},
    source,
    world::World,
};

/// Much dirtier than the real file, so that few rows have enough of everything.
fn dirt() -> Dirt {
    Dirt {
        twins: 0.04,
        dirty_twins: 0.03,
        rejects: 0.004,
        damaged: 0.01,
        blobs: 0.01,
        odd_dates: 0.1,
        ..Dirt::default()
    }
}

fn generate(world: &World, name: &str, rows: u64, seed: u64) -> Result<(PathBuf, Truth)> {
    let path = world.path(name);
    let truth = contacts::generate(&path, &Spec { rows, seed, dirt: dirt() }, |_| ())?;
    Ok((path, truth))
}

/// Compares what an import into an empty table came to.
async fn is_true(world: &World, truth: &Truth, report: &Report) -> Result<()> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let rejected: BTreeMap<String, i64> =
        truth.rejected.iter().map(|(reason, rows)| (reason.clone(), signed(*rows))).collect();
    ensure!(report.rejected_by_reason == rejected, "{report:?} and not {rejected:?}");
    let told = (report.rows, report.created, report.merged, report.rejected, report.repaired);
    let counts = [truth.rows, truth.contacts, truth.merged, truth.rejects(), truth.damaged].map(signed);
    ensure!(<[i64; 5]>::from(told) == counts, "{told:?} and not {truth:?}");
    ensure!(report.updated == 0 && report.unchanged == 0, "{report:?}");
    for (what, count, should) in [
        ("contacts", "select count(*) from contacts", truth.contacts),
        ("phones", "select count(distinct phone_e164) from contacts", truth.contacts),
        (
            "phones in E.164",
            r"select count(*) from contacts where phone_e164 ~ '^\+52[2-9][0-9]{9}$'",
            truth.contacts,
        ),
        ("without a name", "select count(*) from contacts where full_name is null", truth.unnamed),
        ("flagged", "select count(*) from contacts where not is_valid and status = 'INVALID'", truth.flagged),
        ("active", "select count(*) from contacts where status = 'ACTIVE'", truth.contacts - truth.flagged),
        (
            "of missing LADAs",
            "select count(*) from contacts where lada in (select lada from source_missing_ladas)",
            truth.missing_lada,
        ),
        ("blank", "select count(*) from contacts where full_name <> trim(full_name) or city = ''", 0),
        ("rejects", "select count(*) from contact_rejects", truth.rejects()),
        ("merges", "select count(*) from contact_merges", truth.merged),
        ("staged", "select count(*) from import_staged", 0),
        ("guessed types", "select count(*) from contacts where is_mobile is not null", 0),
        ("in the views", "select sum(total_contacts) from contacts_by_lada", truth.contacts),
    ] {
        let found = world.count(count).await?;
        ensure!(found == signed(should), "{what}: {found} and not {should}");
    }
    ensure!(report.sample.rows == 1_000.min(signed(truth.rows)), "{:?}", report.sample);
    ensure!(report.e164_percent.to_bits() == 100.0_f64.to_bits(), "{}", report.e164_percent);
    let by_state: i64 = report.by_state.values().sum();
    ensure!(by_state == report.created && report.top_ladas.len() == 20, "{report:?}");
    Ok(())
}

#[tokio::test]
async fn an_import_comes_to_the_truth_and_again_to_nothing() -> Result<()> {
    let world = World::new("smstruth").await?;
    let (file, truth) = generate(&world, "numeros.db", 30_000, 7)?;
    let before = std::fs::read(&file)?;
    let (_, report) = world.import(&file).await?;
    is_true(&world, &truth, &report).await?;
    world.is_sound().await?;

    let page = report.to_markdown();
    for (name, rows) in [
        ("leídas", truth.rows),
        ("contactos nuevos", truth.contacts),
        ("contactos actualizados", 0),
        ("duplicados fusionados", truth.merged),
        ("rechazadas", truth.rejects()),
        ("valores reparados", truth.damaged),
        ("phone_letters", truth.rejected["phone_letters"]),
    ] {
        ensure!(page.contains(&format!("| {name} | {rows} |")), "{name} {rows} is not on the page:\n{page}");
    }
    ensure!(page.contains("E.164 100.00 %") && page.contains("1000 iguales, 0 distintas"), "{page}");

    let first = picture::take(&world.pool, ALL).await?;
    let (_, again) = world.import(&file).await?;
    ensure!((again.created, again.updated, again.unchanged) == (0, 0, report.created), "{again:?}");
    ensure!((again.merged, again.rejected) == (report.merged, report.rejected), "{again:?}");
    // No row was written to: not even its updated_at moved.
    picture::same(&first, &picture::take(&world.pool, ALL).await?)?;
    world.is_sound().await?;
    ensure!(std::fs::read(&file)? == before, "the source was written to");
    ensure!(std::fs::read_dir(world.folder.path())?.count() == 1, "something was left beside the source");
    Ok(())
}

#[tokio::test]
async fn the_halves_of_a_file_come_to_the_whole() -> Result<()> {
    let world = World::new("smshalves").await?;
    let (file, truth) = generate(&world, "numeros.db", 12_000, 8)?;
    let (one, other) = (world.path("one.db"), world.path("other.db"));
    source::part(&file, &one, "id <= 7500")?;
    source::part(&file, &other, "id > 4500")?;
    world.import(&file).await?;
    let whole = picture::take(&world.pool, ALL).await?;
    for half in [&one, &other] {
        let (_, report) = world.import(half).await?;
        ensure!((report.created, report.updated) == (0, 0), "{report:?}");
    }
    picture::same(&whole, &picture::take(&world.pool, ALL).await?)?;

    // Into another, empty table: all rows of the second half that the first one has change nothing.
    let fresh = World::new("smshalves").await?;
    let (_, first) = fresh.import(&one).await?;
    let (_, second) = fresh.import(&other).await?;
    let contacts = first.created + second.created;
    ensure!(contacts == i64::try_from(truth.contacts)?, "{first:?} {second:?} {truth:?}");
    ensure!(first.rows == 7_500 && second.rows == 7_500);
    fresh.is_sound().await?;
    // Where twins came in different halves, the first spelling stays, which may be the other one.
    let less = [PEOPLE, &["phone_original"]].concat();
    let (is, should) = (picture::take(&fresh.pool, &less).await?, picture::take(&world.pool, &less).await?);
    picture::same(&should, &is)
}

#[tokio::test]
async fn fast_and_merge_come_to_the_same_contacts() -> Result<()> {
    let world = World::new("smspaths").await?;
    let (file, truth) = generate(&world, "numeros.db", 12_000, 9)?;
    world.import(&file).await?;
    let fast = picture::take(&world.pool, CONTENT).await?;
    let fast_ledgers = ledgers(&world).await?;

    // One contact that the file has not is enough for the other way.
    let full = World::new("smspaths").await?;
    let lone = source::numeros(&full, "lone.db", &[source::Row::new(1, "8009998877").nombre("UNA")])?;
    full.import(&lone).await?;
    let (import, report) = full.import(&file).await?;
    ensure!(import.mode.map(|mode| mode.name()) == Some("merge"), "{import:?}");
    ensure!(report.created == i64::try_from(truth.contacts)?, "{report:?}");
    let mut merged = picture::take(&full.pool, CONTENT).await?;
    ensure!(merged.remove("+528009998877").is_some());
    picture::same(&fast, &merged)?;
    ensure!(ledgers(&full).await? == fast_ledgers, "the ledgers differ");
    full.is_sound().await?;

    // Into contacts of other people with the same phones: what the file knows is taken, what it doesn't stays.
    let other = World::new("smspaths").await?;
    let (strangers, _) = generate(&other, "strangers.db", 12_000, 10)?;
    other.import(&strangers).await?;
    let before = picture::take(&other.pool, CONTENT).await?;
    let (_, report) = other.import(&file).await?;
    ensure!(report.updated > 10_000 && report.created < 100, "{report:?}");
    other.is_sound().await?;
    let after = picture::take(&other.pool, CONTENT).await?;
    for (phone, should) in &fast {
        for field in
            ["full_name", "address", "neighborhood", "municipality", "state_code", "city", "migrated_at"]
        {
            let earlier = before.get(phone).map_or(&serde_json::Value::Null, |contact| &contact[field]);
            let known = if should[field].is_null() { earlier } else { &should[field] };
            let found = &after[phone][field];
            ensure!(found == known, "{field} of {phone} is {found}, not {known}");
        }
    }
    Ok(())
}

/// What became of the rows that are no contacts.
async fn ledgers(world: &World) -> Result<(Vec<String>, Vec<String>)> {
    let rows = |query: &'static str| sqlx::query_scalar::<_, String>(query).fetch_all(&world.pool);
    let rejects = "select concat_ws('|', source_id, value, reason) from contact_rejects order by source_id";
    let merges =
        "select concat_ws('|', source_id, phone_e164, into_source_id) from contact_merges order by source_id";
    Ok((rows(rejects).await?, rows(merges).await?))
}
