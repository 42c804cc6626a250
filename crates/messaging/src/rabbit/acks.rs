//! Acknowledges deliveries: what is settled in a row with one frame, what is settled out of turn at once and
//! on its own.

use std::collections::BTreeSet;

use lapin::{Channel, options::BasicAckOptions};
use tokio::sync::mpsc::UnboundedReceiver;

/// Acks until all senders are gone or the channel is.
pub(crate) async fn acknowledge(channel: Channel, mut settled: UnboundedReceiver<u64>) {
    let mut window = Window::default();
    let mut tags = Vec::new();
    // While one write is under way the next tags gather: the busier, the larger the batches.
    while settled.recv_many(&mut tags, 1024).await > 0 {
        let (row, singles) = window.settle(&mut tags);
        let row = row.map(|tag| (tag, true));
        let acks = row.into_iter().chain(singles.into_iter().map(|tag| (tag, false)));
        let acks = acks.map(|(tag, multiple)| channel.basic_ack(tag, BasicAckOptions { multiple }));
        if let Err(error) = futures::future::try_join_all(acks).await {
            tracing::warn!(%error, "acknowledgements are lost; their messages will be delivered again");
            return;
        }
        tags.clear();
    }
}

/// Which delivery tags of a channel (1, 2, 3, …) are settled.
struct Window {
    /// The lowest that is not.
    next: u64,
    /// Those above it that are, and are acknowledged.
    ahead: BTreeSet<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 1, ahead: BTreeSet::new() }
    }
}

impl Window {
    /// Takes in newly settled tags. Returns the one up to which all are settled (to be acknowledged with
    /// `multiple`; it is a new one, because RabbitMQ refuses a tag that it has seen), and the new ones beyond.
    fn settle(&mut self, tags: &mut [u64]) -> (Option<u64>, Vec<u64>) {
        tags.sort_unstable();
        self.ahead.extend(tags.iter().copied());
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
        let beyond = tags.partition_point(|tag| *tag < self.next);
        (beyond.checked_sub(1).map(|last| tags[last]), tags[beyond..].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_and_singles() {
        let mut window = Window::default();
        assert_eq!(window.settle(&mut [2, 3]), (None, vec![2, 3]));
        assert_eq!(window.settle(&mut [5, 1]), (Some(1), vec![5]));
        assert_eq!(window.settle(&mut [6, 4]), (Some(6), vec![]));
        assert_eq!(window.settle(&mut [8]), (None, vec![8]));
    }

    proptest! {
        /// The broker's view: a frame with `multiple` acknowledges all outstanding tags up to its own. In
        /// whatever order and batches handlers end, nothing is acked that is not settled, everything
        /// settled is acked at once, and no frame names a tag that is acked already.
        #[test]
        fn acks_what_is_settled_and_nothing_else(
            order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
            size in 1..8_usize,
        ) {
            let (mut settled, mut acked) = (BTreeSet::new(), BTreeSet::new());
            let mut window = Window::default();
            for batch in order.chunks(size) {
                let mut batch = batch.to_vec();
                settled.extend(batch.iter().copied());
                let (row, singles) = window.settle(&mut batch);
                if let Some(tag) = row {
                    prop_assert!(!acked.contains(&tag));
                    acked.extend(1..=tag);
                }
                for tag in singles {
                    prop_assert!(acked.insert(tag));
                }
                prop_assert_eq!(&acked, &settled);
            }
        }
    }
}
