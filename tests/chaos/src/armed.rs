//! Processes that die at a failpoint.

use anyhow::Result;
use failpoints::Point;
use stack::daemon::Daemon;
use stack::process::Running;
use std::time::Duration;

/// How long a process may take to get to its failpoint.
pub const REACHED: Duration = Duration::from_secs(30);

/// Starts processes again so that each dies at the point. Some do so before they are ready.
pub async fn arm(processes: Vec<&mut Running>, point: Point) -> Result<()> {
    for process in processes {
        let points = format!("{}=1*return", point.name());
        if let Err(error) = process.restart_with(|service| service.env("FAILPOINTS", points)).await
            && !has_died_at(process.daemon(), point)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Starts processes again without failpoints.
pub async fn disarm(processes: Vec<&mut Running>) -> Result<()> {
    for process in processes {
        process.restart_with(|service| service.env("FAILPOINTS", "")).await?;
    }
    Ok(())
}

/// Waits until one of the processes has died at this point. Whether one did.
pub async fn died_at(processes: Vec<&mut Running>, point: Point) -> bool {
    let daemons: Vec<_> = processes.into_iter().map(|process| process.daemon().clone()).collect();
    let died = stack::wait::until("a process should die at its failpoint", REACHED, async || {
        daemons.iter().any(|daemon| has_died_at(daemon, point))
    });
    died.await.is_ok()
}

fn has_died_at(daemon: &Daemon, point: Point) -> bool {
    !daemon.is_running() && daemon.log_tail().contains(&format!("failpoint {} reached", point.name()))
}
