//! A `numeros.db` of any size: the source of an import of contacts, with a stated share of dirt, and the truth about
//! what importing it must come to.
//!
//! The same [`Spec`] gives the same file. A row's content depends on the seed and the row alone, so several
//! threads make rows while one writes them. The [`Truth`] comes from the layout of the file, by counting what
//! was put in; nothing here asks the code under test.

mod dice;
mod file;
mod layout;
mod numbers;
mod people;
mod places;
mod rows;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// What to generate.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Rows of `numeros`.
    pub rows: u64,
    /// The same seed gives the same file.
    pub seed: u64,
    /// How much of it is dirty.
    pub dirt: Dirt,
}

/// Shares of all rows, from 0 to 1; for things that few rows can have, the share is capped.
#[derive(Clone, Debug)]
pub struct Dirt {
    /// Good numbers in another spelling: legacy prefixes, +52, spaces, dashes, parentheses.
    pub legacy: f64,
    /// Rows in pairs of one number: one clean, one in another spelling, with other fields filled.
    pub twins: f64,
    /// Rows in pairs of one number, both in other spellings than the clean one.
    pub dirty_twins: f64,
    /// Rows that can't become a contact, of each of [`Reject::ALL`].
    pub rejects: f64,
    /// Good rows without state, municipality and city.
    pub without_place: f64,
    /// Good rows without a name: NULL, empty or blank.
    pub unnamed: f64,
    /// Good rows whose name has spaces too many.
    pub untidy: f64,
    /// Good rows with a NUL byte or bytes that aren't UTF-8 in name or address.
    pub damaged: f64,
    /// Good rows with a BLOB where text is expected, in name or address: the bytes of that text.
    pub blobs: f64,
    /// Good rows with `es_valido` 0.
    pub flagged: f64,
    /// Rows whose `fecha_migracion` isn't `YYYY-MM-DD hh:mm:ss`: ISO 8601, Unix seconds, a Julian day, nothing.
    pub odd_dates: f64,
}

impl Default for Dirt {
    fn default() -> Self {
        Self {
            legacy: 0.03,
            twins: 0.006,
            dirty_twins: 0.002,
            rejects: 0.0005,
            without_place: 0.05,
            unnamed: 0.01,
            untidy: 0.02,
            damaged: 0.0005,
            blobs: 0.0005,
            flagged: 0.005,
            odd_dates: 0.02,
        }
    }
}

impl Dirt {
    /// None at all.
    pub fn none() -> Self {
        Self {
            legacy: 0.0,
            twins: 0.0,
            dirty_twins: 0.0,
            rejects: 0.0,
            without_place: 0.0,
            unnamed: 0.0,
            untidy: 0.0,
            damaged: 0.0,
            blobs: 0.0,
            flagged: 0.0,
            odd_dates: 0.0,
        }
    }
}

/// Why a row can't become a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No digit at all.
    Empty,
    /// A NUL byte in the number.
    NulByte,
    /// Bytes that aren't UTF-8 in the number.
    BadUtf8,
    /// Letters in the number.
    Letters,
    /// Seven to nine digits.
    TooShort,
    /// More than ten digits after 52.
    TooLong,
    /// 1 and ten digits.
    NorthAmerica,
    /// Other country codes.
    OtherCountry,
    /// Ten digits that begin with 0 or 1.
    BadStart,
    /// An area code that isn't assigned.
    UnassignedLada,
    /// One digit all through after the LADA.
    RepeatedDigit,
    /// 1234567 after the LADA.
    Sequence,
}

impl Reject {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Empty,
        Self::NulByte,
        Self::BadUtf8,
        Self::Letters,
        Self::TooShort,
        Self::TooLong,
        Self::NorthAmerica,
        Self::OtherCountry,
        Self::BadStart,
        Self::UnassignedLada,
        Self::RepeatedDigit,
        Self::Sequence,
    ];

    /// The reason's code, as sms-dispatch reports it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "phone_empty",
            Self::NulByte => "phone_nul_byte",
            Self::BadUtf8 => "phone_bad_utf8",
            Self::Letters => "phone_letters",
            Self::TooShort => "phone_too_short",
            Self::TooLong => "phone_too_long",
            Self::NorthAmerica => "phone_north_america",
            Self::OtherCountry => "phone_other_country",
            Self::BadStart => "phone_bad_start",
            Self::UnassignedLada => "phone_unassigned_lada",
            Self::RepeatedDigit => "phone_repeated_digit",
            Self::Sequence => "phone_sequence",
        }
    }
}

/// What importing the file into an empty table must come to. `rows = contacts + merged + rejected`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Rows of `numeros`.
    pub rows: u64,
    /// Different good numbers.
    pub contacts: u64,
    /// Rows whose number another row of a contact has too.
    pub merged: u64,
    /// Rows without a good number, by the code of the reason.
    pub rejected: BTreeMap<String, u64>,
    /// Rows with a good number that isn't written as ten digits.
    pub changed: u64,
    /// Contacts without a name.
    pub unnamed: u64,
    /// Contacts of a row with `es_valido` 0; none of them is merged.
    pub flagged: u64,
    /// Contacts with a NUL byte or bytes that aren't UTF-8 in name or address; none of them is merged.
    pub damaged: u64,
    /// Contacts whose LADA is in `ladas_faltantes`.
    pub missing_lada: u64,
}

impl Truth {
    /// Rows without a good number.
    pub fn rejects(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// Writes the file, which replaces one of that name once it is whole; `progress` is told the rows written so far.
///
/// # Errors
/// The file can't be written, or the shares of dirt add up to more than there is.
pub fn generate(path: &Path, spec: &Spec, progress: impl FnMut(u64)) -> Result<Truth> {
    file::write(path, spec, progress)
}
