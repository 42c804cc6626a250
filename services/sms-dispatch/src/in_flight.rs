//! How many requests of each sender may be under way at once in this process: one whose answers come late takes no more places
//! than that, and all others go on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A sender has so many seconds of its rate under way: more are of late answers, and not of a high rate.
const SECONDS: f64 = 2.0;
/// The slowest has so many.
const LEAST: usize = 8;

/// The places of one lane: single messages and campaigns have some each.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    senders: Arc<Mutex<HashMap<String, Sender>>>,
}

#[derive(Debug, Default)]
struct Sender {
    under_way: usize,
    /// Until when its rate has no room.
    full_until: Option<Instant>,
}

/// A request's place, for as long as it is kept.
#[derive(Debug)]
pub struct Place {
    senders: Arc<Mutex<HashMap<String, Sender>>>,
    address: String,
}

impl InFlight {
    /// As many places as a sender has that may send so many parts a second, `most` at most.
    pub fn limit(per_second: f64, most: usize) -> usize {
        ((per_second * SECONDS).ceil() as usize).max(LEAST).min(most)
    }

    /// Takes one of a sender's places; none where all are taken.
    pub fn take(&self, address: &str, limit: usize) -> Option<Place> {
        let mut senders = self.lock();
        let sender = senders.entry(address.to_owned()).or_default();
        if sender.under_way >= limit {
            return None;
        }
        sender.under_way += 1;
        Some(Place { senders: Arc::clone(&self.senders), address: address.to_owned() })
    }

    /// Notes that a sender's rate has no room for so long.
    pub fn is_full_for(&self, address: &str, time: Duration) {
        self.lock().entry(address.to_owned()).or_default().full_until = Some(Instant::now() + time);
    }

    /// Whether a sender's rate has room, as far as is known.
    pub fn has_room(&self, address: &str) -> bool {
        let until = self.lock().get(address).and_then(|sender| sender.full_until);
        until.is_none_or(|until| until <= Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sender>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get_mut(&self.address) {
            sender.under_way = sender.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_takes_its_own_places_and_gives_them_back() {
        let all = InFlight::default();
        let first: Vec<_> = (0..3).filter_map(|_| all.take("one", 2)).collect();
        assert_eq!(first.len(), 2);
        assert!(all.take("other", 2).is_some());
        drop(first);
        assert!(all.take("one", 2).is_some());
    }

    #[test]
    fn places_follow_the_rate() {
        assert_eq!(InFlight::limit(0.1, 256), 8);
        assert_eq!(InFlight::limit(50.0, 256), 100);
        assert_eq!(InFlight::limit(1_000.0, 256), 256);
        assert_eq!(InFlight::limit(50.0, 3), 3);
    }
}
