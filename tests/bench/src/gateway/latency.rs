use super::{Callers, page};
use crate::figure::{Figure, percentile};
use anyhow::Result;

const SAMPLES: usize = 3_000;
const WARM: usize = 200;

/// `added`: milliseconds that the gateway adds to a read. One question at a time, in turns through the gateway and
/// to the service itself, so that both meet the same machine.
pub async fn measure(callers: &Callers, metric: &str) -> Result<()> {
    let (mut through, mut direct) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
    for sample in 0..SAMPLES + WARM {
        let (there, here) = (page(&callers.through).await?, page(&callers.direct).await?);
        if sample >= WARM {
            through.push(there);
            direct.push(here);
        }
    }
    let added = |percent: f64| percentile(through.clone(), percent) - percentile(direct.clone(), percent);
    Figure::new("gateway", metric, added(99.0), "ms p99")
        .n(SAMPLES)
        .number("p50", added(50.0))
        .number("through_p50", percentile(through.clone(), 50.0))
        .number("through_p99", percentile(through.clone(), 99.0))
        .number("direct_p50", percentile(direct.clone(), 50.0))
        .number("direct_p99", percentile(direct.clone(), 99.0))
        .print();
    Ok(())
}
