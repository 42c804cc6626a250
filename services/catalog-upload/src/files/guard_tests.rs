//! What is refused before anything parses it.

use anyhow::Result;

use super::{FileError, Limits, testing::*};

#[test]
fn what_is_no_workbook() -> Result<()> {
    let ole = [&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1][..], &[0; 4096]].concat();
    let whole = template(50)?;
    let cut = &whole[..whole.len() / 2];
    let mut flipped = whole.clone();
    for byte in &mut flipped[200..260] {
        *byte ^= 0xff;
    }
    for (bytes, code) in [
        (&ole[..], "old_or_protected"),
        (b"id;nombre\n1;x\n", "not_xlsx"),
        (b"PK", "not_xlsx"),
        (b"PK\x03\x04", "corrupt_file"),
        (cut, "corrupt_file"),
        (&flipped, "corrupt_file"),
        (&zip_of(&[("word/document.xml", b"<document/>")])?, "not_xlsx"),
    ] {
        let error = failure(bytes, XLSX)?;
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.is_transient());
    }
    Ok(())
}

#[test]
fn bombs_are_refused_before_they_are_parsed() -> Result<()> {
    let rows = "<row></row>".repeat(5 * 1024 * 1024);
    let bomb = raw_xlsx(&raw_sheet(&[raw_header(), rows]), None)?;
    assert!(bomb.len() < 57 * 1024 * 1024 / 100, "{}", bomb.len());
    let error = failure(&bomb, XLSX)?;
    assert_eq!(error.code(), "hostile_file", "{error}");
    assert!(error.to_string().contains("100 veces"), "{error}");

    let limits = Limits { max_inflated_bytes: 50_000, ..Limits::default() };
    let error = read_with(&template(1000)?, XLSX, &limits)?.err().map(|error| error.code());
    assert_eq!(error, Some("hostile_file"));

    let many: Vec<String> = (0..2001).map(|index| format!("p{index}.xml")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"<a/>"[..])).collect();
    assert_eq!(failure(&zip_of(&many)?, XLSX)?.code(), "hostile_file");
    Ok(())
}

#[test]
fn doctypes_and_lies_are_refused() -> Result<()> {
    let sheet = raw_sheet(&[raw_header(), raw_row(2, &GOOD)]);
    let doctype = format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{sheet}");
    assert_eq!(failure(&raw_xlsx(&doctype, None)?, XLSX)?.code(), "hostile_file");

    let strings = r#"<sst count="1" uniqueCount="4000000000"><si><t>x</t></si></sst>"#;
    assert_eq!(failure(&raw_xlsx(&sheet, Some(strings))?, XLSX)?.code(), "hostile_file");
    let strings = r#"<sst count="4000000000" uniqueCount="1"><si><t>x</t></si></sst>"#;
    assert!(read(&raw_xlsx(&sheet, Some(strings))?, XLSX).is_ok());

    let disorder = raw_sheet(&[raw_header(), raw_row(5, &GOOD), raw_row(3, &GOOD)]);
    assert_eq!(failure(&raw_xlsx(&disorder, None)?, XLSX)?.code(), "corrupt_file");
    // A relation that names a part which isn't there.
    let dangling = r#"<row r="2"><c r="A2" t="s"><v>7</v></c></row>"#.to_owned();
    let mut parts = raw_parts(&raw_sheet(&[raw_header(), dangling]), None);
    for (name, text) in &mut parts {
        if *name == "xl/_rels/workbook.xml.rels" {
            *text = text.replace("</Rel", r#"<Relationship Type="x/sharedStrings" Target="t.xml"/></Rel"#);
        }
    }
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    let error = failure(&zip_of(&parts)?, XLSX)?;
    assert!(error.to_string().contains("falta la parte de textos"), "{error}");
    Ok(())
}

#[test]
fn strings_beyond_their_memory_are_refused() -> Result<()> {
    let limits = Limits { max_shared_strings_bytes: 100_000, ..Limits::default() };
    let error = read_with(&template(1000)?, XLSX, &limits)?.err().map(|error| error.code());
    assert_eq!(error, Some("too_much_text"));
    Ok(())
}

#[test]
fn a_cell_of_ten_megabytes_is_refused() -> Result<()> {
    // Text that compresses badly, so that it is no bomb.
    let mut state = 1u64;
    let mut long = String::new();
    while long.len() < 10 * 1024 * 1024 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        long.push_str(&format!("{:x}", state >> 32));
    }
    let mut cells = GOOD;
    cells[1] = &long;
    let bytes = raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &GOOD), raw_row(3, &cells)]), None)?;
    assert!(matches!(failure(&bytes, XLSX)?, FileError::CellTooLarge { row: Some(3) }));
    let strings = format!("<sst><si><t>{long}</t></si></sst>");
    let bytes = raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &GOOD)]), Some(&strings))?;
    assert_eq!(failure(&bytes, XLSX)?.code(), "cell_too_large");
    Ok(())
}

#[test]
fn a_cell_of_many_small_pieces_is_refused_too() -> Result<()> {
    let noise: Vec<String> =
        (0..80_000u64).map(|index| format!("{:x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let wrap = |open: &str, close: &str| -> String {
        noise.iter().map(|piece| format!("{open}{piece}<c >{close}")).collect()
    };
    for pieces in [
        noise.iter().map(|piece| format!("<r><t>{piece}</t></r>")).collect(),
        noise.iter().map(|piece| format!("<r><t>{piece}</t></r>").repeat(2)).collect(),
        wrap("<t><![CDATA[", "]]></t>"),
        wrap("<!--", "-->"),
        noise.iter().map(|piece| format!("&amp;{piece}&#10;")).collect::<String>(),
    ] {
        let cell = format!(r#"<row r="2"><c r="A2" t="inlineStr"><is>{pieces}</is></c></row>"#);
        let plain = raw_sheet(&[raw_header(), cell]);
        assert_eq!(failure(&raw_xlsx(&plain, None)?, XLSX)?.code(), "cell_too_large");
        let prefixed =
            plain.replace("<c ", "<x:c ").replace("<row", "<x:row").replace("<sheetData", "<x:sheetData");
        assert_eq!(failure(&raw_xlsx(&prefixed, None)?, XLSX)?.code(), "cell_too_large");
        let strings = format!("<sst><si>{pieces}</si></sst>");
        let bytes = raw_xlsx(&raw_sheet(&[raw_header(), raw_row(2, &GOOD)]), Some(&strings))?;
        assert_eq!(failure(&bytes, XLSX)?.code(), "cell_too_large");
    }
    Ok(())
}

#[test]
fn parts_that_hide_what_they_are_are_refused() -> Result<()> {
    let good = raw_sheet(&[raw_header(), raw_row(2, &GOOD)]);
    let hidden = [raw_header(), " ".repeat(1000)].concat();
    let named = raw_xlsx(&good, None)?;
    assert!(read(&named, XLSX).is_ok());
    let utf16: Vec<u8> = format!("\u{feff}{good}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let image = format!("<worksheet><sheetData>{hidden}</sheetData></worksheet>");
    for (parts, code) in [
        (vec![("xl/media/image1.png", image.as_bytes())], "hostile_file"),
        (vec![("xl/worksheets/sheet1.xml", &utf16[..])], "corrupt_file"),
    ] {
        assert_eq!(failure(&zip_of(&parts)?, XLSX)?.code(), code);
    }
    let mut noise = String::from("<styleSheet>");
    for index in 0..400_000u64 {
        noise.push_str(&format!("<xf a=\"{:x}\"/>", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
    let error = failure(&zip_of(&[("xl/styles.xml", noise.as_bytes())])?, XLSX)?;
    assert!(error.to_string().contains("styles.xml supera 8 MB"), "{error}");
    Ok(())
}

#[test]
fn parts_are_counted_where_their_headers_are_not_all_in_the_directory() -> Result<()> {
    // The archive's end says that it has one part; its directory goes on.
    let names: Vec<String> = (0..3_000).map(|index| format!("{index}")).collect();
    let parts: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let mut bytes = zip_of(&parts)?;
    let end = bytes.len() - 22;
    bytes[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
    let error = failure(&bytes, XLSX)?;
    assert!(error.to_string().contains("más de 2000 partes"), "{error}");
    Ok(())
}

#[test]
fn places_that_no_sheet_has_are_refused() -> Result<()> {
    let good = raw_row(2, &GOOD);
    let refused =
        |sheet: String| Ok::<_, anyhow::Error>(failure(&raw_xlsx(&sheet, None)?, XLSX)?.to_string());
    for cell in [
        r#"<row r="3"><c r="AAAAAAAAAAAAA3"><v>1</v></c></row>"#,
        r#"<row r="3"><c s="1" t = "n" a=">" r = 'A99999999'><v>1</v></c></row>"#,
        r#"<row spans="1:2" r="4294967298"><c><v>1</v></c></row>"#,
    ] {
        let error = refused(raw_sheet(&[raw_header(), good.clone(), cell.to_owned()]))?;
        assert!(error.contains("ninguna hoja llega"), "{cell}: {error}");
    }
    let sheet = raw_sheet(&[raw_header(), good.clone()]);
    for extent in ["A1:ZZZZZZZ1", "M2:A1", "1:2", "A:B", "", "A0:B2", "A1:B4294967296"] {
        let lie = sheet.replace("<sheetData>", &format!(r#"<dimension ref="{extent}"/><sheetData>"#));
        assert!(read(&raw_xlsx(&lie, None)?, XLSX).is_ok(), "nobody relies on the extent: {extent}");
    }
    let last = raw_sheet(&[raw_header(), good, r#"<row r="1048576"><c r="XFD1048576"/></row>"#.to_owned()]);
    assert!(read(&raw_xlsx(&last, None)?, XLSX).is_ok());
    Ok(())
}
