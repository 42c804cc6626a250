//! Records as CSV or TXT.
//!
//! **CSV** is RFC 4180: records end with CR LF; a field with the separator, a quote, a CR or an LF stands in
//! quotes, and a quote inside is doubled.
//!
//! **TXT** has a record a line, which ends with LF, and no quotes: inside a field a backslash is `\\`, the
//! separator is `\` before itself, LF is `\n`, CR is `\r` and a tab is `\t`. Read from the left, a backslash and
//! the character after it are one, so that what was written is what is read.
//!
//! In both, a text that a spreadsheet would take for a formula gets a `'` before it (CWE-1236): one that begins
//! with `=`, `+`, `-`, `@`, a tab or a CR. Not so phones, which begin with `+` and are no text.

use super::encode::{Unencodable, encode, mark};
use crate::domain::params::{Encoding, Format, Params};

/// The columns of a campaign's file.
pub const DETAIL: [&str; 8] = [
    "ID Campaña",
    "Nombre Campaña",
    "Fecha Campaña",
    "Teléfono",
    "Mensaje",
    "Fecha Envío",
    "Estado Mensaje",
    "Error",
];

/// The columns of a day's totals.
pub const SUMMARY: [&str; 8] = [
    "ID Campaña",
    "Nombre Campaña",
    "Fecha Campaña",
    "Estado Campaña",
    "Total",
    "Enviados",
    "Pendientes",
    "Fallidos",
];

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// What a person wrote.
    Text(&'a [u8]),
    /// A number, a time, a phone, a word of ours.
    Plain(&'a [u8]),
}

/// Writes records into a buffer, which its owner empties.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    separator: u8,
    encoding: Encoding,
    /// Set for the bytes for which a field needs quotes or escapes.
    special: [bool; 256],
    /// What is written and was not taken yet.
    pub out: Vec<u8>,
}

impl Writer {
    /// A file that has nothing yet but its mark.
    pub fn new(params: &Params) -> Self {
        // Separators are ASCII, which `params::separator` checks.
        let separator = u8::try_from(u32::from(params.separator)).unwrap_or(b',');
        let mut special = [false; 256];
        let specials: &[u8] = match params.format {
            Format::Csv => b"\"\r\n",
            Format::Txt => b"\\\r\n\t",
        };
        for byte in specials.iter().chain([&separator]) {
            special[usize::from(*byte)] = true;
        }
        Self {
            format: params.format,
            separator,
            encoding: params.encoding,
            special,
            out: mark(params.encoding).to_vec(),
        }
    }

    /// Adds the head.
    ///
    /// # Errors
    /// None: every encoding has these letters.
    pub fn head(&mut self, names: &[&str]) -> Result<(), Unencodable> {
        self.fields(names.iter().map(|name| Field::Plain(name.as_bytes())))?;
        self.end();
        Ok(())
    }

    /// Adds fields, with a separator between them.
    ///
    /// # Errors
    /// A letter that the encoding lacks.
    pub fn fields<'a>(&mut self, fields: impl IntoIterator<Item = Field<'a>>) -> Result<(), Unencodable> {
        for (index, field) in fields.into_iter().enumerate() {
            if index > 0 {
                self.separate();
            }
            self.field(field)?;
        }
        Ok(())
    }

    /// Adds a separator.
    pub fn separate(&mut self) {
        self.out.push(self.separator);
    }

    /// Adds what was written before, as it is: the fields that all records of a file have in common.
    pub fn again(&mut self, written: &[u8]) {
        self.out.extend_from_slice(written);
    }

    /// Ends the record.
    pub fn end(&mut self) {
        match self.format {
            Format::Csv => self.out.extend_from_slice(b"\r\n"),
            Format::Txt => self.out.push(b'\n'),
        }
    }

    fn field(&mut self, field: Field<'_>) -> Result<(), Unencodable> {
        let (text, defuse) = match field {
            Field::Text(text) => {
                (text, matches!(text.first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r')))
            }
            Field::Plain(text) => (text, false),
        };
        let special = text.iter().any(|byte| self.special[usize::from(*byte)]);
        let quoted = special && self.format == Format::Csv;
        if quoted {
            self.out.push(b'"');
        }
        if defuse {
            self.out.push(b'\'');
        }
        if special {
            self.escape(text)?;
        } else {
            encode(&mut self.out, text, self.encoding)?;
        }
        if quoted {
            self.out.push(b'"');
        }
        Ok(())
    }

    /// Adds a text in which something must be doubled or escaped. All that is, is ASCII, and so never a part
    /// of another letter in UTF-8.
    fn escape(&mut self, text: &[u8]) -> Result<(), Unencodable> {
        let mut plain = 0;
        for (index, byte) in text.iter().enumerate() {
            let replacement: [u8; 2] = match (self.format, byte) {
                (Format::Csv, b'"') => *b"\"\"",
                (Format::Txt, b'\\') => *br"\\",
                (Format::Txt, b'\n') => *br"\n",
                (Format::Txt, b'\r') => *br"\r",
                (Format::Txt, b'\t') => *br"\t",
                (Format::Txt, byte) if *byte == self.separator => [b'\\', self.separator],
                _ => continue,
            };
            encode(&mut self.out, &text[plain..index], self.encoding)?;
            self.out.extend_from_slice(&replacement);
            plain = index + 1;
        }
        encode(&mut self.out, &text[plain..], self.encoding)
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
