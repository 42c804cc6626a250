//! What people type to find a contact.

use super::{Phone, Reason, normalise};

/// Fewer digits narrow nothing down.
const LEAST_DIGITS: usize = 3;
/// More words than a name or an address has.
const MOST_WORDS: usize = 12;
/// Longer words are none; PostgreSQL refuses those over 2 kB.
const LONGEST_WORD: usize = 200;

/// Between words in what `to_tsquery` takes.
pub const AND: &str = " & ";
/// After a word that may be only begun.
pub const BEGUN: &str = ":*";

/// The words of a name or an address, each of which must be there, in any order, the last one perhaps only begun: as
/// PostgreSQL's `to_tsquery` takes them. None where the text has no word, or one that is too long for one.
pub fn words(text: &str) -> Option<String> {
    let words: Vec<&str> =
        text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let words = &words[..words.len().min(MOST_WORDS)];
    let good = !words.is_empty() && words.iter().all(|word| word.len() <= LONGEST_WORD);
    good.then(|| words.join(AND) + BEGUN)
}

/// A phone to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhoneQuery {
    Whole(Phone),
    /// The first of its ten digits.
    Begins(String),
}

/// A phone in any spelling, whole or only begun. What stands before a number abroad or stood before one in Mexico is
/// left out of a begun one too.
///
/// # Errors
/// Why it can't be the beginning of a Mexican number.
pub fn phone(text: &str) -> Result<PhoneQuery, Reason> {
    let reason = match normalise(text.as_bytes()) {
        Ok(found) => return Ok(PhoneQuery::Whole(found.phone)),
        Err(reason) => reason,
    };
    if text.len() > 64 || text.chars().any(char::is_alphabetic) {
        return Err(reason);
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let abroad = text.trim_start().starts_with('+').then_some(digits.as_str()).or(digits.strip_prefix("00"));
    let national = match abroad {
        Some(rest) => {
            let rest = rest.strip_prefix("52").ok_or(reason)?;
            rest.strip_prefix('1').unwrap_or(rest)
        }
        None => ["044", "045", "01"].iter().find_map(|old| digits.strip_prefix(old)).unwrap_or(&digits),
    };
    match national.len() {
        0..LEAST_DIGITS => Err(Reason::TooShort),
        LEAST_DIGITS..10 if national.starts_with(['0', '1']) => Err(Reason::BadStart),
        LEAST_DIGITS..10 => Ok(PhoneQuery::Begins(national.to_owned())),
        _ => Err(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_all_required_and_the_last_may_be_begun() {
        assert_eq!(words("  María José, Rod ").as_deref(), Some("María & José & Rod:*"));
        assert_eq!(words("O'Connor").as_deref(), Some("O & Connor:*"));
        assert_eq!(words("ENCINAS #2695").as_deref(), Some("ENCINAS & 2695:*"));
        for none in ["", " -&|!:*()<> ", &"x".repeat(201)] {
            assert_eq!(words(none), None, "{none:?}");
        }
        let many = "a ".repeat(50);
        assert_eq!(words(&many).map(|query| query.split(" & ").count()), Some(MOST_WORDS));
    }

    #[test]
    fn a_phone_is_found_in_any_spelling_and_from_its_first_digits() {
        for whole in
            ["6121004768", "+52 612 100 4768", "+5216121004768", "044 612 100 4768", "01-612-100-4768"]
        {
            let Ok(PhoneQuery::Whole(phone)) = phone(whole) else { panic!("{whole}") };
            assert_eq!(phone.number(), 6_121_004_768);
        }
        for (begun, digits) in [
            ("612", "612"),
            ("612 100", "612100"),
            ("+52 612 100", "612100"),
            ("+52 1 612 10", "61210"),
            ("0052 612", "612"),
            ("044 612 10", "61210"),
            ("(612) 100-476", "612100476"),
        ] {
            assert_eq!(phone(begun), Ok(PhoneQuery::Begins(digits.to_owned())), "{begun}");
        }
        for (wrong, reason) in [
            ("", Reason::TooShort),
            ("61", Reason::TooShort),
            ("+52 6", Reason::TooShort),
            ("112 33", Reason::BadStart),
            ("ana", Reason::Letters),
            ("61210047681234567", Reason::TooLong),
        ] {
            assert_eq!(phone(wrong), Err(reason), "{wrong}");
        }
        assert!(phone("+1 612 100").is_err());
    }
}
