//! How a text is encoded, and how many parts it has: what a message costs, and what a rate is measured in.
//!
//! A part is 140 bytes. Each of several gives six of them to a header, so it holds 153 septets or 67 UTF-16 units, not 160
//! or 70 (3GPP TS 23.040). Parts are filled one after the other, and neither an escape with its character nor a surrogate
//! pair is ever torn apart.

use unicode_normalization::UnicodeNormalization;

use super::sender::{ProviderName, SenderKind};

/// The most parts that a provider takes.
pub const MAX_PARTS: u16 = 10;

/// How a text's characters are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Seven bits a character: 160 alone, 153 in each of several parts.
    Gsm7,
    /// UTF-16: 70 code units alone, 67 in each of several parts.
    Ucs2,
}

impl Encoding {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "gsm7",
            Self::Ucs2 => "ucs2",
        }
    }

    const fn room(self) -> (u32, u32) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }
}

/// A text's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub encoding: Encoding,
    /// Septets, or UTF-16 units.
    pub units: u32,
    /// 0 for an empty text.
    pub parts: u16,
}

/// The characters that a provider sends with seven bits from a kind of sender. A single other one makes the whole text
/// UTF-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// GSM 03.38 with its extension table: Twilio.
    Gsm,
    /// Telnyx's own selection from it, without €, Ç, § and Greek ("Message encoding").
    Telnyx,
    /// What ASCII and Telnyx's selection share: its short codes begin with ASCII, so é, ñ and ¿ cost UTF-16 there.
    Ascii,
}

/// GSM 03.38, 6.2.1: one septet each.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// One septet each at Telnyx, besides ASCII's.
const TELNYX: &str = "£¥èéùìòØøÅåÆæßÉ¡ÄÖÑÜ¿äöñüà";

impl Alphabet {
    /// What `provider` uses for senders of a kind.
    pub const fn of(provider: ProviderName, kind: SenderKind) -> Self {
        match (provider, kind) {
            (ProviderName::Telnyx, SenderKind::ShortCode) => Self::Ascii,
            (ProviderName::Telnyx, _) => Self::Telnyx,
            (ProviderName::Twilio | ProviderName::Log, _) => Self::Gsm,
        }
    }

    /// Septets of a character; none where it isn't in the alphabet.
    fn septets(self, character: char) -> Option<u32> {
        match character {
            // After an escape, in every alphabet.
            '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' => Some(2),
            '\n' | '\r' => Some(1),
            '`' => None,
            ' '..='~' => Some(1),
            '€' | '\u{c}' if self == Self::Gsm => Some(2),
            _ => match self {
                Self::Gsm => GSM.contains(character).then_some(1),
                Self::Telnyx => TELNYX.contains(character).then_some(1),
                Self::Ascii => None,
            },
        }
    }

    /// How `text` is encoded, and its parts.
    pub fn count(self, text: &str) -> Count {
        let mut septets = Some(Filling::default());
        let mut units = Filling::default();
        for character in text.chars() {
            septets = match (septets, self.septets(character)) {
                (Some(filling), Some(size)) => Some(filling.with(size, Encoding::Gsm7)),
                _ => None,
            };
            // One unit, or a pair of surrogates.
            let size = if character > '\u{ffff}' { 2 } else { 1 };
            units = units.with(size, Encoding::Ucs2);
        }
        match septets {
            Some(filling) => filling.count(Encoding::Gsm7),
            None => units.count(Encoding::Ucs2),
        }
    }

    /// The text with each character outside the alphabet replaced by what is closest to it inside: á becomes a, … three
    /// points, typographic quotes plain ones. Letters that the alphabet has, é and ñ among them, stay. What has nothing
    /// close, as an emoji, stays too, and then nothing is saved.
    pub fn transliterate(self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        for character in text.nfc() {
            if self.septets(character).is_some() {
                plain.push(character);
            } else if let Some(close) = close(character).filter(|close| self.has(close)) {
                plain.push_str(close);
            } else {
                let base = character.nfd().next().unwrap_or(character);
                let marked = base != character && self.septets(base).is_some();
                plain.push(if marked { base } else { character });
            }
        }
        plain
    }

    fn has(self, text: &str) -> bool {
        text.chars().all(|character| self.septets(character).is_some())
    }
}

/// How parts are being filled.
#[derive(Clone, Copy, Debug, Default)]
struct Filling {
    units: u32,
    parts: u16,
    /// Units in the last part, if there were several.
    last: u32,
}

impl Filling {
    fn with(self, size: u32, encoding: Encoding) -> Self {
        let (_, room) = encoding.room();
        let fits = self.parts > 0 && self.last + size <= room;
        Self {
            units: self.units.saturating_add(size),
            parts: if fits { self.parts } else { self.parts.saturating_add(1) },
            last: if fits { self.last + size } else { size },
        }
    }

    fn count(self, encoding: Encoding) -> Count {
        let (alone, _) = encoding.room();
        let parts = if self.units <= alone { self.parts.min(1) } else { self.parts };
        Count { encoding, units: self.units, parts }
    }
}

/// What looks like a character and is plainer.
fn close(character: char) -> Option<&'static str> {
    Some(match character {
        '‘' | '’' | '‚' | '‛' | '′' | '´' | '`' => "'",
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' => "\"",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => "-",
        '…' => "...",
        '•' | '·' => "-",
        '¡' => "!",
        '¿' => "?",
        '\t' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => " ",
        // They have no width, and no meaning outside of scripts that need them.
        '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => "",
        'º' | '°' => "o",
        'ª' => "a",
        '×' => "x",
        '€' => "EUR",
        '£' => "GBP",
        '½' => "1/2",
        '¼' => "1/4",
        '¾' => "3/4",
        '™' => "TM",
        '®' => "(R)",
        '©' => "(C)",
        'Ø' => "O",
        'ø' => "o",
        'Æ' => "AE",
        'æ' => "ae",
        'ß' => "ss",
        _ => return None,
    })
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
