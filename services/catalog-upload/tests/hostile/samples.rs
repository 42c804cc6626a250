//! Files that gave wrong data in products like this one, and what each must give; beside each, others of its
//! kind. `tests/cases` holds those that were found. Read and ruled upon as the worker does it.

use std::{collections::BTreeSet, io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use catalog_upload::{
    domain::{Claims, Column, ImportContext, Outcome, ProductRow, RowError, classify, validate},
    files::{FileKind, Limits, annotate::annotate, open},
};

use crate::made::*;

mod texts;
mod workbooks;

/// A file, and what it must give.
struct Sample {
    name: &'static str,
    kind: FileKind,
    bytes: Vec<u8>,
    /// Each row that becomes a product, and what one of its columns then has.
    created: &'static [(u32, Column, &'static str)],
    /// Each row that doesn't: the code, and a word of the reason.
    rejected: &'static [(u32, &'static str, &'static str)],
    /// Each row that is warned of, once.
    warned: &'static [(u32, &'static str)],
}

#[test]
fn each_gives_what_it_must() -> Result<()> {
    let mut wrong = Vec::new();
    let samples: Vec<Sample> = workbooks::all()?.into_iter().chain(texts::all()).collect();
    for sample in &samples {
        if let Err(error) = check(sample) {
            wrong.push(format!("{}: {error:#}", sample.name));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), samples.len(), wrong.join("\n"));
    Ok(())
}

/// Somebody mends some rows of the workbook that we gave back and leaves the others as they are.
#[test]
fn what_is_refused_is_refused_again_from_the_annotated_copy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (source, copy) = (dir.path().join("source"), dir.path().join("copy.xlsx"));
    let mut wrong = Vec::new();
    for sample in workbooks::all()?.into_iter().chain(texts::all()) {
        std::fs::write(&source, &sample.bytes)?;
        annotate(&source, sample.kind, None, &Limits::default(), std::iter::empty(), &copy)
            .with_context(|| sample.name)?;
        let rows = |path: &Path, kind| -> Result<BTreeSet<u32>> {
            Ok(ruled(path, kind)
                .with_context(|| sample.name)?
                .rejected
                .iter()
                .map(|error| error.row)
                .collect())
        };
        let (first, again) = (rows(&source, sample.kind)?, rows(&copy, FileKind::Xlsx)?);
        if !first.is_subset(&again) {
            wrong.push(format!("{}: {first:?} are refused, and then {again:?}", sample.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What became of the rows of a file.
struct Ruled {
    created: Vec<ProductRow>,
    rejected: Vec<RowError>,
    warned: Vec<(u32, &'static str)>,
}

fn ruled(path: &Path, kind: FileKind) -> Result<Ruled> {
    let mut reader = open(path, kind, &Limits::default())?;
    let (mut valid, mut rejected, mut warned) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(rows) = reader.next_batch(1_000)? {
        for row in rows {
            match validate(row) {
                Ok(checked) => {
                    warned.extend(checked.warnings.iter().map(|warning| (warning.row, warning.code)));
                    valid.push(checked.row);
                }
                Err(error) => rejected.push(error),
            }
        }
    }
    let context = ImportContext { proveedor_id: "PROV001", replace: false };
    let mut created = Vec::new();
    let decisions = classify(&valid, &[], &Claims::nothing(0), context);
    for (decision, row) in decisions.into_iter().zip(valid) {
        match decision.outcome {
            Outcome::Reject(error) => rejected.push(error),
            _ => created.push(row),
        }
    }
    rejected.sort_by_key(|error| error.row);
    Ok(Ruled { created, rejected, warned })
}

fn check(sample: &Sample) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&sample.bytes)?;
    let Ruled { created, rejected, warned } = ruled(file.path(), sample.kind)?;
    let found: Vec<_> = created.iter().map(|row| row.row).collect();
    let expected: Vec<_> = sample.created.iter().map(|(row, ..)| *row).collect();
    ensure!(
        found == expected,
        "rows {found:?} become products, expected {expected:?}; rejected: {rejected:?}"
    );
    for (row, (_, column, text)) in created.iter().zip(sample.created) {
        let value = value(row, *column).context("a column of texts")?;
        ensure!(value == *text, "row {}: {} is {value:?}, expected {text:?}", row.row, column.name());
    }
    let found: Vec<_> = rejected.iter().map(|error| (error.row, error.code)).collect();
    let expected: Vec<_> = sample.rejected.iter().map(|(row, code, _)| (*row, *code)).collect();
    ensure!(found == expected, "rejected {found:?}, expected {expected:?}");
    for (error, (row, _, word)) in rejected.iter().zip(sample.rejected) {
        ensure!(error.message.contains(word), "row {row}: {:?} lacks {word:?}", error.message);
    }
    ensure!(warned == sample.warned, "warned {warned:?}, expected {:?}", sample.warned);
    Ok(())
}

fn value(row: &ProductRow, column: Column) -> Option<String> {
    Some(match column {
        Column::Id => row.id.clone(),
        Column::Nombre => row.nombre.clone(),
        Column::Codigo => row.codigo.clone(),
        Column::PrecioUnitario => row.precio_unitario.to_string(),
        Column::RequiereLote => row.requiere_lote.to_string(),
        Column::StockMinimo => row.stock_minimo.to_string(),
        _ => return None,
    })
}

fn xlsx_of(name: &'static str, bytes: impl Into<Vec<u8>>) -> Sample {
    Sample { name, kind: FileKind::Xlsx, bytes: bytes.into(), created: &[], rejected: &[], warned: &[] }
}

fn csv_of(name: &'static str, bytes: impl Into<Vec<u8>>) -> Sample {
    Sample { kind: FileKind::Csv, ..xlsx_of(name, bytes) }
}

/// The good row as XML, with other cells in the place of some of its own.
fn row_with(number: u32, id: &str, cells: &[(char, &str)]) -> String {
    let mut row = raw_row(number, &good(id));
    for (letter, cell) in cells {
        let start = row.find(&format!(r#"<c r="{letter}{number}""#)).unwrap_or_default();
        let end = row[start..].find("</c>").map_or(start, |end| start + end + "</c>".len());
        row.replace_range(start..end, &cell.replace("{at}", &format!("{letter}{number}")));
    }
    row
}

fn book(rows: &[String], strings: Option<&str>) -> Result<Vec<u8>> {
    raw_xlsx(&raw_sheet(&[&[raw_header()], rows].concat()), strings)
}

/// A book whose parts are changed on the way.
fn changed(
    rows: &[String],
    strings: Option<&str>,
    change: impl Fn(&mut Vec<(String, String)>),
) -> Result<Vec<u8>> {
    let parts = raw_parts(&raw_sheet(&[&[raw_header()], rows].concat()), strings);
    let mut parts: Vec<_> = parts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    change(&mut parts);
    zip_of(&parts.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect::<Vec<_>>())
}

/// Names the part with the texts in the workbook's relations.
fn relate_strings(parts: &mut [(String, String)], target: &str) {
    let relation = format!(
        r#"<Relationship Id="rId9" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" Target="{target}"/></Relationships>"#
    );
    for (name, text) in parts {
        if name == "xl/_rels/workbook.xml.rels" {
            *text = text.replace("</Relationships>", &relation);
        }
    }
}

const AMOXICILINA: &str = "Amoxicilina 500 mg";
