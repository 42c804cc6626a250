//! Phone numbers: each contact's own, the ways to write it, and texts that are no Mexican number.

use std::io::Write as _;

use anyhow::{Result, ensure};

use super::Reject;
use super::dice::Dice;
use super::places::{MISSING, MISSING_WEIGHT, PLACES, Place};

/// Ways to write a number other than its ten digits.
pub(super) const SPELLINGS: u64 = 20;

/// Enough for any file.
const MANY: u64 = 500_000_000;

/// The numbers of a file.
pub(super) struct Numbers {
    ladas: Vec<Share>,
}

/// How many different texts there are for a reason.
pub(super) fn different(reject: Reject) -> u64 {
    let ladas = (PLACES.len() + MISSING.len()) as u64;
    match reject {
        Reject::Empty => 20,
        Reject::RepeatedDigit => ladas * 10 * (SPELLINGS + 1),
        Reject::Sequence => ladas * (SPELLINGS + 1),
        Reject::UnassignedLada => 9_000_000,
        _ => MANY,
    }
}

/// A LADA and the contacts that have it.
struct Share {
    lada: &'static str,
    place: Option<&'static Place>,
    /// The first of its contacts.
    start: u64,
}

/// A contact's number.
pub(super) struct Number {
    /// Its place among the LADAs of the file.
    pub(super) lada_index: usize,
    pub(super) lada: &'static str,
    /// Where it is, if the file knows the LADA.
    pub(super) place: Option<&'static Place>,
    pub(super) national: u64,
}

impl Numbers {
    /// Shares `contacts` out among the LADAs.
    ///
    /// # Errors
    /// A LADA has fewer numbers than contacts.
    pub(super) fn new(contacts: u64) -> Result<Self> {
        let known = PLACES.iter().map(|place| (place.lada, Some(place), place.weight));
        let missing = MISSING.iter().map(|lada| (*lada, None, MISSING_WEIGHT));
        let all: Vec<_> = known.chain(missing).collect();
        let total: u64 = all.iter().map(|(_, _, weight)| weight).sum();
        let mut before = 0;
        let mut ladas = Vec::with_capacity(all.len());
        for (lada, place, weight) in all {
            let start = contacts * before / total;
            before += weight;
            let own = contacts * before / total - start;
            ensure!(own <= subscribers(lada), "{own} contacts don't fit LADA {lada}");
            ladas.push(Share { lada, place, start });
        }
        Ok(Self { ladas })
    }

    /// The number of a contact: no other has it, and it is no junk.
    pub(super) fn of(&self, contact: u64) -> Number {
        let lada_index = self.ladas.partition_point(|share| share.start <= contact) - 1;
        let Share { lada, place, start } = self.ladas[lada_index];
        // A stride without a common divisor with the count meets every subscriber once, and jumps.
        let count = subscribers(lada);
        let mut subscriber = (contact - start) * stride(count) % count;
        for junk in junk(lada) {
            subscriber += u64::from(subscriber >= junk);
        }
        Number { lada_index, lada, place, national: national(lada, subscriber) }
    }

    /// The LADAs of a file, in the order of [`Number::lada_index`]: whether the file knows its city.
    pub(super) fn ladas(&self) -> impl ExactSizeIterator<Item = (&'static str, bool)> {
        self.ladas.iter().map(|share| (share.lada, share.place.is_some()))
    }

    /// Appends a text that is rejected for `reject`, another one for each `number`.
    pub(super) fn rejected(&self, reject: Reject, number: u64, out: &mut Vec<u8>) {
        // Nine digits that no other number of the reason has; the first is 2 to 8.
        let nine = 200_000_000 + number * 123_456_791 % 699_999_953;
        match reject {
            Reject::Empty => (0..number).for_each(|_| out.push(b'-')),
            Reject::NulByte => {
                put(out, format_args!("{nine}"));
                out.push(0);
            }
            Reject::BadUtf8 => {
                put(out, format_args!("{nine}"));
                out.extend_from_slice(&[0xc3, b'5']);
            }
            Reject::Letters if number.is_multiple_of(2) => put(out, format_args!("{nine}O")),
            Reject::Letters => put(out, format_args!("{nine}5 EXT {}", number % 90 + 10)),
            Reject::TooShort if number.is_multiple_of(2) => put(out, format_args!("{nine}")),
            Reject::TooShort => put(out, format_args!("044 {nine}")),
            Reject::TooLong => put(out, format_args!("52{nine}55")),
            Reject::NorthAmerica if number.is_multiple_of(2) => put(out, format_args!("1{nine}5")),
            Reject::NorthAmerica => put(out, format_args!("+1 {nine}5")),
            Reject::OtherCountry if number.is_multiple_of(2) => put(out, format_args!("+34{nine}")),
            Reject::OtherCountry => put(out, format_args!("0057{nine}1")),
            Reject::BadStart => put(out, format_args!("{}{nine}", number % 2)),
            Reject::UnassignedLada => {
                let lada = ["202", "521", "600"][number as usize % 3];
                put(out, format_args!("{lada}{:07}", number * 7919 % 9_999_991));
            }
            Reject::RepeatedDigit => {
                let (number, digit) = (number / 10, number % 10);
                let lada = self.lada_of_reject(number);
                let ones = (10_u64.pow(10 - lada.len() as u32) - 1) / 9;
                self.spelled_or_plain(national(lada, ones * digit), number, out);
            }
            Reject::Sequence => {
                let lada = self.lada_of_reject(number);
                self.spelled_or_plain(national(lada, 1_234_567), number, out);
            }
        }
    }

    fn lada_of_reject(&self, number: u64) -> &'static str {
        self.ladas[number as usize % self.ladas.len()].lada
    }

    /// First each LADA plain, then each in every spelling.
    fn spelled_or_plain(&self, national: u64, number: u64, out: &mut Vec<u8>) {
        match number / self.ladas.len() as u64 {
            0 => put(out, format_args!("{national}")),
            spelling => spell(national, spelling - 1, out),
        }
    }
}

/// Appends a number in one of [`SPELLINGS`] ways.
pub(super) fn spell(national: u64, spelling: u64, out: &mut Vec<u8>) {
    let (three, middle, last) = (national / 10_000_000, national / 10_000 % 1000, national % 10_000);
    let (two, four) = (national / 100_000_000, national / 10_000 % 10_000);
    match spelling {
        0 => put(out, format_args!("+52{national}")),
        1 => put(out, format_args!("52{national}")),
        2 => put(out, format_args!("+521{national}")),
        3 => put(out, format_args!("521{national}")),
        4 => put(out, format_args!("044{national}")),
        5 => put(out, format_args!("045{national}")),
        6 => put(out, format_args!("01{national}")),
        7 => put(out, format_args!("0052{national}")),
        8 => put(out, format_args!("00521{national}")),
        9 => put(out, format_args!("011521{national}")),
        10 => put(out, format_args!("{three} {middle:03} {last:04}")),
        11 => put(out, format_args!("{three}-{middle:03}-{last:04}")),
        12 => put(out, format_args!("({three}) {middle:03}-{last:04}")),
        13 => put(out, format_args!("{two} {four:04} {last:04}")),
        14 => put(out, format_args!("+52 1 {two} {four:04} {last:04}")),
        15 => put(out, format_args!("+52 ({three}) {middle:03} {last:04}")),
        16 => put(out, format_args!(" {national}")),
        17 => put(out, format_args!("{national} ")),
        18 => put(out, format_args!("044 {two} {four:04}-{last:04}")),
        _ => put(out, format_args!("{national}.0")),
    }
}

/// Two different ways to write a number.
pub(super) fn two_spellings(dice: &mut Dice) -> (u64, u64) {
    let first = dice.below(SPELLINGS);
    (first, (first + 1 + dice.below(SPELLINGS - 1)) % SPELLINGS)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes everything.
    let _ = out.write_fmt(text);
}

fn national(lada: &str, subscriber: u64) -> u64 {
    let digits = lada.bytes().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    digits * 10_u64.pow(10 - lada.len() as u32) + subscriber
}

/// Subscribers that aren't numbers of real people: one digit all through, and 1234567. In ascending order.
fn junk(lada: &str) -> impl Iterator<Item = u64> {
    let ones: u64 = if lada.len() == 2 { 11_111_111 } else { 1_111_111 };
    let sequence = 1_234_567;
    let mut all = [0; 11];
    for (digit, junk) in (0..10).zip(&mut all) {
        *junk = ones * digit;
    }
    all[10] = sequence;
    all.sort_unstable();
    all.into_iter()
}

/// How many numbers a LADA has without junk.
fn subscribers(lada: &str) -> u64 {
    10_u64.pow(10 - lada.len() as u32) - 11
}

/// A number without a common divisor with `count`, somewhere at the golden section.
fn stride(count: u64) -> u64 {
    match count {
        // gcd(61_803_401, 99_999_989) = gcd(6_180_341, 9_999_989) = 1, which a test proves.
        99_999_989 => 61_803_401,
        _ => 6_180_341,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn gcd(left: u64, right: u64) -> u64 {
        if right == 0 { left } else { gcd(right, left % right) }
    }

    #[test]
    fn every_contact_has_a_number_of_its_own() {
        assert_eq!(gcd(stride(subscribers("55")), subscribers("55")), 1);
        assert_eq!(gcd(stride(subscribers("612")), subscribers("612")), 1);
        let numbers = Numbers::new(300_000).expect("room enough");
        let all: HashSet<u64> = (0..300_000).map(|contact| numbers.of(contact).national).collect();
        assert_eq!(all.len(), 300_000);
        assert!(all.iter().all(|national| (2_000_000_000..10_000_000_000).contains(national)));
    }

    #[test]
    fn rejected_texts_differ() {
        let numbers = Numbers::new(1000).expect("room enough");
        let mut all = HashSet::new();
        for reject in Reject::ALL {
            for number in 0..different(reject).min(40_000) {
                let mut text = Vec::new();
                numbers.rejected(reject, number, &mut text);
                assert!(all.insert(text.clone()), "{reject:?} {number}: {}", String::from_utf8_lossy(&text));
            }
        }
    }
}
