//! The same table against the reader and the rules alone: fast, and exact about what each finds.

use std::io::Write as _;

use anyhow::{Result, ensure};
use catalog_upload::{
    domain::{Claims, ImportContext, Outcome, classify, validate},
    files::{FileError, FileKind, Limits, open},
};

use crate::case::{Case, Expected};

#[test]
fn the_reader_finds_what_it_must() -> Result<()> {
    let cases = super::all("R")?;
    ensure!(cases.len() >= 40, "{} files", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        // Names and sizes are the API's matter.
        if matches!(case.expected, Expected::Refused(..)) {
            continue;
        }
        let found = found(case)?;
        if found != case.expected {
            wrong.push(format!("{}: {found:?}, expected {:?}", case.name, case.expected));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

fn found(case: &Case) -> Result<Expected> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&case.bytes)?;
    let found = FileKind::of(&case.filename).and_then(|kind| read(file.path(), kind));
    Ok(found.unwrap_or_else(|error| Expected::Failed(error.to_string())))
}

fn read(path: &std::path::Path, kind: FileKind) -> Result<Expected, FileError> {
    let mut reader = open(path, kind, &Limits::default())?;
    let mut valid = Vec::new();
    let mut rejected = Vec::new();
    while let Some(rows) = reader.next_batch(1_000)? {
        for row in rows {
            match validate(row) {
                Ok(checked) => valid.push(checked.row),
                Err(error) => rejected.push((u64::from(error.row), error.code.to_owned())),
            }
        }
    }
    let context = ImportContext { proveedor_id: "PROV001", replace: false };
    let mut created = 0;
    for decision in classify(&valid, &[], &Claims::nothing(0), context) {
        match decision.outcome {
            Outcome::Reject(error) => rejected.push((u64::from(error.row), error.code.to_owned())),
            _ => created += 1,
        }
    }
    rejected.sort_unstable();
    Ok(Expected::Completed { created, rejected })
}
