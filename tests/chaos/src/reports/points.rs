use super::scene::Scene;
use super::{Line, settle};
use crate::armed::{REACHED, arm, died_at, disarm};
use anyhow::{Context, Result, ensure};
use failpoints::Point;
use sea_orm::sqlx;
use serde_json::json;

/// What leads a process to a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A run.
    Run,
    /// A run whose client gets no answer and asks again.
    Unanswered,
    /// A run whose workers die, so that its nudges must be sent again.
    Orphan,
    /// Events that can't be kept, because PostgreSQL is away.
    Retry,
    /// A message that nobody can decode.
    Garbage,
}

/// None: no process of this suite passes there.
fn way(point: Point) -> Option<Way> {
    Some(match point {
        Point::UploadStored
        | Point::RelayPublished
        | Point::RelayDeleted
        | Point::JobClaimed
        | Point::BatchWritten
        | Point::BatchCommitted
        | Point::JobFinishing
        | Point::JobFinished
        | Point::HandlerReturned => Way::Run,
        Point::UploadCommitted => Way::Unanswered,
        Point::SweepWritten => Way::Orphan,
        Point::RetryPublished => Way::Retry,
        Point::DeadPublished | Point::LetterArchived => Way::Garbage,
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

/// Lets processes die at each failpoint once.
pub async fn walk(scene: &mut Scene, line: &mut Line) -> Result<()> {
    for (number, point) in (1..).zip(Point::ALL.iter().copied()) {
        let Some(way) = way(point) else { continue };
        let struck = visit(scene, point, way, number, line).await.with_context(|| point.name())?;
        line.rounds += 1;
        line.struck += u32::from(struck);
        if !struck {
            line.not_struck.push(point.name());
        }
        eprintln!(
            "failpoints {}: {}, lost {}, duplicated {}",
            point.name(),
            if struck { "struck" } else { "NOT reached" },
            line.lost,
            line.duplicated
        );
    }
    Ok(())
}

/// Returns whether a process died at the point.
async fn visit(scene: &mut Scene, point: Point, way: Way, number: u32, line: &mut Line) -> Result<bool> {
    let before = scene.runs().await?;
    if way != Way::Orphan {
        arm(scene.processes(), point).await?;
    }
    let (work, struck) = match way {
        Way::Run => {
            let asking = scene.begin_to_ask(true);
            let struck = died_at(scene.processes(), point).await;
            disarm(scene.processes()).await?;
            (asking.await??, struck)
        }
        Way::Unanswered => {
            scene.change().await?;
            let asking = scene.begin_to_ask(false);
            let struck = died_at(scene.processes(), point).await;
            disarm(scene.processes()).await?;
            (asking.await??, struck)
        }
        Way::Orphan => {
            let asking = scene.begin_to_ask(true);
            scene.orphan().await?;
            // Not before: whoever sweeps dies of the first lease that lapses.
            arm(scene.processes(), point).await?;
            let struck = died_at(scene.processes(), point).await;
            disarm(scene.processes()).await?;
            (asking.await??, struck)
        }
        Way::Retry => {
            scene.stack.postgres.kill().await?;
            let (work, telling) = scene.tell(number)?;
            let struck = died_at(scene.processes(), point).await;
            scene.stack.postgres.start().await?;
            disarm(scene.processes()).await?;
            telling.await??;
            (work, struck)
        }
        Way::Garbage => {
            scene.publisher.nonsense().await?;
            let struck = died_at(scene.processes(), point).await;
            disarm(scene.processes()).await?;
            (scene.ask().await?, struck)
        }
    };
    settle(scene, &work, line).await?;
    if way == Way::Garbage && scene.bury_letters().await? == 0 {
        eprintln!("failpoints {}: the undecodable message is in no archive", point.name());
        line.lost += 1;
    }
    let begun = scene.runs().await? - before;
    if way == Way::Unanswered && begun != 1 {
        eprintln!("failpoints {}: {begun} runs of one request", point.name());
        line.duplicated += 1;
    }
    Ok(struck)
}

impl Scene {
    /// Kills the workers while they are at work on files, so that their leases lapse.
    async fn orphan(&self) -> Result<()> {
        stack::wait::until("a file should be under way", REACHED, async || {
            let query = "select exists (select from jobs where kind = 'report.files' and state = 'running')";
            sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap_or(false)
        })
        .await?;
        self.kill_workers().await
    }

    /// Waits for the dead letter to be archived, and discards what is in the archive as an operator would, so that
    /// the doctor has no open letter to report. Returns how many letters were open.
    async fn bury_letters(&self) -> Result<u64> {
        let count = || async {
            let open = "select count(*) from dead_letters where state = 'open'";
            sqlx::query_scalar::<_, i64>(open).fetch_one(&self.pool).await
        };
        let archived = stack::wait::until("the letter should be archived", REACHED, async || {
            count().await.is_ok_and(|open| open > 0)
        });
        if archived.await.is_err() {
            return Ok(0);
        }
        let buried = count().await?;
        let all = json!({ "filter": { "queue": "report.events" }, "dry_run": false });
        let answer = self.client.post("/api/v1/admin/report/dead-letters/discard", &all).await?;
        ensure!(answer.status.is_success(), "discard the letters: {answer}");
        let left = count().await?;
        ensure!(left == 0, "{left} letters are still open after {answer}");
        Ok(buried.unsigned_abs())
    }
}
