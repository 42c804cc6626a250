//! The first inputs of each target: files that work, so that the fuzzer begins behind the first checks.

use std::{fs, path::Path};

use anyhow::Result;
use zip::CompressionMethod;

use crate::{files::template::Template, made::*};

/// Writes them into `corpus/<target>`. The fuzzer reads them there, and adds what it finds; nothing of it is
/// kept in the repository. A target does this before it begins, which spares building a program for it.
///
/// # Panics
/// Where they can't be made or written.
pub fn write(target: &str, seeds: Result<Vec<Vec<u8>>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).expect("a directory for the corpus");
    for (index, seed) in seeds.expect("files that work").iter().enumerate() {
        fs::write(dir.join(format!("seed-{index:02}")), seed).expect("a written seed");
    }
}

/// Workbooks: whole, and as the parts of one.
///
/// # Errors
/// None that depends on anything but this code.
pub fn workbooks() -> Result<Vec<Vec<u8>>> {
    let rows = [raw_header(), raw_row(2, &good("P1")), raw_row(3, &good("P2"))];
    let sheet = raw_sheet(&rows);
    let shared = r#"<row r="4"><c r="A4" t="s"><v>0</v></c><c r="B4" t="b"><v>1</v></c><c r="C4" t="e"><v>#N/A</v></c><c r="F4"><f>1+1</f><v>2.5E+3</v></c></row>"#;
    let strings = r#"<sst count="2" uniqueCount="2"><si><t>uno</t></si><si><r><rPr/><t xml:space="preserve"> dos </t></r><rPh><t>x</t></rPh></si></sst>"#;
    let with_strings = raw_sheet(&[&rows[..], &[shared.to_owned()]].concat());
    let parts = raw_parts(&sheet, None);
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    Ok(vec![
        Template::Ejemplo.xlsx()?,
        raw_xlsx(&with_strings, Some(strings))?,
        zip_by(CompressionMethod::Stored, &parts)?,
        format!("S{sheet}").into_bytes(),
        format!("S<!-- c --><?xml version=\"1.0\"?>{}", sheet.replace("<row", "<![CDATA[x]]><row"))
            .into_bytes(),
        format!("T{with_strings}\n{strings}").into_bytes(),
    ])
}

/// Text files in every encoding and with every separator.
pub fn texts() -> Vec<Vec<u8>> {
    let text = |separator: &str| {
        [csv_header(separator), csv_row(separator, "P1"), csv_row(separator, "P2")].concat()
    };
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    vec![
        text(",").into_bytes(),
        format!("\u{feff}{}", text(";")).into_bytes(),
        format!("sep=;\r\n{}", text(";").replace('\n', "\r\n")).into_bytes(),
        text("\t").replace('\n', "\r").into_bytes(),
        wide(&format!("\u{feff}{}", text(";"))),
        wide(&text("|")),
        text(";")
            .replace("12500.50", "\"1.234,50\"")
            .replace("Amoxicilina 500 mg", "\"a\n\"\"b\"\"\"")
            .into_bytes(),
        text(";").chars().map(|character| character as u32 as u8).collect(),
    ]
}

/// Bytes of which `arbitrary` makes values: any will do, if there are enough.
pub fn noise() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..16).map(|size| (0..(size + 1) * 64).map(|_| next()).collect()).collect()
}
