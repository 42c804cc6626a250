//! Workbooks that Excel opens and calamine doesn't, or reads otherwise: mended before it reads them.
//!
//! Which cells that concerns, the guard's pass finds (`scan`); few workbooks have any, and those are written
//! again with each such cell as calamine takes it. Nothing is guessed: a cell gets the value that its XML has,
//! or it becomes an error of its own. See docs/adr/0014.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use quick_xml::{
    Reader, Writer, XmlVersion,
    escape::resolve_xml_entity,
    events::{BytesEnd, BytesStart, BytesText, Event},
};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{
    FileError,
    gate::{Gate, Gated},
    guard::{Guarded, zip_error},
    scan::{Found, KNOWN_ERRORS},
};
use crate::domain::is_error;

/// Stands for a text that the table of strings lacks: a text of which nothing can be read.
const LOST_TEXT: &str = "\u{fffd}";

/// Parts that calamine looks for at a fixed place beside the workbook, by the end of their relation's type.
const FIXED: [(&str, &str); 2] = [("/sharedStrings", "sharedStrings.xml"), ("/styles", "styles.xml")];

/// The workbook as calamine takes it, in a file of its own in the folder `scratch`, which has no name there; none where it
/// does already.
///
/// # Errors
/// It is broken beyond that, or the file can't be written.
pub(super) fn mended(gate: &Gate, guarded: &Guarded, scratch: &Path) -> Result<Option<File>, FileError> {
    let mut archive = ZipArchive::new(BufReader::new(gate.guard())).map_err(zip_error)?;
    let moves = Moves::of(&mut archive)?;
    let strings =
        moves.strings.as_ref().and_then(|part| guarded.parts.get(part)).map_or(0, |found| found.strings);
    if moves.lacks_strings && guarded.parts.values().any(|found| found.strings_used > 0) {
        return Err(FileError::corrupt("falta la parte de textos que el libro nombra"));
    }
    let is_odd = |found: &Found| found.is_odd || found.strings_used > strings;
    if !guarded.parts.values().any(is_odd) && moves.parts.is_empty() {
        return Ok(None);
    }
    let mut writer = ZipWriter::new(BufWriter::new(tempfile::tempfile_in(scratch)?));
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(zip_error)?;
        let name = part.name().map_err(zip_error)?.replace('\\', "/");
        if !(name.ends_with(".xml") || name.ends_with(".rels")) {
            continue;
        }
        let must_mend = guarded.parts.get(&name).is_some_and(is_odd);
        let Some(name) = moves.target(&name) else { continue };
        if !must_mend {
            writer.raw_copy_file_rename(part, name).map_err(zip_error)?;
            continue;
        }
        drop(part);
        let part = archive.by_index(index).map_err(zip_error)?;
        writer
            .start_file(name, SimpleFileOptions::default().compression_level(Some(1)))
            .map_err(zip_error)?;
        Sheet { reader: xml(BufReader::new(part)), writer: Writer::new(&mut writer), strings }.mend()?;
    }
    let mut file = writer.finish().map_err(zip_error)?.into_inner().map_err(|error| error.into_error())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Some(file))
}

type Archive<'gate> = ZipArchive<BufReader<Gated<'gate>>>;

/// Parts that the workbook's relations name and that stand elsewhere than calamine looks.
#[derive(Debug, Default)]
struct Moves {
    /// From where to where.
    parts: Vec<(String, String)>,
    /// The part with the table of strings, by its name in the archive.
    strings: Option<String>,
    /// Whether the relations name such a part and the archive hasn't it.
    lacks_strings: bool,
}

impl Moves {
    fn of(archive: &mut Archive<'_>) -> Result<Self, FileError> {
        let root = relations(archive, "_rels/.rels")?;
        let Some((_, workbook)) = root.into_iter().find(|(kind, _)| kind.ends_with("/officeDocument")) else {
            return Ok(Self::default());
        };
        let workbook = resolve("", &workbook);
        let (dir, file) =
            workbook.rsplit_once('/').map_or(("", workbook.as_str()), |(dir, file)| (dir, file));
        let within = |name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
        let relations = relations(archive, &within(&format!("_rels/{file}.rels")))?;
        let mut moves = Self::default();
        for (kind, fixed) in FIXED {
            let usual = within(fixed);
            let named = relations.iter().find(|(named, _)| named.ends_with(kind));
            let named = named.map(|(_, target)| resolve(dir, target));
            let is_named = named.is_some();
            let wanted = named.unwrap_or_else(|| usual.clone());
            let part = find(archive, &wanted)?.map(|(_, name)| name);
            if fixed == FIXED[0].1 {
                moves.strings.clone_from(&part);
                moves.lacks_strings = is_named && part.is_none();
            }
            if !wanted.eq_ignore_ascii_case(&usual) {
                moves.parts.push((part.unwrap_or_default(), usual));
            }
        }
        Ok(moves)
    }

    /// What a part is called in the mended file; none where it must not be there.
    fn target<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.parts.iter().find(|(from, to)| from == name || to.eq_ignore_ascii_case(name)) {
            Some((from, to)) if from == name => Some(to),
            Some(_) => None,
            None => Some(name),
        }
    }
}

/// The index and the name of a part, in whatever letters.
fn find(archive: &Archive<'_>, wanted: &str) -> Result<Option<(usize, String)>, FileError> {
    for (index, name) in archive.file_names().enumerate() {
        let name = name.map_err(zip_error)?.replace('\\', "/");
        if name.eq_ignore_ascii_case(wanted) {
            return Ok(Some((index, name)));
        }
    }
    Ok(None)
}

/// The types and targets of a part of relations; none where there is no such part.
fn relations(archive: &mut Archive<'_>, name: &str) -> Result<Vec<(String, String)>, FileError> {
    let Some((index, _)) = find(archive, name)? else { return Ok(Vec::new()) };
    let mut reader = xml(BufReader::new(archive.by_index(index).map_err(zip_error)?));
    let mut buffer = Vec::new();
    let mut found = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(unreadable)? {
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == "Relationship" => {
                if let (Some(kind), Some(target)) = (attribute(&tag, "Type")?, attribute(&tag, "Target")?) {
                    found.push((kind, target));
                }
            }
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

/// A target from the folder that it counts from, as a name in the archive.
fn resolve(dir: &str, target: &str) -> String {
    let target = target.replace('\\', "/");
    let base = if target.starts_with('/') { "" } else { dir };
    let mut path: Vec<&str> = Vec::new();
    for step in base.split('/').chain(target.split('/')) {
        match step {
            "" | "." => {}
            ".." => _ = path.pop(),
            step => path.push(step),
        }
    }
    path.join("/")
}

/// A sheet on its way from one file to the other.
struct Sheet<R, W: Write> {
    reader: Reader<R>,
    writer: Writer<W>,
    /// How many texts there are.
    strings: u64,
}

/// What a cell holds.
#[derive(Debug, Default)]
struct Content {
    value: Option<String>,
    has_formula: bool,
    /// Its inline text, as XML.
    inline: Vec<u8>,
}

impl<R: BufRead, W: Write> Sheet<R, W> {
    fn mend(mut self) -> Result<(), FileError> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            match self.reader.read_event_into(&mut buffer).map_err(unreadable)? {
                // The extent is advice, and wrong in these files more often than not.
                Event::Empty(tag) if tag.local_name().as_ref() == "dimension" => {}
                Event::Start(tag) if tag.local_name().as_ref() == "dimension" => {
                    let name = tag.name().as_ref().to_owned();
                    self.skip(&name)?;
                }
                Event::Start(tag) if tag.local_name().as_ref() == "c" => {
                    let tag = tag.into_owned();
                    let content = self.content()?;
                    self.cell(&tag, content)?;
                }
                Event::Eof => return Ok(()),
                other => self.writer.write_event(other)?,
            }
        }
    }

    /// Passes over an element that has begun.
    fn skip(&mut self, name: &str) -> Result<(), FileError> {
        let mut buffer = Vec::new();
        self.reader.read_to_end_into(quick_xml::name::QName(name), &mut buffer).map_err(unreadable)?;
        Ok(())
    }

    /// Reads up to the end of a cell.
    fn content(&mut self) -> Result<Content, FileError> {
        let mut buffer = Vec::new();
        let mut content = Content::default();
        loop {
            buffer.clear();
            match self.reader.read_event_into(&mut buffer).map_err(unreadable)? {
                Event::Empty(tag) if tag.local_name().as_ref() == "f" => content.has_formula = true,
                Event::Empty(tag) if tag.local_name().as_ref() == "v" => {
                    content.value.get_or_insert_default();
                }
                Event::Start(tag) => {
                    let name = tag.name().as_ref().to_owned();
                    match tag.local_name().as_ref() {
                        "v" => {
                            let value = self.value(&name)?;
                            content.value.get_or_insert_default().push_str(&value);
                        }
                        "is" => content.inline = self.inline(&tag.into_owned())?,
                        kind => {
                            content.has_formula |= kind == "f";
                            self.skip(&name)?;
                        }
                    }
                }
                Event::End(tag) if tag.local_name().as_ref() == "c" => return Ok(content),
                Event::Eof => return Err(FileError::corrupt("una celda no termina")),
                _ => {}
            }
        }
    }

    fn value(&mut self, name: &str) -> Result<String, FileError> {
        let mut buffer = Vec::new();
        let mut value = String::new();
        loop {
            buffer.clear();
            match self.reader.read_event_into(&mut buffer).map_err(unreadable)? {
                Event::Text(text) => value.push_str(&text.xml10_content()),
                Event::CData(text) => value.push_str(&text.xml10_content()),
                Event::GeneralRef(entity) => match resolve_xml_entity(entity.as_ref()) {
                    Some(text) => value.push_str(text),
                    None => value.extend(entity.resolve_char_ref().map_err(unreadable)?),
                },
                Event::End(tag) if tag.name().as_ref() == name => return Ok(value),
                Event::Eof => return Err(FileError::corrupt("un valor no termina")),
                _ => {}
            }
        }
    }

    fn inline(&mut self, start: &BytesStart<'_>) -> Result<Vec<u8>, FileError> {
        let mut inline = Writer::new(Vec::new());
        inline.write_event(Event::Start(start.borrow()))?;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let event = self.reader.read_event_into(&mut buffer).map_err(unreadable)?;
            let is_end = matches!(&event, Event::End(tag) if tag.name() == start.name());
            if matches!(event, Event::Eof) {
                return Err(FileError::corrupt("un texto no termina"));
            }
            inline.write_event(event)?;
            if is_end {
                return Ok(inline.into_inner());
            }
        }
    }

    /// Writes a cell with the value that calamine is to find.
    fn cell(&mut self, tag: &BytesStart<'_>, content: Content) -> Result<(), FileError> {
        let kind = attribute(tag, "t")?;
        let name = tag.name();
        let mut cell = BytesStart::new(name.as_ref());
        for kept in ["r", "s"] {
            if let Some(value) = attribute(tag, kept)? {
                cell.push_attribute((kept, value.as_str()));
            }
        }
        let end = BytesEnd::new(name.as_ref());
        if !content.inline.is_empty() {
            cell.push_attribute(("t", "inlineStr"));
            self.writer.write_event(Event::Start(cell.borrow()))?;
            self.writer.get_mut().write_all(&content.inline)?;
            return Ok(self.writer.write_event(Event::End(end))?);
        }
        let Some((kind, value)) = self.decide(kind.as_deref(), &content) else {
            return Ok(self.writer.write_event(Event::Empty(cell))?);
        };
        if let Some(kind) = kind {
            cell.push_attribute(("t", kind));
        }
        self.writer.write_event(Event::Start(cell.borrow()))?;
        self.writer.write_event(Event::Start(BytesStart::new("v")))?;
        self.writer.write_event(Event::Text(BytesText::new(value)))?;
        self.writer.write_event(Event::End(BytesEnd::new("v")))?;
        Ok(self.writer.write_event(Event::End(end))?)
    }

    /// A cell's type and value as calamine takes them; none for an empty cell.
    fn decide<'a>(
        &self,
        kind: Option<&str>,
        content: &'a Content,
    ) -> Option<(Option<&'static str>, &'a str)> {
        const TEXT: Option<&str> = Some("str");
        // A formula may well have an empty text for its value.
        if kind == TEXT
            && let Some(text) = &content.value
        {
            return Some((TEXT, text));
        }
        let written = content.value.as_deref().unwrap_or_default();
        // Numbers and names of values may have blanks around them: XML Schema collapses those.
        let value = written.trim_matches([' ', '\t', '\n', '\r']);
        if value.is_empty() {
            return content.has_formula.then_some((Some("e"), NOT_COMPUTED));
        }
        Some(match kind {
            None | Some("n") if value.parse::<f64>().is_ok() => (None, value),
            Some("s") => match value.parse::<u64>() {
                Ok(index) if index < self.strings => (Some("s"), value),
                _ => (TEXT, LOST_TEXT),
            },
            Some("b") if matches!(value, "0" | "1" | "true" | "false") => (Some("b"), value),
            Some("e") if KNOWN_ERRORS.contains(&value) => (Some("e"), value),
            // The rules know every error by its form; what hasn't that is one all the same.
            Some("e") if is_error(value) => (TEXT, value),
            Some("e") => (TEXT, "#ERROR!"),
            Some("d") => (Some("d"), value),
            _ => (TEXT, written),
        })
    }
}

/// The error by which a mended cell says that its formula has no value. A file's own `#NULL!` becomes a text,
/// as all errors do that calamine doesn't know, so that the two can't be taken for each other.
const NOT_COMPUTED: &str = "#NULL!";

/// With calamine's settings, so that both see the same elements.
fn xml<R: BufRead>(source: R) -> Reader<R> {
    let mut reader = Reader::from_reader(source);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.trim_text(false);
    config.check_comments = false;
    reader
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, FileError> {
    for attribute in tag.attributes().with_checks(false) {
        let attribute = attribute.map_err(unreadable)?;
        if attribute.key.as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(unreadable)?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

fn unreadable(error: impl std::fmt::Display) -> FileError {
    FileError::unreadable(&error, "una hoja no se puede interpretar")
}
