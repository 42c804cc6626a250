//! Whatever two imports and people's edits did: rolling the second import back leaves what nobody touched as it was.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use sea_orm::sqlx;
use serde_json::Value;

use crate::{
    picture::{self, BUT_UPDATED_AT, Picture},
    source::{Row, numeros},
    world::World,
};

/// Phones that rows and edits choose from: few, so that they meet.
const PHONES: usize = 25;

/// A row of a file: whose phone, how it is spelled, and numbers that give its fields; 0 is none.
type Line = (usize, usize, [u8; 3], bool);
/// An edit: whose contact, which field, and what is written.
type Edit = (usize, usize, u8);

const FIELDS: [&str; 4] = ["full_name", "address", "city", "status"];

fn rows(lines: &[Line]) -> Vec<Row> {
    let mut seen = std::collections::BTreeSet::new();
    let mut rows = Vec::new();
    for (id, (phone, spelling, [name, address, colonia], valid)) in (1..).zip(lines) {
        let national = format!("61210047{phone:02}");
        let number =
            [national.clone(), format!("+52{national}"), format!("044{national}")][*spelling].clone();
        // The source keeps its texts apart.
        if !seen.insert(number.clone()) {
            continue;
        }
        let value = |prefix: &str, number: u8| match number {
            0 => rusqlite::types::Value::Null,
            number => rusqlite::types::Value::Text(format!("{prefix} {number}")),
        };
        rows.push(
            Row::new(id, number)
                .nombre(value("NOMBRE", *name))
                .direccion(value("CALLE", *address))
                .colonia(value("COLONIA", *colonia))
                .valido(i64::from(*valid)),
        );
    }
    rows
}

fn written(field: &str, number: u8) -> String {
    match (field, number % 3) {
        ("status", 0) => "ACTIVE".to_owned(),
        ("status", 1) => "INACTIVE".to_owned(),
        ("status", _) => "INVALID".to_owned(),
        // Sometimes what a file says too.
        ("full_name", _) => format!("NOMBRE {}", number % 5),
        (_, _) => format!("CALLE {}", number % 5),
    }
}

/// What rolling back must leave: fields that are as the import left them get their value of before, others stay; contacts
/// that it created go.
fn expected(before: &Picture, imported: &Picture, edited: &Picture) -> Result<Picture> {
    let mut expected = Picture::new();
    for (phone, was) in before {
        let (left, now) = (&imported[phone], &edited[phone]);
        let mut contact = now.as_object().context("a contact")?.clone();
        for (field, value) in &mut contact {
            if left[field] == *value {
                *value = was[field].clone();
            }
        }
        expected.insert(phone.clone(), Value::Object(contact));
    }
    Ok(expected)
}

async fn check(world: &World, number: u32, one: &[Line], other: &[Line], edits: &[Edit]) -> Result<()> {
    let (first, _) = world.import(&numeros(world, &format!("a{number}.db"), &rows(one))?).await?;
    let before = picture::take(&world.pool, BUT_UPDATED_AT).await?;
    let (second, _) = world.import(&numeros(world, &format!("b{number}.db"), &rows(other))?).await?;
    let imported = picture::take(&world.pool, BUT_UPDATED_AT).await?;
    let last: BTreeMap<(usize, usize), u8> =
        edits.iter().map(|(phone, field, value)| ((*phone, *field), *value)).collect();
    for ((phone, field), value) in last {
        let field = FIELDS[field];
        let statement = format!("update contacts set {field} = $1, updated_at = now() where phone_e164 = $2");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(written(field, value))
            .bind(format!("+5261210047{phone:02}"))
            .execute(&world.pool)
            .await?;
    }
    let edited = picture::take(&world.pool, BUT_UPDATED_AT).await?;
    world.is_sound().await?;
    world.roll_back(&second).await?;
    let left = picture::take(&world.pool, BUT_UPDATED_AT).await?;
    picture::same(&expected(&before, &imported, &edited)?, &left)?;
    world.is_sound().await?;
    world.roll_back(&first).await?;
    ensure!(world.count("select count(*) from contacts").await? == 0);
    world.is_sound().await
}

#[test]
fn what_nobody_touched_is_as_it_was() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let world = runtime.block_on(World::new("smsproperty"))?;
    let number = AtomicU32::new(0);
    let line = || (0..PHONES, 0..3_usize, [0..4_u8, 0..4, 0..4], prop::bool::weighted(0.9));
    let file = || prop::collection::vec(line(), 1..40);
    let edits = prop::collection::vec((0..PHONES, 0..FIELDS.len(), any::<u8>()), 0..12);
    let config = Config { cases: 16, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&(file(), file(), edits), |(one, other, edits)| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        runtime
            .block_on(check(&world, number, &one, &other, &edits))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    checked.map_err(|error| anyhow!("{error}"))?;
    // Its pool belongs to the runtime.
    runtime.block_on(async { drop(world) });
    Ok(())
}
