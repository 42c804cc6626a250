//! What is checked of a workbook before anything parses it. The order matters: each check makes the next
//! one safe, and all of them come before the first row is written anywhere.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

use memchr::memmem::Finder;
use zip::{ZipArchive, result::ZipError};

use super::{
    FileError, Limits,
    gate::{Gate, Gated},
    scan::{Found, Scan},
};

const BUFFER: usize = 64 * 1024;
const MB: u64 = 1024 * 1024;

/// Parts that may be large and that nothing here reads, by the start of their names. No workbook's list of
/// relations may say that one of them is the workbook itself, which calamine holds in memory.
const UNREAD: [&str; 8] =
    ["calcchain", "chart", "comments", "drawing", "externallink", "pivotcache", "table", "threadedcomment"];

/// What the guard learnt.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// What each sheet and each table of strings holds.
    pub parts: HashMap<String, Found>,
}

impl Guarded {
    fn with(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }
}

/// Refuses what is no zip archive, what inflates beyond its bounds, and what would make a parser hold more
/// than its bounds at once. Meanwhile `open` may read, and gets what is cleared so far; the whole is cleared
/// when this function gives what came of that.
pub(super) fn inspect<'gate, T>(
    gate: &'gate Gate,
    limits: &Limits,
    open: impl FnOnce(Gated<'gate>) -> Result<T, FileError>,
) -> Result<(Guarded, Result<T, FileError>), FileError> {
    let size = gate.guard().seek(SeekFrom::End(0))?;
    let whole = Whole { size, inflated: AtomicU64::new(0), next: AtomicUsize::new(0) };
    let guard = || {
        // A panic must not leave anybody waiting.
        let inspected = catch_unwind(AssertUnwindSafe(|| inspect_parts(gate, &whole, limits)));
        let inspected = inspected.unwrap_or_else(|_| Err(FileError::corrupt("contenido inesperado")));
        if inspected.is_err() {
            gate.refuse();
        }
        inspected
    };
    // Two, because most of a workbook is one sheet and one table of strings.
    let (opened, guarded) = thread::scope(|scope| {
        let guards = [scope.spawn(guard), scope.spawn(guard)];
        let opened = open(gate.reader());
        let mut guarded: Result<_, FileError> = Ok(Guarded::default());
        for guard in guards {
            let inspected = guard.join().unwrap_or_else(|panic| resume_unwind(panic));
            guarded = guarded.and_then(|all| Ok(all.with(inspected?)));
        }
        (opened, guarded)
    });
    // What the guards say comes first: what was refused can't be opened either.
    Ok((guarded?, opened))
}

/// The file, with all its parts closed.
///
/// # Errors
/// What is no zip archive, or one of too many parts.
pub(super) fn close(mut file: File, limits: &Limits) -> Result<Gate, FileError> {
    let mut magic = [0; 4];
    let known = file.read(&mut magic)?;
    match &magic[..known] {
        b"PK\x03\x04" => {}
        [0xd0, 0xcf, 0x11, 0xe0] => return Err(FileError::OldOrProtected),
        _ => return Err(FileError::NotXlsx),
    }
    count_parts(&mut file, &mut vec![0; BUFFER], limits)?;
    file.seek(SeekFrom::Start(0))?;
    let mut archive = ZipArchive::new(BufReader::new(&file)).map_err(zip_error)?;
    let mut parts = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(zip_error)?;
        let data = part.data_start().ok_or_else(|| FileError::corrupt("una parte no tiene contenido"))?;
        parts.push(part.header_start()..data.saturating_add(part.compressed_size()));
    }
    drop(archive);
    Ok(Gate::new(file, parts))
}

/// What the threads that inspect a file share.
struct Whole {
    size: u64,
    /// Bytes inflated so far. Parts that share their compressed bytes are inflated each, so the sum is measured
    /// against the file as well.
    inflated: AtomicU64,
    /// How many parts were taken.
    next: AtomicUsize,
}

/// Inspects parts until none is left.
fn inspect_parts(gate: &Gate, whole: &Whole, limits: &Limits) -> Result<Guarded, FileError> {
    let mut buffer = vec![0; BUFFER];
    let mut archive = ZipArchive::new(BufReader::new(gate.guard())).map_err(zip_error)?;
    let mut guarded = Guarded::default();
    loop {
        // From the last to the first: writers put sheets and strings, which take longest, behind the small ones.
        let taken = whole.next.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(index) = archive.len().checked_sub(taken) else { return Ok(guarded) };
        let part = archive.by_index(index).map_err(zip_error)?;
        let name = part.name().map_err(zip_error)?.replace('\\', "/");
        let compressed = part.compressed_size();
        let mut part = Counted { part, bytes: 0, compressed, whole, limits };
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".xml") || lower.ends_with(".rels") {
            let found = xml_part(&mut part, &lower, &mut buffer, limits)?;
            if found.is_large_kind {
                guarded.parts.insert(name, found);
            }
        } else {
            other_part(&mut part, &mut buffer)?;
        }
        gate.clear(index);
    }
}

/// Refuses an archive of too many parts before anything makes a list of them: two million fit in 100 MB, and
/// take ten times that in memory. Each part has a header in the directory, wherever the archive says that its
/// directory is. The bytes of parts hold a few of what looks like one, if any: archives inside the archive.
fn count_parts(file: &mut File, buffer: &mut [u8], limits: &Limits) -> Result<(), FileError> {
    let header = Finder::new(b"PK\x01\x02");
    let mut parts = 0;
    let mut kept = 0;
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(());
        }
        let end = kept + read;
        parts += header.find_iter(&buffer[..end]).count();
        if parts > limits.max_parts {
            return Err(FileError::hostile(format!("más de {} partes", limits.max_parts)));
        }
        // The rest is too short to be found twice.
        kept = end.min(header.needle().len() - 1);
        buffer.copy_within(end - kept..end, 0);
    }
}

fn xml_part<R: Read>(
    part: &mut Counted<'_, R>,
    lower: &str,
    buffer: &mut [u8],
    limits: &Limits,
) -> Result<Found, FileError> {
    let base = lower.rsplit('/').next().unwrap_or(lower);
    let is_unread = UNREAD.iter().any(|unread| base.starts_with(unread)) || lower.starts_with("customxml/");
    let mut scan = Scan::new(limits);
    let mut head = Vec::new();
    loop {
        let read = part.read(buffer)?;
        if read == 0 {
            break;
        }
        if lower == "_rels/.rels" && head.len() < BUFFER {
            head.extend_from_slice(&buffer[..read].to_ascii_lowercase());
        }
        scan.feed(&buffer[..read])?;
    }
    let found = scan.finish()?;
    if !found.is_large_kind && !is_unread && part.bytes > limits.max_small_part_bytes {
        let max = limits.max_small_part_bytes / MB;
        return Err(FileError::hostile(format!("{base} supera {max} MB")));
    }
    if UNREAD.iter().any(|unread| memchr::memmem::find(&head, unread.as_bytes()).is_some()) {
        return Err(FileError::hostile("relaciones engañosas"));
    }
    Ok(found)
}

/// Images and the like: counted. None of them may be a sheet under another name.
fn other_part<R: Read>(part: &mut Counted<'_, R>, buffer: &mut [u8]) -> Result<(), FileError> {
    let sheet = Finder::new("sheetData");
    let overlap = "sheetData".len() - 1;
    let mut kept = 0;
    loop {
        let read = part.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(());
        }
        let end = kept + read;
        if sheet.find(&buffer[..end]).is_some() {
            return Err(FileError::hostile("una hoja con nombre engañoso"));
        }
        kept = end.min(overlap);
        buffer.copy_within(end - kept..end, 0);
    }
}

/// A part that stops where it exceeds what it may inflate to. Declared sizes aren't believed.
struct Counted<'a, R> {
    part: R,
    bytes: u64,
    compressed: u64,
    whole: &'a Whole,
    limits: &'a Limits,
}

impl<R: Read> Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        // The bytes come from a local file that was read before: what fails is the inflating.
        let read = self
            .part
            .read(buffer)
            .map_err(|error| FileError::unreadable(&error, "una de sus partes no se puede descomprimir"))?;
        self.bytes += read as u64;
        let total = self.whole.inflated.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        if total > self.limits.max_inflated_bytes {
            let max = self.limits.max_inflated_bytes / MB;
            return Err(FileError::hostile(format!("se descomprime a más de {max} MB")));
        }
        let exceeds = |bytes: u64, packed: u64| {
            bytes > Limits::RATIO_FLOOR && bytes / packed.max(1) > self.limits.max_ratio
        };
        if exceeds(self.bytes, self.compressed) || exceeds(total, self.whole.size) {
            return Err(FileError::hostile(format!("se descomprime más de {} veces", self.limits.max_ratio)));
        }
        Ok(read)
    }
}

pub(super) fn zip_error(error: ZipError) -> FileError {
    match error {
        ZipError::Io(error) if error.kind() == io::ErrorKind::Other => FileError::Io(error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => FileError::OldOrProtected,
        ZipError::FileNotFound => FileError::NotXlsx,
        _ => FileError::unreadable(&error, "el contenedor zip está cortado o alterado"),
    }
}
