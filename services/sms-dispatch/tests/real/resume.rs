//! Imports that are broken off: the same command goes on, and what is left behind harms nobody.

use std::path::Path;

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use sms_dispatch::storage::indexes;
use stack::contacts::{self, Dirt, Spec};
use uuid::Uuid;

use crate::{
    picture::{self, ALL, CONTENT, PEOPLE},
    source::{Row, numeros},
    world::{World, request},
};

/// Runs an import that dies after so many batches.
async fn die(world: &World, file: &Path, batches: u32) -> Result<Uuid> {
    let file = file.display().to_string();
    let command = world.command(&["import", &file, "--batch-size", "1000", "--workers", "2"])?;
    let armed = command.env("FAILPOINTS", format!("batch-committed={batches}*off->1*return"));
    let (status, out) = armed.run().await?;
    ensure!(!status.success() && out.is_empty(), "{status}: {out}");
    let latest = "select id from imports where source_rows is null order by number desc limit 1";
    Ok(sqlx::query_scalar(latest).fetch_one(&world.pool).await?)
}

/// Runs it to its end; which import that was.
async fn end(world: &World, file: &Path) -> Result<Uuid> {
    let file = file.display().to_string();
    let (status, out, said) = world.run(&["import", &file, "--batch-size", "1000", "--workers", "2"]).await?;
    ensure!(status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_str(&out)?;
    ensure!(report["rows"].as_i64() > Some(0), "{out}");
    let last = said.lines().rev().find_map(|line| line.strip_prefix("import ")).unwrap_or_default();
    Ok(last.parse()?)
}

fn generate(world: &World, name: &str, rows: u64, seed: u64) -> Result<std::path::PathBuf> {
    let path = world.path(name);
    let dirt = Dirt { twins: 0.1, dirty_twins: 0.1, rejects: 0.003, ..Dirt::default() };
    contacts::generate(&path, &Spec { rows, seed, dirt }, |_| ())?;
    Ok(path)
}

#[tokio::test]
async fn a_csv_file_goes_on_in_the_middle() -> Result<()> {
    let (world, undisturbed) = (World::new("smsresume").await?, World::new("smsresume").await?);
    let mut rows = String::from("numero;nombre;direccion\n");
    for row in 0..9_000_u32 {
        // Every fifth phone comes again, lines are of different lengths, and fields hold line ends.
        let spelled = if row % 5 == 0 { "+52 1 612 100 " } else { "612100" };
        rows += &format!("{spelled}{:04};\"N {row}\n{}\";\n", row % 7_000, "x".repeat(row as usize % 40));
    }
    let (file, same) = (world.write("a.csv", &rows)?, undisturbed.write("a.csv", &rows)?);
    let first = die(&world, &file, 3).await?;
    let loaded = world.count("select sum(rows) from import_batches").await?;
    ensure!((4_000..9_000).contains(&loaded), "{loaded} rows were loaded");
    let second = die(&world, &file, 2).await?;
    ensure!(first == second && end(&world, &file).await? == first, "a new import was begun");
    undisturbed.import(&same).await?;
    let should = picture::take(&undisturbed.pool, CONTENT).await?;
    picture::same(&should, &picture::take(&world.pool, CONTENT).await?)?;
    world.is_sound().await
}

#[tokio::test]
async fn a_database_goes_on_in_the_middle_of_each_phase() -> Result<()> {
    let world = World::new("smsresume").await?;
    let file = generate(&world, "a.db", 6_000, 1)?;
    world.import(&file).await?;
    let should = picture::take(&world.pool, CONTENT).await?;
    for batches in [0, 2, 5, 6, 7] {
        let world = World::new("smsresume").await?;
        let first = die(&world, &file, batches).await?;
        ensure!(end(&world, &file).await? == first);
        picture::same(&should, &picture::take(&world.pool, CONTENT).await?)?;
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_file_under_the_same_name_is_another_import() -> Result<()> {
    let world = World::new("smsother").await?;
    let (file, other) = (generate(&world, "a.db", 6_000, 1)?, generate(&world, "b.db", 9_000, 2)?);
    let begun = die(&world, &file, 2).await?;
    let kept = world.path("kept.db");
    std::fs::rename(&file, &kept)?;
    std::fs::rename(&other, &file)?;
    let second = end(&world, &file).await?;
    ensure!(second != begun, "the import went on with another file");
    let held =
        "select count(*) from pg_indexes where schemaname = current_schema() and tablename = 'contacts'";
    ensure!(world.count(held).await? == indexes::ALL.len() as i64, "the other import works without indexes");

    // The first one is not forgotten: wherever its file is now, it ends, and no phone is there twice.
    ensure!(end(&world, &kept).await? == begun);
    world.is_sound().await?;
    // Everybody of either file is there, with values of one or the other.
    let fresh = World::new("smsother").await?;
    fresh.import(&file).await?;
    let later = picture::take(&fresh.pool, PEOPLE).await?;
    fresh.import(&kept).await?;
    let both = picture::take(&fresh.pool, PEOPLE).await?;
    let is = picture::take(&world.pool, PEOPLE).await?;
    ensure!(is.keys().eq(both.keys()), "{} and {} contacts", is.len(), both.len());
    for (phone, contact) in &is {
        for field in ["full_name", "address", "city"] {
            let (value, one, other) =
                (&contact[field], &both[phone][field], later.get(phone).map(|of| &of[field]));
            ensure!(value == one || Some(value) == other, "{field} of {phone} is {value}, nobody's");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_import_is_taken_out_or_built_upon() -> Result<()> {
    let world = World::new("smscancel").await?;
    let file = generate(&world, "a.db", 6_000, 1)?;
    let begun = die(&world, &file, 2).await?;
    let mut conn = world.pool.acquire().await?;
    jobs::request_cancel(&mut conn, begun).await?;
    drop(conn);
    // Whoever takes it up ends it.
    let (status, _, said) =
        world.run(&["import", &file.display().to_string(), "--batch-size", "1000"]).await?;
    ensure!(!status.success() && said.contains("cancelled"), "{said}");
    let left = world.count("select count(*) from contacts").await?;
    ensure!(left > 1_000, "only {left} contacts were loaded before");

    // Upon what it left: the same contacts as if it had never been, but for whose spelling of a phone came first.
    let small = numeros(&world, "small.db", &[Row::new(1, "8009998877").nombre("UNA")])?;
    world.import(&small).await?;
    let index =
        "select count(*) from pg_indexes where schemaname = current_schema() and tablename = 'contacts'";
    ensure!(world.count(index).await? == indexes::ALL.len() as i64, "contacts are used without indexes");
    let again = world.import_as(&request(&file)).await?;
    ensure!(again.id != begun);
    let undisturbed = World::new("smscancel").await?;
    undisturbed.import(&file).await?;
    let less = [PEOPLE, &["phone_original"]].concat();
    let should = picture::take(&undisturbed.pool, &less).await?;
    let mut is = picture::take(&world.pool, &less).await?;
    ensure!(is.remove("+528009998877").is_some());
    picture::same(&should, &is)?;
    world.is_sound().await
}

#[tokio::test]
async fn what_a_cancelled_import_left_can_be_taken_out() -> Result<()> {
    for base in [false, true] {
        let world = World::new("smscancel").await?;
        let file = generate(&world, "a.db", 6_000, 1)?;
        if base {
            world.import(&generate(&world, "base.db", 3_000, 2)?).await?;
        }
        let before = picture::take(&world.pool, &["updated_at"]).await?;
        // The seventh commit is of a batch that merges: contacts of the base are changed by then.
        let begun = die(&world, &file, 6).await?;
        let refused = world.run(&["contacts", "rollback", &begun.to_string()]).await?;
        ensure!(!refused.0.success() && refused.2.contains("no ha terminado"), "{}", refused.2);
        let mut conn = world.pool.acquire().await?;
        jobs::request_cancel(&mut conn, begun).await?;
        drop(conn);
        let (status, _, _) =
            world.run(&["import", &file.display().to_string(), "--batch-size", "1000"]).await?;
        ensure!(!status.success());
        let touched = picture::take(&world.pool, ALL).await?;
        ensure!(touched.len() > before.len() || base, "the import left nothing");
        let (status, _, said) = world.run(&["contacts", "rollback", &begun.to_string()]).await?;
        ensure!(status.success(), "{said}");
        picture::same(&before, &picture::take(&world.pool, &["updated_at"]).await?)?;
        for table in ["import_staged", "contact_rejects", "contact_merges", "contact_changes"] {
            let rows = format!(
                "select count(*) from {table} where import = (select number from imports where id = '{begun}')"
            );
            ensure!(world.count(&rows).await? == 0, "{table} is not empty");
        }
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_import_goes_on_with_no_other_consent_basis() -> Result<()> {
    let world = World::new("smsbasis").await?;
    let file = generate(&world, "a.db", 3_000, 1)?.display().to_string();
    let command = ["import", &file, "--batch-size", "1000"];
    let with = |basis: &'static str| [&command[..], &["--consent-basis", basis]].concat();
    let first = world.command(&with("contrato"))?.env("FAILPOINTS", "batch-committed=1*return").run().await?;
    ensure!(!first.0.success());
    let (status, _, said) = world.run(&with("evento")).await?;
    ensure!(!status.success(), "it went on with the other basis");
    ensure!(said.contains("goes on with the consent basis \"contrato\", not \"evento\""), "{said}");
    let other = "select count(*) from contacts where consent <> 'contrato'";
    // Who says nothing of it goes on, and so does who says the same.
    let second = world.command(&command)?.env("FAILPOINTS", "batch-committed=1*return").run().await?;
    ensure!(!second.0.success());
    let (status, _, said) = world.run(&with("contrato")).await?;
    ensure!(status.success(), "{said}");
    ensure!(world.count("select count(*) from imports").await? == 1 && world.count(other).await? == 0);
    world.is_sound().await
}
