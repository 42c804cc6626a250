use std::io::Write;

use anyhow::Result;
use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook};

use super::{FileError, FileKind, Keep, Limits, Others, RawCell, open, open_sheet, open_while, testing::*};
use crate::domain::{Column, validate};

#[test]
fn a_template_is_read_row_by_row() -> Result<()> {
    let read = read(&template(1000)?, XLSX)?;
    assert_eq!(read.rows.len(), 1000);
    assert_eq!(read.total, Some(1000));
    assert_eq!(read.sheet.as_deref(), Some("Sheet1"));
    assert_eq!(numbers(&read), (2..=1001).collect::<Vec<_>>());
    for (index, row) in read.rows.into_iter().enumerate() {
        let product = validate(row).map_err(|error| anyhow::anyhow!("{error:?}"))?.row;
        assert_eq!(product.id, format!("P{}", index + 1));
        assert_eq!(product.condiciones_almacenamiento, "Entre 15 y 30 °C");
        assert!(product.requiere_lote && !product.requiere_vencimiento);
    }
    Ok(())
}

#[test]
fn a_batch_of_long_texts_is_full_before_it_has_all_its_rows() -> Result<()> {
    let strings = format!(r#"<sst uniqueCount="1"><si><t>{}</t></si></sst>"#, "💊".repeat(1_000));
    let cell = |row: u32, letter: u8| format!(r#"<c r="{}{row}" t="s"><v>0</v></c>"#, char::from(letter));
    let row = |row: u32| {
        let cells: String = (b'A'..=b'M').map(|letter| cell(row, letter)).collect();
        format!(r#"<row r="{row}">{cells}</row>"#)
    };
    let rows: Vec<String> = std::iter::once(raw_header()).chain((2..=601).map(row)).collect();
    let mut reader = open_bytes(&raw_xlsx(&raw_sheet(&rows), Some(&strings))?, XLSX, &Limits::default())??;
    let (mut read, mut most) = (0, 0);
    while let Some(batch) = reader.next_batch(10_000)? {
        read += batch.len();
        most = most.max(batch.iter().map(|row| row.text_bytes()).sum());
    }
    assert_eq!(read, 600);
    assert!(most <= 17 * 1024 * 1024, "{most} bytes in a batch");
    Ok(())
}

#[test]
fn a_header_is_looked_for_among_the_first_rows_with_values_whatever_those_are() -> Result<()> {
    let source = xlsx(|sheet| {
        for row in 0..25 {
            sheet.write_number(row, 0, 1.0)?;
        }
        write_header(sheet, 25)?;
        write_row(sheet, 26)
    })?;
    assert!(matches!(failure(&source, XLSX)?, FileError::Empty), "numbers were read to their end");
    Ok(())
}

#[test]
fn of_many_other_sheets_the_first_are_named() -> Result<()> {
    let mut workbook = Workbook::new();
    for _ in 0..60 {
        let sheet = workbook.add_worksheet();
        write_header(sheet, 0)?;
        write_row(sheet, 1)?;
    }
    let mut reader = open_bytes(&workbook.save_to_buffer()?, XLSX, &Limits::default())??;
    while reader.next_batch(10)?.is_some() {}
    assert_eq!(reader.omitted_sheets().len(), 50);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&workbook.save_to_buffer()?)?;
    let sheet = (None, Others::PassedOver);
    let mut reader = open_while(file.path(), XLSX, &Limits::default(), Keep::Template, sheet, || true)?;
    while reader.next_batch(10)?.is_some() {}
    assert_eq!(reader.omitted_sheets(), [""; 0], "nobody asked for them");
    Ok(())
}

#[test]
fn reading_ends_where_nobody_waits_for_it() -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&template(10)?)?;
    let opened =
        open_while(file.path(), XLSX, &Limits::default(), Keep::Template, (None, Others::Named), || false);
    assert!(matches!(opened.err(), Some(FileError::Io(_))), "it was read to its first row");
    Ok(())
}

#[test]
fn batches_and_skips_do_not_change_what_is_read() -> Result<()> {
    let bytes = template(1500)?;
    let all = read(&bytes, XLSX)?.rows;
    for (batch, first) in [(1, 2), (256, 700), (10_000, 1300), (333, 1501)] {
        let mut reader = open_bytes(&bytes, XLSX, &Limits::default())??;
        reader.skip_to(first);
        let mut rows = Vec::new();
        while let Some(more) = reader.next_batch(batch)? {
            assert!(more.len() <= batch);
            rows.extend(more);
        }
        assert_eq!(rows, all[first as usize - 2..]);
        assert_eq!(reader.total_hint(), Some(1500));
        assert_eq!(reader.next_batch(batch)?, None);
    }
    Ok(())
}

#[test]
fn headers_in_any_order_case_and_accent_with_other_columns_between() -> Result<()> {
    let headers = [
        "Comentario",
        "CÓDIGO",
        " Nombre ",
        "ID",
        "Categoría",
        "Precio Unitario",
        "Otra",
        "certificado sanitario",
        "Condiciones-Almacenamiento",
        "Tiempo Entrega Días",
    ];
    let bytes = xlsx(|sheet| {
        for (position, header) in headers.into_iter().enumerate() {
            sheet.write_string(0, position as u16, header)?;
            sheet.write_string(1, position as u16, format!("v{position}"))?;
        }
        Ok(())
    })?;
    let read = read(&bytes, XLSX)?;
    assert_eq!(column(&read, Column::Id), ["v3"]);
    assert_eq!(column(&read, Column::Codigo), ["v1"]);
    assert_eq!(column(&read, Column::TiempoEntregaDias), ["v9"]);
    assert!(read.rows[0].cell(Column::StockMinimo).is_empty());
    Ok(())
}

#[test]
fn the_sheet_is_the_first_whose_header_has_the_columns() -> Result<()> {
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Instrucciones")?.write_string(0, 0, "Lea esto")?;
    let hidden = workbook.add_worksheet().set_name("Vieja")?;
    hidden.set_hidden(true);
    write_header(hidden, 0)?;
    write_row(hidden, 1)?;
    let titled = workbook.add_worksheet().set_name("Productos")?;
    titled.write_string(1, 0, "Catálogo 2025")?;
    write_header(titled, 3)?;
    write_row(titled, 6)?;
    let read = read(&workbook.save_to_buffer()?, XLSX)?;
    assert_eq!(read.sheet.as_deref(), Some("Productos"));
    assert_eq!(numbers(&read), [7]);
    Ok(())
}

#[test]
fn a_sheet_is_chosen_and_the_others_that_have_products_are_named() -> Result<()> {
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Guía")?.write_string(0, 0, "Lea esto")?;
    for name in ["Enero", "Febrero"] {
        let sheet = workbook.add_worksheet().set_name(name)?;
        write_header(sheet, 0)?;
        write_row(sheet, 1)?;
        write_row(sheet, if name == "Enero" { 2 } else { 5 })?;
    }
    write_header(workbook.add_worksheet().set_name("Plantilla")?, 0)?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&workbook.save_to_buffer()?)?;
    let read = |sheet: Option<&str>| -> Result<(Option<String>, Vec<u32>, Vec<String>)> {
        let mut reader = open_sheet(file.path(), FileKind::Xlsx, &Limits::default(), Keep::Template, sheet)?;
        let rows = reader.next_batch(10)?.unwrap_or_default();
        assert!(!reader.has_more()?);
        let numbers = rows.iter().map(|row| row.number).collect();
        Ok((reader.sheet().map(str::to_owned), numbers, reader.omitted_sheets().to_vec()))
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(read(None)?, (Some("Enero".into()), vec![2, 3], names(&["Febrero"])));
    assert_eq!(read(Some(" febrero "))?, (Some("Febrero".into()), vec![2, 6], names(&["Enero"])));
    let refused = read(Some("Marzo")).expect_err("there is no such sheet");
    assert_eq!(
        refused.to_string(),
        "El libro no tiene una hoja «Marzo». Sus hojas son: Guía, Enero, Febrero, Plantilla"
    );
    Ok(())
}

#[test]
fn a_sheet_of_a_header_alone_hides_no_other() -> Result<()> {
    let mut workbook = Workbook::new();
    let empty = workbook.add_worksheet().set_name("Plantilla")?;
    write_header(empty, 0)?;
    empty.write_string(1, 0, "  ")?;
    write_header(workbook.add_worksheet().set_name("Vacía")?, 3)?;
    let full = workbook.add_worksheet().set_name("Productos")?;
    write_header(full, 1)?;
    write_row(full, 2)?;
    write_row(workbook.add_worksheet().set_name("Notas")?, 0)?;
    let read = read(&workbook.save_to_buffer()?, XLSX)?;
    assert_eq!(read.sheet.as_deref(), Some("Productos"));
    assert_eq!((numbers(&read), read.total), (vec![3], Some(1)));
    Ok(())
}

#[test]
fn missing_columns_are_named_in_the_templates_order() -> Result<()> {
    let bytes = xlsx(|sheet| {
        sheet.write_string(0, 0, "nombre")?.write_string(0, 1, "id")?.write_string(1, 0, "x")?;
        Ok(())
    })?;
    let error = failure(&bytes, XLSX)?;
    assert_eq!(
        error.to_string(),
        "Columnas faltantes: codigo, categoria, precio_unitario, certificado_sanitario, condiciones_almacenamiento, tiempo_entrega_dias"
    );
    assert_eq!(error.code(), "missing_columns");
    Ok(())
}

#[test]
fn a_column_that_stands_twice_is_refused() -> Result<()> {
    let bytes = xlsx(|sheet| {
        write_header(sheet, 0)?;
        sheet.write_string(0, 20, "Código")?;
        write_row(sheet, 1)
    })?;
    assert_eq!(
        failure(&bytes, XLSX)?.to_string(),
        "Columnas repetidas: codigo («codigo», «Código»). Deje solo una de cada una"
    );
    Ok(())
}

#[test]
fn empty_and_header_only() -> Result<()> {
    assert_eq!(failure(b"", XLSX)?.code(), "empty_file");
    assert_eq!(failure(&xlsx(|_| Ok(()))?, XLSX)?.code(), "empty_file");
    assert_eq!(failure(&template(0)?, XLSX)?.code(), "header_only");
    let spaces = xlsx(|sheet| {
        write_header(sheet, 0)?;
        sheet.write_string(5, 3, "  \u{a0} ")?.write_string(6, 40, "fuera")?;
        Ok(())
    })?;
    assert_eq!(failure(&spaces, XLSX)?.code(), "header_only");
    Ok(())
}

#[test]
fn values_as_excel_stores_them() -> Result<()> {
    let bytes = xlsx(|sheet| {
        write_header(sheet, 0)?;
        let date = Format::new().set_num_format("yyyy-mm-dd");
        sheet.write_number(1, 0, 7_701_234_567_890.0)?;
        sheet.write_string(1, 1, " con espacios ")?;
        sheet.write_datetime_with_format(1, 2, ExcelDateTime::from_ymd(2025, 3, 1)?, &date)?;
        sheet.write_formula(1, 3, Formula::new("=\"A\"&\"B\"").set_result("AB"))?;
        sheet.write_formula(1, 5, Formula::new("=10*1.5").set_result("15"))?;
        sheet.write_formula(1, 6, Formula::new("=NA()").set_result("#N/A"))?;
        sheet.write_boolean(1, 11, true)?.write_boolean(1, 12, false)?;
        sheet.write_number(1, 8, 3.0)?.write_blank(1, 9, &date)?;
        Ok(())
    })?;
    let read = read(&bytes, XLSX)?;
    let row = &read.rows[0];
    assert_eq!(row.cell(Column::Id), &RawCell::Number(7_701_234_567_890.0));
    assert_eq!(row.cell(Column::Id).display(), "7701234567890");
    assert_eq!(row.cell(Column::Nombre), &RawCell::Text("con espacios".into()));
    assert_eq!(row.cell(Column::Codigo), &RawCell::DateTime("2025-03-01T00:00:00".into()));
    assert_eq!(row.cell(Column::Categoria), &RawCell::Text("AB".into()));
    assert_eq!(row.cell(Column::PrecioUnitario), &RawCell::Number(15.0));
    assert_eq!(row.cell(Column::CertificadoSanitario), &RawCell::Error("#N/A"));
    assert_eq!(row.cell(Column::RequiereLote), &RawCell::Bool(true));
    assert_eq!(row.cell(Column::RequiereVencimiento), &RawCell::Bool(false));
    assert_eq!(row.cell(Column::TiempoEntregaDias), &RawCell::Number(3.0));
    assert!(row.cell(Column::StockMinimo).is_empty());
    Ok(())
}

#[test]
fn empty_rows_inside_keep_the_numbers_of_the_others() -> Result<()> {
    let bytes = xlsx(|sheet| {
        write_header(sheet, 0)?;
        for row in [1, 4, 5, 99] {
            write_row(sheet, row)?;
        }
        sheet.write_string(50, 1, " ")?;
        Ok(())
    })?;
    let read = read(&bytes, XLSX)?;
    assert_eq!((numbers(&read), read.total), (vec![2, 5, 6, 100], Some(4)));
    Ok(())
}

#[test]
fn escapes_rich_text_and_cells_without_places() -> Result<()> {
    let strings = concat!(
        r#"<sst uniqueCount="3"><si><r><t>Jarabe </t></r><r><rPr/><t xml:space="preserve">&amp; más</t></r>"#,
        r#"<rPh><t>fonética</t></rPh></si><si/><si><t>a_x000D_b</t></si></sst>"#
    );
    let row = r#"<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c><c t="s"><v>2</v></c><c t="str"><f>1</f><v>x&lt;y</v></c></row>"#;
    let bytes = raw_xlsx(&raw_sheet(&[raw_header(), row.to_owned()]), Some(strings))?;
    let read = read(&bytes, XLSX)?;
    let cells = &read.rows[0];
    assert_eq!(numbers(&read), [2]);
    assert_eq!(cells.cell(Column::Id), &RawCell::Text("Jarabe& más".into()));
    assert!(cells.cell(Column::Nombre).is_empty());
    assert_eq!(cells.cell(Column::Codigo), &RawCell::Text("a\rb".into()));
    assert_eq!(cells.cell(Column::Categoria), &RawCell::Text("x<y".into()));
    Ok(())
}

#[test]
fn the_last_cell_of_a_sheet_costs_nothing() -> Result<()> {
    let last = r#"<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>"#.to_owned();
    let sheet = raw_sheet(&[raw_header(), raw_row(2, &GOOD), last]);
    let sheet = sheet.replace("<sheetData>", r#"<dimension ref="A1:XFD1048576"/><sheetData>"#);
    let bytes = raw_xlsx(&sheet, None)?;
    assert!(bytes.len() < 4096);
    let read = read(&bytes, XLSX)?;
    assert_eq!((numbers(&read), read.total), (vec![2], Some(1)));
    Ok(())
}

#[test]
fn rows_and_columns_beyond_excels_are_refused() -> Result<()> {
    let beyond = r#"<row r="1048577"><c r="A1048577"><v>1</v></c></row>"#.to_owned();
    let bytes = raw_xlsx(&raw_sheet(&[raw_header(), beyond]), None)?;
    assert_eq!(failure(&bytes, XLSX)?.code(), "too_many_rows");

    let wide = r#"<row r="2"><c r="XFE2"><v>1</v></c></row>"#.to_owned();
    let bytes = raw_xlsx(&raw_sheet(&[raw_header(), wide]), None)?;
    assert_eq!(failure(&bytes, XLSX)?.code(), "too_many_columns");

    for place in ["A99999999999", "ZZZZZZZZZZ3", "Ñ3", "A0", "3"] {
        let absurd = format!(r#"<row r="2"><c r="{place}"><v>1</v></c></row>"#);
        let bytes = raw_xlsx(&raw_sheet(&[raw_header(), absurd]), None)?;
        let error = failure(&bytes, XLSX)?;
        assert!(
            ["corrupt_file", "too_many_rows", "too_many_columns"].contains(&error.code()),
            "{place}: {error}"
        );
    }

    let limits = Limits { max_rows: 10, ..Limits::default() };
    assert!(matches!(read_with(&template(10)?, XLSX, &limits)?, Err(FileError::TooManyRows { max: 10 })));
    assert!(read_with(&template(9)?, XLSX, &limits)?.is_ok());
    Ok(())
}

#[test]
fn a_long_cell_is_cut_where_it_is_still_too_long() -> Result<()> {
    let long = "ñ".repeat(5000);
    let mut cells = GOOD;
    cells[1] = &long;
    let read = read(&raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &cells)]), None)?, XLSX)?;
    assert_eq!(column(&read, Column::Nombre)[0].chars().count(), 1000);
    let error = validate(read.rows[0].clone()).err().map(|error| error.code);
    assert_eq!(error, Some("too_long"));
    Ok(())
}

#[test]
fn names_say_the_kind() {
    for (name, kind) in
        [("a.xlsx", XLSX), ("A.XLSX", XLSX), ("lista v2.Csv", FileKind::Csv), (" b.csv ", FileKind::Csv)]
    {
        assert_eq!(FileKind::of(name).ok(), Some(kind), "{name}");
    }
    for name in ["", "a", "a.xls", "a.xlsx.exe", ".xlsx", "a.pdf", "a.xlsm"] {
        let error = FileKind::of(name).err().map(|error| error.to_string());
        let expected = "Formato de archivo no soportado. Use Excel (.xlsx) o CSV (.csv)";
        assert_eq!(error.as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn the_size_is_checked_first() -> Result<()> {
    let limits = Limits { max_bytes: 100, ..Limits::default() };
    let error = read_with(&template(1)?, XLSX, &limits)?.err().map(|error| error.code());
    assert_eq!(error, Some("file_too_large"));
    assert!(matches!(open("/nonexistent.xlsx".as_ref(), XLSX, &limits), Err(FileError::Io(_))));
    Ok(())
}

#[test]
fn a_reader_that_is_dropped_ends_its_thread() -> Result<()> {
    let bytes = template(5000)?;
    for _ in 0..20 {
        let mut reader = open_bytes(&bytes, XLSX, &Limits::default())??;
        assert_eq!(reader.next_batch(10)?.map(|rows| rows.len()), Some(10));
    }
    Ok(())
}
