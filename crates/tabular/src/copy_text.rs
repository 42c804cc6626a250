//! Rows in PostgreSQL's text form of COPY: fields apart by tabs, rows by line ends, `\N` for null.
//! <https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.2>

use std::{fmt, io::Write as _};

use memchr::memchr3;

/// Rows that are being written. A field follows the one before; [`Self::end`] ends the row.
#[derive(Debug, Default)]
pub struct CopyText {
    bytes: Vec<u8>,
}

impl CopyText {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// A field of text; `None` is null.
    pub fn text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.escape(text.as_bytes()),
            None => self.bytes.extend_from_slice(b"\\N"),
        }
        self.bytes.push(b'\t');
        self
    }

    /// A field whose form has nothing to escape: a number, a truth value, a UUID.
    pub fn value(&mut self, value: impl fmt::Display) -> &mut Self {
        // Writing to memory can't fail.
        let _ = write!(self.bytes, "{value}\t");
        self
    }

    /// The same; `None` is null.
    pub fn optional(&mut self, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.value(value),
            None => self.text(None),
        }
    }

    /// Ends the row with what is the same in all rows.
    pub fn end(&mut self, common: &Self) {
        self.bytes.extend_from_slice(&common.bytes);
        // The tab after the last field.
        self.bytes.pop();
        self.bytes.push(b'\n');
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn escape(&mut self, mut text: &[u8]) {
        // Tab, line feed and backslash; a carriage return is looked for apart, for there are four of them.
        while let Some(at) = first_special(text) {
            self.bytes.extend_from_slice(&text[..at]);
            let letter = match text[at] {
                b'\t' => b't',
                b'\n' => b'n',
                b'\r' => b'r',
                other => other,
            };
            self.bytes.extend_from_slice(&[b'\\', letter]);
            text = &text[at + 1..];
        }
        self.bytes.extend_from_slice(text);
    }
}

fn first_special(text: &[u8]) -> Option<usize> {
    let common = memchr3(b'\t', b'\n', b'\\', text);
    let rest = &text[..common.unwrap_or(text.len())];
    memchr::memchr(b'\r', rest).or(common)
}

#[cfg(test)]
mod tests {
    use super::CopyText;

    #[test]
    fn fields_are_escaped_and_rows_end() {
        let mut common = CopyText::default();
        common.text(Some("p\\1")).value(7);
        let mut rows = CopyText::default();
        rows.text(Some("a\tb\r\nc")).text(None).text(Some("\\N")).value(true).end(&common);
        rows.text(Some("")).end(&common);
        let text = String::from_utf8(rows.into_bytes()).expect("text");
        assert_eq!(text, "a\\tb\\r\\nc\t\\N\t\\\\N\ttrue\tp\\\\1\t7\n\tp\\\\1\t7\n");
    }
}
