use crate::arena::{Arena, Book, SUPPLIER, now};
use crate::case::Case;
use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use stack::platform::{Client, Upload, Verdict, compare, compare_failed, reached};
use stack::workbook::{Known, Spec};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long an upload may be repeated until it is accepted. Nothing is out of order for so long.
const ACCEPTED: Duration = Duration::from_secs(90);
/// How long an accepted upload may take to be final before it counts as lost.
const FINAL: Duration = Duration::from_secs(120);
/// How long the event may take after the end of its import.
const EVENT: Duration = Duration::from_secs(60);
/// How long an upload takes over a line that was made slow.
const SLOW_UPLOAD: Duration = Duration::from_millis(1_000);

/// What was counted.
#[derive(Default)]
pub struct Tally {
    /// Rounds that struck in the middle of work, or failpoints tried.
    pub rounds: u32,
    /// Strikes that are proven.
    pub struck: u32,
    /// Uploads answered 202.
    pub accepted: usize,
    /// Of them, those that reached their right final state.
    pub finished: usize,
    /// Things that should be there and are not, or are wrong.
    pub lost: usize,
    /// Things that are there twice, or should not be.
    pub duplicated: usize,
    /// What the doctors found.
    pub findings: usize,
    /// Imports that ended as failed because their file was gone.
    pub object_gone: usize,
    /// Failpoints that were not reached.
    pub not_struck: Vec<&'static str>,
    /// All tasks.
    pub tasks: Vec<String>,
}

/// Strikes at random moments until `rounds` of them were in the middle of work.
pub async fn rounds(arena: &mut Arena, rounds: u32, seed: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut known: Vec<Known> = Vec::new();
    let mut tried = 0;
    while tally.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", tally.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        let mut books = books(arena, &mut random, tried, &known)?;
        let struck = strike_once(arena, &mut random, &mut books, &mut tally).await?;
        known = books.iter().flat_map(|book| book.truth.as_known()).collect();
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

/// One or two workbooks that meet each other's, earlier and other suppliers' products.
fn books(arena: &Arena, random: &mut StdRng, round: u32, known: &[Known]) -> Result<Vec<Book>> {
    let count = random.random_range(1..=2);
    (0..count)
        .map(|number| {
            let rows = arena.rows * random.random_range(7..=13) / 10 / count;
            // Each workbook of a round meets others: which of two updates one product last is nobody's promise.
            let mut meets: Vec<Known> =
                known.iter().skip(number).step_by(count).take(rows / 20).cloned().collect();
            meets.extend(arena.foreign.iter().take(5).cloned());
            let spec = Spec {
                bad: rows / 50,
                duplicates: rows / 50,
                collisions: meets.len(),
                known: meets,
                replace: random.random_bool(0.5),
                ..Spec::new(random.random(), &format!("R{round}N{number}"), rows)
            };
            arena.book(&spec, SUPPLIER)
        })
        .collect()
}

/// Returns whether the strike met work under way.
async fn strike_once(
    arena: &mut Arena,
    random: &mut StdRng,
    books: &mut [Book],
    tally: &mut Tally,
) -> Result<bool> {
    let case = arena.case;
    let during_upload = case.strikes_uploads() && random.random_bool(0.5);
    if during_upload {
        let largest =
            books.iter().filter_map(|book| book.upload.file.metadata().ok()).map(|file| file.len()).max();
        arena.door.slow((largest.unwrap_or(1) as f64 / SLOW_UPLOAD.as_secs_f64()) as u64).await;
    }
    let uploads: Vec<_> =
        books.iter().map(|book| tokio::spawn(upload(arena.client.clone(), book.upload.clone()))).collect();
    if !during_upload {
        // From the first acceptance: before it there is nothing for a worker to do.
        wait_for_one(&uploads).await?;
    }
    let span = if during_upload { SLOW_UPLOAD } else { Duration::from_millis(1_800) };
    tokio::time::sleep(span.mul_f64(random.random_range(0.0..1.0))).await;

    let in_flight = uploads.iter().any(|upload| !upload.is_finished());
    let running = arena.running(&all_of(arena, books).await?).await?;
    let struck_at = now();
    case.strike(arena, random.random_bool(0.5)).await?;
    arena.door.heal().await;
    let pause = Duration::from_millis(random.random_range(100..1_500));
    case.restore(arena, pause).await?;

    let mut met_work = in_flight && case.strikes_uploads();
    for (book, upload) in books.iter_mut().zip(uploads) {
        let task = match upload.await? {
            Ok(task) => task,
            Err(error) => bail!("an upload was never accepted: {error:#}"),
        };
        let in_time = settle(arena, book, &task, tally, true).await?;
        if in_time && running.contains(&task) {
            let (_, finished) = arena.span(&task).await?;
            met_work |= finished.is_some_and(|finished| finished > struck_at);
        }
    }
    Ok(met_work)
}

async fn upload(client: Client, upload: Upload) -> Result<String> {
    client.upload_until_accepted(&upload, ACCEPTED).await
}

async fn wait_for_one(uploads: &[JoinHandle<Result<String>>]) -> Result<()> {
    stack::wait::until("an upload should be accepted", ACCEPTED, async || {
        uploads.iter().any(JoinHandle::is_finished)
    })
    .await
}

/// The tasks that exist for these workbooks by now.
async fn all_of(arena: &Arena, books: &[Book]) -> Result<Vec<String>> {
    let keys: Vec<_> = books.iter().filter_map(|book| book.upload.key.clone()).collect();
    let query = "SELECT id::text FROM jobs WHERE idempotency_key = ANY($1)";
    Ok(sea_orm::sqlx::query_scalar(query).bind(keys).fetch_all(&arena.pool).await?)
}

/// Waits for the end of an import and counts what is wrong with it. Returns whether it ended at all. Where it ended
/// midway because its file was gone, the book's truth becomes what it had reached: later workbooks meet that.
pub async fn settle(
    arena: &Arena,
    book: &mut Book,
    task: &str,
    tally: &mut Tally,
    wiped: bool,
) -> Result<bool> {
    tally.accepted += 1;
    tally.tasks.push(task.to_owned());
    let status = match arena.client.finished(task, FINAL).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{}: {error:#}", arena.case.name());
            tally.lost += 1;
            return Ok(false);
        }
    };
    let key = book.upload.key.as_deref().context("chaos uploads have keys")?;
    let imports = arena.under_key(key).await?;
    if imports > 1 {
        eprintln!("{}: {imports} imports under one key", arena.case.name());
        tally.duplicated += 1;
    }
    let gone = wiped && arena.case == Case::LocalstackWipe && object_is_gone(&status);
    if gone {
        book.truth = reached(&arena.pool, &status, &book.truth).await?;
    }
    let verdict = verdict(arena, book, &status, gone).await?;
    for difference in verdict.lost.iter().chain(&verdict.duplicated).take(10) {
        eprintln!("{} {}: {difference}", arena.case.name(), book.prefix);
    }
    tally.lost += verdict.lost.len();
    tally.duplicated += verdict.duplicated.len();
    tally.object_gone += usize::from(gone);
    tally.finished += usize::from(verdict.is_exact());
    Ok(true)
}

/// Whether an import failed for the one reason that a wipe of S3 excuses.
fn object_is_gone(status: &Value) -> bool {
    status["status"] == "failed"
        && status["error"].as_str().is_some_and(|error| error.contains(stack::platform::OBJECT_GONE))
}

/// Compares until nothing is missing: the event comes a little after the end. What is too much stays so.
pub async fn verdict(arena: &Arena, book: &Book, status: &Value, gone: bool) -> Result<Verdict> {
    let end = Instant::now() + EVENT;
    loop {
        let (pool, events) = (&arena.pool, &arena.events);
        let verdict = if gone {
            compare_failed(pool, events, status, &book.truth, &book.prefix).await
        } else {
            compare(pool, Some(events), status, &book.truth, &book.prefix).await
        };
        match verdict {
            Ok(verdict) if verdict.is_exact() => return Ok(verdict),
            // Only an event can still be on its way.
            Ok(verdict) if verdict.lost.iter().any(|lost| !lost.contains("event")) => return Ok(verdict),
            Ok(verdict) if Instant::now() > end => return Ok(verdict),
            Err(error) if Instant::now() > end => return Err(error),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
