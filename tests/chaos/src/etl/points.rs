use super::scene::{Asked, Scene};
use super::{Line, settle};
use crate::armed::{REACHED, arm, died_at, disarm};
use anyhow::{Context, Result};
use failpoints::Point;

/// Whether a process of this suite passes there.
fn is_passed(point: Point) -> bool {
    match point {
        Point::RelayPublished
        | Point::RelayDeleted
        | Point::JobClaimed
        | Point::BatchWritten
        | Point::BatchCommitted
        | Point::JobFinishing
        | Point::JobFinished
        | Point::HandlerReturned
        | Point::SweepWritten => true,
        // Of uploads, of letters and retries, which are the same in all services, of imports of contacts and of campaigns: the other
        // suites let processes die there.
        Point::UploadStored
        | Point::UploadCommitted
        | Point::RetryPublished
        | Point::DeadPublished
        | Point::LetterArchived
        | Point::ImportBegun
        | Point::SideTablesKept
        | Point::IndexBuilt
        | Point::StagedCleared
        | Point::ViewsRefreshed
        | Point::SliceFed
        | Point::ReportKept
        | Point::ReportsApplied => false,
    }
}

/// Lets processes die at each failpoint once.
pub async fn walk(scene: &mut Scene, line: &mut Line) -> Result<()> {
    let all = Point::ALL.iter().copied().filter(|point| is_passed(*point)).map(|point| (point, Asked::Both));
    // The first to pass there may be of either source: once more with the one that commits elsewhere.
    let collections = [Point::BatchWritten, Point::BatchCommitted].map(|point| (point, Asked::Collections));
    for (point, asked) in all.chain(collections) {
        let struck = visit(scene, point, asked, line).await.with_context(|| point.name())?;
        line.rounds += 1;
        line.struck += u32::from(struck);
        if !struck {
            line.not_struck.push(point.name());
        }
        eprintln!(
            "failpoints {} ({asked:?}): {}, lost {}, duplicated {}",
            point.name(),
            if struck { "struck" } else { "NOT reached" },
            line.lost,
            line.duplicated
        );
    }
    Ok(())
}

/// Returns whether a process died at the point.
async fn visit(scene: &mut Scene, point: Point, asked: Asked, line: &mut Line) -> Result<bool> {
    scene.live();
    let work = if point == Point::SweepWritten {
        // Leases lapse, so that nudges must be sent again.
        let work = scene.ask(asked).await?;
        let under_way = async || scene.is_under_way(&work).await.unwrap_or(false);
        stack::wait::until("a stream should be under way", REACHED, under_way).await?;
        scene.kill_workers().await?;
        arm(scene.processes(), point).await?;
        work
    } else {
        arm(scene.processes(), point).await?;
        scene.ask(asked).await?
    };
    let struck = died_at(scene.processes(), point).await;
    disarm(scene.processes()).await?;
    settle(scene, &work, line).await?;
    Ok(struck)
}
