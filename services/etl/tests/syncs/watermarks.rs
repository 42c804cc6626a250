//! How far behind each stream is, as operators see it.

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use etl::{domain::run::Mode, target, watermarks::Watermarks};
use simulators::bsale::{Shop, Size};

use crate::world::{Kind, World};

/// A stream that no other test of this program reads the age of.
const STREAM: &str = "bsale.clientes";

fn age() -> Option<f64> {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == "etl_watermark_age_seconds")?;
    let of_stream =
        |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|label| label.value() == STREAM);
    Some(family.get_metric().iter().find(of_stream)?.get_gauge().get_value())
}

#[tokio::test]
async fn a_streams_age_is_its_watermarks_and_grows_while_nothing_is_read() -> Result<()> {
    let world = World::new("etlage", Kind::Postgres, Shop::new(7, Size::default())).await?;
    let mut watermarks = Watermarks::new(world.resources.clone());
    watermarks.look(Utc::now()).await;
    ensure!(age().is_none(), "nothing was ever read: {:?}", age());

    world.sync(STREAM, Mode::Full).await?;
    let lane = target::lane(&world.ours().target.db, STREAM).await?.context("its lane")?;
    let watermark = lane.watermark.context("a full run has a watermark")?;
    for seconds in [10, 3_610] {
        watermarks.look(watermark + TimeDelta::seconds(seconds)).await;
        let shown = age().context("an age")?;
        ensure!((shown - seconds as f64).abs() < 0.001, "{shown} s, not {seconds}");
    }
    // The sales database can't be asked any more: the stream ages on.
    world.ours().target.db.clone().close().await?;
    watermarks.look(watermark + TimeDelta::seconds(7_200)).await;
    ensure!(age() == Some(7_200.0), "{:?}", age());
    Ok(())
}
