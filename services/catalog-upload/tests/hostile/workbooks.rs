//! Workbooks as office programs and people make them.

use anyhow::Result;
use catalog_upload::{domain::Column, files::FileError};
use rust_xlsxwriter::{ExcelDateTime, Format, Formula};

use crate::{
    case::{Cases, Ids, created, failed, rejected},
    made::*,
};

fn raw_good(row: u32, id: &str) -> String {
    raw_row(row, &good(id))
}

/// A workbook of the header and `rows` good rows, some cells changed.
fn rows(
    ids: &Ids,
    rows: u32,
    change: impl FnOnce(&mut rust_xlsxwriter::Worksheet) -> Result<(), rust_xlsxwriter::XlsxError>,
) -> Result<Vec<u8>> {
    xlsx(|sheet| {
        write_header(sheet, 0)?;
        for row in 1..=rows {
            write_row_as(sheet, row, &ids.id(row))?;
        }
        change(sheet)
    })
}

pub fn add(cases: &mut Cases) -> Result<()> {
    layouts(cases)?;
    columns(cases)?;
    lines(cases)?;
    numbers(cases)?;
    types(cases)?;
    texts(cases)
}

/// Where header and rows stand, under which names.
fn layouts(cases: &mut Cases) -> Result<()> {
    cases.xlsx("template", |ids| rows(ids, 3, |_| Ok(())), created(3))?;
    cases.xlsx("header only", |ids| rows(ids, 0, |_| Ok(())), failed(&FileError::HeaderOnly))?;
    cases.xlsx("no cell at all", |_| xlsx(|_| Ok(())), failed(&FileError::Empty))?;
    cases.xlsx(
        "header on row 5 under titles",
        |ids| {
            xlsx(|sheet| {
                sheet.write_string(0, 0, "Droguería del Norte")?.write_string(2, 3, "Lista 2025")?;
                write_header(sheet, 4)?;
                write_row_as(sheet, 5, &ids.id(1))?;
                write_row_as(sheet, 7, &ids.id(2))?;
                sheet.write_string(7, 5, "caro")?;
                Ok(())
            })
        },
        rejected(1, &[(8, "not_a_number")]),
    )?;
    cases.xlsx(
        "other names, accents, capitals, another order",
        |ids| {
            let id = ids.id(1);
            xlsx(|sheet| {
                let headers = [
                    ("NOMBRE DEL PRODUCTO", "Ibuprofeno"),
                    ("Sku", &id),
                    ("ID", &id),
                    ("Categoría", "ANALGESICS"),
                    ("Precio unitario (COP)", "1200,50"),
                    ("Registro sanitario / INVIMA", "INV"),
                    ("Condiciones de Almacenamiento", "Seco"),
                    ("Tiempo de entrega (días)", "3"),
                    ("Stock Mín.", "10"),
                ];
                for (position, (header, value)) in (0..).zip(headers) {
                    sheet.write_string(0, position, header)?.write_string(1, position, value)?;
                }
                Ok(())
            })
        },
        created(1),
    )?;
    Ok(())
}

/// Columns too many and too few.
fn columns(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "columns that the template lacks",
        |ids| {
            rows(ids, 2, |sheet| {
                sheet.write_string(0, 13, "Observaciones")?.write_string(1, 13, "ninguna")?;
                sheet.write_string(0, 20, "Código de barras")?.write_number(2, 20, 7_701_234_567_890.0)?;
                Ok(())
            })
        },
        created(2),
    )?;
    cases.xlsx(
        "the same column twice",
        |ids| rows(ids, 1, |sheet| sheet.write_string(0, 14, "Código").map(|_| ())),
        failed(&FileError::RepeatedColumns {
            repeated: vec![(Column::Codigo, vec!["codigo".to_owned(), "Código".to_owned()])],
        }),
    )?;
    cases.xlsx(
        "two other names for one column",
        |ids| {
            rows(ids, 1, |sheet| {
                sheet.write_string(0, 2, "SKU")?.write_string(0, 14, "Referencia")?;
                Ok(())
            })
        },
        failed(&FileError::RepeatedColumns {
            repeated: vec![(Column::Codigo, vec!["SKU".to_owned(), "Referencia".to_owned()])],
        }),
    )?;
    cases.xlsx(
        "columns missing",
        |_| {
            xlsx(|sheet| {
                sheet.write_string(0, 0, "id")?.write_string(0, 1, "nombre")?.write_string(1, 0, "x")?;
                Ok(())
            })
        },
        failed(&FileError::MissingColumns {
            missing: Column::ALL[2..].iter().copied().filter(|column| column.required()).collect(),
        }),
    )?;
    Ok(())
}

/// Rows that are empty, merged or repeated.
fn lines(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "empty rows inside",
        |ids| {
            xlsx(|sheet| {
                write_header(sheet, 0)?;
                for row in [1, 5, 99] {
                    write_row_as(sheet, row, &ids.id(row))?;
                }
                sheet.write_string(50, 1, " \u{a0}")?.write_blank(60, 0, &Format::new().set_bold())?;
                sheet.write_string(99, 8, "0")?;
                Ok(())
            })
        },
        rejected(2, &[(100, "out_of_range")]),
    )?;
    cases.xlsx(
        "merged cells",
        |ids| rows(ids, 2, |sheet| sheet.merge_range(1, 3, 2, 3, "ANTIBIOTICS", &Format::new()).map(|_| ())),
        rejected(1, &[(3, "required")]),
    )?;
    cases.xlsx(
        "the same product again",
        |ids| {
            rows(ids, 4, |sheet| {
                sheet.write_string(3, 0, ids.id(1))?.write_string(4, 2, ids.id(2))?;
                Ok(())
            })
        },
        rejected(2, &[(4, "duplicate_in_file"), (5, "duplicate_in_file")]),
    )
}

/// Numbers, and what may be one.
fn numbers(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "codes as numbers",
        |ids| {
            rows(ids, 2, |sheet| {
                sheet.write_number(1, 0, ids.number(1))?.write_number(1, 2, ids.number(2))?;
                // The same number again, though one is a text.
                sheet.write_string(2, 2, ids.number(2).to_string())?;
                Ok(())
            })
        },
        rejected(1, &[(3, "duplicate_in_file")]),
    )?;
    cases.xlsx(
        "decimal commas as texts",
        |ids| {
            rows(ids, 3, |sheet| {
                for (row, price) in [(1, "1.234,50"), (2, "1.234"), (3, "$ 12,5")] {
                    sheet.write_string(row, 5, price)?;
                }
                Ok(())
            })
        },
        created(3),
    )?;
    cases.xlsx(
        "a number that could be two",
        |ids| rows(ids, 2, |sheet| sheet.write_string(1, 5, "1.234").map(|_| ())),
        // The other row's price has a clear point.
        rejected(1, &[(2, "ambiguous_number")]),
    )?;
    cases.xlsx(
        "numbers that nothing explains",
        |ids| {
            rows(ids, 2, |sheet| {
                sheet.write_string(1, 5, "1.234")?.write_string(2, 5, "2,345")?;
                Ok(())
            })
        },
        rejected(0, &[(2, "ambiguous_number"), (3, "ambiguous_number")]),
    )?;
    cases.xlsx(
        "numbers at the edge",
        |ids| {
            rows(ids, 6, |sheet| {
                sheet.write_number(1, 5, 1e308)?.write_number(2, 5, -0.0)?.write_number(
                    3,
                    5,
                    9_999_999_999.99,
                )?;
                sheet.write_number(4, 8, 2_147_483_648.0)?.write_number(5, 9, 1.5)?;
                sheet.write_string(6, 5, "1e308")?;
                Ok(())
            })
        },
        rejected(2, &[(2, "out_of_range"), (5, "out_of_range"), (6, "not_an_integer"), (7, "not_a_number")]),
    )?;
    Ok(())
}

/// Dates, truth values and formulas.
fn types(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "dates where texts belong",
        |ids| {
            let date = Format::new().set_num_format("dd/mm/yyyy");
            let moment = ExcelDateTime::from_ymd(2025, 3, 5)?;
            rows(ids, 3, |sheet| {
                sheet.write_datetime_with_format(1, 2, &moment, &date)?;
                sheet.write_datetime_with_format(2, 8, &moment, &date)?;
                Ok(())
            })
        },
        rejected(1, &[(2, "date_in_text"), (3, "not_a_number")]),
    )?;
    cases.xlsx("dates since 1904", dates_since_1904, rejected(1, &[(2, "date_in_text")]))?;
    cases.xlsx(
        "truth values",
        |ids| {
            rows(ids, 4, |sheet| {
                sheet.write_boolean(1, 11, true)?.write_boolean(1, 12, false)?;
                sheet.write_boolean(2, 1, true)?.write_boolean(3, 8, true)?;
                sheet.write_string(4, 11, "quizás")?;
                Ok(())
            })
        },
        rejected(2, &[(4, "not_a_number"), (5, "not_a_boolean")]),
    )?;
    cases.xlsx(
        "formulas and their errors",
        |ids| {
            rows(ids, 3, |sheet| {
                sheet.write_formula(1, 1, Formula::new("=\"Ibu\"&\"profeno\"").set_result("Ibuprofeno"))?;
                sheet.write_formula(1, 5, Formula::new("=2*6.25").set_result("12.5"))?;
                sheet.write_formula(2, 5, Formula::new("=NA()").set_result("#N/A"))?;
                sheet.write_formula(3, 1, Formula::new("=1/0").set_result("#DIV/0!"))?;
                Ok(())
            })
        },
        rejected(1, &[(3, "formula_error"), (4, "formula_error")]),
    )?;
    Ok(())
}

/// Texts of every kind.
fn texts(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "emoji, right to left, zero widths",
        |ids| {
            rows(ids, 3, |sheet| {
                sheet.write_string(1, 1, "💊 Ibuprofeno 👩🏽‍⚕️")?.write_string(2, 1, "أموكسيسيلين ٥٠٠")?;
                sheet.write_string(3, 1, "\u{200b}\u{feff}\u{200b}")?;
                Ok(())
            })
        },
        rejected(2, &[(4, "required")]),
    )?;
    cases.xlsx(
        "texts that begin like formulas",
        |ids| {
            rows(ids, 4, |sheet| {
                for (row, text) in
                    [(1, "=cmd|' /C calc'!A0"), (2, "+57 300"), (3, "@SUM(1)"), (4, "-Amoxicilina")]
                {
                    sheet.write_string(row, 1, text)?;
                }
                Ok(())
            })
        },
        created(4),
    )?;
    cases.xlsx(
        "texts at and over their limits",
        |ids| {
            rows(ids, 3, |sheet| {
                sheet.write_string(1, 1, "ñ".repeat(255))?.write_string(2, 1, "ñ".repeat(256))?;
                sheet.write_string(3, 7, "x".repeat(32_767))?;
                Ok(())
            })
        },
        rejected(1, &[(3, "too_long"), (4, "too_long")]),
    )?;
    cases.xlsx(
        "rich text, inline strings, escapes",
        |ids| {
            let strings = concat!(
                r#"<sst uniqueCount="2"><si><r><t>Jarabe </t></r><r><rPr><b/></rPr><t xml:space="preserve"> &amp; más</t></r>"#,
                r#"<rPh sb="0" eb="1"><t>fonética</t></rPh></si><si><t>a_x0041_b</t></si></sst>"#
            );
            let shared = raw_good(2, &ids.id(1)).replace(
                &format!(r#"<c r="B2" t="inlineStr"><is><t>{}</t></is></c>"#, GOOD[1]),
                r#"<c r="B2" t="s"><v>0</v></c>"#,
            );
            let escaped = raw_good(3, &ids.id(2)).replace(GOOD[1], "x &lt;y&gt; &#241;<!-- no -->");
            raw_xlsx(&raw_sheet(&[raw_header(), shared, escaped]), Some(strings))
        },
        created(2),
    )
}

/// A workbook of a Mac: its dates count from 1904.
fn dates_since_1904(ids: &Ids) -> Result<Vec<u8>> {
    let styles =
        r#"<styleSheet><numFmts/><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>"#;
    let dated = raw_good(2, &ids.id(1)).replace(
        &format!(r#"<c r="C2" t="inlineStr"><is><t>{}</t></is></c>"#, ids.id(1)),
        r#"<c r="C2" s="1"><v>40000</v></c>"#,
    );
    let sheet = raw_sheet(&[raw_header(), dated, raw_good(3, &ids.id(2))]);
    let mut parts = raw_parts(&sheet, None);
    for (name, text) in &mut parts {
        if *name == "xl/workbook.xml" {
            *text = text.replace("<sheets>", r#"<workbookPr date1904="1"/><sheets>"#);
        }
    }
    parts.push(("xl/styles.xml", styles.to_owned()));
    zip_of(&parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>())
}
