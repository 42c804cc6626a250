//! Which ids and codes the rows of a file have had so far: the first row of a file wins, whatever becomes of its
//! product meanwhile, and rows that share nothing have nothing to do with one another.

use std::hash::RandomState;

use fastbloom::BloomFilter;
use siphasher::sip128::SipHasher13;

use super::{Decision, Outcome, ProductRow};

/// One in so many keys is taken for one that was there before.
const FALSE_ALARMS: f64 = 0.01;

/// An id or a code, as 128 bits: no two of a file are alike. The same in every process, for they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u128);

impl Key {
    /// What one takes where it is kept.
    const BYTES: usize = size_of::<u128>();

    /// Of an id. Ids and codes are kept apart: many suppliers use one for both.
    pub fn id(id: &str) -> Self {
        Self::of(0x6964, id)
    }

    /// Of a code.
    pub fn code(codigo: &str) -> Self {
        Self::of(0x0063_6f64_6967_6f00, codigo)
    }

    fn of(kind: u64, text: &str) -> Self {
        Self(SipHasher13::new_with_keys(kind, 0).hash(text.as_bytes()).as_u128())
    }
}

/// The keys of the rows of one file, first to last.
pub struct Claims {
    /// Those of all rows. It may take a key for one that it has seen, never one that it has seen for new.
    seen: BloomFilter<RandomState>,
    /// Those of the accepted rows, a batch each, in order; 32 bytes a row.
    taken: Vec<Box<[Key]>>,
}

impl Claims {
    /// Of a file of which nothing is read yet. `max_rows` is what is reserved for, 2.5 bytes a row.
    pub fn nothing(max_rows: u32) -> Self {
        let seen = BloomFilter::with_false_pos(FALSE_ALARMS)
            .hasher(RandomState::new())
            .expected_items(2 * max_rows.max(1) as usize);
        Self { seen, taken: Vec::new() }
    }

    /// Takes the next rows; tells of each whether it is apart: no row before it had its id or its code.
    ///
    /// Rows that are apart have no key in common, so what becomes of one of them doesn't depend on any row before
    /// it, and all of them may be written at once. Every other row comes after the rows whose keys it shares.
    pub fn apart(&mut self, rows: &[ProductRow]) -> Vec<bool> {
        let mut apart = |row: &ProductRow| {
            let had_id = self.seen.insert(&Key::id(&row.id));
            let had_code = self.seen.insert(&Key::code(&row.codigo));
            !had_id && !had_code
        };
        rows.iter().map(&mut apart).collect()
    }

    /// Whether an accepted row had it.
    pub fn has(&self, key: Key) -> bool {
        self.seen.contains(&key) && self.taken.iter().any(|batch| batch.binary_search(&key).is_ok())
    }

    /// Takes the keys of the accepted rows of a batch.
    pub fn take(&mut self, batch: Accepted) {
        for key in &batch.0 {
            self.seen.insert(key);
        }
        self.taken.push(batch.0);
    }

    /// Gives back what was taken last: that batch was not written, and is decided again.
    pub fn give_back(&mut self) {
        // What was seen stays so, which only costs a look at what is taken.
        self.taken.pop();
    }
}

/// The keys of the accepted rows of a batch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted(Box<[Key]>);

impl Accepted {
    /// Those of rows that were decided so. A row that was accepted has its id, its code, and the product that it means
    /// where it met that by its code.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a ProductRow>, decisions: &[Decision]) -> Self {
        let mut keys = Vec::with_capacity(2 * decisions.len());
        for (row, decision) in rows.into_iter().zip(decisions) {
            match &decision.outcome {
                Outcome::Create => {}
                Outcome::Update { id } if *id == row.id => {}
                Outcome::Update { id } => keys.push(Key::id(id)),
                Outcome::Reject(_) => continue,
            }
            keys.extend([Key::id(&row.id), Key::code(&row.codigo)]);
        }
        keys.sort_unstable();
        Self(keys.into())
    }

    /// As they are kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|key| key.0.to_be_bytes()).collect()
    }

    /// From what is kept; none where it isn't of keys in order.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (keys, []) = bytes.as_chunks::<{ Key::BYTES }>() else { return None };
        let keys: Box<[Key]> = keys.iter().map(|key| Key(u128::from_be_bytes(*key))).collect();
        keys.is_sorted().then_some(Self(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_kept_as_they_were() {
        let mut keys: Vec<Key> = (0..1_000).map(|n| Key::id(&n.to_string())).collect();
        keys.sort_unstable();
        let accepted = Accepted(keys.into());
        assert_eq!(Accepted::from_bytes(&accepted.to_bytes()), Some(accepted.clone()));
        assert_eq!(Accepted::from_bytes(&accepted.to_bytes()[1..]), None);
        let mut claims = Claims::nothing(10);
        claims.take(accepted);
        assert!(claims.has(Key::id("7")) && !claims.has(Key::code("7")) && !claims.has(Key::id("1000")));
        claims.take(Accepted::default());
        claims.give_back();
        assert!(claims.has(Key::id("7")), "what was taken last were no keys");
        claims.give_back();
        assert!(!claims.has(Key::id("7")));
    }

    /// Claims outlive the process and the version of the service that made them.
    #[test]
    fn a_key_is_the_same_for_ever() {
        assert_eq!(Key::id("P-1").0, KEY_OF_P1, "{:#x}", Key::id("P-1").0);
        assert_ne!(Key::id("P-1"), Key::code("P-1"));
    }

    /// By another implementation of SipHash-1-3, 128 bits.
    const KEY_OF_P1: u128 = 0x340f_f594_77b6_b40d_cf2b_6fed_0544_79cd;
}
