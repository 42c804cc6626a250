//! Which sheet is read, and how far sheets reach.

use anyhow::Result;
use catalog_upload::files::FileError;
use rust_xlsxwriter::{Chart, ChartType, Workbook};

use crate::{
    case::{Cases, corrupt, created, failed, rejected},
    made::*,
};

/// A sheet of hand-written XML with the header and these rows.
fn raw(rows: &[String]) -> Result<Vec<u8>> {
    raw_xlsx(&raw_sheet(&[&[raw_header()], rows].concat()), None)
}

fn raw_good(row: u32, id: &str) -> String {
    raw_row(row, &good(id))
}

pub fn add(cases: &mut Cases) -> Result<()> {
    sheets(cases)?;
    extents(cases)
}

/// Which sheet is read.
fn sheets(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "a hidden sheet before the visible one",
        |ids| {
            let mut workbook = Workbook::new();
            let old = workbook.add_worksheet().set_name("Vieja")?;
            write_header(old, 0)?;
            write_row_as(old, 1, &ids.id(1))?;
            old.set_hidden(true);
            let new = workbook.add_worksheet().set_name("Nueva")?;
            write_header(new, 0)?;
            write_row_as(new, 1, &ids.id(2))?;
            write_row_as(new, 2, &ids.id(3))?;
            new.set_active(true);
            Ok(workbook.save_to_buffer()?)
        },
        created(2),
    )?;
    cases.xlsx(
        "a sheet of notes and one of a chart before the products",
        |ids| {
            let mut workbook = Workbook::new();
            let mut chart = Chart::new(ChartType::Column);
            chart.add_series().set_values("Productos!$F$2:$F$3");
            workbook.add_chartsheet().insert_chart(0, 0, &chart)?;
            workbook.add_worksheet().set_name("Léame")?.write_string(0, 0, "id, nombre y codigo")?;
            let products = workbook.add_worksheet().set_name("Productos")?;
            write_header(products, 0)?;
            write_row_as(products, 1, &ids.id(1))?;
            Ok(workbook.save_to_buffer()?)
        },
        created(1),
    )?;
    cases.xlsx(
        "two sheets of products",
        |ids| {
            let mut workbook = Workbook::new();
            for name in ["Enero", "Febrero"] {
                let sheet = workbook.add_worksheet().set_name(name)?;
                write_header(sheet, 0)?;
                write_row_as(sheet, 1, &ids.id(u32::from(name == "Febrero")))?;
            }
            Ok(workbook.save_to_buffer()?)
        },
        created(1),
    )?;
    cases.xlsx(
        "a sheet name beyond Excel's",
        |ids| {
            let mut parts = raw_parts(&raw_sheet(&[raw_header(), raw_good(2, &ids.id(1))]), None);
            for (_, text) in &mut parts {
                *text = text.replace("\"Sheet1\"", &format!("\"{}/\\?*[]\"", "ñ".repeat(5_000)));
            }
            zip_of(&parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>())
        },
        created(1),
    )
}

/// How far sheets reach.
fn extents(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "XFD1048576 in 2 KB",
        |ids| {
            let last = r#"<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>"#.to_owned();
            let bytes = raw(&[raw_good(2, &ids.id(1)), last])?;
            anyhow::ensure!(bytes.len() < 4096, "{} bytes", bytes.len());
            Ok(bytes)
        },
        created(1),
    )?;
    cases.xlsx(
        "a row beyond Excel's last",
        |ids| {
            raw(&[raw_good(2, &ids.id(1)), r#"<row r="1048577"><c r="A1048577"><v>1</v></c></row>"#.into()])
        },
        failed(&FileError::TooManyRows { max: 1_048_576 }),
    )?;
    cases.xlsx(
        "100,000 columns",
        |ids| {
            // Of various numbers, so that it is no bomb.
            let number = |index: u32| index.wrapping_mul(2_654_435_761);
            let wide: String = (0..100_000).map(|index| format!("<c><v>{}</v></c>", number(index))).collect();
            raw(&[raw_good(2, &ids.id(1)), format!(r#"<row r="3">{wide}</row>"#)])
        },
        failed(&FileError::TooManyColumns { max: 16_384 }),
    )?;
    cases.xlsx(
        "rows out of order",
        |ids| raw(&[raw_good(7, &ids.id(1)), raw_good(3, &ids.id(2))]),
        corrupt("la fila 3 está fuera de orden"),
    )?;
    cases.xlsx(
        "a text that the table of strings lacks",
        |ids| raw(&[raw_good(2, &ids.id(1)), r#"<row r="3"><c r="A3" t="s"><v>7</v></c></row>"#.into()]),
        rejected(1, &[(3, "required")]),
    )?;
    cases.xlsx(
        "an extent, an error, a truth and a number that calamine doesn't take",
        |ids| {
            let odd = [
                (GOOD[5], r#"<c t="e"><v>#SPILL!</v></c>"#),
                (GOOD[11], r#"<c t="b"><v>verdadero</v></c>"#),
                (GOOD[8], r#"<c t="n"><v> 3 </v></c>"#),
            ];
            let mut rows = vec![raw_header()];
            for (row, (value, cell)) in (2..).zip(odd) {
                let good = raw_good(row, &ids.id(row));
                let column = GOOD.iter().position(|good| *good == value).unwrap_or_default();
                let place = format!("{}{row}", char::from(b'A' + column as u8));
                let plain = format!(r#"<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>"#);
                rows.push(good.replace(&plain, &cell.replace("<c ", &format!(r#"<c r="{place}" "#))));
            }
            let sheet = raw_sheet(&rows).replace("<sheetData>", r#"<dimension ref="1:9"/><sheetData>"#);
            raw_xlsx(&sheet, None)
        },
        rejected(2, &[(2, "formula_error")]),
    )?;
    cases.xlsx(
        "a cell whose place is no place",
        |ids| raw(&[raw_good(2, &ids.id(1)), r#"<row r="3"><c r="3A"><v>7</v></c></row>"#.into()]),
        corrupt("una hoja no se puede interpretar"),
    )
}
