//! How much one caller may have under way at a time, at this replica.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what each caller has under way.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// Something under way; dropping it frees its place.
pub struct Place {
    places: Places,
    caller: String,
}

impl Places {
    /// A place, unless the caller has `cap` of them.
    pub fn enter(&self, caller: &str, cap: usize) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(caller.to_owned()).or_default();
        if *count >= cap {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), caller: caller.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.caller);
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
