//! The floors: lapin and nothing else, on the same queue with the same prefetch, acknowledging by hand; either
//! each delivery, as clients usually do, or all that are at hand with one frame, which is the best that a client
//! can do.

use super::{Bench, CONCURRENCY};
use anyhow::{Context, Result};
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use std::time::Instant;

/// A consumer with its connection.
pub struct Bare {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Bare {
    pub async fn start(bench: &Bench) -> Result<Self> {
        let connection = Connection::connect(bench.amqp_url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(u16::try_from(CONCURRENCY)?, BasicQosOptions::default()).await?;
        let (queue, options) = (bench.work(), BasicConsumeOptions::default());
        let consumer =
            channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        Ok(Self { connection, channel, consumer })
    }

    /// The next delivery's body, acknowledged.
    pub async fn take(&mut self) -> Result<Vec<u8>> {
        let delivery = self.consumer.next().await.context("the consumer goes on")??;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        Ok(delivery.data)
    }

    /// Takes one delivery and all others that are at hand, and acknowledges them together. Returns how many.
    async fn take_row(&mut self) -> Result<usize> {
        let mut last = self.consumer.next().await.context("the consumer goes on")??;
        let mut count = 1;
        while let Some(next) = self.consumer.next().now_or_never() {
            last = next.context("the consumer goes on")??;
            count += 1;
        }
        last.acker.ack(BasicAckOptions { multiple: true }).await?;
        Ok(count)
    }

    /// Waits until the acknowledgements are written, and leaves.
    pub async fn leave(self) -> Result<()> {
        self.channel.close(200, "done".into()).await?;
        self.connection.close(200, "done".into()).await?;
        Ok(())
    }
}

/// Messages a second, from the first delivery to the last, each acknowledged by itself.
pub async fn rate(bench: &Bench, count: usize) -> Result<f64> {
    bench.fill(count).await?;
    let mut bare = Bare::start(bench).await?;
    bare.take().await?;
    let started = Instant::now();
    for _ in 1..count {
        bare.take().await?;
    }
    let rate = (count - 1) as f64 / started.elapsed().as_secs_f64();
    bare.leave().await?;
    Ok(rate)
}

/// The same, acknowledged in rows.
pub async fn rate_in_rows(bench: &Bench, count: usize) -> Result<f64> {
    bench.fill(count).await?;
    let mut bare = Bare::start(bench).await?;
    let first = bare.take_row().await?;
    let started = Instant::now();
    let mut taken = first;
    while taken < count {
        taken += bare.take_row().await?;
    }
    let rate = (count - first) as f64 / started.elapsed().as_secs_f64();
    bare.leave().await?;
    Ok(rate)
}
