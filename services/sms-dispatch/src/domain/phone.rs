//! Mexican phone numbers: from whatever stands in a file to ten national digits, or a reason why not.
//!
//! Since 2019-08-03 a Mexican number is ten digits for every call (IFT, *Plan Técnico Fundamental de
//! Numeración*); the prefixes 01, 044, 045 and the 1 between +52 and a mobile number are abolished, and files
//! are full of them. libphonenumber doesn't know them any more, so they are stripped here. What remains is
//! judged by libphonenumber's metadata of Mexico, see [`super::prefixes`].

use std::fmt;

use super::prefixes;
use super::reason::Reason;

/// Longer texts are no phone number, however it is punctuated.
const MAX_RAW_BYTES: usize = 64;

/// More digits than any number in E.164 has (ITU-T E.164, section 6).
const MAX_E164_DIGITS: usize = 15;

/// `011`, `52`, `1` and ten digits: the longest spelling that means a Mexican number.
const MAX_DIGITS: usize = 16;

/// 10^7: what stands after a LADA of three digits is below it.
const SEVEN_DIGITS: u64 = 10_000_000;

/// 10^8: what stands after a LADA of two digits is below it.
const EIGHT_DIGITS: u64 = 100_000_000;

/// Ten national digits of a Mexican number, valid by the numbering plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phone(u64);

/// What [`normalise`] made of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The number.
    pub phone: Phone,
    /// The text given was not exactly these ten digits: where texts are unique, only such rows can collide.
    pub changed: bool,
}

/// Finds the Mexican number that `raw` spells. In this order:
///
/// 1. Only digits are kept. Letters (and digits that aren't ASCII), NUL bytes and bytes that aren't UTF-8
///    reject the text; so do more than 64 bytes. One, two or three digits after the text's only point (or its
///    only comma) are decimals of a number that a spreadsheet wrote, and no digits of the phone: zeros go, others
///    reject the text. Nobody groups a phone's last digits so; `612.100.4768` and `55.1234.56.78` have more points.
/// 2. `+`, `00` and `011` say that a country code follows: 52, or it is another country. A `+` before a 0 says
///    nothing, for no country code begins with 0.
/// 3. `52` goes where ten digits remain, or eleven of which the first is the abolished mobile `1`.
/// 4. `044`, `045` and `01` go where ten digits remain.
/// 5. Ten digits must remain, the first of them 2 to 9, with a beginning that the numbering plan has, and must
///    not be junk: the same digit all through after the LADA, or 1234567 (01234567 where eight digits follow).
///
/// A text of ten digits is taken as it is, even where it begins with 52.
///
/// # Errors
/// Why it is no Mexican number.
pub fn normalise(raw: &[u8]) -> Result<Normalised, Reason> {
    if let Some(national) = ten_digits(raw) {
        return check(national).map(|phone| Normalised { phone, changed: false });
    }
    let national = respell(raw)?;
    check(national).map(|phone| Normalised { phone, changed: true })
}

impl Phone {
    /// `+52` and the ten digits.
    pub fn e164(self) -> [u8; 13] {
        let mut text = *b"+520000000000";
        text[3..].copy_from_slice(&self.national());
        text
    }

    /// The ten digits.
    pub fn national(self) -> [u8; 10] {
        let mut digits = [b'0'; 10];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            // Below ten: it fits.
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        digits
    }

    /// The phone of what [`Phone::number`] gave.
    pub(crate) const fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// The ten digits as a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The area code: 33, 55, 56 and 81 have two digits, all others three.
    pub fn lada(self) -> Lada {
        let [first, second, third, ..] = self.national();
        if self.has_short_lada() {
            Lada::short([first, second])
        } else {
            Lada { digits: [first, second, third] }
        }
    }

    /// `+52******4768`: for logs and for who may not see the number.
    pub fn masked(self) -> String {
        format!("+52******{:04}", self.0 % 10_000)
    }

    /// The number of a text as [`Phone::e164`] writes it, and of no other.
    pub fn from_e164(text: &str) -> Option<Self> {
        let national = text.as_bytes().strip_prefix(b"+52")?;
        check(ten_digits(national)?).ok()
    }

    fn has_short_lada(self) -> bool {
        matches!(self.0 / EIGHT_DIGITS, 33 | 55 | 56 | 81)
    }
}

/// As [`Phone::e164`].
impl fmt::Display for Phone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "+52{:010}", self.0)
    }
}

/// An area code (*lada*), two or three digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lada {
    /// Two digits are followed by a zero byte.
    digits: [u8; 3],
}

impl Lada {
    const fn short(digits: [u8; 2]) -> Self {
        Self { digits: [digits[0], digits[1], 0] }
    }

    /// The area code that `text` is: 33, 55, 56, 81, or three digits that begin otherwise and with 2 to 9.
    pub fn parse(text: &str) -> Option<Self> {
        let short = |digits: &[u8]| matches!(digits, b"33" | b"55" | b"56" | b"81");
        match *text.as_bytes() {
            [first, second] if short(&[first, second]) => Some(Self::short([first, second])),
            [first @ b'2'..=b'9', second @ b'0'..=b'9', third @ b'0'..=b'9'] if !short(&[first, second]) => {
                Some(Self { digits: [first, second, third] })
            }
            _ => None,
        }
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        let length = if self.digits[2] == 0 { 2 } else { 3 };
        // Digits are ASCII.
        std::str::from_utf8(&self.digits[..length]).unwrap_or_default()
    }
}

impl fmt::Display for Lada {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Lada {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lada({})", self.as_str())
    }
}

/// The number that exactly ten ASCII digits write.
fn ten_digits(text: &[u8]) -> Option<u64> {
    let digits: &[u8; 10] = text.try_into().ok()?;
    let mut number = 0;
    let mut all_digits = true;
    // No early exit: nearly every text is ten digits, and ten steps without a branch are the fastest.
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        all_digits &= digit < 10;
        number = number * 10 + u64::from(digit);
    }
    all_digits.then_some(number)
}

/// The ten digits that another spelling means.
fn respell(raw: &[u8]) -> Result<u64, Reason> {
    let kept = Kept::of(without_decimals(raw)?)?;
    let digits = kept.digits()?;
    let (digits, abroad) = match digits {
        [b'0', b'1', b'1', rest @ ..] if rest.len() >= 10 => (rest, true),
        [b'0', b'0', rest @ ..] => (rest, true),
        [b'1'..=b'9', ..] => (digits, kept.plus),
        _ => (digits, false),
    };
    if abroad { national_of_e164(digits) } else { national_of_dialled(digits) }
}

/// What separates decimals: points and commas of several scripts.
const DECIMAL_MARKS: [char; 6] = ['.', ',', '\u{ff0e}', '\u{ff0c}', '\u{66b}', '\u{b7}'];

/// The text without a number's decimals, where it has some: `5500000103.0`, `550,000,010.00`.
fn without_decimals(raw: &[u8]) -> Result<&[u8], Reason> {
    let Ok(text) = std::str::from_utf8(raw.trim_ascii_end()) else { return Ok(raw) };
    let Some((at, mark)) = text.char_indices().rev().find(|(_, letter)| !letter.is_ascii_digit()) else {
        return Ok(raw);
    };
    let (whole, decimals) = (&text[..at], &text[at + mark.len_utf8()..]);
    if !DECIMAL_MARKS.contains(&mark) || !(1..=3).contains(&decimals.len()) || whole.contains(mark) {
        return Ok(raw);
    }
    if decimals.bytes().all(|digit| digit == b'0') { Ok(whole.as_bytes()) } else { Err(Reason::Decimals) }
}

/// The national digits after a country code, which the digits begin with.
fn national_of_e164(digits: &[u8]) -> Result<u64, Reason> {
    match digits {
        [b'5', b'2', national @ ..] => match national {
            [b'1', mobile @ ..] if mobile.len() == 10 => exactly_ten(mobile),
            _ => exactly_ten(national),
        },
        _ if digits.len() > MAX_E164_DIGITS => Err(Reason::TooLong),
        [b'1', national @ ..] if national.len() == 10 => Err(Reason::NorthAmerica),
        [b'1'..=b'9', ..] if digits.len() >= 7 => Err(Reason::OtherCountry),
        _ => Err(Reason::TooShort),
    }
}

/// The national digits of what one dials, or used to dial, in Mexico.
fn national_of_dialled(digits: &[u8]) -> Result<u64, Reason> {
    // Ten digits may well begin with 52: only more than ten have a prefix.
    if digits.len() <= 10 {
        return exactly_ten(digits);
    }
    match digits {
        [b'0', b'4', b'4' | b'5', national @ ..] | [b'0', b'1', national @ ..] => exactly_ten(national),
        [b'1'..=b'9', ..] => national_of_e164(digits),
        _ => Err(Reason::TooLong),
    }
}

fn exactly_ten(digits: &[u8]) -> Result<u64, Reason> {
    let shortage = if digits.len() < 10 { Reason::TooShort } else { Reason::TooLong };
    ten_digits(digits).ok_or(shortage)
}

/// Whether ten digits are a number of the plan, and not one that people make up.
fn check(national: u64) -> Result<Phone, Reason> {
    // Ten digits: the first three are below a thousand.
    let prefix = (national / SEVEN_DIGITS) as u16;
    if prefix < 200 {
        return Err(Reason::BadStart);
    }
    if !prefixes::is_valid(prefix) {
        return Err(Reason::UnassignedLada);
    }
    let phone = Phone(national);
    let (subscriber, ones) = if phone.has_short_lada() {
        (national % EIGHT_DIGITS, 11_111_111)
    } else {
        (national % SEVEN_DIGITS, 1_111_111)
    };
    // A multiple of 11…1 with as many digits is one digit all through.
    if subscriber.is_multiple_of(ones) {
        return Err(Reason::RepeatedDigit);
    }
    if subscriber == 1_234_567 {
        return Err(Reason::Sequence);
    }
    Ok(phone)
}

/// What of a text counts.
struct Kept {
    digits: [u8; MAX_DIGITS],
    /// Digits found, more than there is room for included.
    found: usize,
    /// The first digit stands after a `+`.
    plus: bool,
}

impl Kept {
    fn of(raw: &[u8]) -> Result<Self, Reason> {
        let mut kept = Self { digits: [0; MAX_DIGITS], found: 0, plus: false };
        if raw.len() > MAX_RAW_BYTES {
            return Err(Reason::TooLong);
        }
        if raw.contains(&0) {
            return Err(Reason::NulByte);
        }
        let text = std::str::from_utf8(raw).map_err(|_| Reason::BadUtf8)?;
        for character in text.chars() {
            match character {
                '0'..='9' => {
                    if let Some(place) = kept.digits.get_mut(kept.found) {
                        // An ASCII digit: it fits.
                        *place = character as u8;
                    }
                    kept.found += 1;
                }
                '+' | '\u{ff0b}' if kept.found == 0 => kept.plus = true,
                _ if character.is_alphanumeric() => return Err(Reason::Letters),
                _ => (),
            }
        }
        Ok(kept)
    }

    fn digits(&self) -> Result<&[u8], Reason> {
        if self.found == 0 {
            return Err(Reason::Empty);
        }
        self.digits.get(..self.found).ok_or(Reason::TooLong)
    }
}
