use super::Line;
use super::scene::{Round, Scene, WORKERS};
use crate::armed::died_at;
use anyhow::{Context, Result, ensure};
use failpoints::Point;
use stack::process::Running;

/// Whom the two campaigns of a point write to.
const PEOPLE: i64 = 300;

/// When processes are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before the campaigns start: their ledgers are written then.
    Before,
    /// When the ledgers are written and nothing is sent yet.
    Prepared,
    /// When workers have died with slices, so that nudges must be sent again.
    Orphaned,
}

/// Which processes die at a point, having passed it so many times before.
#[derive(Clone, Copy, Debug)]
struct Place {
    point: Point,
    passed: u32,
    when: When,
    /// Workers alone, or the API too: whichever comes first.
    api: bool,
    what: &'static str,
}

/// The sending path's. A worker that has one slice at a time passes the points of a batch in turns: first for the claim, then
/// for the answers.
const PLACES: [Place; 17] = [
    Place {
        point: Point::JobClaimed,
        passed: 0,
        when: When::Before,
        api: false,
        what: "a ledger's job is claimed",
    },
    Place {
        point: Point::BatchWritten,
        passed: 0,
        when: When::Before,
        api: false,
        what: "a window is written",
    },
    Place {
        point: Point::BatchCommitted,
        passed: 0,
        when: When::Before,
        api: false,
        what: "a window is committed",
    },
    Place {
        point: Point::JobFinishing,
        passed: 0,
        when: When::Before,
        api: false,
        what: "a ledger is whole",
    },
    Place {
        point: Point::JobClaimed,
        passed: 0,
        when: When::Prepared,
        api: false,
        what: "a slice is claimed",
    },
    Place {
        point: Point::BatchWritten,
        passed: 0,
        when: When::Prepared,
        api: false,
        what: "a claim is written",
    },
    Place {
        point: Point::BatchCommitted,
        passed: 0,
        when: When::Prepared,
        api: false,
        what: "a claim is committed",
    },
    Place {
        point: Point::BatchWritten,
        passed: 1,
        when: When::Prepared,
        api: false,
        what: "answers are written",
    },
    Place {
        point: Point::BatchCommitted,
        passed: 1,
        when: When::Prepared,
        api: false,
        what: "answers are committed",
    },
    Place {
        point: Point::JobFinishing,
        passed: 0,
        when: When::Prepared,
        api: false,
        what: "a slice is given back",
    },
    Place { point: Point::JobFinished, passed: 0, when: When::Prepared, api: false, what: "a slice is back" },
    Place {
        point: Point::HandlerReturned,
        passed: 0,
        when: When::Prepared,
        api: false,
        what: "a slice's nudge",
    },
    Place { point: Point::SliceFed, passed: 0, when: When::Prepared, api: true, what: "a slice is fed" },
    Place { point: Point::ReportKept, passed: 0, when: When::Prepared, api: true, what: "a webhook is kept" },
    Place {
        point: Point::ReportsApplied,
        passed: 0,
        when: When::Prepared,
        api: true,
        what: "webhooks are applied",
    },
    Place {
        point: Point::RelayPublished,
        passed: 0,
        when: When::Prepared,
        api: true,
        what: "events are published",
    },
    Place { point: Point::RelayDeleted, passed: 0, when: When::Prepared, api: true, what: "events are gone" },
];
/// The same where workers must have died before.
const ORPHANED: Place = Place {
    point: Point::SweepWritten,
    passed: 0,
    when: When::Orphaned,
    api: true,
    what: "nudges are written again",
};

/// Lets processes die at each place once.
pub async fn walk(scene: &mut Scene, line: &mut Line) -> Result<Vec<Round>> {
    for process in scene.workers() {
        process.restart_with(|service| service.env("SMS_SLICES_AT_ONCE", "1")).await?;
    }
    let mut all = Vec::new();
    for (number, place) in (1..).zip(PLACES.iter().copied().chain([ORPHANED])) {
        let said = format!("{} {:?}: {}", place.point.name(), place.when, place.what);
        let (struck, round) = visit(scene, place, number).await.with_context(|| said.clone())?;
        all.push(round);
        line.rounds += 1;
        line.struck += u32::from(struck);
        // Those that did not die there were killed after it, and with some all had died before.
        line.killed += if place.when == When::Orphaned { 2 * WORKERS } else { WORKERS };
        eprintln!("failpoints {said}: {}", if struck { "struck" } else { "NOT reached" });
        if !struck {
            line.not_struck.push(said);
        }
    }
    ensure!(line.struck > 0, "no failpoint was reached: build with --features lote-failpoints/enabled");
    Ok(all)
}

/// Returns whether a process died there.
async fn visit(scene: &mut Scene, place: Place, number: u32) -> Result<(bool, Round)> {
    // An event that was left over may let the API die before it is asked: that has struck.
    let mut is_open = true;
    let mut round = match place.when {
        When::Before => {
            arm(scene, place).await?;
            scene.begin(number, PEOPLE).await?
        }
        When::Prepared => {
            let round = scene.begin_with(number, PEOPLE, false).await?;
            scene.prepared(&round).await?;
            arm(scene, place).await?;
            is_open = scene.open_provider().await.is_ok();
            round
        }
        When::Orphaned => {
            let round = scene.begin(number, PEOPLE).await?;
            scene.sending(&round).await?;
            scene.kill_workers().await?;
            // Not before: whoever sweeps dies of the first lease that lapses.
            arm(scene, place).await?;
            round
        }
    };
    let struck = died_at(armed(scene, place), place.point).await;
    for process in scene.processes() {
        process.restart_with(|service| service.env("FAILPOINTS", "")).await?;
    }
    if !is_open {
        scene.open_provider().await?;
    }
    scene.ended(&mut round).await?;
    Ok((struck, round))
}

fn armed(scene: &mut Scene, place: Place) -> Vec<&mut Running> {
    if place.api { scene.processes() } else { scene.workers() }
}

/// Starts processes again so that each dies there. Some do so before they are ready.
async fn arm(scene: &mut Scene, place: Place) -> Result<()> {
    let points = format!("{}={}*off->1*return", place.point.name(), place.passed);
    for process in armed(scene, place) {
        let armed = process.restart_with(|service| service.env("FAILPOINTS", points.clone())).await;
        if armed.is_err() && process.is_running() {
            return armed;
        }
    }
    Ok(())
}
