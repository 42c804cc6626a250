//! How much one caller may have under way at a time, at this replica.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Counts what each caller has under way.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<String, Taken>>>);

/// What one caller has under way.
#[derive(Default)]
struct Taken {
    count: usize,
    /// Tells each of them that another place is asked for in vain.
    wanted: Arc<Notify>,
}

/// Something under way; dropping it frees its place.
pub struct Place {
    places: Places,
    caller: String,
    wanted: Arc<Notify>,
}

impl Places {
    /// A place, unless the caller has `cap` of them, which are told so.
    pub fn enter(&self, caller: &str, cap: usize) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(caller.to_owned()).or_default();
        if taken.count >= cap {
            taken.wanted.notify_waiters();
            return None;
        }
        taken.count += 1;
        let wanted = taken.wanted.clone();
        Some(Place { places: self.clone(), caller: caller.to_owned(), wanted })
    }
}

impl Place {
    /// Waits until the caller asks for another place in vain.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.caller) {
            taken.count -= 1;
            if taken.count == 0 {
                all.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_places_and_what_ends_frees_one() {
        let places = Places::default();
        let first = places.enter("ana", 2).expect("a place");
        let second = places.enter("ana", 2).expect("a place");
        assert!(places.enter("ana", 2).is_none(), "a third");
        assert!(places.enter("eva", 2).is_some(), "another caller");
        drop(first);
        assert!(places.enter("ana", 2).is_some(), "one has ended");
        drop(second);
        assert!(
            places.0.lock().expect("nobody panicked").is_empty(),
            "who has nothing under way is forgotten"
        );
        assert!(places.enter("ana", 0).is_none(), "none may be had");
    }
}
