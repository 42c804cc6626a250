//! Text files as programs and people save them, and worse.

use anyhow::Result;
use catalog_upload::{domain::Column, files::FileError};
use encoding_rs::WINDOWS_1252;

use crate::{
    case::{Cases, Ids, created, failed, rejected},
    made::*,
};

/// Header and two good rows.
fn two(separator: &str, ids: &Ids) -> String {
    [csv_header(separator), csv_row(separator, &ids.id(1)), csv_row(separator, &ids.id(2))].concat()
}

/// Header and a row a value, which stands in for a cell of the good row.
fn with(ids: &Ids, cell: &str, values: &[&str]) -> Vec<u8> {
    let rows = (1..).zip(values).map(|(n, value)| csv_row(";", &ids.id(n)).replace(cell, value));
    (csv_header(";") + &rows.collect::<String>()).into_bytes()
}

fn wide(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

fn missing_all() -> FileError {
    FileError::MissingColumns {
        missing: Column::ALL.into_iter().filter(|column| column.required()).collect(),
    }
}

pub fn add(cases: &mut Cases) -> Result<()> {
    encodings(cases)?;
    separators(cases)?;
    quotes(cases)?;
    values(cases)?;
    others(cases)
}

fn encodings(cases: &mut Cases) -> Result<()> {
    cases.csv("utf-8", |ids| two(",", ids).into_bytes(), created(2))?;
    cases.csv("utf-8 with a mark", |ids| format!("\u{feff}{}", two(";", ids)).into_bytes(), created(2))?;
    cases.csv(
        "utf-16 little-endian with a mark",
        |ids| wide(&format!("\u{feff}{}", two("\t", ids)), u16::to_le_bytes),
        created(2),
    )?;
    cases.csv("utf-16 big-endian without one", |ids| wide(&two(";", ids), u16::to_be_bytes), created(2))?;
    cases.csv("windows-1252", |ids| WINDOWS_1252.encode(&two(";", ids)).0.into_owned(), created(2))?;
    cases.csv(
        "a mark that lies",
        |ids| [b"\xef\xbb\xbf", two(";", ids).as_bytes(), b"\xff\xfe\n"].concat(),
        rejected(2, &[(4, "required")]),
    )?;
    cases.csv(
        "half a character of utf-16",
        |ids| {
            let mut bytes = wide(&format!("\u{feff}{}", two(";", ids)), u16::to_le_bytes);
            bytes.extend_from_slice(&wide(&csv_row(";", &ids.id(3)), u16::to_le_bytes));
            let at = bytes.len() - 60;
            bytes[at..at + 2].copy_from_slice(&0xd800u16.to_le_bytes());
            bytes
        },
        created(3),
    )
}

fn separators(cases: &mut Cases) -> Result<()> {
    cases.csv("tabs", |ids| two("\t", ids).into_bytes(), created(2))?;
    cases.csv("pipes", |ids| two("|", ids).into_bytes(), created(2))?;
    cases.csv("sep=;", |ids| format!("sep=;\r\n{}", two(";", ids)).into_bytes(), created(2))?;
    cases.csv(
        "sep= something else",
        |ids| format!("\"sep=~\"\n{}", two("~", ids)).into_bytes(),
        created(2),
    )?;
    cases.csv(
        "commas in a file of semicolons",
        |ids| with(ids, GOOD[1], &["a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", "x"]),
        created(2),
    )?;
    cases.csv(
        "rows by another separator than the header",
        |ids| (two(";", ids) + &csv_row(",", &ids.id(3))).into_bytes(),
        rejected(2, &[(4, "required")]),
    )?;
    cases.csv("carriage returns only", |ids| two(";", ids).replace('\n', "\r").into_bytes(), created(2))?;
    cases.csv(
        "every kind of line end",
        |ids| {
            let rows = [
                csv_header(";"),
                csv_row(";", &ids.id(1)),
                csv_row(";", &ids.id(2)),
                csv_row(";", &ids.id(3)),
            ];
            let ends = ["\r\n", "\r", "\n", ""];
            rows.iter()
                .zip(ends)
                .map(|(row, end)| row.trim_end().to_owned() + end)
                .collect::<String>()
                .into_bytes()
        },
        created(3),
    )?;
    cases.csv(
        "short rows, long rows, blank rows",
        |ids| {
            let row = csv_row(";", &ids.id(1));
            let short: String = csv_row(";", &ids.id(2)).split(';').take(9).collect::<Vec<_>>().join(";");
            format!("{}\n{};sobra;sobra\n\n;;;;\n{short}\n{}\n", csv_header(";"), row.trim_end(), "solo")
                .into_bytes()
        },
        rejected(1, &[(3, "too_many_values"), (7, "required")]),
    )
}

fn quotes(cases: &mut Cases) -> Result<()> {
    cases.csv(
        "quotes over lines",
        |ids| with(ids, GOOD[1], &["\"dos\r\nlíneas; \"\"y\"\" comillas\"", "x", "\"\n\n\""]),
        rejected(2, &[(4, "required")]),
    )?;
    cases.csv(
        "a quote that is never closed",
        |ids| (two(";", ids) + "P3;\"abierta;C3\n" + &csv_row(";", &ids.id(4))).into_bytes(),
        failed(&FileError::CellTooLarge { row: Some(4) }),
    )?;
    cases.csv(
        "5 MB after a quote that is never closed",
        |ids| {
            let rest = csv_row(";", &ids.id(9)).repeat(50_000);
            (two(";", ids) + "P3;\"abierta;C3\n" + &rest).into_bytes()
        },
        failed(&FileError::CellTooLarge { row: Some(4) }),
    )?;
    cases.csv(
        "5 MB without a line end",
        |ids| (two(";", ids) + &"x;".repeat(5 << 19)).into_bytes(),
        failed(&FileError::CellTooLarge { row: Some(4) }),
    )?;
    cases.csv(
        "quotes in the middle",
        |ids| with(ids, GOOD[1], &["Jeringa 1\" x 10", "\"\"\"entre comillas\"\"\""]),
        created(2),
    )
}

fn values(cases: &mut Cases) -> Result<()> {
    cases.csv(
        "decimal commas",
        |ids| with(ids, GOOD[5], &["1.234", "12,5", "$ 1.234.567,89", "1 234,50"]),
        created(4),
    )?;
    cases.csv("decimal points", |ids| with(ids, GOOD[5], &["1,234", "12.5", "$1,234,567.89"]), created(3))?;
    cases.csv(
        "numbers that could be two",
        |ids| with(ids, GOOD[5], &["1.234", "1500", "2,345"]),
        rejected(1, &[(2, "ambiguous_number"), (4, "ambiguous_number")]),
    )?;
    cases.csv(
        "points and commas mixed",
        |ids| with(ids, GOOD[5], &["12,5", "12.5", "1.234"]),
        rejected(2, &[(4, "ambiguous_number")]),
    )?;
    cases.csv(
        "what is no number",
        |ids| with(ids, GOOD[5], &["1e308", "NaN", "inf", "0x10", "-0", "-1", "12 COP", "٣", "1e5"]),
        rejected(
            1,
            &[
                (2, "not_a_number"),
                (3, "not_a_number"),
                (4, "not_a_number"),
                (5, "not_a_number"),
                (7, "out_of_range"),
                (8, "not_a_number"),
                (9, "not_a_number"),
                (10, "not_a_number"),
            ],
        ),
    )?;
    cases.csv(
        "control characters",
        |ids| with(ids, GOOD[1], &["Amoxi\0cilina", "\0", "x", "Amoxi\u{7}cilina"]),
        rejected(1, &[(2, "invalid_character"), (3, "invalid_character"), (5, "invalid_character")]),
    )?;
    cases.csv(
        "texts meant for somebody else",
        |ids| {
            with(
                ids,
                GOOD[1],
                &[
                    "\"'; DROP TABLE products; --\"",
                    "<script>alert(1)</script>",
                    "=cmd|' /C calc'!A0",
                    "${jndi:ldap://x}",
                    "{{7*7}} %s %n \\",
                    "\\N",
                    "../../etc/passwd",
                ],
            )
        },
        created(7),
    )?;
    cases.csv(
        "codes that Excel cut",
        |ids| {
            let cut = csv_row(";", "7,70123E+12");
            (two(";", ids) + &cut).into_bytes()
        },
        rejected(2, &[(4, "digits_lost")]),
    )?;
    cases.csv(
        "errors that Excel wrote as texts",
        |ids| with(ids, GOOD[1], &["#N/A", "#¡VALOR!", "####", "#1 Jeringa"]),
        rejected(1, &[(2, "formula_error"), (3, "formula_error"), (4, "formula_error")]),
    )?;
    cases.csv(
        "texts over their limits",
        |ids| with(ids, GOOD[3], &[&"x".repeat(64), &"x".repeat(65), &"ñ".repeat(100_000)]),
        rejected(1, &[(3, "too_long"), (4, "too_long")]),
    )
}

fn others(cases: &mut Cases) -> Result<()> {
    cases.csv("nothing", |_| Vec::new(), failed(&FileError::Empty))?;
    cases.csv("blank lines only", |_| b"\n\n  \n".to_vec(), failed(&FileError::Empty))?;
    cases.csv("the header only", |_| csv_header(";").into_bytes(), failed(&FileError::HeaderOnly))?;
    cases.csv(
        "a workbook",
        |ids| xlsx(|sheet| write_row_as(sheet, 1, &ids.id(1))).unwrap_or_default(),
        failed(&FileError::NotCsv),
    )?;
    cases.csv(
        "a PDF",
        |_| b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n".to_vec(),
        failed(&missing_all()),
    )?;
    cases.csv(
        "a web page",
        |_| b"<html>\n<table>\n<tr><td>id</td></tr>\n</table>\n</html>\n".to_vec(),
        failed(&missing_all()),
    )?;
    cases.csv(
        "100,000 columns",
        |ids| (two(";", ids) + &";".repeat(100_000) + "\n").into_bytes(),
        failed(&FileError::TooManyColumns { max: 16_384 }),
    )?;
    cases.csv(
        "no line of it is a header",
        |_| "id;nombre\n".repeat(1_000).into_bytes(),
        failed(&FileError::MissingColumns {
            missing: Column::ALL[2..].iter().copied().filter(|column| column.required()).collect(),
        }),
    )
}
