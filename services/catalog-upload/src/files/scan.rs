//! One pass over the inflated bytes of an XML part, in constant memory, before anything parses it.
//!
//! It knows as much of XML as is needed to bound what a parser would hold at once: where tags begin, and
//! that comments and CDATA sections hold none. It agrees with calamine on where a table of strings and the
//! cells of a sheet begin and end.
//!
//! On its way it looks whether the cells of a sheet are such as calamine takes. One that isn't makes the sheet
//! odd, to be mended (`mend`). Where it is in doubt it says odd: mending a good cell changes nothing.

use memchr::{memchr, memchr_iter, memmem};

use super::{FileError, Limits};

/// The errors that calamine knows, without the one by which mended cells say that they have no value.
pub(super) const KNOWN_ERRORS: [&str; 6] = ["#DIV/0!", "#N/A", "#NAME?", "#NUM!", "#REF!", "#VALUE!"];

/// Bytes that are at hand after each `<`: the whole tag `sst` must be among them.
const LOOKAHEAD: usize = 1024;
/// No name that office programs write is longer, bytes with its prefix.
const MAX_NAME: usize = 64;
/// What calamine's table of strings costs for each of them besides its text: 24 bytes of `String` in a
/// vector that doubles, and the allocator's overhead.
const STRING_OVERHEAD: u64 = 24 * 2 + 24;

/// What a part holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Row elements.
    pub rows: u64,
    /// Whether it is a sheet or a table of strings, which may be large because they are streamed or bounded.
    pub is_large_kind: bool,
    /// Texts of a table of strings.
    pub strings: u64,
    /// How many texts a table must have for the cells of this sheet.
    pub strings_used: u64,
    /// Whether calamine would fail at it, or read another value than it has.
    pub is_odd: bool,
}

/// What a cell's value may be, by the cell's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CellKind {
    Number,
    SharedString,
    Text,
    Bool,
    Error,
    /// The value stands elsewhere in the cell.
    Inline,
}

/// The pass over one part. Feed it the bytes in order; then [`Self::finish`].
pub(super) struct Scan<'a> {
    limits: &'a Limits,
    found: Found,
    /// The cell that the pass is in: of which kind, whether it has a formula, and whether a value.
    cell: CellKind,
    has_formula: bool,
    has_value: bool,
    declared_strings: u64,
    /// Bytes that are behind, and what is at hand of the rest.
    position: u64,
    tail: Vec<u8>,
    /// What ends the comment or CDATA section that the pass is in.
    opaque: Option<&'static [u8]>,
    last_tag: u64,
    /// Where the cell or string began, while inside a sheet's data or a table of strings.
    last_cell: Option<u64>,
    is_strings: bool,
}

impl<'a> Scan<'a> {
    pub fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            found: Found::default(),
            cell: CellKind::Number,
            has_formula: false,
            has_value: false,
            declared_strings: 0,
            position: 0,
            tail: Vec::new(),
            opaque: None,
            last_tag: 0,
            last_cell: None,
            is_strings: false,
        }
    }

    /// Takes the next bytes of the part.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        // XML has no zero bytes, except in UTF-16, in which this pass would be blind.
        if memchr(0, bytes).is_some() {
            return Err(FileError::corrupt("una parte no está en UTF-8"));
        }
        self.tail.extend_from_slice(bytes);
        let tail = std::mem::take(&mut self.tail);
        let done = self.walk(&tail, tail.len().saturating_sub(LOOKAHEAD))?;
        self.position += done as u64;
        self.tail = tail;
        self.tail.drain(..done);
        Ok(())
    }

    /// Takes the rest, and gives what was found.
    pub fn finish(mut self) -> Result<Found, FileError> {
        let tail = std::mem::take(&mut self.tail);
        self.walk(&tail, tail.len())?;
        self.check_spans(self.position + tail.len() as u64)?;
        if self.declared_strings > self.position + tail.len() as u64 {
            return Err(FileError::hostile("declara más textos de los que tiene"));
        }
        Ok(self.found)
    }

    /// Looks at the tags that begin before `limit`; gives how far it came.
    fn walk(&mut self, bytes: &[u8], limit: usize) -> Result<usize, FileError> {
        let mut at = 0;
        while at < limit {
            if let Some(end) = self.opaque {
                match memmem::find(&bytes[at..], end) {
                    Some(found) => {
                        at += found + end.len();
                        self.opaque = None;
                    }
                    // The end may begin in the last bytes, which come again.
                    None => at = limit,
                }
                continue;
            }
            let Some(found) = memchr(b'<', &bytes[at..limit]) else {
                at = limit;
                break;
            };
            at += found + 1;
            self.tag(&bytes[at..], self.position + at as u64)?;
        }
        self.check_spans(self.position + at as u64)?;
        Ok(at)
    }

    fn check_spans(&self, position: u64) -> Result<(), FileError> {
        let max = self.limits.max_token_bytes as u64;
        let since = self.last_cell.map_or(self.last_tag, |cell| cell.min(self.last_tag));
        if position.saturating_sub(since) > max {
            let row = (self.found.rows > 0).then_some(self.found.rows as u32);
            return Err(FileError::CellTooLarge { row });
        }
        Ok(())
    }

    /// A `<` is behind, at `position`; `rest` comes after it.
    fn tag(&mut self, rest: &[u8], position: u64) -> Result<(), FileError> {
        match rest {
            // By far the most: values, texts, formulas, and the end of each.
            [mark @ (b'v' | b't' | b'f'), b'>', value @ ..] => {
                match mark {
                    b'v' if self.last_cell.is_some() => self.value(value),
                    b'f' => self.has_formula = true,
                    _ => {}
                }
                self.check_spans(position)?;
                self.last_tag = position;
                return Ok(());
            }
            [b'c', b' ', ..] if self.last_cell.is_some() => {
                self.check_spans(position)?;
                self.last_tag = position;
                return self.begin_cell(&rest[1..], position);
            }
            [b'/', mark @ (b'v' | b't' | b'f' | b'c'), b'>', ..] => {
                if *mark == b'c' {
                    self.end_cell();
                }
                self.check_spans(position)?;
                self.last_tag = position;
                return Ok(());
            }
            [b'!', b'-', b'-', ..] => {
                self.opaque = Some(b"-->");
                return Ok(());
            }
            [b'!', b'[', ..] => {
                self.opaque = Some(b"]]>");
                return Ok(());
            }
            [b'!', ..] => return Err(FileError::hostile("contiene un DOCTYPE")),
            [b'?', ..] => return Ok(()),
            _ => {}
        }
        self.named_tag(rest, position)
    }

    /// Any other tag, by its name without the namespace.
    fn named_tag(&mut self, rest: &[u8], position: u64) -> Result<(), FileError> {
        self.check_spans(position)?;
        self.last_tag = position;
        let (closing, rest) = rest.strip_prefix(b"/").map_or((false, rest), |rest| (true, rest));
        let window = &rest[..rest.len().min(MAX_NAME)];
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
        let Some(length) = window.iter().position(is_end) else {
            return Err(FileError::corrupt("una etiqueta no termina"));
        };
        let name = &window[..length];
        let name = memchr(b':', name).map_or(name, |colon| &name[colon + 1..]);
        match (closing, name) {
            (false, b"c") if self.last_cell.is_some() => {
                self.begin_cell(&rest[length..], position)?;
            }
            (false, b"dimension") => self.found.is_odd |= !is_extent(&rest[length..]),
            (false, b"v") if self.last_cell.is_some() => self.value(after_tag(&rest[length..])),
            (false, b"f") => self.has_formula = true,
            (false, b"is") => self.has_value = true,
            (true, b"c") => self.end_cell(),
            // Inside of cells calamine takes nothing else.
            (false, b"extLst" | b"AlternateContent") if self.last_cell.is_some() => self.found.is_odd = true,
            (false, b"row") => {
                check_place(&rest[length..], b"r")?;
                self.found.rows += 1;
                self.last_cell = self.last_cell.map(|_| position);
            }
            (false, b"si") if self.is_strings => {
                self.found.strings += 1;
                self.last_cell = Some(position);
                self.check_strings(position)?;
            }
            (false, b"sheetData") => {
                self.found.is_large_kind = true;
                self.last_cell = Some(position);
            }
            (false, b"sst") => {
                self.found.is_large_kind = true;
                self.is_strings = true;
                self.last_cell = Some(position);
                self.declared_strings = self.declared_strings.max(unique_count(rest)?);
            }
            (true, b"sheetData" | b"sst") => self.last_cell = None,
            _ => {}
        }
        Ok(())
    }

    fn begin_cell(&mut self, attributes: &[u8], position: u64) -> Result<(), FileError> {
        let kind = check_cell(attributes)?;
        self.last_cell = Some(position);
        self.found.is_odd |= kind.is_none();
        self.cell = kind.unwrap_or(CellKind::Text);
        self.has_formula = false;
        self.has_value = false;
        Ok(())
    }

    /// A formula without a value is no empty cell, though calamine says so.
    fn end_cell(&mut self) {
        self.found.is_odd |= self.has_formula && !self.has_value;
        self.has_formula = false;
    }

    /// Looks at a cell's value, in what comes after the tag `v`.
    fn value(&mut self, rest: &[u8]) {
        let (mut digits, mut number) = (0, 0u64);
        while let Some(digit @ b'0'..=b'9') = rest.get(digits) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            digits += 1;
        }
        // By far the most: digits alone, or with decimals.
        let mut end = digits;
        if digits > 0 && self.cell == CellKind::Number && rest.get(digits) == Some(&b'.') {
            end += 1;
            while let Some(b'0'..=b'9') = rest.get(end) {
                end += 1;
            }
        }
        if digits > 0 && rest.get(end) == Some(&b'<') && rest.get(end + 1) == Some(&b'/') {
            self.has_value = true;
            match self.cell {
                CellKind::SharedString if digits <= 9 => {
                    self.found.strings_used = self.found.strings_used.max(number + 1);
                }
                CellKind::SharedString | CellKind::Error => self.found.is_odd = true,
                CellKind::Bool => self.found.is_odd |= !matches!(&rest[..digits], b"0" | b"1"),
                CellKind::Number | CellKind::Text | CellKind::Inline => {}
            }
            return;
        }
        let end = memchr(b'<', &rest[..rest.len().min(LOOKAHEAD)]);
        let value = end.map_or(rest, |end| &rest[..end]);
        // Anything but the value's own end may go on with it.
        let is_whole = end.is_some_and(|end| rest[end..].starts_with(b"</"));
        if value.is_empty() && is_whole && self.cell != CellKind::Text {
            return;
        }
        self.has_value = true;
        let is_good = match self.cell {
            CellKind::Inline => return,
            CellKind::Text => true,
            // With a sign before it, calamine takes a number for a text or for an error.
            CellKind::Number => {
                !value.starts_with(b"+")
                    && str::from_utf8(value).is_ok_and(|value| value.parse::<f64>().is_ok())
            }
            CellKind::SharedString => false,
            CellKind::Bool => matches!(value, b"true" | b"false"),
            CellKind::Error => KNOWN_ERRORS.iter().any(|known| known.as_bytes() == value),
        };
        self.found.is_odd |= !is_good || !is_whole;
    }

    fn check_strings(&self, position: u64) -> Result<(), FileError> {
        let max = self.limits.max_shared_strings_bytes;
        if position + self.found.strings * STRING_OVERHEAD > max {
            return Err(FileError::TooMuchText {
                detail: format!("más de {} MB de textos", max / (1024 * 1024)),
            });
        }
        Ok(())
    }
}

/// Refuses places that no sheet has: calamine computes them in u32 without a check. `XFD1048576` is the last
/// that Excel has.
fn check_place(attributes: &[u8], name: &[u8]) -> Result<(), FileError> {
    attribute(attributes, name).map_or(Ok(()), check_place_value)
}

fn check_place_value(place: &[u8]) -> Result<(), FileError> {
    // Six letters or digits fit in u32 whatever they are.
    if place.len() <= 6 {
        return Ok(());
    }
    let (mut letters, mut digits) = (0, 0);
    for byte in place {
        letters = if byte.is_ascii_alphabetic() { letters + 1 } else { 0 };
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if letters > 3 || digits > 7 {
            return Err(FileError::corrupt("una celda está donde ninguna hoja llega"));
        }
    }
    Ok(())
}

/// Checks a cell's place, and gives its kind; none for one that calamine doesn't know.
fn check_cell(attributes: &[u8]) -> Result<Option<CellKind>, FileError> {
    // By far the most: place, style and type in this order.
    if let Some((place, rest)) = next_attribute(attributes, b" r=\"") {
        check_place_value(place)?;
        let rest = next_attribute(rest, b" s=\"").map_or(rest, |(_, rest)| rest);
        match rest {
            [b'>' | b'/', ..] => return Ok(Some(CellKind::Number)),
            [b' ', b't', b'=', b'"', b's', b'"', ..] => return Ok(Some(CellKind::SharedString)),
            _ => {}
        }
    } else {
        check_place(attributes, b"r")?;
    }
    Ok(match attribute(attributes, b"t") {
        None | Some(b"n") => Some(CellKind::Number),
        Some(b"s") => Some(CellKind::SharedString),
        Some(b"str" | b"d") => Some(CellKind::Text),
        Some(b"b") => Some(CellKind::Bool),
        Some(b"e") => Some(CellKind::Error),
        Some(b"inlineStr") => Some(CellKind::Inline),
        Some(_) => None,
    })
}

/// A short attribute that begins so, if it is the next one: its value, and what comes after it.
fn next_attribute<'a>(attributes: &'a [u8], start: &[u8; 4]) -> Option<(&'a [u8], &'a [u8])> {
    let value = attributes.strip_prefix(start)?;
    for (end, byte) in value.iter().enumerate().take(12) {
        if *byte == b'"' {
            return Some((&value[..end], &value[end + 1..]));
        }
    }
    None
}

/// What comes after a tag, in what comes after its name.
fn after_tag(attributes: &[u8]) -> &[u8] {
    match memchr(b'>', &attributes[..attributes.len().min(LOOKAHEAD)]) {
        Some(end) if end > 0 && attributes[end - 1] == b'/' => b"</",
        Some(end) => &attributes[end + 1..],
        None => b"",
    }
}

/// Whether the attributes of `dimension` have an extent that calamine takes: one place, or two in order.
fn is_extent(attributes: &[u8]) -> bool {
    let Some(extent) = attribute(attributes, b"ref") else { return false };
    let mut corners = extent.split(|byte| *byte == b':').map(|corner| {
        let letters = corner.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (column, row) = corner.split_at(letters);
        let is_row =
            matches!(row, [b'1'..=b'9', rest @ ..] if rest.len() <= 6 && rest.iter().all(u8::is_ascii_digit));
        let is_place = (1..=3).contains(&letters) && is_row;
        let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        is_place.then(|| ((column.len(), column.to_ascii_uppercase()), number(row)))
    });
    match (corners.next().flatten(), corners.next(), corners.next()) {
        (Some(_), None, None) => true,
        (Some(first), Some(Some(last)), None) => first.0 <= last.0 && first.1 <= last.1,
        _ => false,
    }
}

/// An attribute's value, in what comes after a tag's name.
fn attribute<'a>(mut rest: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // By far the most: a cell's place comes first.
    if name == b"r"
        && let Some(value) = rest.strip_prefix(b" r=\"")
        && let Some(end) = value.iter().take(12).position(|byte| *byte == b'"')
    {
        return Some(&value[..end]);
    }
    loop {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        rest = &rest[start..];
        if matches!(rest[0], b'>' | b'/') {
            return None;
        }
        let equals = memchr(b'=', rest)?;
        let key = rest[..equals].trim_ascii_end();
        rest = rest[equals + 1..].trim_ascii_start();
        let quote = *rest.first()?;
        let value = &rest[1..];
        let end = memchr(quote, value)?;
        if key == name {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
}

/// The `uniqueCount` of the tag `sst`: calamine reserves room for so many strings.
fn unique_count(rest: &[u8]) -> Result<u64, FileError> {
    // The tag is in the first bytes of its part; one so long that it isn't is none that a program wrote.
    let end = memchr(b'>', rest).ok_or_else(|| FileError::corrupt("la tabla de textos no empieza bien"))?;
    let tag = &rest[..end];
    let mut most = 0;
    for equals in memchr_iter(b'=', tag) {
        if tag[..equals].trim_ascii_end().ends_with(b"uniqueCount") {
            let digits = tag[equals + 1..].trim_ascii_start();
            let digits = digits.get(1..).unwrap_or_default();
            let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = str::from_utf8(&digits[..length]).ok().and_then(|digits| digits.parse().ok());
            // No number at all reserves nothing; one too large for u64 must not pass.
            most = most.max(if length == 0 { 0 } else { number.unwrap_or(u64::MAX) });
        }
    }
    Ok(most)
}
