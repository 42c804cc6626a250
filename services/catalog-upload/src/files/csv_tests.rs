use anyhow::Result;
use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};
use proptest::prelude::*;

use super::{FileError, FileKind, Limits, testing::*};
use crate::domain::{Column, validate};

const CSV: FileKind = FileKind::Csv;

fn plain() -> String {
    csv_header(",") + &csv_row(",", "P1") + &csv_row(",", "P2")
}

fn utf16(text: &str, little: bool) -> Vec<u8> {
    text.encode_utf16()
        .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
        .collect()
}

#[test]
fn every_encoding_gives_the_same_rows() -> Result<()> {
    let text = plain();
    let expected = read(text.as_bytes(), CSV)?.rows;
    assert_eq!(expected.len(), 2);
    assert_eq!(expected[0].cell(Column::CondicionesAlmacenamiento).display(), "Entre 15 y 30 °C");
    let marked = |mark: &[u8], body: Vec<u8>| [mark, &body].concat();
    for (name, bytes) in [
        ("utf-8 with a mark", marked(b"\xef\xbb\xbf", text.clone().into_bytes())),
        ("windows-1252", WINDOWS_1252.encode(&text).0.into_owned()),
        (UTF_16LE.name(), marked(b"\xff\xfe", utf16(&text, true))),
        (UTF_16BE.name(), marked(b"\xfe\xff", utf16(&text, false))),
        ("utf-16le without a mark", utf16(&text, true)),
        ("utf-16be without a mark", utf16(&text, false)),
        ("crlf", text.replace('\n', "\r\n").into_bytes()),
        ("cr", text.replace('\n', "\r").into_bytes()),
        ("no last line end", text.trim_end().as_bytes().to_vec()),
    ] {
        assert_eq!(read(&bytes, CSV)?.rows, expected, "{name}");
    }
    Ok(())
}

#[test]
fn a_byte_outside_utf8_far_inside_makes_it_windows_1252() -> Result<()> {
    let mut bytes = plain().replace('°', "o").replace('í', "i").into_bytes();
    for index in 0..3000 {
        bytes.extend_from_slice(csv_row(",", &format!("Q{index}")).replace(['°', 'í'], "o").as_bytes());
    }
    bytes.extend_from_slice(b"Z,Vitamina \xd1,Z,X,,1,C,D,1,,,,\n");
    let read = read(&bytes, CSV)?;
    assert_eq!(
        read.rows.last().map(|row| row.cell(Column::Nombre).display().into_owned()),
        Some("Vitamina Ñ".into())
    );
    Ok(())
}

#[test]
fn a_byte_outside_utf8_costs_its_row_alone() -> Result<()> {
    let good = plain() + &csv_row(",", "P3").repeat(3000);
    let expected = read(good.as_bytes(), CSV)?.rows;
    let row = b"Z,Vitamina \xd1 \xc3\xb1,Z,X,,1,C,D,1,,,,";
    for end in ["\n", "\r\n", "\r"] {
        for mark in [&b""[..], b"\xef\xbb\xbf"] {
            let text = good.replace('\n', end);
            // Once inside, once at the end, where the byte could begin a character that never came.
            let bytes = [mark, text.as_bytes(), row, end.as_bytes(), text.as_bytes(), b"\xd1"].concat();
            let rows = read(&bytes, CSV)?.rows;
            let odd: Vec<usize> = rows
                .iter()
                .enumerate()
                .filter(|(_, row)| row.mixed_encoding)
                .map(|(index, _)| index)
                .collect();
            assert_eq!(odd, [3002, rows.len() - 1], "{end:?}");
            assert_eq!(rows[3002].cell(Column::Nombre).display(), "Vitamina Ñ ñ");
            assert_eq!(rows[..3002], expected[..3002]);
        }
    }
    Ok(())
}

#[test]
fn separators_are_found_and_declared() -> Result<()> {
    let expected = read(plain().as_bytes(), CSV)?.rows;
    for separator in [";", ",", "\t", "|"] {
        let text = csv_header(separator) + &csv_row(separator, "P1") + &csv_row(separator, "P2");
        assert_eq!(read(text.as_bytes(), CSV)?.rows, expected, "{separator:?}");
        for declaration in [format!("sep={separator}\r\n"), format!("\"SEP={separator}\"\n")] {
            let declared = declaration + &text;
            assert_eq!(read(declared.as_bytes(), CSV)?.rows, expected, "{separator:?}");
        }
    }
    let unusual = format!("sep=~\n{}{}{}", csv_header("~"), csv_row("~", "P1"), csv_row("~", "P2"));
    assert_eq!(read(unusual.as_bytes(), CSV)?.rows, expected);
    // The text may hold more of another separator than there are columns.
    let commas =
        csv_header(";") + &csv_row(";", "P1").replace("Amoxicilina 500 mg", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o");
    assert_eq!(read(commas.as_bytes(), CSV)?.rows.len(), 1);
    Ok(())
}

#[test]
fn quotes_over_lines_and_blank_lines_keep_the_numbers() -> Result<()> {
    let text = csv_header(",")
        + "\n"
        + "P1,\"dos\r\nlíneas, \"\"y\"\" comas\",C1,X,,1,C,D,1,,,,\r\n"
        + "\r\n\n"
        + ",,,,,,,,,,,,\n"
        + "P2,n,C2,X,,1,C,\"D\n\",1,,,,\n"
        + "P3,n,C3,X,,1,C,D,1";
    let read = read(text.as_bytes(), CSV)?;
    assert_eq!(numbers(&read), [3, 7, 8]);
    assert_eq!(column(&read, Column::Nombre)[0], "dos\nlíneas, \"y\" comas");
    assert_eq!(column(&read, Column::CondicionesAlmacenamiento)[1], "D");
    assert_eq!(read.total, Some(3));
    Ok(())
}

#[test]
fn a_header_after_titles() -> Result<()> {
    let text = format!("Catálogo,,\n\n{}{}", csv_header(","), csv_row(",", "P1"));
    assert_eq!(numbers(&read(text.as_bytes(), CSV)?), [4]);
    Ok(())
}

#[test]
fn a_quote_that_is_never_closed_is_told_with_its_row() -> Result<()> {
    let text = plain() + "P3,\"abierta,C3,X,,1,C,D,1,,,,\n" + &csv_row(",", "P4");
    assert!(matches!(failure(text.as_bytes(), CSV)?, FileError::CellTooLarge { row: Some(4) }));
    let long = text + &csv_row(",", "P5").repeat(30_000);
    assert!(matches!(failure(long.as_bytes(), CSV)?, FileError::CellTooLarge { row: Some(4) }));
    Ok(())
}

#[test]
fn what_is_no_csv() -> Result<()> {
    assert_eq!(failure(b"", CSV)?.code(), "empty_file");
    assert_eq!(failure(b"\n\n  \n", CSV)?.code(), "empty_file");
    assert_eq!(failure(b"\xef\xbb\xbf", CSV)?.code(), "empty_file");
    assert_eq!(failure(csv_header(";").as_bytes(), CSV)?.code(), "header_only");
    assert_eq!(failure(b"PK\x03\x04whatever", CSV)?.code(), "not_csv");
    let error = failure(b"id,nombre\n1,2\n", CSV)?;
    assert!(error.to_string().starts_with("Columnas faltantes: codigo, categoria, "), "{error}");
    Ok(())
}

#[test]
fn limits_hold() -> Result<()> {
    let limits = Limits { max_rows: 3, ..Limits::default() };
    assert!(read_with(plain().as_bytes(), CSV, &limits)?.is_ok());
    let more = plain() + &csv_row(",", "P3");
    assert!(matches!(read_with(more.as_bytes(), CSV, &limits)?, Err(FileError::TooManyRows { max: 3 })));
    let wide = plain() + &",".repeat(20_000) + "\n";
    assert_eq!(failure(wide.as_bytes(), CSV)?.code(), "too_many_columns");
    Ok(())
}

#[test]
fn a_nul_reaches_the_rules_and_is_refused_there() -> Result<()> {
    let text = csv_header(",") + &csv_row(",", "P1").replace("Amoxi", "Am\0oxi");
    let rows = read(text.as_bytes(), CSV)?.rows;
    assert_eq!(validate(rows[0].clone()).err().map(|error| error.code), Some("invalid_character"));
    Ok(())
}

fn cell() -> impl Strategy<Value = String> {
    "[a-zñ,;\"\n 0-9]{0,8}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is quoted comes back, under the number that counting records by hand gives.
    #[test]
    fn what_is_written_is_read(
        rows in proptest::collection::vec((cell(), cell(), 0usize..3), 1..20),
        crlf in any::<bool>(),
        little in proptest::option::of(any::<bool>()),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = csv_header(",").replace('\n', end);
        let mut expected = Vec::new();
        let mut number = 1;
        for (nombre, condiciones, blank) in &rows {
            number += 1 + blank;
            text.push_str(&end.repeat(*blank));
            let quote = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\"").replace('\n', end));
            text.push_str(&format!("x,{},,,,,,{}{end}", quote(nombre), quote(condiciones)));
            expected.push((number as u32, nombre.trim().to_owned(), condiciones.trim().to_owned()));
        }
        let bytes = match little {
            None => text.into_bytes(),
            Some(true) => [b"\xff\xfe".to_vec(), utf16(&text, true)].concat(),
            Some(false) => [b"\xfe\xff".to_vec(), utf16(&text, false)].concat(),
        };
        let read = read(&bytes, CSV).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let cells: Vec<_> = read.rows.iter().map(|row| {
            let text = |column| row.cell(column).display().into_owned();
            (row.number, text(Column::Nombre), text(Column::CondicionesAlmacenamiento))
        }).collect();
        prop_assert_eq!(cells, expected);
    }

    #[test]
    fn no_bytes_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let text = [csv_header(";").into_bytes(), bytes].concat();
        let _ = read_with(&text, CSV, &Limits::default());
    }
}
