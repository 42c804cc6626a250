//! What the targets share: the rules and the file readers of catalog-upload, compiled for themselves. They
//! name nothing else of the service, so that fuzzing them needs none of its web, database and cloud crates,
//! which would take minutes to instrument.

pub mod corpus;
#[path = "../../services/catalog-upload/src/domain/mod.rs"]
pub mod domain;
#[path = "../../services/catalog-upload/src/files/mod.rs"]
pub mod files;
#[path = "../../services/catalog-upload/src/files/made.rs"]
pub mod made;

use std::{cell::RefCell, io::Write};

use domain::validate;
use files::{FileError, FileKind, Keep, Limits, open_keeping};

thread_local! {
    static SCRATCH: RefCell<Option<tempfile::NamedTempFile>> = const { RefCell::new(None) };
}

/// Small enough that no input takes long, and that limits are met.
fn limits() -> Limits {
    Limits {
        max_bytes: 1 << 20,
        max_rows: 10_000,
        max_columns: 200,
        max_cell_chars: 1_000,
        max_token_bytes: 16 * 1024,
        max_parts: 50,
        max_inflated_bytes: 8 << 20,
        max_ratio: 100,
        max_shared_strings_bytes: 1 << 20,
        max_small_part_bytes: 256 * 1024,
    }
}

/// Reads a file to its end, for an import and for a copy, and checks what must hold of any. A panic of the
/// reader's thread ends the process: libFuzzer's hook runs before the reader would turn it into an error.
///
/// # Panics
/// Where something does not hold.
pub fn read_all(bytes: &[u8], kind: FileKind) {
    SCRATCH.with_borrow_mut(|scratch| {
        // Opening a file a run would cost more than most runs.
        let mut file = scratch.take().unwrap_or_else(|| {
            let dir = if std::path::Path::new("/dev/shm").is_dir() {
                "/dev/shm".into()
            } else {
                std::env::temp_dir()
            };
            tempfile::NamedTempFile::new_in(dir).expect("a scratch file")
        });
        file.as_file().set_len(0).expect("an emptied scratch file");
        std::io::Seek::rewind(&mut file).expect("a scratch file's start");
        file.write_all(bytes).expect("a written scratch file");

        let import = rows(&file, kind, Keep::Template, 1_000);
        let copy = rows(&file, kind, Keep::Everything, 3);
        // A copy holds all that an import reads, however small the steps.
        if let (Ok(import), Ok(copy)) = (&import, &copy) {
            assert!(import.iter().all(|number| copy.binary_search(number).is_ok()), "a copy lacks rows");
        }
        assert!(import.is_err() || copy.is_ok(), "{copy:?}");
        *scratch = Some(file);
    });
}

/// The numbers of the rows.
fn rows(
    file: &tempfile::NamedTempFile,
    kind: FileKind,
    keep: Keep,
    batch: usize,
) -> Result<Vec<u32>, FileError> {
    let limits = limits();
    let mut reader = open_keeping(file.path(), kind, &limits, keep)?;
    let mut numbers = Vec::new();
    while let Some(rows) = reader.next_batch(batch)? {
        assert!((1..=batch).contains(&rows.len()));
        for row in rows {
            assert!(!row.is_empty() && row.number <= limits.max_rows, "{row:?}");
            assert!(numbers.last().is_none_or(|last| *last < row.number), "row numbers don't rise");
            numbers.push(row.number);
            if let Err(error) = validate(row) {
                assert!(!error.message.is_empty());
            }
        }
    }
    assert_eq!(reader.total_hint(), Some(numbers.len() as u64));
    assert!(reader.ignored_columns().iter().all(|name| !name.contains(char::is_control)));
    Ok(numbers)
}
