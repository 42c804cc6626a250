//! What people do with an upload besides waiting for it, while things are killed: undo, apply, cancel.

use crate::arena::{Arena, Book, SUPPLIER, now};
use crate::case::Case;
use crate::round::{Tally, verdict};
use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sea_orm::sqlx;
use serde_json::Value;
use stack::platform::{compare, compare_failed, reached, task_id};
use stack::workbook::{Known, Spec};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a task may take to be final before it counts as lost.
const FINAL: Duration = Duration::from_secs(120);
/// How long events may take after the end of their task.
const EVENTS: Duration = Duration::from_secs(60);
/// How long a task takes at most before it is struck.
const SPAN: Duration = Duration::from_millis(1_500);

/// Strikes at random moments until `rounds` of them were in the middle of work.
pub async fn rounds(arena: &mut Arena, rounds: u32, seed: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let base = import(arena, &Spec::new(seed, "BASE", arena.rows / 4)).await?;
    let mut known = base.truth.as_known();
    let mut tried = 0;
    while tally.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", tally.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        let struck = match arena.case {
            Case::UndoKill => undo(arena, &mut random, tried, &known, &mut tally).await?,
            Case::ApplyKill => {
                let (struck, book) = apply(arena, &mut random, tried, &known, &mut tally).await?;
                // What it updated may have other codes now.
                known = book.truth.as_known();
                struck
            }
            Case::CancelRace => cancel(arena, &mut random, tried, &mut tally).await?,
            other => bail!("{} is no case of tasks", other.name()),
        };
        tally.struck += u32::from(struck);
        eprintln!(
            "{} {tried}: {}, lost {}, duplicated {}",
            arena.case.name(),
            if struck { "struck in mid-work" } else { "missed: once more" },
            tally.lost,
            tally.duplicated
        );
    }
    tally.rounds = tally.struck;
    Ok(tally)
}

fn spec(arena: &Arena, random: &mut StdRng, prefix: &str, known: &[Known]) -> Spec {
    let rows = arena.rows * random.random_range(7..=13) / 10;
    let collisions = (rows / 5).min(known.len());
    Spec {
        bad: rows / 50,
        duplicates: rows / 50,
        collisions,
        known: known.to_vec(),
        replace: true,
        ..Spec::new(random.random(), prefix, rows)
    }
}

/// An import that nobody disturbs.
async fn import(arena: &Arena, spec: &Spec) -> Result<Book> {
    let book = arena.book(spec, SUPPLIER)?;
    let task = arena.client.upload_until_accepted(&book.upload, FINAL).await?;
    let status = arena.client.finished(&task, FINAL).await?;
    let verdict = compare(&arena.pool, None, &status, &book.truth, &book.prefix).await?;
    ensure!(verdict.is_exact(), "an import that nobody disturbs is wrong: {verdict:?}");
    Ok(book)
}

/// All products, as anybody can see them.
async fn catalog(arena: &Arena) -> Result<BTreeMap<String, String>> {
    let query = "SELECT id, (to_jsonb(p) - 'version' - 'updated_at' - 'import_id' - 'restored_at' - 'restored_version')::text FROM products p";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&arena.pool).await?;
    Ok(rows.into_iter().collect())
}

/// Counts how a catalog differs from what it should be.
fn differences(
    tally: &mut Tally,
    what: &str,
    is: &BTreeMap<String, String>,
    should: &BTreeMap<String, String>,
) {
    for (id, product) in should {
        if is.get(id) != Some(product) {
            eprintln!("{what}: product {id} is {:?} and should be {product}", is.get(id));
            tally.lost += 1;
        }
    }
    for id in is.keys().filter(|id| !should.contains_key(*id)) {
        eprintln!("{what}: product {id} should not be there");
        tally.duplicated += 1;
    }
}

/// Kills while a task is at work, and gives its last status and whether it was met at work.
async fn strike(arena: &mut Arena, random: &mut StdRng, task: &str) -> Result<(Value, bool)> {
    let case = arena.case;
    stack::wait::until("the task should be at work", FINAL, async || {
        arena.running(&[task.to_owned()]).await.is_ok_and(|running| !running.is_empty())
            || arena.span(task).await.is_ok_and(|(_, finished)| finished.is_some())
    })
    .await?;
    tokio::time::sleep(SPAN.mul_f64(random.random_range(0.0..1.0))).await;
    let running = !arena.running(&[task.to_owned()]).await?.is_empty();
    let struck_at = now();
    case.strike(arena, true).await?;
    case.restore(arena, Duration::from_millis(random.random_range(100..1_000))).await?;
    let status = arena.client.finished(task, FINAL).await?;
    let (_, finished) = arena.span(task).await?;
    Ok((status, running && finished.is_some_and(|finished| finished > struck_at)))
}

async fn undo(
    arena: &mut Arena,
    random: &mut StdRng,
    number: u32,
    known: &[Known],
    tally: &mut Tally,
) -> Result<bool> {
    let before = catalog(arena).await?;
    let book = import(arena, &spec(arena, random, &format!("U{number}"), known)).await?;
    let key = book.upload.key.clone().context("chaos uploads have keys")?;
    let imported: String = sqlx::query_scalar("SELECT id::text FROM jobs WHERE idempotency_key = $1")
        .bind(&key)
        .fetch_one(&arena.pool)
        .await?;
    let task = task_id(&arena.client.task(&imported, "undo").await?)?;
    tally.accepted += 1;
    let (status, struck) = strike(arena, random, &task).await?;
    let faults = tally.lost + tally.duplicated;
    if status["status"] != "completed" {
        eprintln!("undo {task}: {status}");
        tally.lost += 1;
    }
    differences(tally, "undo", &catalog(arena).await?, &before);
    // The change log tells of each product once.
    let (changes, products): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(DISTINCT product_id) FROM import_ledger WHERE import_id = $1::uuid",
    )
    .bind(&task)
    .fetch_one(&arena.pool)
    .await?;
    let should = book.truth.summary.successful as i64;
    if products < should {
        tally.lost += 1;
    }
    if changes != products || products > should {
        tally.duplicated += 1;
    }
    let told = stack::wait::until("the events of the undo", EVENTS, async || {
        arena.events.changes(&task).await.is_ok_and(|changes| changes.len() as i64 >= should)
    });
    if told.await.is_err() {
        eprintln!("undo {task}: events are missing");
        tally.lost += 1;
    }
    tally.duplicated += arena.events.changes(&task).await?.values().filter(|told| told.len() != 1).count();
    tally.tasks.push(task);
    tally.finished += usize::from(tally.lost + tally.duplicated == faults);
    Ok(struck)
}

async fn apply(
    arena: &mut Arena,
    random: &mut StdRng,
    number: u32,
    known: &[Known],
    tally: &mut Tally,
) -> Result<(bool, Book)> {
    let before = catalog(arena).await?;
    let mut spec = spec(arena, random, &format!("A{number}"), known);
    // Every third is all or nothing: then it must be all good, and goes in one transaction.
    let whole = number.is_multiple_of(3);
    if whole {
        (spec.bad, spec.duplicates) = (0, 0);
    }
    let mut book = arena.book(&spec, SUPPLIER)?;
    book.upload = book.upload.with("dry_run", "true");
    if whole {
        book.upload = book.upload.with("error_policy", "reject_file");
    }
    let plan = arena.client.upload_until_accepted(&book.upload, FINAL).await?;
    let planned = arena.client.finished(&plan, FINAL).await?;
    ensure!(planned["status"] == "completed", "a dry run that nobody disturbs: {planned}");
    differences(tally, "dry run", &catalog(arena).await?, &before);
    let task = task_id(&arena.client.task(&plan, "apply").await?)?;
    tally.accepted += 1;
    let (status, struck) = strike(arena, random, &task).await?;
    let verdict = verdict(arena, &book, &status, false).await?;
    for difference in verdict.lost.iter().chain(&verdict.duplicated).take(10) {
        eprintln!("apply {}: {difference}", book.prefix);
    }
    tally.lost += verdict.lost.len();
    tally.duplicated += verdict.duplicated.len();
    tally.finished += usize::from(verdict.is_exact());
    tally.tasks.push(task);
    Ok((struck, book))
}

/// A cancel that races the import, and in half of the rounds the death of its worker; then a retry.
async fn cancel(arena: &mut Arena, random: &mut StdRng, number: u32, tally: &mut Tally) -> Result<bool> {
    let mut book = arena.book(&spec(arena, random, &format!("C{number}"), &[]), SUPPLIER)?;
    let whole = book.truth.clone();
    let task = arena.client.upload_until_accepted(&book.upload, FINAL).await?;
    tally.accepted += 1;
    let faults = tally.lost + tally.duplicated;
    tokio::time::sleep(SPAN.mul_f64(random.random_range(0.0..1.0))).await;
    let running = !arena.running(std::slice::from_ref(&task)).await?.is_empty();
    let client = arena.client.clone();
    let request = {
        let task = task.clone();
        tokio::spawn(async move { client.task(&task, "cancel").await })
    };
    if random.random_bool(0.5) {
        arena.case.strike(arena, true).await?;
        arena.case.restore(arena, Duration::from_millis(random.random_range(100..1_000))).await?;
    }
    let granted = request.await??;
    ensure!(matches!(granted.status.as_u16(), 202 | 409), "cancel: {granted}");
    let status = arena.client.finished(&task, FINAL).await?;
    let cancelled = status["status"] == "failed";
    if cancelled {
        let error = status["error"].as_str().unwrap_or_default();
        if granted.status != 202 || !error.starts_with("Carga cancelada") {
            eprintln!("cancel {task}: {error}");
            tally.lost += 1;
        }
        book.truth = reached(&arena.pool, &status, &whole).await?;
        let said = format!("Carga cancelada: se aplicaron {} filas", book.truth.summary.successful);
        if error != said {
            eprintln!("cancel {task}: says {error:?} and should say {said:?}");
            tally.lost += 1;
        }
        count(arena, tally, &book, &status, true).await?;
        let again = arena.client.task(&task, "retry").await?;
        ensure!(again.status == 202, "retry: {again}");
        book.truth = whole;
        let status = arena.client.finished(&task, FINAL).await?;
        count(arena, tally, &book, &status, false).await?;
    } else {
        count(arena, tally, &book, &status, false).await?;
    }
    tally.finished += usize::from(tally.lost + tally.duplicated == faults);
    Ok(running && cancelled)
}

/// Counts what is wrong with a cancelled import, or with one that completed.
async fn count(arena: &Arena, tally: &mut Tally, book: &Book, status: &Value, failed: bool) -> Result<()> {
    let verdict = if failed {
        let told = stack::wait::until("the event of the cancel", EVENTS, async || {
            let task = status["task_id"].as_str().unwrap_or_default();
            arena.events.of(task).await.is_ok_and(|events| !events.is_empty())
        });
        told.await?;
        compare_failed(&arena.pool, &arena.events, status, &book.truth, &book.prefix).await?
    } else {
        compare(&arena.pool, None, status, &book.truth, &book.prefix).await?
    };
    for difference in verdict.lost.iter().chain(&verdict.duplicated).take(10) {
        eprintln!("cancel {}: {difference}", book.prefix);
    }
    tally.lost += verdict.lost.len();
    tally.duplicated += verdict.duplicated.len();
    Ok(())
}
