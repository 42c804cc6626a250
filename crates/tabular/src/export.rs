//! Text files for download, by RFC 4180: records end with CR LF, a field with a separator, a quote or a line
//! end stands in quotes, and a quote inside is doubled.
//!
//! Two readers, two styles. A person opens the file in Excel, which takes the separator from the system: `;`
//! where the comma marks decimals, as in Colombia; and it takes UTF-8 for what it is only with a byte order
//! mark (a line `sep=;` would make it ignore the mark). In such a file a text that begins like a formula gets
//! a `'` before it, so that Excel does not run what a supplier wrote (CWE-1236), and every text stands in quotes,
//! so that an Excel which splits at commas finds no formula inside of one. The import takes that `'` away
//! again. A program gets commas, no mark, and each value as it is.

/// Who reads the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvStyle {
    /// A person with Excel: byte order mark, `;`, formulas neutralised.
    Spreadsheet,
    /// A program: `,`, values untouched. Opened in Excel, such a file may run formulas.
    Raw,
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvField<'a> {
    /// Whatever somebody wrote.
    Text(&'a str),
    /// A number in digits, which may be negative: never neutralised.
    Number(&'a str),
    /// Nothing.
    Empty,
}

impl<'a> CsvField<'a> {
    /// A text, or nothing.
    pub fn optional(text: Option<&'a str>) -> Self {
        text.map_or(Self::Empty, Self::Text)
    }
}

/// Builds a file piece by piece: [`Self::record`] adds, [`Self::take`] hands out what there is, so that a
/// download holds no more than its caller lets gather.
#[derive(Debug)]
pub struct CsvExport {
    style: CsvStyle,
    buffer: Vec<u8>,
}

impl CsvExport {
    /// A file that has nothing yet, except the mark of its style.
    pub fn new(style: CsvStyle) -> Self {
        let mark = match style {
            CsvStyle::Spreadsheet => "\u{feff}",
            CsvStyle::Raw => "",
        };
        Self { style, buffer: mark.into() }
    }

    /// Adds a record.
    pub fn record<'a>(&mut self, fields: impl IntoIterator<Item = CsvField<'a>>) {
        let mut first = true;
        for field in fields {
            if !std::mem::take(&mut first) {
                self.buffer.push(self.separator());
            }
            match field {
                CsvField::Empty => {}
                CsvField::Number(digits) => self.quoted_if_needed(digits),
                CsvField::Text(text) => match self.style {
                    CsvStyle::Spreadsheet => self.quoted(if needs_quote(text) { "'" } else { "" }, text),
                    CsvStyle::Raw => self.quoted_if_needed(text),
                },
            }
        }
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Bytes that wait to be taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes the bytes since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    const fn separator(&self) -> u8 {
        match self.style {
            CsvStyle::Spreadsheet => b';',
            CsvStyle::Raw => b',',
        }
    }

    fn quoted_if_needed(&mut self, text: &str) {
        let special = |byte: u8| byte == self.separator() || matches!(byte, b'"' | b'\r' | b'\n');
        // Some readers trim what isn't quoted.
        let padded = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
        if padded || text.bytes().any(special) {
            self.quoted("", text);
        } else {
            self.buffer.extend_from_slice(text.as_bytes());
        }
    }

    fn quoted(&mut self, prefix: &str, text: &str) {
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(prefix.as_bytes());
        for byte in text.bytes() {
            if byte == b'"' {
                self.buffer.push(b'"');
            }
            self.buffer.push(byte);
        }
        self.buffer.push(b'"');
    }
}

/// Whether a spreadsheet would take a text for a formula. TAB and CR count because some programs drop them and
/// then see what follows; full-width signs because some take them for the plain ones.
pub fn begins_like_a_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'])
}

/// Whether a text is written behind a quote. Where it has one already, that one must not be taken for ours when
/// the file comes back.
fn needs_quote(text: &str) -> bool {
    begins_like_a_formula(text.trim_start_matches('\''))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(style: CsvStyle, fields: &[CsvField<'_>]) -> String {
        let mut export = CsvExport::new(style);
        export.take();
        export.record(fields.iter().copied());
        String::from_utf8(export.take()).expect("UTF-8 in, UTF-8 out")
    }

    #[test]
    fn each_style_has_its_mark_and_separator() {
        let mut export = CsvExport::new(CsvStyle::Spreadsheet);
        export.record([CsvField::Text("fila"), CsvField::Text("error")]);
        assert_eq!(export.take(), "\u{feff}\"fila\";\"error\"\r\n".as_bytes());
        export.record([CsvField::Number("-2"), CsvField::Empty]);
        assert_eq!((export.len(), export.is_empty()), (5, false));
        assert_eq!(export.take(), b"-2;\r\n");
        assert!(export.is_empty());
        assert_eq!(line(CsvStyle::Raw, &[CsvField::Text("a"), CsvField::optional(None)]), "a,\r\n");
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (text, written) in [
            ("a,b", "\"a,b\""),
            ("a;b", "a;b"),
            ("dice \"hola\"", "\"dice \"\"hola\"\"\""),
            ("dos\nlíneas", "\"dos\nlíneas\""),
            (" al borde ", "\" al borde \""),
            ("", ""),
            ("007", "007"),
        ] {
            assert_eq!(line(CsvStyle::Raw, &[CsvField::Text(text)]), format!("{written}\r\n"));
        }
        // Whatever an Excel takes for the separator.
        assert_eq!(line(CsvStyle::Spreadsheet, &[CsvField::Text("x,=1+1,")]), "\"x,=1+1,\"\r\n");
        assert_eq!(
            line(CsvStyle::Spreadsheet, &[CsvField::Text("007"), CsvField::Text("")]),
            "\"007\";\"\"\r\n"
        );
        assert_eq!(line(CsvStyle::Raw, &[CsvField::Text("a,b"), CsvField::Text("a;b")]), "\"a,b\",a;b\r\n");
    }

    #[test]
    fn formulas_are_neutralised_for_people_only() {
        for text in ["=1+1", "+57 300", "-5", "@SUM(A1)", "=HYPERLINK(\"http://x\";\"y\")", "＝1+1", "'=1+1"]
        {
            let safe = line(CsvStyle::Spreadsheet, &[CsvField::Text(text)]);
            assert!(safe.trim_start_matches('"').starts_with('\''), "{safe}");
            let raw = line(CsvStyle::Raw, &[CsvField::Text(text)]);
            assert_eq!(raw.contains('\''), text.contains('\''), "{raw}");
        }
        assert_eq!(line(CsvStyle::Spreadsheet, &[CsvField::Text("\t=1")]), "\"'\t=1\"\r\n");
        assert_eq!(line(CsvStyle::Spreadsheet, &[CsvField::Text("\r=1")]), "\"'\r=1\"\r\n");
        assert_eq!(line(CsvStyle::Spreadsheet, &[CsvField::Number("-5")]), "-5\r\n");
        assert_eq!(line(CsvStyle::Spreadsheet, &[CsvField::Text("a=b")]), "\"a=b\"\r\n");
    }

    proptest! {
        /// Another reader finds the fields that were written.
        #[test]
        fn what_is_written_can_be_read(records in proptest::collection::vec(
            proptest::collection::vec("[-=+@a-zñ,;\"\r\n 0-9]{1,8}", 2..5), 1..8,
        )) {
            let mut export = CsvExport::new(CsvStyle::Raw);
            for record in &records {
                export.record(record.iter().map(|field| CsvField::Text(field)));
            }
            let bytes = export.take();
            let mut reader =
                ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&bytes[..]);
            let read: Vec<Vec<String>> = reader
                .records()
                .map(|record| record.map(|record| record.iter().map(str::to_owned).collect()))
                .collect::<Result<_, _>>()
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(read, records);
        }
    }
}
