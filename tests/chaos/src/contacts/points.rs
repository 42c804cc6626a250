use super::scene::{Scene, Way};
use super::{FINAL, Line, end, judge};
use anyhow::{Context, Result, ensure};
use failpoints::Point;

/// Where an import into the table dies: at a point, which it has passed so many times before.
async fn places(scene: &Scene, way: Way) -> Result<Vec<(Point, i64)>> {
    let loads = "select count(*) from import_batches where phase = 'load' and import = (select max(number) from imports)";
    let loads = scene.count(loads).await?;
    let mut places = vec![
        (Point::JobClaimed, 0),
        (Point::ImportBegun, 0),
        (Point::SideTablesKept, 0),
        (Point::BatchWritten, 0),
        (Point::BatchCommitted, 0),
        // The last batch that is loaded, and the first that merges.
        (Point::BatchCommitted, loads - 1),
        (Point::BatchWritten, loads),
        (Point::BatchCommitted, loads),
        (Point::StagedCleared, 0),
        (Point::ViewsRefreshed, 0),
        (Point::JobFinishing, 0),
        (Point::JobFinished, 0),
    ];
    if way == Way::Fast {
        // The one by which rows merge, and some of the others.
        places.extend([(Point::IndexBuilt, 0), (Point::IndexBuilt, 1), (Point::IndexBuilt, 5)]);
    }
    Ok(places)
}

/// Lets imports die at each failpoint.
pub async fn walk(scene: &Scene, line: &mut Line) -> Result<()> {
    for way in [Way::Fast, Way::Merge] {
        // How many batches there are is seen in an import of that way.
        scene.reset(way).await?;
        ensure!(end(scene, scene.import("")?).await?, "an undisturbed import fails");
        for (point, before) in places(scene, way).await? {
            scene.reset(way).await?;
            let place = format!("{} {} after {before}", way.name(), point.name());
            let import = scene.import(&format!("{}={before}*off->1*return", point.name()))?;
            import.exited(FINAL).await.with_context(|| place.clone())?;
            let said = format!("failpoint {} reached", point.name());
            let struck = import.daemon().log_tail().contains(&said);
            let ended = end(scene, scene.import("")?).await?;
            line.rounds += 1;
            line.accepted += 1;
            line.struck += u32::from(struck);
            line.strikes += u32::from(struck);
            judge(scene, way, ended, line).await?;
            eprintln!(
                "failpoints {place}: {}, lost {}, duplicated {}, doctor {}",
                if struck { "struck" } else { "NOT reached" },
                line.lost,
                line.duplicated,
                line.doctor
            );
            if !struck {
                line.not_struck.push(place);
            }
        }
    }
    ensure!(line.struck > 0, "no failpoint was reached: build with --features lote-failpoints/enabled");
    Ok(())
}
