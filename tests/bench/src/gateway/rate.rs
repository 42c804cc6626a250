use super::{Callers, page};
use crate::figure::{Figure, median};
use anyhow::Result;
use futures::future::try_join_all;
use stack::platform::Client;
use std::time::{Duration, Instant};

const CLIENTS: usize = 32;
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;

/// `throughput`: reads a second of 32 clients through the gateway; floor: of the service itself, which has the machine
/// to itself then.
pub async fn measure(callers: &Callers, metric: &str) -> Result<()> {
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(rate(&callers.direct).await?);
        through.push(rate(&callers.through).await?);
    }
    Figure::new("gateway", metric, median(through), "reads/s")
        .floor_of_rate(median(direct))
        .with("clients", CLIENTS.into())
        .print();
    Ok(())
}

async fn rate(client: &Client) -> Result<f64> {
    let began = Instant::now();
    let end = began + ROUND;
    let readers = (0..CLIENTS).map(|_| async move {
        let mut reads = 0_u32;
        while Instant::now() < end {
            page(client).await?;
            reads += 1;
        }
        anyhow::Ok(reads)
    });
    let reads: u32 = try_join_all(readers).await?.into_iter().sum();
    Ok(f64::from(reads) / began.elapsed().as_secs_f64())
}
