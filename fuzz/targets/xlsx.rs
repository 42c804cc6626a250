//! The guard and the reader of workbooks, over any bytes. Archives hide what matters behind a checksum and a
//! compression, so the input is either a whole archive or, marked by its first byte, the parts of one as
//! plain text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lote_fuzz::{corpus, files::FileKind, made, read_all};

fuzz_target!(init: corpus::write("xlsx", corpus::workbooks()), |bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'S', sheet)) => parts(sheet, None),
        Some((b'T', both)) => {
            // The sheet and the table of strings, with a line end between.
            let end = both.iter().position(|byte| *byte == b'\n').unwrap_or(both.len());
            parts(&both[..end], both.get(end + 1..));
        }
        _ => read_all(bytes, FileKind::Xlsx),
    }
});

fn parts(sheet: &[u8], strings: Option<&[u8]>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let strings = strings.map(text);
    if let Ok(workbook) = made::raw_xlsx(&text(sheet), strings.as_deref()) {
        read_all(&workbook, FileKind::Xlsx);
    }
}
