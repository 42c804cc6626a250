//! A row as a source has it: values of whatever type somebody stored.

use std::borrow::Cow;

use rusqlite::types::ValueRef;

/// A value of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raw<'a> {
    Null,
    Integer(i64),
    Real(f64),
    /// Not necessarily UTF-8.
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// One row, in the order of the columns that become a contact.
#[derive(Clone, Copy, Debug)]
pub struct RawRow<'a> {
    /// SQLite's id; in a CSV file the number of the row, from 1.
    pub source_id: i64,
    /// It has values that no column has a name for, and so perhaps all of its values in wrong columns.
    pub has_surplus: bool,
    pub phone: Raw<'a>,
    pub phone_original: Raw<'a>,
    pub full_name: Raw<'a>,
    pub address: Raw<'a>,
    pub neighborhood: Raw<'a>,
    pub municipality: Raw<'a>,
    pub state_code: Raw<'a>,
    pub city: Raw<'a>,
    pub is_valid: Raw<'a>,
    pub migrated_at: Raw<'a>,
}

impl<'a> From<ValueRef<'a>> for Raw<'a> {
    fn from(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(text),
            ValueRef::Blob(bytes) => Self::Blob(bytes),
        }
    }
}

impl<'a> Raw<'a> {
    /// Its bytes as text; a number as SQLite would print it.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Self::Null => Cow::Borrowed(&[]),
            Self::Text(bytes) | Self::Blob(bytes) => Cow::Borrowed(bytes),
            Self::Integer(number) => Cow::Owned(number.to_string().into_bytes()),
            Self::Real(number) => Cow::Owned(number.to_string().into_bytes()),
        }
    }

    /// Whether it is a false one: 0, `0`, `false`, `no`. What is not there counts as true, the column's default.
    pub fn is_false(self) -> bool {
        match self {
            Self::Null => false,
            Self::Integer(number) => number == 0,
            Self::Real(number) => number == 0.0,
            Self::Text(bytes) | Self::Blob(bytes) => {
                let bytes = bytes.trim_ascii();
                bytes == b"0" || bytes.eq_ignore_ascii_case(b"false") || bytes.eq_ignore_ascii_case(b"no")
            }
        }
    }
}
