use std::{
    io::{Cursor, Read as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result, anyhow};
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};
use zip::ZipArchive;

use super::{
    FileError, FileKind, Keep, Limits,
    annotate::{AnnotateError, Annotated, Note, NoteKind, annotate},
    testing::{self, *},
};
use crate::domain::{Column, RawCell, validate};

fn note(row: u32, kind: NoteKind, column: Option<Column>, message: &str) -> Note {
    Note { row, kind, column, message: message.to_owned() }
}

/// The annotated workbook's bytes.
fn annotated(bytes: &[u8], kind: FileKind, notes: Vec<Note>) -> Result<(Vec<u8>, Annotated)> {
    let dir = tempfile::tempdir()?;
    let (source, target) = (dir.path().join("source"), dir.path().join("target.xlsx"));
    std::fs::write(&source, bytes)?;
    let done = annotate(&source, kind, None, &Limits::default(), notes.into_iter().map(Ok), &target)?;
    let written = std::fs::read(&target)?;
    assert_eq!(done.bytes, written.len() as u64);
    let left: Vec<PathBuf> = std::fs::read_dir(dir.path())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 2, "scratch files are gone: {left:?}");
    Ok((written, done))
}

fn reread(bytes: &[u8]) -> Result<testing::Read> {
    Ok(read_keeping(bytes, FileKind::Xlsx, &Limits::default(), Keep::Everything)??)
}

fn sheet_xml(bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    ZipArchive::new(Cursor::new(bytes))?.by_name("xl/worksheets/sheet1.xml")?.read_to_string(&mut text)?;
    Ok(text)
}

/// The style of a cell; none where it has none or there is no cell.
fn style<'a>(xml: &'a str, place: &str) -> Option<&'a str> {
    let (_, cell) = xml.split_once(&format!(r#"<c r="{place}""#))?;
    let (attributes, _) = cell.split_once('>')?;
    attributes.split_once(r#"s=""#)?.1.split('"').next()
}

#[test]
fn rows_keep_their_numbers_values_and_columns() -> Result<()> {
    let date = Format::new().set_num_format("yyyy-mm-dd");
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet().set_name("Productos 2025")?;
    sheet.write_string(0, 0, "Catálogo")?;
    write_header(sheet, 2)?;
    sheet.write_string(2, 14, "Vigencia")?.write_string(2, 15, "=peligro()")?;
    for row in [4, 5, 9] {
        write_row(sheet, row)?;
    }
    sheet.write_string(4, 0, "007")?.write_string(4, 1, "=HYPERLINK(\"x\")")?.write_string(4, 2, "-5")?;
    sheet.write_number(4, 5, 1234.5)?.write_boolean(4, 11, true)?;
    sheet.write_datetime_with_format(4, 14, ExcelDateTime::from_ymd(2025, 3, 1)?, &date)?;
    sheet.write_number(5, 15, 0.1)?.write_string(5, 16, "fuera del encabezado")?;
    let notes = vec![
        note(3, NoteKind::Error, None, "de una fila que no hay"),
        note(6, NoteKind::Error, Some(Column::PrecioUnitario), "precio_unitario: no es un número"),
        note(6, NoteKind::Error, None, "otro"),
        note(10, NoteKind::Warning, Some(Column::Codigo), "codigo: revise"),
        note(90, NoteKind::Error, None, "de una fila que no hay"),
    ];
    let (bytes, done) = annotated(&workbook.save_to_buffer()?, FileKind::Xlsx, notes)?;
    assert_eq!((done.rows, done.marked), (3, 2));

    let read = reread(&bytes)?;
    assert_eq!((read.sheet.as_deref(), numbers(&read)), (Some("Productos 2025"), vec![5, 6, 10]));
    let header = read.header.as_ref().context("a header")?;
    let names: Vec<&str> = header.cells[13..].iter().map(|cell| cell.text.as_str()).collect();
    assert_eq!((header.row, names), (3, vec!["Vigencia", "=peligro()", "errores", "advertencias"]));
    let text = |text: &str| RawCell::Text(text.to_owned());
    let first = &read.rows[0];
    assert_eq!(first.cell(Column::Id), &text("007"));
    assert_eq!(first.cell(Column::Nombre), &text("=HYPERLINK(\"x\")"));
    assert_eq!(first.cell(Column::Codigo), &text("-5"));
    assert_eq!(first.cell(Column::PrecioUnitario), &RawCell::Number(1234.5));
    assert_eq!(first.cell(Column::RequiereLote), &RawCell::Bool(true));
    assert_eq!(first.others, [(14, RawCell::DateTime("2025-03-01T00:00:00".to_owned()))]);
    assert_eq!(
        read.rows[1].others,
        [(15, RawCell::Number(0.1)), (16, text("precio_unitario: no es un número; otro"))]
    );
    assert_eq!(read.rows[2].others, [(17, text("codigo: revise"))]);
    assert!(!sheet_xml(&bytes)?.contains("<f>"), "no text has become a formula");
    Ok(())
}

#[test]
fn what_is_wrong_is_marked() -> Result<()> {
    let source = xlsx(|sheet| {
        write_header(sheet, 0)?;
        (1..=4).try_for_each(|row| write_row(sheet, row))
    })?;
    let notes = vec![
        note(2, NoteKind::Error, Some(Column::Presentacion), "mal"),
        note(3, NoteKind::Warning, Some(Column::Codigo), "ojo"),
        note(4, NoteKind::Warning, Some(Column::Codigo), "ojo"),
        note(4, NoteKind::Error, Some(Column::Codigo), "mal"),
    ];
    let (bytes, _) = annotated(&source, FileKind::Xlsx, notes)?;
    let xml = sheet_xml(&bytes)?;
    let (error_row, error_cell) = (style(&xml, "B2"), style(&xml, "E2"));
    let (warning_row, warning_code) = (style(&xml, "B3"), style(&xml, "C3"));
    assert_eq!(style(&xml, "B5"), None, "a good row is plain");
    let mut styles = vec![error_row, error_cell, warning_row, warning_code, style(&xml, "A5")];
    assert!(styles.iter().all(Option::is_some), "{styles:?}");
    styles.sort_unstable();
    styles.dedup();
    assert_eq!(styles.len(), 5, "each is marked in its own way");
    assert_eq!(style(&xml, "D4"), error_row, "the worse of two decides over the row");
    assert_ne!(style(&xml, "C4"), warning_code);
    for part in [r#"<autoFilter ref="A1:O5"/>"#, r#"state="frozen""#, r#"<c r="E2""#] {
        assert!(xml.contains(part), "{part}");
    }
    Ok(())
}

#[test]
fn a_copy_refuses_what_its_original_refuses() -> Result<()> {
    let date = Format::new().set_num_format("d-mmm");
    let source = xlsx(|sheet| {
        write_header(sheet, 0)?;
        (1..=3).try_for_each(|row| write_row(sheet, row))?;
        // What Excel makes of the code 1-5.
        sheet.write_datetime_with_format(1, 2, ExcelDateTime::from_ymd(2026, 5, 1)?, &date)?;
        // Text, as we write a text that begins like a formula.
        sheet.write_string(2, 2, "'=\"0044\"")?.write_string(3, 1, "''=a")?;
        Ok(())
    })?;
    let (copy, _) = annotated(&source, FileKind::Xlsx, Vec::new())?;
    let codes = |bytes: &[u8]| -> Result<Vec<_>> {
        let rows = read(bytes, FileKind::Xlsx)?.rows.into_iter();
        Ok(rows.map(|row| validate(row).map(|kept| kept.row.nombre).map_err(|error| error.code)).collect())
    };
    let expected = [Err("date_in_text"), Err("formula_in_code"), Ok("'=a".to_owned())];
    assert_eq!(codes(&source)?, expected);
    assert_eq!(codes(&copy)?, expected);
    Ok(())
}

#[test]
fn a_row_of_too_many_values_shows_them_all_and_stays_refused() -> Result<()> {
    let text = csv_header(",") + csv_row(",", "P1").trim_end() + ",50,\n" + &csv_row(",", "P2");
    let notes = vec![note(2, NoteKind::Error, None, "La fila tiene 14 valores")];
    let (bytes, _) = annotated(text.as_bytes(), FileKind::Csv, notes)?;
    let mut read = reread(&bytes)?;
    let said = RawCell::Text(
        "La fila tiene 14 valores; desde requiere_vencimiento la fila tiene «no», «50», «»".to_owned(),
    );
    assert_eq!(read.rows[0].others, [(13, said)]);
    let refused = validate(read.rows.remove(0)).err().context("a row of too many values is taken")?;
    assert_eq!(refused.column, Some(Column::RequiereVencimiento));
    assert!(validate(read.rows.remove(0)).is_ok(), "the other row is as it was");
    Ok(())
}

#[test]
fn an_empty_cell_can_be_what_is_wrong() -> Result<()> {
    let text = csv_header(";") + "P1;;C1;X;;1;C;D;1\n" + &csv_row(";", "P2");
    let notes = vec![note(2, NoteKind::Error, Some(Column::Nombre), "Campos obligatorios vacíos: nombre")];
    let (bytes, done) = annotated(text.as_bytes(), FileKind::Csv, notes)?;
    assert_eq!((done.rows, done.marked), (2, 1));
    let xml = sheet_xml(&bytes)?;
    assert!(style(&xml, "B2").is_some() && style(&xml, "B2") != style(&xml, "D2"), "{xml}");
    let read = reread(&bytes)?;
    assert_eq!(read.sheet.as_deref(), Some("Sheet1"));
    // Text stays text, as a CSV file has it.
    assert_eq!(read.rows[1].cell(Column::PrecioUnitario), &RawCell::Text("12500.50".to_owned()));
    Ok(())
}

#[test]
fn annotations_do_not_pile_up() -> Result<()> {
    let source = xlsx(|sheet| {
        write_header(sheet, 0)?;
        write_row(sheet, 1)
    })?;
    let (once, _) = annotated(&source, FileKind::Xlsx, vec![note(2, NoteKind::Error, None, "primero")])?;
    assert_eq!(read(&once, FileKind::Xlsx)?.ignored, [""; 0], "they are nothing to tell the sender of");
    let (twice, _) = annotated(&once, FileKind::Xlsx, vec![note(2, NoteKind::Warning, None, "segundo")])?;
    let read = reread(&twice)?;
    assert_eq!(read.header.context("a header")?.cells.len(), 15);
    assert_eq!(read.rows[0].others, [(14, RawCell::Text("segundo".to_owned()))]);
    Ok(())
}

#[test]
fn notes_are_optional_and_texts_fit_excel() -> Result<()> {
    let long = "é😀".repeat(20_000);
    let text = csv_header(";") + &csv_row(";", "P1").replace("Amoxi", &format!("a\u{1}b\0{long}"));
    let (bytes, done) = annotated(text.as_bytes(), FileKind::Csv, Vec::new())?;
    assert_eq!((done.rows, done.marked), (1, 0));
    let limits = Limits { max_cell_chars: 100_000, ..Limits::default() };
    let read = read_with(&bytes, FileKind::Xlsx, &limits)??;
    let name = column(&read, Column::Nombre).remove(0);
    assert!(name.starts_with("a\u{1}b\0é😀"), "{}", &name[..40]);
    assert_eq!(name.encode_utf16().count(), 32_767);

    let (bytes, _) = annotated(text.as_bytes(), FileKind::Csv, vec![note(2, NoteKind::Error, None, &long)])?;
    assert_eq!(reread(&bytes)?.rows.len(), 1);
    Ok(())
}

#[test]
fn what_cannot_be_done_says_why() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (source, target) = (dir.path().join("source.csv"), dir.path().join("target.xlsx"));
    let run = |notes: Vec<Result<Note>>, target: PathBuf| {
        annotate(&source, FileKind::Csv, None, &Limits::default(), notes, &target)
    };
    assert!(matches!(run(Vec::new(), target.clone()), Err(AnnotateError::Source(FileError::Io(_)))));
    std::fs::write(&source, csv_header(",") + &csv_row(",", "P1"))?;
    let failed = run(vec![Err(anyhow!("the database is away"))], target.clone());
    assert!(matches!(failed, Err(AnnotateError::Notes(_))), "{failed:?}");
    let nowhere = run(Vec::new(), dir.path().join("none").join("target.xlsx"));
    assert!(matches!(nowhere, Err(AnnotateError::Write(_))), "{nowhere:?}");

    let wide = csv_header(",").replace('\n', &",otra".repeat(16_384 - 13)) + "\n" + &csv_row(",", "P1");
    std::fs::write(&source, wide)?;
    let failed = run(Vec::new(), target);
    assert!(
        matches!(failed, Err(AnnotateError::Source(FileError::TooManyColumns { max: 16_382 }))),
        "{failed:?}"
    );
    Ok(())
}
