//! Workbooks that are broken, disguised or meant to exhaust who opens them.

use anyhow::Result;
use catalog_upload::files::FileError;
use zip::CompressionMethod;

use crate::{
    case::{Cases, Ids, corrupt, created, failed, hostile},
    made::*,
};

/// The bytes before an OLE file's directory: an old .xls, or a workbook under a password.
const OLE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

fn sheet(ids: &Ids) -> String {
    raw_sheet(&[raw_header(), raw_row(2, &good(&ids.id(1)))])
}

fn parts(ids: &Ids) -> Vec<(&'static str, String)> {
    raw_parts(&sheet(ids), None)
}

/// A good workbook with further parts.
fn with(ids: &Ids, more: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let own = parts(ids);
    let own = own.iter().map(|(name, text)| (*name, text.as_bytes()));
    zip_of(&own.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// Text that compresses badly, so that what holds it is no bomb.
fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let mut text = String::with_capacity(bytes + 8);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!("{:08x}", state >> 32));
    }
    text
}

/// A workbook whose list has one part as so many sheets.
fn listed(sheet: &str, sheets: usize) -> Result<Vec<u8>> {
    let mut parts = raw_parts(sheet, None);
    for (name, text) in &mut parts {
        if *name == "xl/workbook.xml" {
            let names: String = (0..sheets)
                .map(|number| format!(r#"<sheet name="S{number}" sheetId="{number}" r:id="rId1"/>"#))
                .collect();
            *text = text.replace(r#"<sheet name="Sheet1" sheetId="1" r:id="rId1"/>"#, &names);
        }
    }
    let parts: Vec<_> = parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    zip_by(CompressionMethod::Stored, &parts)
}

/// Replaces bytes in an archive, everywhere: names and numbers stand in it twice.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "an archive's offsets must stay");
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// Sets two bytes at an offset of each local and each directory header.
fn patched_headers(mut bytes: Vec<u8>, local: usize, directory: usize, value: [u8; 2]) -> Vec<u8> {
    for at in 0..bytes.len() - 46 {
        let offset = match &bytes[at..at + 4] {
            b"PK\x03\x04" => local,
            b"PK\x01\x02" => directory,
            _ => continue,
        };
        bytes[at + offset..at + offset + 2].copy_from_slice(&value);
    }
    bytes
}

pub fn add(cases: &mut Cases) -> Result<()> {
    bombs(cases)?;
    long_texts(cases)?;
    lies(cases)?;
    broken(cases)?;
    disguised(cases)?;
    harmless(cases)
}

/// Little that becomes much.
fn bombs(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "a bomb of 100 to 1",
        |ids| {
            let rows = "<row></row>".repeat(5 << 20);
            raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &good(&ids.id(1))), rows]), None)
        },
        hostile("se descomprime más de 100 veces"),
    )?;
    cases.xlsx(
        "bombs inside an archive inside",
        |ids| {
            let zeros = vec![0; 50 << 20];
            let inner = zip_of(&[("a.bin", &zeros), ("b.bin", &zeros)])?;
            let middle = zip_of(&[("1.zip", &inner), ("2.zip", &inner), ("3.zip", &inner)])?;
            with(ids, &[("xl/embeddings/oleObject1.zip", &middle)])
        },
        // Nobody opens what is inside.
        created(1),
    )?;
    cases.xlsx(
        "a bomb beside the sheet",
        |ids| with(ids, &[("xl/media/image1.bin", &vec![0; 200 << 20])]),
        hostile("se descomprime más de 100 veces"),
    )?;
    cases.xlsx(
        "60,000 parts",
        |ids| {
            let names: Vec<String> = (0..60_000).map(|index| format!("xl/media/{index}.png")).collect();
            let more: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
            with(ids, &more)
        },
        hostile("más de 2000 partes"),
    )?;
    cases.xlsx("one sheet under 300 names", |ids| listed(&sheet(ids), 300), hostile("más de 255 hojas"))?;
    cases.xlsx(
        "one sheet without a value under 200 names",
        |_| {
            let row =
                |row| format!(r#"<row r="{row}"><c r="A{row}" t="inlineStr"><is><t> </t></is></c></row>"#);
            listed(&raw_sheet(&(1..=100_000).map(row).collect::<Vec<_>>()), 200)
        },
        hostile("las mismas celdas en muchas hojas"),
    )?;
    cases.xlsx(
        "entities of entities",
        |ids| {
            let mut doctype = String::from("<!DOCTYPE lolz [<!ENTITY l0 \"lol\">");
            for level in 1..10 {
                let references = format!("&l{};", level - 1).repeat(10);
                doctype.push_str(&format!("<!ENTITY l{level} \"{references}\">"));
            }
            raw_xlsx(&format!("{doctype}]>{}", sheet(ids).replace(GOOD[1], "&l9;")), None)
        },
        hostile("contiene un DOCTYPE"),
    )?;
    Ok(())
}

/// Texts that no memory is to hold.
fn long_texts(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "a cell of 10 MB",
        |ids| {
            let long = noise(10 << 20);
            let mut cells = good("x");
            cells[1] = &long;
            raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &good(&ids.id(1))), raw_row(3, &cells)]), None)
        },
        failed(&FileError::CellTooLarge { row: Some(3) }),
    )?;
    cases.xlsx(
        "a shared string of 10 MB",
        |ids| raw_xlsx(&sheet(ids), Some(&format!("<sst><si><t>{}</t></si></sst>", noise(10 << 20)))),
        failed(&FileError::CellTooLarge { row: None }),
    )?;
    cases.xlsx(
        "a cell of many pieces",
        |ids| {
            let pieces: String = noise(2 << 20)
                .as_bytes()
                .chunks(16)
                .map(|piece| format!("<r><t>{}</t></r>", String::from_utf8_lossy(piece)))
                .collect();
            let cell = format!(r#"<row r="3"><c r="A3" t="inlineStr"><is>{pieces}</is></c></row>"#);
            raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &good(&ids.id(1))), cell]), None)
        },
        failed(&FileError::CellTooLarge { row: Some(3) }),
    )?;
    cases.xlsx(
        "styles of 20 MB",
        |ids| {
            let text = noise(10 << 20);
            let styles: String = text
                .as_bytes()
                .chunks(8)
                .map(|id| format!("<xf a=\"{}\"/>", String::from_utf8_lossy(id)))
                .collect();
            with(ids, &[("xl/styles.xml", format!("<styleSheet>{styles}</styleSheet>").as_bytes())])
        },
        hostile("styles.xml supera 8 MB"),
    )
}

/// What is declared and isn't so.
fn lies(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "four billion strings declared",
        |ids| {
            let strings = r#"<sst count="1" uniqueCount="4000000000"><si><t>x</t></si></sst>"#;
            raw_xlsx(&sheet(ids), Some(strings))
        },
        hostile("declara más textos de los que tiene"),
    )?;
    cases.xlsx(
        "a false extent",
        |ids| {
            let lie = r#"<dimension ref="A1:XFD1048576"/><sheetData>"#;
            raw_xlsx(&sheet(ids).replace("<sheetData>", lie), None)
        },
        created(1),
    )?;
    cases.xlsx(
        "a DOCTYPE",
        |ids| raw_xlsx(&format!("<!DOCTYPE x SYSTEM \"file:///etc/passwd\">{}", sheet(ids)), None),
        hostile("contiene un DOCTYPE"),
    )?;
    cases.xlsx(
        "a sheet in UTF-16",
        |ids| {
            let wide: Vec<u8> =
                format!("\u{feff}{}", sheet(ids)).encode_utf16().flat_map(u16::to_le_bytes).collect();
            let mut parts: Vec<(&str, Vec<u8>)> =
                parts(ids).into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
            parts[4].1 = wide;
            zip_of(&parts.iter().map(|(name, bytes)| (*name, &bytes[..])).collect::<Vec<_>>())
        },
        corrupt("una parte no está en UTF-8"),
    )?;
    cases.xlsx(
        "a sheet under an image's name",
        |ids| with(ids, &[("xl/media/image1.png", sheet(ids).as_bytes())]),
        hostile("una hoja con nombre engañoso"),
    )?;
    cases.xlsx(
        "two parts of one name",
        |ids| {
            let second =
                raw_sheet(&[raw_header(), raw_row(2, &good(&ids.id(1))), raw_row(3, &good(&ids.id(2)))]);
            let bytes = with(ids, &[("xl/worksheets/sheet2.xml", second.as_bytes())])?;
            Ok(patched(bytes, b"worksheets/sheet2.xml", b"worksheets/sheet1.xml"))
        },
        // The last of them counts, for the guard and for the parser.
        created(2),
    )
}

/// What was whole once.
fn broken(cases: &mut Cases) -> Result<()> {
    cases.xlsx("no bytes", |_| Ok(Vec::new()), failed(&FileError::Empty))?;
    cases.xlsx("two bytes", |_| Ok(b"PK".to_vec()), failed(&FileError::NotXlsx))?;
    cases.xlsx(
        "cut off",
        |ids| {
            let whole =
                zip_by(CompressionMethod::Stored, &[("xl/worksheets/sheet1.xml", sheet(ids).as_bytes())])?;
            Ok(whole[..whole.len() / 2].to_vec())
        },
        corrupt("el contenedor zip está cortado o alterado"),
    )?;
    cases.xlsx(
        "bytes turned over",
        |ids| {
            let parts = parts(ids);
            let stored: Vec<(&str, &[u8])> =
                parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
            let bytes = zip_by(CompressionMethod::Stored, &stored)?;
            Ok(patched(bytes, GOOD[1].as_bytes(), b"Amoxicilina 50O mg"))
        },
        corrupt("una de sus partes no se puede descomprimir"),
    )?;
    cases.xlsx(
        "a method nobody speaks",
        |ids| Ok(patched_headers(with(ids, &[])?, 8, 10, [99, 0])),
        corrupt("una de sus partes no se puede descomprimir"),
    )?;
    cases.xlsx(
        "deflate64",
        |ids| Ok(patched_headers(with(ids, &[])?, 8, 10, [9, 0])),
        corrupt("una de sus partes no se puede descomprimir"),
    )?;
    cases.xlsx(
        "parts under a password",
        |ids| Ok(patched_headers(with(ids, &[])?, 6, 8, [1, 0])),
        failed(&FileError::OldOrProtected),
    )
}

/// Other files under a workbook's name.
fn disguised(cases: &mut Cases) -> Result<()> {
    let ole = |name: &str| {
        [
            &OLE[..],
            &[0; 504],
            name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice(),
            &[0; 4096],
        ]
        .concat()
    };
    cases.xlsx("an old xls", |_| Ok(ole("Workbook")), failed(&FileError::OldOrProtected))?;
    cases.xlsx("under a password", |_| Ok(ole("EncryptedPackage")), failed(&FileError::OldOrProtected))?;
    cases.xlsx("a CSV file", |_| Ok(csv_header(";").into_bytes()), failed(&FileError::NotXlsx))?;
    cases.xlsx(
        "a web page",
        |_| Ok(b"<html><table><tr><td>id</td></tr></table>".to_vec()),
        failed(&FileError::NotXlsx),
    )?;
    cases.xlsx(
        "a Word document",
        |_| zip_of(&[("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<w:document/>")]),
        failed(&FileError::NotXlsx),
    )?;
    cases.xlsx(
        "an OpenDocument sheet",
        |_| {
            zip_of(&[
                ("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
                ("content.xml", b"<o/>"),
            ])
        },
        failed(&FileError::NotXlsx),
    )?;
    cases.xlsx(
        "a binary workbook",
        |_| zip_of(&[("[Content_Types].xml", b"<Types/>"), ("xl/workbook.bin", b"\x83\x01\x00")]),
        failed(&FileError::NotXlsx),
    )?;
    cases.xlsx(
        "an archive behind a program",
        |ids| Ok([b"MZ this program cannot be run".to_vec(), with(ids, &[])?].concat()),
        failed(&FileError::NotXlsx),
    )
}

/// What looks bad and does no harm.
fn harmless(cases: &mut Cases) -> Result<()> {
    cases.xlsx(
        "parts that want to be elsewhere",
        |ids| {
            with(
                ids,
                &[
                    ("../../../etc/cron.d/evil.txt", b"* * * * *"),
                    ("/etc/passwd.txt", b"root"),
                    ("C:\\evil.txt", b"x"),
                ],
            )
        },
        created(1),
    )?;
    cases.xlsx("macros", |ids| with(ids, &[("xl/vbaProject.bin", &OLE)]), created(1))?;
    cases.xlsx(
        "nothing compressed",
        |ids| {
            let parts = parts(ids);
            zip_by(
                CompressionMethod::Stored,
                &parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>(),
            )
        },
        created(1),
    )?;
    cases.xlsx(
        "names with prefixes",
        |ids| {
            let prefixed =
                sheet(ids).replace("</", "</x:").replace('<', "<x:").replace("<x:/x:", "</x:").replace(
                    "<x:worksheet>",
                    "<x:worksheet xmlns:x=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">",
                );
            raw_xlsx(&prefixed, None)
        },
        created(1),
    )?;
    cases.xlsx(
        "the strict dialect",
        |ids| {
            let mut parts = parts(ids);
            for (_, text) in &mut parts {
                *text = text.replace(
                    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
                    "http://purl.oclc.org/ooxml/officeDocument/relationships",
                );
            }
            zip_of(&parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>())
        },
        created(1),
    )?;
    cases.xlsx(
        "comments between the cells",
        |ids| {
            let sheet = sheet(ids).replace("<row", "<!-- <row r=\"9\"> --><row");
            raw_xlsx(&format!("<?xml version=\"1.0\"?><!-- <!DOCTYPE x> -->{sheet}"), None)
        },
        created(1),
    )
}
