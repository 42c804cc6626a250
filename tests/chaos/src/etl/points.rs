use super::scene::Scene;
use super::{Line, settle};
use anyhow::{Context, Result};
use failpoints::Point;
use std::time::Duration;

/// How long a process may take to get to its failpoint.
const REACHED: Duration = Duration::from_secs(30);

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
        // Of uploads, of letters and retries, which are the same in all services, and of imports of contacts: the other
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
        | Point::ViewsRefreshed => false,
    }
}

/// Lets processes die at each failpoint once.
pub async fn walk(scene: &mut Scene, line: &mut Line) -> Result<()> {
    for point in Point::ALL.iter().copied().filter(|point| is_passed(*point)) {
        let struck = visit(scene, point, line).await.with_context(|| point.name())?;
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
async fn visit(scene: &mut Scene, point: Point, line: &mut Line) -> Result<bool> {
    scene.bsale.shop(|shop| shop.live_a_day(5));
    scene.arm(&format!("{}=1*return", point.name())).await?;
    let work = scene.ask().await?;
    if point == Point::SweepWritten {
        // Their leases lapse, so that nudges must be sent again.
        let held = wait_held(scene, &work).await;
        scene.kill_workers().await?;
        held?;
    }
    let struck = scene.died_at(point).await;
    scene.arm("").await?;
    settle(scene, &work, line).await?;
    Ok(struck)
}

async fn wait_held(scene: &Scene, work: &super::scene::Work) -> Result<()> {
    stack::wait::until("a stream should be under way", REACHED, async || {
        scene.is_under_way(work).await.unwrap_or(false)
    })
    .await
}

impl Scene {
    /// Starts all of etl's processes with these failpoints.
    async fn arm(&mut self, points: &str) -> Result<()> {
        for process in self.processes() {
            process.restart_with(|service| service.env("FAILPOINTS", points)).await?;
        }
        Ok(())
    }

    /// Waits until a process has died at this point. Whether one did.
    async fn died_at(&mut self, point: Point) -> bool {
        let processes: Vec<_> =
            self.processes().into_iter().map(|process| process.daemon().clone()).collect();
        let said = format!("failpoint {} reached", point.name());
        let died = stack::wait::until("a process should die at its failpoint", REACHED, async || {
            processes.iter().any(|process| !process.is_running() && process.log_tail().contains(&said))
        });
        died.await.is_ok()
    }
}
