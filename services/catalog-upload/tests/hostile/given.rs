//! Files that gave wrong data in products like this one, and what each must give; beside each, others of its
//! kind. `tests/cases` holds those that were found. Read and ruled upon as the worker does it.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use catalog_upload::{
    domain::{Claims, Column, ImportContext, Outcome, ProductRow, classify, validate},
    files::{FileKind, Limits, open},
};

use crate::made::*;

/// A file, and what it must give.
struct Given {
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
    let given: Vec<Given> = workbooks()?.into_iter().chain(texts()).collect();
    for given in &given {
        if let Err(error) = check(given) {
            wrong.push(format!("{}: {error:#}", given.name));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), given.len(), wrong.join("\n"));
    Ok(())
}

fn check(given: &Given) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&given.bytes)?;
    let mut reader = open(file.path(), given.kind, &Limits::default())?;
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
    for (decision, row) in classify(&valid, &[], &Claims::nothing(0), context).into_iter().zip(&valid) {
        match decision.outcome {
            Outcome::Reject(error) => rejected.push(error),
            _ => created.push(row),
        }
    }
    rejected.sort_by_key(|error| error.row);
    let found: Vec<_> = created.iter().map(|row| row.row).collect();
    let expected: Vec<_> = given.created.iter().map(|(row, ..)| *row).collect();
    ensure!(
        found == expected,
        "rows {found:?} become products, expected {expected:?}; rejected: {rejected:?}"
    );
    for (row, (_, column, text)) in created.iter().zip(given.created) {
        let value = value(row, *column).context("a column of texts")?;
        ensure!(value == *text, "row {}: {} is {value:?}, expected {text:?}", row.row, column.name());
    }
    let found: Vec<_> = rejected.iter().map(|error| (error.row, error.code)).collect();
    let expected: Vec<_> = given.rejected.iter().map(|(row, code, _)| (*row, *code)).collect();
    ensure!(found == expected, "rejected {found:?}, expected {expected:?}");
    for (error, (row, _, word)) in rejected.iter().zip(given.rejected) {
        ensure!(error.message.contains(word), "row {row}: {:?} lacks {word:?}", error.message);
    }
    ensure!(warned == given.warned, "warned {warned:?}, expected {:?}", given.warned);
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

fn xlsx_of(name: &'static str, bytes: impl Into<Vec<u8>>) -> Given {
    Given { name, kind: FileKind::Xlsx, bytes: bytes.into(), created: &[], rejected: &[], warned: &[] }
}

fn csv_of(name: &'static str, bytes: impl Into<Vec<u8>>) -> Given {
    Given { kind: FileKind::Csv, ..xlsx_of(name, bytes) }
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

fn workbooks() -> Result<Vec<Given>> {
    let shared = [('B', r#"<c r="{at}" t="s"><v>0</v></c>"#)];
    let strings = "<sst><si><t>Ibuprofeno 400 mg</t></si></sst>";
    let old = "<sst><si><t>VIEJO</t></si></sst>";
    Ok(vec![
        Given {
            created: &[(2, Column::Nombre, AMOXICILINA), (3, Column::Nombre, AMOXICILINA)],
            ..xlsx_of("strings-shadowed", include_bytes!("../cases/strings-shadowed.xlsx"))
        },
        Given {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg")],
            ..xlsx_of(
                "strings elsewhere, by a path from the root, and no usual part",
                changed(&[row_with(2, "P1", &shared)], Some(strings), |parts| {
                    relate_strings(parts, "/textos/Tabla.xml");
                    parts.iter_mut().filter(|part| part.0.ends_with("sharedStrings.xml")).for_each(|part| {
                        part.0 = "textos/Tabla.xml".to_owned();
                    });
                })?,
            )
        },
        Given {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg")],
            ..xlsx_of(
                "strings in the folder above, the usual part another file's",
                changed(&[row_with(2, "P1", &shared)], Some(old), |parts| {
                    relate_strings(parts, "../t/./x.xml");
                    parts.push(("t/x.xml".to_owned(), strings.to_owned()));
                })?,
            )
        },
        Given {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg")],
            ..xlsx_of(
                "strings at the usual path, in other letters",
                changed(&[row_with(2, "P1", &shared)], Some(strings), |parts| {
                    relate_strings(parts, "SharedStrings.xml")
                })?,
            )
        },
        Given {
            created: &[(2, Column::Nombre, AMOXICILINA), (3, Column::Nombre, AMOXICILINA)],
            ..xlsx_of("dimension-rows-only", include_bytes!("../cases/dimension-rows-only.xlsx"))
        },
        extent("an extent of columns", r#"<dimension ref="A:M"/>"#)?,
        extent("no extent", "<dimension/>")?,
        extent("an extent that ends before it begins", r#"<dimension ref="M2:A1"></dimension>"#)?,
        extent("an extent of three corners", r#"<dimension ref="A1:B2:C3"/>"#)?,
        extent("an extent beyond every sheet", r#"<dimension ref="A1:ZZZZZZZ99999999"/>"#)?,
        Given {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg"), (3, Column::Nombre, AMOXICILINA)],
            ..xlsx_of("indented-index", include_bytes!("../cases/indented-index.xlsx"))
        },
        Given {
            created: &[
                (2, Column::Nombre, "dos"),
                (3, Column::PrecioUnitario, "12.5"),
                (4, Column::RequiereLote, "true"),
                (5, Column::StockMinimo, "20"),
                (6, Column::Nombre, "dos"),
            ],
            ..xlsx_of(
                "blanks around every kind of value",
                book(
                    &[
                        row_with(2, "P2", &[('B', "<c r=\"{at}\" t=\"s\"><v> 1</v></c>")]),
                        row_with(3, "P3", &[('F', "<c r=\"{at}\" t=\"n\"><v>\n12.5\t</v></c>")]),
                        row_with(4, "P4", &[('L', "<c r=\"{at}\" t=\"b\"><v>  1 </v></c>")]),
                        row_with(5, "P5", &[('J', "<c r=\"{at}\"><v xml:space=\"preserve\"> 2E1 </v></c>")]),
                        row_with(6, "P6", &[('B', "<c r=\"{at}\" t=\"s\"><v><![CDATA[1]]></v></c>")]),
                    ],
                    Some("<sst><si><t>uno</t></si><si><t>dos</t></si></sst>"),
                )?,
            )
        },
        Given {
            created: &[(2, Column::Nombre, AMOXICILINA), (12, Column::Nombre, AMOXICILINA)],
            rejected: &[
                (3, "formula_error", "precio_unitario"),
                (4, "formula_error", "precio_unitario"),
                (5, "formula_error", "precio_unitario"),
                (6, "formula_error", "precio_unitario"),
                (7, "formula_error", "precio_unitario"),
                (8, "formula_error", "precio_unitario"),
                (9, "formula_error", "precio_unitario"),
                (10, "formula_error", "precio_unitario"),
                (11, "formula_error", "precio_unitario"),
            ],
            ..xlsx_of("new-errors", include_bytes!("../cases/new-errors.xlsx"))
        },
        Given {
            created: &[(5, Column::Nombre, AMOXICILINA)],
            rejected: &[
                (2, "formula_error", "nombre"),
                (3, "formula_error", "nombre"),
                (4, "formula_error", "requiere_lote"),
            ],
            ..xlsx_of(
                "errors that no list has, and one that is none of ours",
                book(
                    &[
                        row_with(2, "P2", &[('B', r#"<c r="{at}" t="e"><v>#NUEVO_2031!</v></c>"#)]),
                        row_with(3, "P3", &[('B', r#"<c r="{at}" t="e"><v>quién sabe</v></c>"#)]),
                        row_with(4, "P4", &[('L', r#"<c r="{at}" t="e"><v>#NULL!</v></c>"#)]),
                        row_with(5, "P5", &[]),
                    ],
                    None,
                )?,
            )
        },
        Given {
            created: &[
                (2, Column::RequiereLote, "true"),
                (3, Column::RequiereLote, "false"),
                (4, Column::RequiereLote, "true"),
            ],
            rejected: &[(5, "not_a_boolean", "requiere_lote"), (6, "not_a_number", "tiempo_entrega_dias")],
            ..xlsx_of(
                "truth in words, and values of other types than they say",
                book(
                    &[
                        row_with(2, "P2", &[('L', r#"<c r="{at}" t="b"><v>TRUE</v></c>"#)]),
                        row_with(3, "P3", &[('L', r#"<c r="{at}" t="b"><v>falso</v></c>"#)]),
                        row_with(4, "P4", &[('L', r#"<c r="{at}" t="b"><v>Verdadero</v></c>"#)]),
                        row_with(5, "P5", &[('L', r#"<c r="{at}" t="b"><v>2</v></c>"#)]),
                        row_with(6, "P6", &[('I', r#"<c r="{at}" t="n"><v>tres</v></c>"#)]),
                    ],
                    None,
                )?,
            )
        },
        Given {
            created: &[
                (2, Column::PrecioUnitario, "12.5"),
                (3, Column::Nombre, "x"),
                (4, Column::Nombre, AMOXICILINA),
            ],
            rejected: &[(5, "unreadable_text", "nombre")],
            ..xlsx_of(
                "cells that cost themselves alone",
                book(
                    &[
                        row_with(2, "P2", &[('F', r#"<c r="{at}" t="n"><v>12,5</v></c>"#)]),
                        row_with(3, "P3", &[('B', r#"<c r="{at}" t="quién"><v>x</v></c>"#)]),
                        row_with(4, "P4", &[('F', r#"<c r="{at}"><v>7</v><extLst><ext/></extLst></c>"#)]),
                        row_with(5, "P5", &[('B', r#"<c r="{at}" t="s"><v>7</v></c>"#)]),
                    ],
                    Some("<sst><si><t>uno</t></si></sst>"),
                )?,
            )
        },
        Given {
            created: &[(5, Column::PrecioUnitario, "12.5")],
            rejected: &[
                (2, "formula_not_computed", "guárdelo"),
                (3, "formula_not_computed", "guárdelo"),
                (4, "formula_not_computed", "guárdelo"),
            ],
            ..xlsx_of("formulas-without-values", include_bytes!("../cases/formulas-without-values.xlsx"))
        },
        Given {
            created: &[(4, Column::Nombre, AMOXICILINA)],
            rejected: &[
                (2, "formula_not_computed", "stock_minimo"),
                (3, "formula_not_computed", "requiere_lote"),
            ],
            ..xlsx_of(
                "shared formulas and formulas of optional columns",
                book(
                    &[
                        row_with(2, "P2", &[('J', r#"<c r="{at}"><f t="shared" si="0"/></c>"#)]),
                        row_with(3, "P3", &[('L', r#"<c r="{at}" t="b"><f>A1=1</f><v/></c>"#)]),
                        // An empty text is a value.
                        row_with(4, "P4", &[('E', r#"<c r="{at}" t="str"><f>IF(1,"","x")</f><v></v></c>"#)]),
                    ],
                    None,
                )?,
            )
        },
        Given {
            created: &[(7, Column::Nombre, "#1 Jeringa 5 ml")],
            rejected: &[
                (2, "formula_error", "nombre"),
                (3, "formula_error", "nombre"),
                (4, "formula_error", "nombre"),
                (5, "formula_error", "nombre"),
                (6, "formula_error", "certificado_sanitario"),
            ],
            ..xlsx_of("errors-as-texts", include_bytes!("../cases/errors-as-texts.xlsx"))
        },
    ])
}

fn extent(name: &'static str, dimension: &str) -> Result<Given> {
    let sheet = raw_sheet(&[raw_header(), raw_row(2, &good("P1"))]);
    let sheet = sheet.replace("<sheetData>", &format!("{dimension}<sheetData>"));
    Ok(Given { created: &[(2, Column::Nombre, AMOXICILINA)], ..xlsx_of(name, raw_xlsx(&sheet, None)?) })
}

/// The header and good rows in which a cell has other values.
fn rows_with(separator: &str, at: usize, values: &[&str]) -> String {
    let row = |(index, value): (usize, &&str)| {
        let id = format!("P{}", index + 2);
        let mut cells = good(&id);
        cells[at] = value;
        cells.join(separator) + "\n"
    };
    csv_header(separator) + &values.iter().enumerate().map(row).collect::<String>()
}

fn texts() -> Vec<Given> {
    vec![
        Given {
            created: &[
                (2, Column::Nombre, "Solución salina niños"),
                (3, Column::Nombre, "Niño crema"),
                (4, Column::Nombre, "Té de menta"),
            ],
            warned: &[(3, "unreadable_text")],
            ..csv_of("one-stray-byte", include_bytes!("../cases/one-stray-byte.csv"))
        },
        Given {
            created: &[(2, Column::Nombre, "Solución"), (3, Column::Nombre, "Niño")],
            warned: &[(3, "unreadable_text")],
            ..csv_of("a stray byte behind a byte order mark that says UTF-8", {
                let text = "\u{feff}".to_owned() + &rows_with(";", 1, &["Solución", "Ni@o"]);
                text.bytes().map(|byte| if byte == b'@' { 0xf1 } else { byte }).collect::<Vec<u8>>()
            })
        },
        Given {
            created: &[
                (2, Column::Nombre, "Té"),
                (3, Column::Nombre, "Niño"),
                (4, Column::Nombre, "é"),
                (5, Column::Nombre, "ú"),
            ],
            warned: &[(3, "unreadable_text"), (5, "unreadable_text")],
            ..csv_of("lines of two files, with line ends of Windows", {
                let text = rows_with(",", 1, &["Té", "Ni@o", "é", "|"]).replace('\n', "\r\n");
                let stray = |byte| match byte {
                    b'@' => 0xf1,
                    b'|' => 0xfa,
                    byte => byte,
                };
                text.bytes().map(stray).collect::<Vec<u8>>()
            })
        },
        Given {
            created: &[(2, Column::Nombre, "Solución niños"), (3, Column::Nombre, "Ñandú")],
            ..csv_of(
                "windows-1252 throughout",
                encoding_rs::WINDOWS_1252
                    .encode(&rows_with(";", 1, &["Solución niños", "Ñandú"]))
                    .0
                    .into_owned(),
            )
        },
        Given {
            created: &[(2, Column::Id, "0044001"), (3, Column::Codigo, "0044002")],
            ..csv_of("text-formulas", include_bytes!("../cases/text-formulas.csv"))
        },
        Given {
            created: &[
                (2, Column::Nombre, "007"),
                (3, Column::Nombre, "a \"b\""),
                (4, Column::Nombre, "=\"a\"&\"b\""),
            ],
            ..csv_of(
                "texts as formulas, quoted or not, and one that is more than a text",
                rows_with(
                    ";",
                    1,
                    &["=\"007\"", "\"=\"\"a \"\"\"\"b\"\"\"\"\"\"\"", "\"=\"\"a\"\"&\"\"b\"\"\""],
                ),
            )
        },
        Given {
            created: &[(2, Column::PrecioUnitario, "12.5"), (3, Column::PrecioUnitario, "7")],
            ..csv_of("numbers as text formulas", rows_with(";", 5, &["=\"12,50\"", "= \"7\""]))
        },
        Given {
            rejected: &[(2, "formula_in_code", "codigo"), (3, "formula_in_code", "codigo")],
            ..csv_of("formulas where codes belong", rows_with(";", 2, &["=0044001", "=A1&\"x\""]))
        },
        Given {
            created: &[
                (2, Column::Nombre, "=1+1"),
                (3, Column::Nombre, "-5 %"),
                (4, Column::Nombre, "'=1+1"),
                (5, Column::Nombre, "'s Gravenhage"),
            ],
            ..csv_of(
                "the quote of our own files",
                rows_with(";", 1, &["'=1+1", "'-5 %", "''=1+1", "'s Gravenhage"]),
            )
        },
        Given {
            created: &[(3, Column::PrecioUnitario, "1200.5"), (4, Column::PrecioUnitario, "900")],
            rejected: &[(2, "too_many_values", "9 valores y el encabezado 8 columnas")],
            ..csv_of("decimal-comma-overflows", include_bytes!("../cases/decimal-comma-overflows.csv"))
        },
        Given {
            created: &[(2, Column::Nombre, AMOXICILINA), (5, Column::Nombre, AMOXICILINA)],
            rejected: &[(3, "too_many_values", "entre comillas"), (4, "too_many_values", "15 valores")],
            ..csv_of(
                "values beyond the header, and blanks",
                rows_with(",", 12, &["no", "no,sobra", "no, ,x", "no, , "]),
            )
        },
        Given {
            rejected: &[(2, "too_many_values", "14 valores")],
            ..csv_of("a comma in a name that nobody quoted", rows_with(",", 1, &["Jeringa, 5 ml"]))
        },
        Given {
            rejected: &[
                (2, "digits_lost", "codigo"),
                (3, "digits_lost", "codigo"),
                (4, "digits_lost", "codigo"),
                (5, "digits_lost", "id"),
            ],
            ..csv_of("scientific-codes", include_bytes!("../cases/scientific-codes.csv"))
        },
        Given {
            created: &[(5, Column::Codigo, "12E5"), (6, Column::Codigo, "7701234567890123456")],
            rejected: &[
                (2, "digits_lost", "codigo"),
                (3, "digits_lost", "codigo"),
                (4, "digits_lost", "codigo"),
            ],
            ..csv_of(
                "numbers in short, and codes that only look like some",
                rows_with(";", 2, &["7,7e+12", "1E+15", "2.50E-05", "12E5", "7701234567890123456"]),
            )
        },
        Given {
            rejected: &[
                (2, "formula_error", "nombre"),
                (3, "formula_error", "no cabía"),
                (4, "formula_error", "nombre"),
                (5, "formula_error", "nombre"),
                (6, "formula_error", "nombre"),
                (7, "formula_error", "nombre"),
            ],
            ..csv_of(
                "errors as texts, in other languages and programs",
                rows_with(
                    ";",
                    1,
                    &["#¡REF!", "########", "#¡DESBORDAMIENTO!", "Err:502", "#N/D", "#VALEUR!"],
                ),
            )
        },
        Given {
            created: &[
                (2, Column::Nombre, "# 1"),
                (3, Column::Nombre, "#"),
                (4, Column::Nombre, "#Nuevo!"),
                (5, Column::Nombre, "Error #N/A"),
            ],
            ..csv_of(
                "number signs that are no errors",
                rows_with(";", 1, &["# 1", "#", "#Nuevo!", "Error #N/A"]),
            )
        },
        Given {
            rejected: &[(2, "formula_error", "precio_unitario"), (3, "formula_error", "precio_unitario")],
            ..csv_of("errors where numbers belong", rows_with(";", 5, &["#¡VALOR!", "####"]))
        },
        Given {
            created: &[(4, Column::Nombre, "dos líneas")],
            rejected: &[(2, "invalid_character", "U+0007"), (3, "invalid_character", "U+009B")],
            warned: &[(4, "joined_lines")],
            ..csv_of(
                "control characters in names",
                rows_with(";", 1, &["Amoxi\u{7}cilina", "a\u{9b}b", "\"dos\n\tlíneas\""]),
            )
        },
        Given {
            rejected: &[
                (2, "invalid_character", "salto de línea"),
                (3, "invalid_character", "U+001B"),
                (4, "invalid_character", "invisibles"),
            ],
            ..csv_of(
                "control characters in codes",
                rows_with(";", 2, &["\"A\n1\"", "A\u{1b}1", "\u{ad}\u{2066}"]),
            )
        },
        Given {
            created: &[(2, Column::Codigo, "CAF\u{c9}-1")],
            rejected: &[
                (3, "duplicate_in_file", "Producto duplicado"),
                (4, "duplicate_in_file", "Producto duplicado"),
            ],
            warned: &[(3, "normalized_text"), (4, "normalized_text")],
            ..csv_of(
                "codes that look alike",
                rows_with(";", 2, &["CAF\u{c9}-1", "CAFE\u{301}-1", "CAF\u{c9}\u{200b}-1"]),
            )
        },
        Given {
            created: &[(3, Column::PrecioUnitario, "0")],
            rejected: &[(2, "ambiguous_number", "¿1500?")],
            warned: &[(3, "zero_price")],
            ..csv_of("a price that others would make a thousandth", rows_with(";", 5, &["1.500", "0.00"]))
        },
        Given {
            created: &[(3, Column::PrecioUnitario, "12.5"), (4, Column::PrecioUnitario, "2345")],
            rejected: &[(2, "ambiguous_number", "precio_unitario")],
            ..csv_of("the same with commas", rows_with(";", 5, &["1,500", "12,5", "2.345"]))
        },
    ]
}
