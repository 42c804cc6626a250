//! What is checked of a workbook before anything parses it. The order matters: each check makes the next
//! one safe.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

use memchr::memmem::Finder;
use zip::{ZipArchive, result::ZipError};

use super::{FileError, Limits};

const BUFFER: usize = 64 * 1024;
/// Bytes of a chunk kept before the next one, so that what lies across their border is found.
const OVERLAP: usize = 16;
/// What calamine's table of strings costs for each of them besides its text: 24 bytes of `String` in a
/// vector that doubles, and the allocator's overhead.
const STRING_OVERHEAD: u64 = 24 * 2 + 24;

/// What the guard learnt.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// How many row elements each part has.
    pub rows: HashMap<String, u64>,
}

/// Refuses what is no zip archive, what inflates beyond its bounds, and what would make a parser reserve
/// memory for strings that aren't there.
pub(super) fn inspect(file: &mut File, limits: &Limits) -> Result<Guarded, FileError> {
    let mut magic = [0; 4];
    let known = file.read(&mut magic)?;
    match &magic[..known] {
        b"PK\x03\x04" => {}
        [0xd0, 0xcf, 0x11, 0xe0] => return Err(FileError::OldOrProtected),
        _ => return Err(FileError::NotXlsx),
    }
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(zip_error)?;
    if archive.len() > limits.max_parts {
        return Err(FileError::hostile(format!("más de {} partes", limits.max_parts)));
    }
    let mut guarded = Guarded::default();
    let mut scan = Scan::new();
    let mut inflated = 0;
    for index in 0..archive.len() {
        let mut part = archive.by_index(index).map_err(zip_error)?;
        let name = part.name().map_err(zip_error)?.into_owned();
        let found = scan.part(&mut part, &name, limits.max_inflated_bytes - inflated, limits)?;
        inflated += found.bytes;
        // Parts that share their bytes are inflated each, so the sum is measured against the file as well.
        if inflated > Limits::RATIO_FLOOR && inflated / size.max(1) > limits.max_ratio {
            return Err(FileError::hostile(format!("se descomprime más de {} veces", limits.max_ratio)));
        }
        if found.rows > 0 {
            guarded.rows.insert(name, found.rows);
        }
    }
    Ok(guarded)
}

pub(super) fn zip_error(error: ZipError) -> FileError {
    match error {
        ZipError::Io(error) if error.kind() == std::io::ErrorKind::Other => FileError::Io(error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => FileError::OldOrProtected,
        ZipError::FileNotFound => FileError::NotXlsx,
        other => FileError::corrupt(other.to_string()),
    }
}

/// What a part holds.
#[derive(Default)]
struct Found {
    bytes: u64,
    rows: u64,
    strings: u64,
    doctype: bool,
    zero: bool,
}

struct Scan {
    buffer: Vec<u8>,
    row: Finder<'static>,
    string: Finder<'static>,
    prefixed_string: Finder<'static>,
    doctype: Finder<'static>,
}

impl Scan {
    fn new() -> Self {
        Self {
            buffer: vec![0; OVERLAP + BUFFER],
            row: Finder::new("<row"),
            string: Finder::new("<si"),
            prefixed_string: Finder::new(":si"),
            doctype: Finder::new("<!DOCTYPE"),
        }
    }

    /// Inflates a part up to its limits, looking for what must not be there.
    fn part(
        &mut self,
        part: &mut zip::read::ZipFile<'_, BufReader<&mut File>>,
        name: &str,
        max_bytes: u64,
        limits: &Limits,
    ) -> Result<Found, FileError> {
        let compressed = part.compressed_size().max(1);
        let is_strings = name.to_ascii_lowercase().ends_with("sharedstrings.xml");
        let is_xml = name.ends_with(".xml") || name.ends_with(".rels");
        let mut found = Found::default();
        let mut head = Vec::new();
        let mut kept = 0;
        loop {
            let read = part
                .read(&mut self.buffer[kept..OVERLAP + BUFFER])
                .map_err(|error| FileError::corrupt(error.to_string()))?;
            if read == 0 {
                break;
            }
            found.bytes += read as u64;
            if found.bytes > max_bytes {
                let max = limits.max_inflated_bytes / (1024 * 1024);
                return Err(FileError::hostile(format!("se descomprime a más de {max} MB")));
            }
            if found.bytes > Limits::RATIO_FLOOR && found.bytes / compressed > limits.max_ratio {
                return Err(FileError::hostile(format!("se descomprime más de {} veces", limits.max_ratio)));
            }
            let chunk = &self.buffer[..kept + read];
            if is_xml {
                if head.len() < BUFFER {
                    head.extend_from_slice(&chunk[kept..]);
                }
                // A match that ends inside the overlap was counted with the chunk before.
                let new = |at: usize, length: usize| at + length > kept;
                found.zero |= memchr::memchr(0, chunk).is_some();
                found.doctype |= self.doctype.find(chunk).is_some();
                if is_strings {
                    found.strings += self.string.find_iter(chunk).filter(|at| new(*at, 3)).count() as u64;
                    found.strings +=
                        self.prefixed_string.find_iter(chunk).filter(|at| new(*at, 3)).count() as u64;
                    let memory = found.bytes + found.strings * STRING_OVERHEAD;
                    if memory > limits.max_shared_strings_bytes {
                        let max = limits.max_shared_strings_bytes / (1024 * 1024);
                        return Err(FileError::TooMuchText { detail: format!("más de {max} MB de textos") });
                    }
                } else {
                    found.rows += self.row.find_iter(chunk).filter(|at| new(*at, 4)).count() as u64;
                }
            }
            let end = kept + read;
            let keep = end.min(OVERLAP);
            self.buffer.copy_within(end - keep..end, 0);
            kept = keep;
        }
        if found.doctype {
            return Err(FileError::hostile("contiene un DOCTYPE"));
        }
        if found.zero {
            return Err(FileError::corrupt(format!("{name} no es XML en UTF-8")));
        }
        if is_strings {
            check_declared_strings(&head, found.bytes)?;
        }
        Ok(found)
    }
}

/// A table of strings must not declare more of them than it has bytes: room is reserved for so many.
fn check_declared_strings(head: &[u8], bytes: u64) -> Result<(), FileError> {
    let start = memchr::memmem::find(head, b"sst").ok_or_else(|| FileError::corrupt("textos sin tabla"))?;
    let tag = &head[start..];
    let tag = &tag[..memchr::memchr(b'>', tag).unwrap_or(tag.len())];
    let mut rest = tag;
    while let Some(at) = memchr::memmem::find(rest, b"ount") {
        rest = &rest[at + 4..];
        let digits: Vec<u8> = rest
            .iter()
            .copied()
            .skip_while(|byte| !byte.is_ascii_digit())
            .take_while(u8::is_ascii_digit)
            .collect();
        // `count` is how often they are used, `uniqueCount` how many there are: only this is reserved.
        let unique = memchr::memmem::rfind(&tag[..tag.len() - rest.len()], b"uniqueCount").is_some();
        let declared =
            str::from_utf8(&digits).ok().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(u64::MAX);
        if unique && declared > bytes {
            return Err(FileError::hostile("declara más textos de los que tiene"));
        }
    }
    Ok(())
}
