//! How a text is encoded, and how many parts it has.

/// How a text's characters are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Seven bits a character: 160 alone, 153 in each of several parts.
    Gsm7,
    /// UTF-16: 70 code units alone, 67 in each of several parts.
    Ucs2,
}
