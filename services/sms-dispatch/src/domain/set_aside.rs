//! Which phones must not go straight into the table: something is known against writing to them, and what a load copies can't
//! follow it.

use super::Phone;

/// Bits of the set: 16 MiB, however many phones there are. Of two million, one other phone in seventy passes for one of
/// them.
const BITS: u32 = 27;

/// A set of phones that never misses one and sometimes names another, which then only takes the longer way: it is staged and
/// merged. An exact set would grow with the suppressions.
#[derive(Clone, Default)]
pub struct SetAside {
    words: Vec<u64>,
}

impl SetAside {
    /// Adds a phone.
    pub fn insert(&mut self, phone: Phone) {
        if self.words.is_empty() {
            self.words = vec![0; 1 << (BITS - 6)];
        }
        let (word, bit) = place(phone);
        self.words[word] |= bit;
    }

    /// Whether the phone may have been added.
    pub fn may_hold(&self, phone: Phone) -> bool {
        let (word, bit) = place(phone);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// Not its millions of bits.
impl std::fmt::Debug for SetAside {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SetAside").field("is_empty", &self.words.is_empty()).finish()
    }
}

/// Fibonacci hashing: phones that follow each other lie far apart.
fn place(phone: Phone) -> (usize, u64) {
    let hash = phone.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
    // 27 bits fit.
    ((hash >> 6) as usize, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::normalise;

    fn phones(from: u64) -> impl Iterator<Item = Phone> {
        (from..from + 20_000).filter_map(|number| Some(normalise(number.to_string().as_bytes()).ok()?.phone))
    }

    #[test]
    fn it_never_misses_one_and_seldom_names_another() {
        let mut set = SetAside::default();
        assert!(!phones(6_121_000_000).any(|phone| set.may_hold(phone)), "an empty set holds nobody");
        phones(6_121_000_000).for_each(|phone| set.insert(phone));
        assert!(phones(6_121_000_000).all(|phone| set.may_hold(phone)));
        let others = phones(5_512_000_000).filter(|phone| set.may_hold(*phone)).count();
        assert!(others < 200, "{others} of 20,000 others");
    }
}
