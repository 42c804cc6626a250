//! Chance that depends on a seed alone: row n of a file can be made without the rows before it.

/// Numbers without a visible pattern, by splitmix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number
/// generators*, 2014).
pub(super) struct Dice(u64);

impl Dice {
    /// The same for the same two numbers.
    pub(super) fn of(seed: u64, subject: u64) -> Self {
        Self(mix(seed ^ mix(subject)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to `bound` - 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The upper half of the product: the product of two 64-bit numbers fits.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True in the given share of cases.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        (self.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64) < share
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Puts 0 to `size` - 1 into another order, one by one: a Feistel network over the next power of four, walked
/// until it comes back into the range.
pub(super) struct Shuffle {
    size: u64,
    half_bits: u32,
    keys: [u64; 4],
}

impl Shuffle {
    pub(super) fn new(seed: u64, size: u64) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        let mut dice = Dice::of(seed, size);
        let keys = [dice.next(), dice.next(), dice.next(), dice.next()];
        Self { size, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// The place of `number`, which is below the size.
    pub(super) fn place(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let mut value = number;
        loop {
            let (mut left, mut right) = (value >> self.half_bits, value & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (mix(right ^ key) & mask));
            }
            value = left << self.half_bits | right;
            if value < self.size {
                return value;
            }
        }
    }
}

/// Things of different weight.
pub(super) struct Weighted<T: 'static> {
    things: &'static [(T, u32)],
    /// Of each thing: its weight and those of all before it.
    sums: Vec<u64>,
}

impl<T: Copy> Weighted<T> {
    pub(super) fn new(things: &'static [(T, u32)]) -> Self {
        let sums = things.iter().scan(0, |sum, (_, weight)| {
            *sum += u64::from(*weight);
            Some(*sum)
        });
        Self { things, sums: sums.collect() }
    }

    pub(super) fn pick(&self, dice: &mut Dice) -> T {
        let drawn = dice.below(self.sums.last().copied().unwrap_or(1));
        let place = self.sums.partition_point(|sum| *sum <= drawn);
        self.things[place].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_meets_every_number_once() {
        for size in [1, 2, 3, 5, 16, 17, 1000, 4097] {
            let shuffle = Shuffle::new(7, size);
            let mut places: Vec<u64> = (0..size).map(|number| shuffle.place(number)).collect();
            assert!(
                size < 100
                    || places.windows(2).filter(|pair| pair[0] < pair[1]).count() < 3 * size as usize / 5
            );
            places.sort_unstable();
            assert!(places.into_iter().eq(0..size), "{size}");
        }
    }

    #[test]
    fn weights_are_shares() {
        let weighted = Weighted::new(&[('a', 1), ('b', 0), ('c', 3)]);
        let mut dice = Dice::of(1, 2);
        let drawn: String = (0..4000).map(|_| weighted.pick(&mut dice)).collect();
        assert!(!drawn.contains('b'));
        assert!((900..1100).contains(&drawn.matches('a').count()));
    }
}
