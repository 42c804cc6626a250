//! The normaliser against libphonenumber, which knows the numbering plan but not the abolished prefixes, nor what
//! people make up. A second, plain way of stripping prefixes stands here; what it leaves is judged by the
//! library. Where the two disagree, a rule of the closed list [`Rule`] must say why.

use std::collections::BTreeMap;
use std::thread;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rlibphonenumber::{PHONE_NUMBER_UTIL, Region};
use sms_dispatch::domain::{Reason, normalise};

const NUMBERS: usize = 1_000_000;
const PARTS: usize = 20;

/// Why the normaliser rejects what is valid to the library; it never accepts what isn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// The same digit all through after the LADA.
    RepeatedDigit,
    /// 1234567 after the LADA.
    Sequence,
    /// The library reads letters as those of a keypad, or as the mark of an extension, and digits of all scripts.
    Letters,
    /// A NUL byte or bytes that aren't UTF-8: the library sees what is left of them.
    DamagedText,
    /// More than 64 bytes.
    LongText,
    /// 09 is the prefix of international calls through an operator, which nobody writes into an address book.
    OperatorPrefix,
}

/// The national number that the library finds.
fn library(text: &str) -> Option<u64> {
    let number = PHONE_NUMBER_UTIL.parse(text, Some(Region::MX)).ok()?;
    // The library's check of the region looks at the national number alone.
    let valid =
        number.country_code == 52 && PHONE_NUMBER_UTIL.is_valid_number_for_region(&number, Region::MX);
    valid.then_some(number.national_number)
}

/// The text without the prefixes that the library doesn't know; with letters, as it is.
fn stripped(text: &str) -> String {
    let is_letter = |letter: char| letter.is_alphanumeric() && !letter.is_ascii_digit();
    if text.contains(is_letter) {
        return text.to_owned();
    }
    // Decimals of a number, which are no digits of a phone.
    let text = text.trim_end();
    if let Some(at) = text.rfind(['.', ','])
        && let (whole, mark, tail) = (&text[..at], &text[at..=at], &text[at + 1..])
        && matches!(tail.len(), 1..=3)
        && tail.bytes().all(|byte| byte.is_ascii_digit())
        && !whole.contains(mark)
    {
        return if tail.trim_matches('0').is_empty() { stripped(whole) } else { "with decimals".to_owned() };
    }
    let plus =
        text.split(|letter: char| letter.is_ascii_digit()).next().is_some_and(|start| start.contains('+'));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let last_ten = || digits[digits.len() - 10..].to_owned();
    let dialled_abroad = match &digits {
        digits if digits.starts_with("011") && digits.len() >= 13 => Some(&digits[3..]),
        digits if digits.len() != 10 && digits.starts_with("00") => Some(&digits[2..]),
        digits if plus && !digits.starts_with('0') => Some(digits.as_str()),
        _ => None,
    };
    match (dialled_abroad, digits.len()) {
        (Some(abroad), _) if abroad.len() == 13 && abroad.starts_with("521") => last_ten(),
        (Some(abroad), _) => format!("+{abroad}"),
        (None, 13) if ["044", "045", "521"].iter().any(|prefix| digits.starts_with(prefix)) => last_ten(),
        (None, 12) if digits.starts_with("01") => last_ten(),
        _ => digits,
    }
}

/// Why the normaliser may reject a number that the library takes for `national`.
fn rule(raw: &[u8], national: u64, reason: Reason) -> Option<Rule> {
    let text = String::from_utf8_lossy(raw);
    let national = national.to_string();
    let short = ["33", "55", "56", "81"].iter().any(|lada| national.starts_with(lada));
    let subscriber = &national[if short { 2 } else { 3 }..];
    let same = subscriber.bytes().all(|digit| digit == subscriber.as_bytes()[0]);
    let holds = |rule, condition: bool| condition.then_some(rule);
    match reason {
        Reason::RepeatedDigit => holds(Rule::RepeatedDigit, same),
        Reason::Sequence => holds(Rule::Sequence, matches!(subscriber, "1234567" | "01234567")),
        Reason::Letters => holds(
            Rule::Letters,
            text.contains(|letter: char| letter.is_alphanumeric() && !letter.is_ascii_digit()),
        ),
        Reason::NulByte => holds(Rule::DamagedText, raw.contains(&0)),
        Reason::BadUtf8 => holds(Rule::DamagedText, std::str::from_utf8(raw).is_err()),
        Reason::TooLong if raw.len() > 64 => Some(Rule::LongText),
        Reason::TooLong => holds(Rule::OperatorPrefix, stripped(&text).starts_with("0952")),
        _ => None,
    }
}

/// What the library calls valid, found by asking it.
fn valid_beginnings() -> Vec<u64> {
    (200..1000).filter(|beginning| library(&format!("{beginning}2345679")).is_some()).collect()
}

const SPELLINGS: [&str; 14] =
    ["", "", "", "+52", "52", "+521", "521", "+52 1 ", "0052", "00521", "011521", "044", "045", "01"];

fn spell(random: &mut StdRng, national: &str) -> String {
    let prefix = SPELLINGS.choose(random).copied().unwrap_or_default();
    match random.random_range(0..6) {
        0 => format!("{prefix} ({}) {}-{}", &national[..2], &national[2..6], &national[6..]),
        1 => format!("{prefix} {} {} {}", &national[..3], &national[3..6], &national[6..]),
        2 => format!(" {prefix}{national}\t"),
        _ => format!("{prefix}{national}"),
    }
}

fn digits(random: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + random.random_range(0..10_u8))).collect()
}

fn valid(random: &mut StdRng, beginnings: &[u64]) -> String {
    let beginning = beginnings.choose(random).copied().unwrap_or_default();
    // Every three-digit beginning leaves seven digits.
    let national = format!("{beginning}{:07}", random.random_range(0..10_000_000));
    spell(random, &national)
}

/// What may be a number or not, and tries to look like one.
fn adversarial(random: &mut StdRng, beginnings: &[u64]) -> Vec<u8> {
    let number = valid(random, beginnings);
    let text = match random.random_range(0..16) {
        0 => {
            let national = digits(random, 10);
            spell(random, &national)
        }
        1 => {
            let count = random.random_range(5..18);
            digits(random, count)
        }
        2 => {
            let prefix = [
                "+", "00", "011", "52", "521", "044", "01", "09", "0952", "+1", "1", "+34", "+55", "+47",
                "+0", "+00",
            ];
            let prefix = prefix.choose(random).copied().unwrap_or_default();
            let count = random.random_range(7..13);
            format!("{prefix}{}", digits(random, count))
        }
        3 => format!("{number}{}", random.random_range(0..100)),
        4 => number[..number.len() - 1].to_owned(),
        5 => format!("{number} ext {}", random.random_range(1..100)),
        6 => number.replacen(['0', '1'], "O", 1),
        7 => number.replace('5', "\u{ff15}"),
        8 => number.replace('2', "\u{0662}"),
        9 => format!("{number}.0"),
        10 => {
            let lada =
                ["33", "55", "56", "81", "612", "222", "999"].choose(random).copied().unwrap_or_default();
            let digit = char::from(b'0' + random.random_range(0..10_u8));
            let junk = std::iter::repeat_n(digit, 10 - lada.len()).collect::<String>();
            let sequence = &"01234567"[lada.len() - 2..];
            spell(random, &format!("{lada}{}", if digit == '7' { sequence } else { &junk }))
        }
        11 => format!("{number:>width$}", width = random.random_range(20..90)),
        12 => return damaged(random, &number),
        13 => format!("{number}/{}", valid(random, beginnings)),
        14 => {
            let marks = [
                '-', '.', '(', ')', '+', '/', '#', '*', '\u{a0}', '\u{2011}', '\u{200b}', '\u{202a}', ',',
                ';',
            ];
            let place = random.random_range(0..=number.len());
            let mark = marks.choose(random).copied().unwrap_or_default();
            format!("{}{mark}{}", &number[..place], &number[place..])
        }
        _ => return (0..random.random_range(0..24)).map(|_| random.random()).collect(),
    };
    text.into_bytes()
}

fn damaged(random: &mut StdRng, number: &str) -> Vec<u8> {
    let mut bytes = number.as_bytes().to_vec();
    let place = random.random_range(0..=bytes.len());
    bytes.insert(place, [0, 0xff, 0xc3, 0xa0].choose(random).copied().unwrap_or_default());
    bytes
}

#[derive(Default)]
struct Tally {
    valid: usize,
    agreed: usize,
    rules: BTreeMap<Rule, usize>,
    outside: Vec<String>,
}

impl Tally {
    fn compare(&mut self, raw: &[u8]) {
        let theirs = library(&stripped(&String::from_utf8_lossy(raw)));
        let ours = normalise(raw);
        self.valid += usize::from(theirs.is_some());
        match (ours, theirs) {
            (Ok(ours), Some(theirs)) if ours.phone.number() == theirs => self.agreed += 1,
            (Err(_), None) => self.agreed += 1,
            (Err(reason), Some(national)) if rule(raw, national, reason).is_some() => {
                let known = rule(raw, national, reason).into_iter();
                known.for_each(|rule| *self.rules.entry(rule).or_default() += 1);
            }
            _ => self
                .outside
                .push(format!("{:?}: {ours:?}, the library: {theirs:?}", String::from_utf8_lossy(raw))),
        }
    }

    fn add(&mut self, other: Self) {
        self.valid += other.valid;
        self.agreed += other.agreed;
        other.rules.into_iter().for_each(|(rule, count)| *self.rules.entry(rule).or_default() += count);
        self.outside.extend(other.outside);
    }
}

#[test]
fn every_beginning_is_as_valid_as_the_library_says() {
    for beginning in 0..1000 {
        let national = format!("{beginning:03}2345679");
        assert_eq!(normalise(national.as_bytes()).is_ok(), library(&national).is_some(), "{national}");
    }
}

#[test]
fn a_million_numbers_have_the_verdict_of_the_library() {
    let beginnings = valid_beginnings();
    let part = |number: usize| {
        let mut random = StdRng::seed_from_u64(number as u64);
        let mut tally = Tally::default();
        for _ in 0..NUMBERS / PARTS / 2 {
            tally.compare(valid(&mut random, &beginnings).as_bytes());
            tally.compare(&adversarial(&mut random, &beginnings));
        }
        tally
    };
    let mut all = Tally::default();
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(2, usize::from).min(PARTS);
        let part = &part;
        let work = |first: usize| move || (first..PARTS).step_by(threads).map(part).collect::<Vec<_>>();
        let handles: Vec<_> = (0..threads).map(|first| scope.spawn(work(first))).collect();
        for handle in handles {
            let tallies = handle.join().expect("a thread that doesn't panic");
            tallies.into_iter().for_each(|tally| all.add(tally));
        }
    });
    println!(
        "{NUMBERS} numbers, {} valid to the library, {} agreed, by rule: {:?}",
        all.valid, all.agreed, all.rules
    );
    assert!(
        all.outside.is_empty(),
        "{} outside the list, among them:\n{}",
        all.outside.len(),
        all.outside[..all.outside.len().min(20)].join("\n")
    );
    assert!(all.valid >= NUMBERS / 2);
    assert_eq!(all.agreed + all.rules.values().sum::<usize>(), NUMBERS);
    let seen: Vec<Rule> = all.rules.into_keys().collect();
    assert_eq!(
        seen,
        [
            Rule::RepeatedDigit,
            Rule::Sequence,
            Rule::Letters,
            Rule::DamagedText,
            Rule::LongText,
            Rule::OperatorPrefix
        ],
        "a rule that nothing needs is no rule"
    );
}
