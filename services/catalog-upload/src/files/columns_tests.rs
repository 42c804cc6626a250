//! Headers by other names, columns that the template lacks, and numbers that the rest of their column explains.

use anyhow::{Context as _, Result};

use super::{FileKind, Keep, Limits, RawCell, testing::*};
use crate::domain::{Column, validate};

const HEADER: &str = "SKU;Nombre del producto;Código interno del ERP;ID producto;Categoría;Precio (COP);Registro sanitario/INVIMA;Condiciones de almacenamiento;Lead time";

fn csv(header: &str, rows: &[&str]) -> Vec<u8> {
    format!("{header}\n{}\n", rows.join("\n")).into_bytes()
}

#[test]
fn other_names_stand_for_the_templates() -> Result<()> {
    let read = read(&csv(HEADER, &["A-1;Ibuprofeno;77;P1;ANALGESICS;12.50;INV;Seco;3"]), FileKind::Csv)?;
    let product = validate(read.rows[0].clone()).ok().context("the row keeps the rules")?.row;
    assert_eq!((product.id.as_str(), product.codigo.as_str()), ("P1", "A-1"));
    assert_eq!((product.nombre.as_str(), product.tiempo_entrega_dias), ("Ibuprofeno", Some(3)));
    assert_eq!(read.ignored, ["Código interno del ERP"]);
    Ok(())
}

#[test]
fn a_columns_own_name_wins_over_others() -> Result<()> {
    let header = csv_header(";").replace('\n', ";SKU;Producto");
    let row = csv_row(";", "P1").replace('\n', ";ERP-9;otro");
    let read = read(&csv(&header, &[&row]), FileKind::Csv)?;
    assert_eq!(column(&read, Column::Codigo), ["P1"]);
    assert_eq!(column(&read, Column::Nombre), [GOOD[1]]);
    assert_eq!(read.ignored, ["SKU", "Producto"]);
    Ok(())
}

#[test]
fn two_other_names_for_one_column_are_refused_with_both() -> Result<()> {
    let header = HEADER.replace("Código interno del ERP", "Referencia");
    let error = failure(&csv(&header, &["A;B;C;D;E;1;F;G;1"]), FileKind::Csv)?;
    assert_eq!(error.code(), "repeated_columns");
    assert_eq!(
        error.to_string(),
        "Columnas repetidas: codigo («SKU», «Referencia»). Deje solo una de cada una"
    );
    let many = csv_header(";").replace('\n', &";id".repeat(5_000));
    let error = failure(&csv(&many, &["1"]), FileKind::Csv)?;
    assert_eq!(error.to_string(), "Columnas repetidas: id («id», «id», «id»). Deje solo una de cada una");
    Ok(())
}

#[test]
fn ignored_columns_are_named_within_bounds() -> Result<()> {
    let long = "x".repeat(300);
    let header =
        csv_header(";").replace('\n', &format!(";\"Nota\u{1}\r\ninterna\";{long};;errores;advertencias"));
    let kept = read(&csv(&header, &[&csv_row(";", "P1")]), FileKind::Csv)?;
    assert_eq!(kept.ignored, ["Notainterna", &long[..64]]);
    let header = csv_header(";").replace('\n', &";otra".repeat(1_000));
    assert_eq!(read(&csv(&header, &[&csv_row(";", "P1")]), FileKind::Csv)?.ignored.len(), 50);
    Ok(())
}

#[test]
fn everything_is_kept_where_it_is_asked_for() -> Result<()> {
    let header = format!("Título\n\nZona;{};Nota;errores", csv_header(";").trim_end());
    let row = format!("Norte;{};;viejo;fuera", csv_row(";", "P1").trim_end());
    let only_other = format!("{};solo nota", ";".repeat(13));
    let bytes = csv(&header, &[&row, &only_other]);
    let read = read_keeping(&bytes, FileKind::Csv, &Limits::default(), Keep::Everything)??;
    let header = read.header.context("the header is kept")?;
    assert_eq!((header.row, header.cells.len()), (3, 16));
    let first: Vec<_> =
        header.cells[..3].iter().map(|cell| (cell.position, cell.text.as_str(), cell.column)).collect();
    assert_eq!(first, [(0, "Zona", None), (1, "id", Some(Column::Id)), (2, "nombre", Some(Column::Nombre))]);
    let text = |text: &str| RawCell::Text(text.to_owned());
    // A value beyond the header too: the row is refused for it, and stays so in its annotated copy.
    assert_eq!(read.rows[0].others, [(0, text("Norte")), (15, text("viejo")), (16, text("fuera"))]);
    assert_eq!((read.rows[1].number, &read.rows[1].others[..]), (5, &[(14, text("solo nota"))][..]));

    let read = read_with(&bytes, FileKind::Csv, &Limits::default())??;
    assert_eq!((read.rows.len(), read.rows[0].others.capacity()), (1, 0));
    assert!(read.header.is_none());
    Ok(())
}

#[test]
fn a_workbooks_other_columns_are_kept_too() -> Result<()> {
    let bytes = xlsx(|sheet| {
        write_header(sheet, 0)?;
        sheet.write_string(0, 14, "Existencias")?.write_number(0, 15, 2025.0)?;
        write_row(sheet, 1)?;
        sheet.write_number(1, 14, 7.5)?.write_boolean(1, 13, true)?.write_string(1, 20, "fuera")?;
        Ok(())
    })?;
    let read = read_keeping(&bytes, FileKind::Xlsx, &Limits::default(), Keep::Everything)??;
    assert_eq!(read.rows[0].others, [(13, RawCell::Bool(true)), (14, RawCell::Number(7.5))]);
    assert_eq!(read.ignored, ["Existencias"]);
    // What the others of one row take together is bounded.
    let limits = Limits { max_token_bytes: 100_000, ..Limits::default() };
    let wide = xlsx(|sheet| {
        write_header(sheet, 0)?;
        write_row(sheet, 1)?;
        for column in 13..400 {
            sheet.write_string(0, column, "otra")?.write_string(1, column, "ñ".repeat(900))?;
        }
        Ok(())
    })?;
    let read = read_keeping(&wide, FileKind::Xlsx, &limits, Keep::Everything)??;
    assert_eq!(read.rows[0].others.len(), 100_000 / 1800);
    Ok(())
}

#[test]
fn cells_of_the_header_may_stand_in_any_order() -> Result<()> {
    let cell =
        |place: &str, text: &str| format!(r#"<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>"#);
    let names = Column::ALL.map(Column::name);
    let places: Vec<char> = ('A'..='M').collect();
    let header: String =
        (0..names.len()).rev().map(|index| cell(&format!("{}1", places[index]), names[index])).collect();
    let header = format!(r#"<row r="1">{}{header}</row>"#, cell("P1", "Otra"));
    let bytes = raw_xlsx(&raw_sheet(&[header, raw_row(2, &good("P1"))]), None)?;
    let read = read_keeping(&bytes, FileKind::Xlsx, &Limits::default(), Keep::Everything)??;
    assert_eq!(column(&read, Column::Id), ["P1"]);
    assert_eq!(read.ignored, ["Otra"]);
    Ok(())
}

/// The prices of a CSV file with these, or the codes of their errors.
fn prices(prices: &[&str]) -> Result<Vec<String>> {
    let rows: Vec<String> = (0..)
        .zip(prices)
        .map(|(index, price)| csv_row(";", &format!("P{index}")).replace("12500.50", price))
        .collect();
    let bytes = format!("{}{}", csv_header(";"), rows.concat()).into_bytes();
    let price = |row| match validate(row) {
        Ok(checked) => checked.row.precio_unitario.to_string(),
        Err(error) => error.code.to_owned(),
    };
    Ok(read(&bytes, FileKind::Csv)?.rows.into_iter().map(price).collect())
}

#[test]
fn a_column_says_what_its_marks_mean() -> Result<()> {
    assert_eq!(prices(&["1.234", "12,5", "2.000"])?, ["1234", "12.5", "2000"]);
    assert_eq!(prices(&["1,234", "12.5", "2,000"])?, ["1234", "12.5", "2000"]);
    assert_eq!(prices(&["1.234", "1.234.567"])?, ["1234", "1234567"]);
    // Nothing clear, or both.
    assert_eq!(prices(&["1.234", "1500"])?, ["ambiguous_number", "1500"]);
    assert_eq!(prices(&["1.234", "12,5", "12.5"])?, ["ambiguous_number", "12.5", "12.5"]);
    // Three digits are never decimals.
    assert_eq!(prices(&["1,234", "12,5"])?, ["ambiguous_number", "12.5"]);
    assert_eq!(prices(&["1.500", "0.00"])?, ["ambiguous_number", "0"]);
    Ok(())
}

#[test]
fn the_look_is_bounded_and_the_same_wherever_reading_begins() -> Result<()> {
    let row = |index: usize, price: &str| csv_row(";", &format!("P{index}")).replace("12500.50", price);
    let far: String = (0..600).map(|index| row(index, if index == 599 { "1,5" } else { "1.000" })).collect();
    let far = read(format!("{}{far}", csv_header(";")).as_bytes(), FileKind::Csv)?;
    assert_eq!(far.rows[0].mark(Column::PrecioUnitario), None);

    let near: String = (0..2000).map(|index| row(index, if index == 3 { "1,5" } else { "1.000" })).collect();
    let near = format!("{}{near}", csv_header(";"));
    for first in [2, 400, 1500] {
        let mut reader = open_bytes(near.as_bytes(), FileKind::Csv, &Limits::default())??;
        reader.skip_to(first);
        let mut rows = 0;
        while let Some(batch) = reader.next_batch(300)? {
            assert!(batch.iter().all(|row| row.mark(Column::PrecioUnitario).is_some()));
            rows += batch.len();
        }
        assert_eq!(rows, 2002 - first as usize);
    }
    Ok(())
}

#[test]
fn texts_in_a_workbook_are_judged_alike() -> Result<()> {
    let bytes = xlsx(|sheet| {
        write_header(sheet, 0)?;
        for (row, price) in [(1, "1.500"), (2, "1.500,25")] {
            write_row(sheet, row)?;
            sheet.write_string(row, 5, price)?;
        }
        Ok(())
    })?;
    let rows = read(&bytes, FileKind::Xlsx)?.rows;
    let price =
        |row: usize| validate(rows[row].clone()).map(|checked| checked.row.precio_unitario.to_string());
    assert_eq!((price(0), price(1)), (Ok("1500".to_owned()), Ok("1500.25".to_owned())));
    Ok(())
}
