use catalog_upload::domain::Column;

use super::{AMOXICILINA, Sample, csv_of};
use crate::made::*;

pub(super) fn all() -> Vec<Sample> {
    [letters(), formulas(), surplus(), numbers(), codes_and_prices()].into_iter().flatten().collect()
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

fn letters() -> Vec<Sample> {
    vec![
        Sample {
            created: &[
                (2, Column::Nombre, "Solución salina niños"),
                (3, Column::Nombre, "Niño crema"),
                (4, Column::Nombre, "Té de menta"),
            ],
            warned: &[(3, "unreadable_text")],
            ..csv_of("one-stray-byte", include_bytes!("../../cases/one-stray-byte.csv"))
        },
        Sample {
            created: &[(2, Column::Nombre, "Solución"), (3, Column::Nombre, "Niño")],
            warned: &[(3, "unreadable_text")],
            ..csv_of("a stray byte behind a byte order mark that says UTF-8", {
                let text = "\u{feff}".to_owned() + &rows_with(";", 1, &["Solución", "Ni@o"]);
                text.bytes().map(|byte| if byte == b'@' { 0xf1 } else { byte }).collect::<Vec<u8>>()
            })
        },
        Sample {
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
        Sample {
            created: &[(2, Column::Nombre, "Solución niños"), (3, Column::Nombre, "Ñandú")],
            ..csv_of(
                "windows-1252 throughout",
                encoding_rs::WINDOWS_1252
                    .encode(&rows_with(";", 1, &["Solución niños", "Ñandú"]))
                    .0
                    .into_owned(),
            )
        },
    ]
}

fn formulas() -> Vec<Sample> {
    vec![
        Sample {
            created: &[(2, Column::Id, "0044001"), (3, Column::Codigo, "0044002")],
            ..csv_of("text-formulas", include_bytes!("../../cases/text-formulas.csv"))
        },
        Sample {
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
        Sample {
            created: &[(2, Column::PrecioUnitario, "12.5"), (3, Column::PrecioUnitario, "7")],
            ..csv_of("numbers as text formulas", rows_with(";", 5, &["=\"12,50\"", "= \"7\""]))
        },
        Sample {
            rejected: &[(2, "formula_in_code", "codigo"), (3, "formula_in_code", "codigo")],
            ..csv_of("formulas where codes belong", rows_with(";", 2, &["=0044001", "=A1&\"x\""]))
        },
        Sample {
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
    ]
}

fn surplus() -> Vec<Sample> {
    vec![
        Sample {
            created: &[(3, Column::PrecioUnitario, "1200.5"), (4, Column::PrecioUnitario, "900")],
            rejected: &[(2, "too_many_values", "9 valores y el encabezado 8 columnas")],
            ..csv_of("decimal-comma-overflows", include_bytes!("../../cases/decimal-comma-overflows.csv"))
        },
        Sample {
            created: &[(2, Column::Nombre, AMOXICILINA), (5, Column::Nombre, AMOXICILINA)],
            rejected: &[(3, "too_many_values", "entre comillas"), (4, "too_many_values", "15 valores")],
            ..csv_of(
                "values beyond the header, and blanks",
                rows_with(",", 12, &["no", "no,sobra", "no, ,x", "no, , "]),
            )
        },
        Sample {
            created: &[(2, Column::Nombre, AMOXICILINA)],
            rejected: &[(3, "too_many_values", "14 valores"), (4, "too_many_values", "14 valores")],
            ..csv_of(
                "values beyond the names, where each line ends with a separator",
                rows_with(",", 12, &["no", "no,50", "no,sobra"]).replace('\n', ",\n"),
            )
        },
        Sample {
            rejected: &[(2, "too_many_values", "9 valores y el encabezado 8 columnas")],
            ..csv_of(
                "a decimal comma in the last column, where the header alone ends with a separator",
                "id,nombre,codigo,categoria,certificado_sanitario,condiciones_almacenamiento,tiempo_entrega_dias,precio_unitario,\n\
                 P2,a,P2,x,c,s,3,12,50\n",
            )
        },
        Sample {
            rejected: &[(2, "too_many_values", "14 valores")],
            ..csv_of("a comma in a name that nobody quoted", rows_with(",", 1, &["Jeringa, 5 ml"]))
        },
    ]
}

fn numbers() -> Vec<Sample> {
    vec![
        Sample {
            rejected: &[
                (2, "digits_lost", "codigo"),
                (3, "digits_lost", "codigo"),
                (4, "digits_lost", "codigo"),
                (5, "digits_lost", "id"),
            ],
            ..csv_of("scientific-codes", include_bytes!("../../cases/scientific-codes.csv"))
        },
        Sample {
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
        Sample {
            rejected: &[
                (2, "formula_error", "nombre"),
                (3, "formula_error", "no cabía"),
                (4, "formula_error", "nombre"),
                (5, "formula_error", "nombre"),
                (6, "formula_error", "nombre"),
                (7, "formula_error", "nombre"),
                (8, "formula_error", "nombre"),
            ],
            ..csv_of(
                "errors as texts, in other languages and programs",
                rows_with(
                    ";",
                    1,
                    &["#¡REF!", "########", "#¡DESBORDAMIENTO!", "Err:502", "#N/D", "#VALEUR!", "#N/DISP"],
                ),
            )
        },
    ]
}

fn codes_and_prices() -> Vec<Sample> {
    vec![
        Sample {
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
        Sample {
            rejected: &[(2, "formula_error", "precio_unitario"), (3, "formula_error", "precio_unitario")],
            ..csv_of("errors where numbers belong", rows_with(";", 5, &["#¡VALOR!", "####"]))
        },
        Sample {
            created: &[(4, Column::Nombre, "dos líneas")],
            rejected: &[(2, "invalid_character", "U+0007"), (3, "invalid_character", "U+009B")],
            warned: &[(4, "joined_lines")],
            ..csv_of(
                "control characters in names",
                rows_with(";", 1, &["Amoxi\u{7}cilina", "a\u{9b}b", "\"dos\n\tlíneas\""]),
            )
        },
        Sample {
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
        Sample {
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
        Sample {
            created: &[(3, Column::PrecioUnitario, "0")],
            rejected: &[(2, "ambiguous_number", "¿1500?")],
            warned: &[(3, "zero_price")],
            ..csv_of("a price that others would make a thousandth", rows_with(";", 5, &["1.500", "0.00"]))
        },
        Sample {
            created: &[(3, Column::PrecioUnitario, "12.5"), (4, Column::PrecioUnitario, "2345")],
            rejected: &[(2, "ambiguous_number", "precio_unitario")],
            ..csv_of("the same with commas", rows_with(";", 5, &["1,500", "12,5", "2.345"]))
        },
    ]
}
