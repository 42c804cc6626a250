//! Rows as `COPY … TO STDOUT` sends them in its text format (PostgreSQL's documentation of COPY, "Text
//! Format"): columns between tabs, a backslash before what would be mistaken, `\N` for null.

use memchr::{memchr, memchr2};

/// Cuts what arrives into lines, wherever it was cut on its way.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Gives each line that ends in `chunk` to `line`, without its end.
    ///
    /// # Errors
    /// What `line` says; the lines after it are lost.
    pub fn feed<E>(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut chunk = chunk;
        while let Some(end) = memchr(b'\n', chunk) {
            if self.rest.is_empty() {
                line(&chunk[..end])?;
            } else {
                self.rest.extend_from_slice(&chunk[..end]);
                line(&self.rest)?;
                self.rest.clear();
            }
            chunk = &chunk[end + 1..];
        }
        self.rest.extend_from_slice(chunk);
        Ok(())
    }
}

/// The columns of one row. Reused from row to row.
#[derive(Debug, Default)]
pub struct Row {
    text: Vec<u8>,
    /// Where each column ends in `text`, and whether it is null.
    ends: Vec<(usize, bool)>,
}

impl Row {
    /// Takes a line apart.
    pub fn read(&mut self, line: &[u8]) {
        self.text.clear();
        self.ends.clear();
        let mut rest = line;
        let mut null = false;
        while let Some(at) = memchr2(b'\t', b'\\', rest) {
            self.text.extend_from_slice(&rest[..at]);
            if rest[at] == b'\t' {
                self.ends.push((self.text.len(), std::mem::take(&mut null)));
                rest = &rest[at + 1..];
                continue;
            }
            match rest.get(at + 1) {
                Some(b'N') => null = true,
                Some(b'b') => self.text.push(8),
                Some(b'f') => self.text.push(12),
                Some(b'n') => self.text.push(b'\n'),
                Some(b'r') => self.text.push(b'\r'),
                Some(b't') => self.text.push(b'\t'),
                Some(b'v') => self.text.push(11),
                Some(other) => self.text.push(*other),
                None => {}
            }
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        self.text.extend_from_slice(rest);
        self.ends.push((self.text.len(), null));
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A column; empty where it is null or missing.
    pub fn column(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end.0);
        match self.ends.get(index) {
            Some((end, false)) => &self.text[start..*end],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As PostgreSQL's `CopyAttributeOutText` writes.
    fn escaped(columns: &[Option<String>]) -> Vec<u8> {
        let column = |column: &Option<String>| match column {
            None => "\\N".to_owned(),
            Some(text) => text
                .replace('\\', "\\\\")
                .replace('\t', "\\t")
                .replace('\n', "\\n")
                .replace('\r', "\\r")
                .replace('\u{8}', "\\b")
                .replace('\u{b}', "\\v")
                .replace('\u{c}', "\\f"),
        };
        columns.iter().map(column).collect::<Vec<_>>().join("\t").into_bytes()
    }

    proptest! {
        #[test]
        fn what_was_escaped_is_read_back(
            rows in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of("[a-z\\\\\t\n\r\u{8}\u{b}\u{c}Nñ€.]{0,8}"), 1..6),
                0..6,
            ),
            cut in 1usize..9,
        ) {
            let mut sent = Vec::new();
            for row in &rows {
                sent.extend(escaped(row));
                sent.push(b'\n');
            }
            let (mut lines, mut row, mut read) = (Lines::default(), Row::default(), Vec::new());
            for chunk in sent.chunks(cut) {
                lines.feed(chunk, |line| {
                    row.read(line);
                    read.push((0..row.len()).map(|index| row.column(index).to_vec()).collect::<Vec<_>>());
                    Ok::<_, ()>(())
                }).expect("never fails");
            }
            let should: Vec<Vec<Vec<u8>>> = rows
                .iter()
                .map(|row| row.iter().map(|text| text.clone().unwrap_or_default().into_bytes()).collect())
                .collect();
            prop_assert_eq!(read, should);
        }
    }
}
