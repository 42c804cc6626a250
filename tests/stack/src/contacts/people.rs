//! People and their addresses.

use super::dice::{Dice, Weighted};
use super::words;

/// What full names and addresses are drawn from.
pub(super) struct People {
    women: Weighted<&'static str>,
    men: Weighted<&'static str>,
    surnames: Weighted<&'static str>,
}

/// Of a hundred surnames, how many are in no list.
const RARE_SURNAMES: u64 = 2;

impl People {
    pub(super) fn new() -> Self {
        Self {
            women: Weighted::new(words::WOMEN),
            men: Weighted::new(words::MEN),
            surnames: Weighted::new(words::SURNAMES),
        }
    }

    /// Appends one or two given names and two surnames.
    pub(super) fn name(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        let given = if dice.below(2) == 0 { &self.women } else { &self.men };
        let first = given.pick(dice);
        out.extend_from_slice(first.as_bytes());
        if dice.below(100) < 45 {
            let second = given.pick(dice);
            if second != first {
                out.push(b' ');
                out.extend_from_slice(second.as_bytes());
            }
        }
        for _ in 0..2 {
            out.push(b' ');
            self.surname(dice, out);
        }
    }

    fn surname(&self, dice: &mut Dice, out: &mut Vec<u8>) {
        if dice.below(100) >= RARE_SURNAMES {
            out.extend_from_slice(self.surnames.pick(dice).as_bytes());
            return;
        }
        for _ in 0..2 + dice.below(2) {
            out.extend_from_slice(dice.pick(words::SYLLABLES).as_bytes());
        }
    }
}

/// Appends a street and a number.
pub(super) fn address(dice: &mut Dice, out: &mut Vec<u8>) {
    out.extend_from_slice(dice.pick(words::STREET_KINDS).as_bytes());
    out.extend_from_slice(dice.pick(words::STREETS).as_bytes());
    if dice.below(8) == 0 {
        out.extend_from_slice(b" Y ");
        out.extend_from_slice(dice.pick(words::STREETS).as_bytes());
    }
    out.extend_from_slice(if dice.below(2) == 0 { b" #" } else { b" " });
    let number = 1 + dice.below(3000);
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Appends a colonia.
pub(super) fn neighbourhood(dice: &mut Dice, out: &mut Vec<u8>) {
    out.extend_from_slice(dice.pick(words::NEIGHBOURHOODS).as_bytes());
    if dice.below(4) == 0 {
        out.push(b' ');
        out.extend_from_slice(dice.pick(words::NEIGHBOURHOODS).as_bytes());
    }
}
