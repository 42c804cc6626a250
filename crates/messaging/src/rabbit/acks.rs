//! Settles deliveries: what is done in a row is acknowledged with one frame, what is done out of turn at once and
//! on its own, and what was given up goes back to its queue.

use std::collections::BTreeSet;

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicRejectOptions},
};
use tokio::sync::mpsc::UnboundedReceiver;

/// What became of a delivery, by its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// To be acknowledged.
    Done(u64),
    /// To be put back into its queue.
    GivenUp(u64),
}

/// Settles until all senders are gone or the channel is.
pub(super) async fn acknowledge(channel: Channel, mut settled: UnboundedReceiver<Settled>) {
    let mut window = Window::default();
    let mut batch = Vec::new();
    // While one write is under way the next gather: the busier, the larger the batches.
    while settled.recv_many(&mut batch, 1024).await > 0 {
        let frames = window.settle(&batch);
        batch.clear();
        if let Err(error) = write(&channel, frames).await {
            tracing::warn!(%error, "acknowledgements are lost; their messages will be delivered again");
            return;
        }
    }
}

async fn write(channel: &Channel, frames: Frames) -> lapin::Result<()> {
    // First, and awaited: an ack of a row takes along all that is outstanding below it. A reject counts toward the
    // delivery limit in every version of RabbitMQ, a nack does not in 4.3.
    for tag in frames.rejects {
        channel.basic_reject(tag, BasicRejectOptions { requeue: true }).await?;
    }
    let row = frames.row.map(|tag| (tag, true));
    let acks = row.into_iter().chain(frames.singles.into_iter().map(|tag| (tag, false)));
    let acks = acks.map(|(tag, multiple)| channel.basic_ack(tag, BasicAckOptions { multiple }));
    futures::future::try_join_all(acks).await?;
    Ok(())
}

/// What to tell the broker, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frames {
    rejects: Vec<u64>,
    /// To be acknowledged with `multiple`: it and all below it are settled. RabbitMQ refuses a tag that it has seen
    /// settled, so this one was not before.
    row: Option<u64>,
    /// To be acknowledged each on its own.
    singles: Vec<u64>,
}

/// Which delivery tags of a channel (1, 2, 3, …) are settled.
struct Window {
    /// The lowest that is not.
    next: u64,
    /// Those above it that are, and of which the broker knows.
    ahead: BTreeSet<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 1, ahead: BTreeSet::new() }
    }
}

impl Window {
    /// Takes in newly settled tags.
    fn settle(&mut self, settled: &[Settled]) -> Frames {
        let mut frames = Frames::default();
        for settled in settled {
            let (tags, tag) = match *settled {
                Settled::Done(tag) => (&mut frames.singles, tag),
                Settled::GivenUp(tag) => (&mut frames.rejects, tag),
            };
            tags.push(tag);
            self.ahead.insert(tag);
        }
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
        frames.singles.sort_unstable();
        let in_row = frames.singles.partition_point(|tag| *tag < self.next);
        frames.row = frames.singles.drain(..in_row).next_back();
        frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn done(tags: &[u64]) -> Vec<Settled> {
        tags.iter().copied().map(Settled::Done).collect()
    }

    #[test]
    fn rows_and_singles() {
        let mut window = Window::default();
        let frames = |row, singles: &[u64]| Frames { rejects: vec![], row, singles: singles.to_vec() };
        assert_eq!(window.settle(&done(&[2, 3])), frames(None, &[2, 3]));
        assert_eq!(window.settle(&done(&[5, 1])), frames(Some(1), &[5]));
        assert_eq!(window.settle(&done(&[6, 4])), frames(Some(6), &[]));
        assert_eq!(window.settle(&done(&[8])), frames(None, &[8]));
    }

    #[test]
    fn what_was_given_up_neither_breaks_a_row_nor_ends_it() {
        let mut window = Window::default();
        let frames =
            window.settle(&[Settled::Done(1), Settled::GivenUp(2), Settled::Done(3), Settled::GivenUp(4)]);
        assert_eq!(frames, Frames { rejects: vec![2, 4], row: Some(3), singles: vec![] });
        let frames = window.settle(&[Settled::GivenUp(5)]);
        assert_eq!(frames, Frames { rejects: vec![5], row: None, singles: vec![] });
        assert_eq!(window.settle(&done(&[6])), Frames { rejects: vec![], row: Some(6), singles: vec![] });
    }

    /// What RabbitMQ holds of a channel: it puts back what is rejected, takes with `multiple` all outstanding tags
    /// up to the named one, and closes the channel over a tag that is not outstanding.
    struct Broker {
        outstanding: BTreeSet<u64>,
        acked: BTreeSet<u64>,
        requeued: BTreeSet<u64>,
    }

    impl Broker {
        fn take(&mut self, frames: &Frames) -> Result<(), TestCaseError> {
            for tag in &frames.rejects {
                prop_assert!(self.outstanding.remove(tag), "reject of {}", tag);
                self.requeued.insert(*tag);
            }
            if let Some(row) = frames.row {
                prop_assert!(self.outstanding.contains(&row), "row up to {}", row);
                let above = self.outstanding.split_off(&(row + 1));
                self.acked.extend(std::mem::replace(&mut self.outstanding, above));
            }
            for tag in &frames.singles {
                prop_assert!(self.outstanding.remove(tag), "ack of {}", tag);
                self.acked.insert(*tag);
            }
            Ok(())
        }
    }

    proptest! {
        /// In whatever order and batches handlers end, whichever are given up: the broker hears of everything that is
        /// settled at once and of nothing else, and no frame names a tag that it knows settled.
        #[test]
        fn the_broker_hears_what_is_settled_and_nothing_else(
            order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
            given_up in proptest::collection::vec(proptest::bool::weighted(0.3), 60),
            size in 1..8_usize,
        ) {
            let (mut done, mut back) = (BTreeSet::new(), BTreeSet::new());
            let mut broker = Broker {
                outstanding: order.iter().copied().collect(),
                acked: BTreeSet::new(),
                requeued: BTreeSet::new(),
            };
            let mut window = Window::default();
            for batch in order.chunks(size) {
                let batch: Vec<Settled> = batch
                    .iter()
                    .map(|tag| if given_up[*tag as usize - 1] { Settled::GivenUp(*tag) } else { Settled::Done(*tag) })
                    .collect();
                for settled in &batch {
                    match *settled {
                        Settled::Done(tag) => done.insert(tag),
                        Settled::GivenUp(tag) => back.insert(tag),
                    };
                }
                broker.take(&window.settle(&batch))?;
                prop_assert_eq!(&broker.acked, &done);
                prop_assert_eq!(&broker.requeued, &back);
            }
            prop_assert!(window.ahead.is_empty(), "nothing is remembered for ever");
        }
    }
}
