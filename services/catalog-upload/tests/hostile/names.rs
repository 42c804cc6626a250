//! What a file is called, and how large it is.

use anyhow::Result;

use crate::{
    case::{Cases, Expected, Ids, created},
    made::*,
};

/// The most bytes that the platform of these tests takes.
pub const MAX_UPLOAD: usize = 16 << 20;

fn one(ids: &Ids) -> Result<Vec<u8>> {
    Ok((csv_header(",") + &csv_row(",", &ids.id(1))).into_bytes())
}

pub fn add(cases: &mut Cases) -> Result<()> {
    let unsupported = Expected::Refused(400, "unsupported_format");
    for (name, filename) in [
        ("an .xls by name", "lista.xls"),
        ("no extension", "lista"),
        ("an extension after the extension", "lista.csv.exe"),
        ("an .xlsm by name", "lista.xlsm"),
        ("only an extension", ".csv"),
    ] {
        cases.named(name, filename, one, unsupported.clone())?;
    }
    cases.named("no name", "", one, Expected::Refused(400, "no_file"))?;
    cases.named("a name in capitals", "LISTA.CSV", one, created(1))?;
    cases.named("a path for a name", "..\\..\\datos\\lista.csv", one, created(1))?;
    cases.named("a name of 300 characters", &format!("{}.csv", "ñ".repeat(300)), one, created(1))?;
    cases.named("an emoji for a name", "💊 lista «final».csv", one, created(1))?;
    cases.named(
        "more bytes than are taken",
        "grande.csv",
        |_| Ok(vec![b'x'; MAX_UPLOAD + 1]),
        Expected::Refused(413, "payload_too_large"),
    )
}
