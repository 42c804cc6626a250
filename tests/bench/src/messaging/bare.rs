//! The floor: lapin and nothing else, on the same queue with the same prefetch, each delivery acknowledged by
//! hand.

use super::{Bench, CONCURRENCY};
use anyhow::{Context, Result};
use futures::StreamExt as _;
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

    /// Waits until the acknowledgements are written, and leaves.
    pub async fn leave(self) -> Result<()> {
        self.channel.close(200, "done".into()).await?;
        self.connection.close(200, "done".into()).await?;
        Ok(())
    }
}

/// Messages a second, from the first delivery to the last.
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
