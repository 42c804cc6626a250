use crate::arena::{Arena, Book, SUPPLIER};
use crate::armed::{REACHED, arm, died_at, disarm};
use crate::round::{Tally, settle};
use anyhow::{Context, Result, ensure};
use failpoints::Point;
use sea_orm::sqlx;
use serde_json::json;
use stack::process::Running;
use stack::services::CATALOG_UPLOAD;
use stack::workbook::Spec;
use std::time::Duration;

/// Which processes die at a point.
#[derive(Clone, Copy)]
enum Armed {
    Api,
    Workers,
    /// Both run it; whoever comes first.
    ApiAndWorkers,
    Gateway,
}

/// What leads a process to a point.
#[derive(Clone, Copy)]
enum Way {
    /// An upload.
    Upload,
    /// An upload whose workers die, so that its nudge must be sent again.
    Orphan,
    /// An event that its consumer can't show, because Redis is away.
    Retry,
    /// A message that nobody can decode.
    Garbage,
}

/// None: no process of this suite passes there.
fn way(point: Point) -> Option<(Armed, Way)> {
    Some(match point {
        Point::UploadStored | Point::UploadCommitted => (Armed::Api, Way::Upload),
        Point::RelayPublished | Point::RelayDeleted => (Armed::ApiAndWorkers, Way::Upload),
        Point::JobClaimed
        | Point::BatchWritten
        | Point::BatchCommitted
        | Point::JobFinishing
        | Point::JobFinished
        | Point::HandlerReturned => (Armed::Workers, Way::Upload),
        Point::SweepWritten => (Armed::Api, Way::Orphan),
        Point::RetryPublished => (Armed::Gateway, Way::Retry),
        Point::DeadPublished | Point::LetterArchived => (Armed::ApiAndWorkers, Way::Garbage),
        // Those of imports of contacts and of campaigns, whose suites let them die there.
        Point::ImportBegun
        | Point::SideTablesKept
        | Point::IndexBuilt
        | Point::StagedCleared
        | Point::ViewsRefreshed
        | Point::SliceFed
        | Point::ReportKept
        | Point::ReportsApplied => return None,
    })
}

/// Lets a process die at each failpoint once.
pub async fn walk(arena: &mut Arena, seed: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    for (number, point) in Point::ALL.iter().copied().enumerate() {
        let Some(passed) = way(point) else { continue };
        let rows = arena.rows / 4;
        let spec = Spec {
            bad: rows / 50,
            duplicates: rows / 50,
            ..Spec::new(seed + number as u64, &format!("F{number}"), rows)
        };
        let mut book = arena.book(&spec, SUPPLIER)?;
        let struck =
            visit(arena, point, passed, &mut book, &mut tally).await.with_context(|| point.name())?;
        tally.rounds += 1;
        if struck {
            tally.struck += 1;
        } else {
            tally.not_struck.push(point.name());
        }
        eprintln!(
            "failpoints {}: {}, lost {}, duplicated {}",
            point.name(),
            if struck { "struck" } else { "NOT reached" },
            tally.lost,
            tally.duplicated
        );
    }
    // A process that died between a letter and its ack leaves it twice, the second after the first was discarded.
    arena.discard_letters().await?;
    ensure!(tally.struck > 0, "no failpoint was reached: build with --features lote-failpoints/enabled");
    Ok(tally)
}

/// Returns whether a process died at the point.
async fn visit(
    arena: &mut Arena,
    point: Point,
    (armed, way): (Armed, Way),
    book: &mut Book,
    tally: &mut Tally,
) -> Result<bool> {
    if !matches!(way, Way::Orphan) {
        arm(armed.processes(arena), point).await?;
    }
    if let Way::Retry = way {
        arena.stack.redis.kill().await?;
    }
    if let Way::Garbage = way {
        arena.stack_garbage().await?;
    }
    let client = arena.client.clone();
    let wanted = book.upload.clone();
    let uploading =
        tokio::spawn(async move { client.upload_until_accepted(&wanted, Duration::from_secs(90)).await });
    if let Way::Orphan = way {
        orphan(arena, book).await?;
        // Not before: whoever sweeps dies of the first lease that lapses.
        arm(armed.processes(arena), point).await?;
    }
    let struck = died_at(armed.processes(arena), point).await;

    arena.stack.redis.start().await?;
    disarm(armed.processes(arena)).await?;
    if let Way::Orphan = way {
        for worker in &mut arena.platform.service_mut(&CATALOG_UPLOAD).workers {
            worker.restart().await?;
        }
    }
    let task = uploading.await??;
    settle(arena, book, &task, tally, false).await?;
    if let Way::Garbage = way {
        let letters = arena.bury_letters().await?;
        if letters == 0 {
            eprintln!("failpoints {}: the undecodable message is in no archive", point.name());
            tally.lost += 1;
        }
    }
    Ok(struck)
}

/// Kills the workers while they are at work on the import, so that its lease lapses.
async fn orphan(arena: &Arena, book: &Book) -> Result<()> {
    let key = book.upload.key.as_deref().context("chaos uploads have keys")?;
    stack::wait::until("the import should be under way", REACHED, async || {
        let query = "SELECT EXISTS (SELECT FROM jobs WHERE idempotency_key = $1 AND state = 'running')";
        sqlx::query_scalar(query).bind(key).fetch_one(&arena.pool).await.unwrap_or(false)
    })
    .await?;
    arena.platform.service(&CATALOG_UPLOAD).kill_workers().await
}

impl Armed {
    fn processes(self, arena: &mut Arena) -> Vec<&mut Running> {
        let platform = &mut arena.platform;
        match self {
            Self::Api => vec![&mut platform.service_mut(&CATALOG_UPLOAD).api],
            Self::Workers => platform.service_mut(&CATALOG_UPLOAD).workers.iter_mut().collect(),
            Self::ApiAndWorkers => platform.service_mut(&CATALOG_UPLOAD).all_mut().collect(),
            Self::Gateway => vec![&mut platform.gateway],
        }
    }
}

impl Arena {
    /// Puts a message into the queue of imports that is no message of ours.
    async fn stack_garbage(&self) -> Result<()> {
        let servers = self.platform.place.servers();
        stack::aws::send_message(&servers.aws_endpoint, self.platform.place.imports_queue(), "no envelope")
            .await
    }

    /// Waits for the dead letter to be archived, and discards what is in the archive as an operator would, so
    /// that the doctor has no open letter to report. Returns how many letters there were.
    async fn bury_letters(&self) -> Result<u64> {
        let open = "SELECT count(*) FROM dead_letters WHERE state = 'open'";
        let archived = stack::wait::until("the letter should be archived", REACHED, async || {
            sqlx::query_scalar::<_, i64>(open).fetch_one(&self.pool).await.unwrap_or(0) > 0
        });
        if archived.await.is_err() {
            return Ok(0);
        }
        self.discard_letters().await?;
        let buried: i64 =
            sqlx::query_scalar("SELECT count(*) FROM dead_letters").fetch_one(&self.pool).await?;
        Ok(buried.unsigned_abs())
    }

    async fn discard_letters(&self) -> Result<()> {
        const LETTERS: &str = "/api/v1/admin/catalog-upload/dead-letters";
        let all = json!({ "filter": { "queue": "catalog.imports" }, "dry_run": false });
        let answer = self.client.post(&format!("{LETTERS}/discard"), &all).await?;
        ensure!(answer.status.is_success(), "discard the letters: {answer}");
        let open = "SELECT count(*) FROM dead_letters WHERE state = 'open'";
        let left: i64 = sqlx::query_scalar(open).fetch_one(&self.pool).await?;
        ensure!(left == 0, "{left} letters are still open after {answer}");
        Ok(())
    }
}
