use anyhow::Result;
use catalog_upload::domain::Column;

use super::{AMOXICILINA, Sample, book, changed, relate_strings, row_with, xlsx_of};
use crate::made::*;

pub(super) fn all() -> Result<Vec<Sample>> {
    Ok([strings()?, extents()?, cells()?, errors()?, formulas()?].into_iter().flatten().collect())
}

fn strings() -> Result<Vec<Sample>> {
    let shared = [('B', r#"<c r="{at}" t="s"><v>0</v></c>"#)];
    let strings = "<sst><si><t>Ibuprofeno 400 mg</t></si></sst>";
    let old = "<sst><si><t>VIEJO</t></si></sst>";
    Ok(vec![
        Sample {
            created: &[(2, Column::Nombre, AMOXICILINA), (3, Column::Nombre, AMOXICILINA)],
            ..xlsx_of("strings-shadowed", include_bytes!("../../cases/strings-shadowed.xlsx"))
        },
        Sample {
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
        Sample {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg")],
            ..xlsx_of(
                "strings in the folder above, the usual part another file's",
                changed(&[row_with(2, "P1", &shared)], Some(old), |parts| {
                    relate_strings(parts, "../t/./x.xml");
                    parts.push(("t/x.xml".to_owned(), strings.to_owned()));
                })?,
            )
        },
        Sample {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg")],
            ..xlsx_of(
                "strings at the usual path, in other letters",
                changed(&[row_with(2, "P1", &shared)], Some(strings), |parts| {
                    relate_strings(parts, "SharedStrings.xml")
                })?,
            )
        },
    ])
}

fn extents() -> Result<Vec<Sample>> {
    Ok(vec![
        Sample {
            created: &[(2, Column::Nombre, AMOXICILINA), (3, Column::Nombre, AMOXICILINA)],
            ..xlsx_of("dimension-rows-only", include_bytes!("../../cases/dimension-rows-only.xlsx"))
        },
        extent("an extent of columns", r#"<dimension ref="A:M"/>"#)?,
        extent("no extent", "<dimension/>")?,
        extent("an extent that ends before it begins", r#"<dimension ref="M2:A1"></dimension>"#)?,
        extent("an extent of three corners", r#"<dimension ref="A1:B2:C3"/>"#)?,
        extent("an extent beyond every sheet", r#"<dimension ref="A1:ZZZZZZZ99999999"/>"#)?,
        Sample {
            created: &[(2, Column::Nombre, "Ibuprofeno 400 mg"), (3, Column::Nombre, AMOXICILINA)],
            ..xlsx_of("indented-index", include_bytes!("../../cases/indented-index.xlsx"))
        },
    ])
}

fn extent(name: &'static str, dimension: &str) -> Result<Sample> {
    let sheet = raw_sheet(&[raw_header(), raw_row(2, &good("P1"))]);
    let sheet = sheet.replace("<sheetData>", &format!("{dimension}<sheetData>"));
    Ok(Sample { created: &[(2, Column::Nombre, AMOXICILINA)], ..xlsx_of(name, raw_xlsx(&sheet, None)?) })
}

fn cells() -> Result<Vec<Sample>> {
    Ok(vec![
        Sample {
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
        Sample {
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
    ])
}

fn errors() -> Result<Vec<Sample>> {
    Ok(vec![
        Sample {
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
            ..xlsx_of("new-errors", include_bytes!("../../cases/new-errors.xlsx"))
        },
        Sample {
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
    ])
}

fn formulas() -> Result<Vec<Sample>> {
    Ok(vec![
        Sample {
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
        Sample {
            created: &[(5, Column::PrecioUnitario, "12.5")],
            rejected: &[
                (2, "formula_not_computed", "guárdelo"),
                (3, "formula_not_computed", "guárdelo"),
                (4, "formula_not_computed", "guárdelo"),
            ],
            ..xlsx_of("formulas-without-values", include_bytes!("../../cases/formulas-without-values.xlsx"))
        },
        Sample {
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
        Sample {
            created: &[(7, Column::Nombre, "#1 Jeringa 5 ml")],
            rejected: &[
                (2, "formula_error", "nombre"),
                (3, "formula_error", "nombre"),
                (4, "formula_error", "nombre"),
                (5, "formula_error", "nombre"),
                (6, "formula_error", "certificado_sanitario"),
            ],
            ..xlsx_of("errors-as-texts", include_bytes!("../../cases/errors-as-texts.xlsx"))
        },
    ])
}
