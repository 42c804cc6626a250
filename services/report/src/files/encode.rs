//! Text in the letters that a report was asked for.

use crate::domain::params::Encoding;

/// A letter that the encoding lacks. The text is for the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("El carácter {character:?} (U+{code:04X}) no existe en latin-1; use utf-8", code = u32::from(*character))]
pub struct Unencodable {
    /// The letter.
    pub character: char,
}

/// What a file begins with.
pub const fn mark(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Utf8Bom => b"\xef\xbb\xbf",
        Encoding::Utf8 | Encoding::Latin1 => b"",
    }
}

/// Adds `text` (UTF-8, as PostgreSQL's) to `out`.
///
/// # Errors
/// A letter that the encoding lacks.
pub fn encode(out: &mut Vec<u8>, text: &[u8], encoding: Encoding) -> Result<(), Unencodable> {
    if encoding != Encoding::Latin1 || text.is_ascii() {
        out.extend_from_slice(text);
        return Ok(());
    }
    for character in String::from_utf8_lossy(text).chars() {
        // ISO 8859-1 is the first 256 code points.
        let byte = u8::try_from(u32::from(character)).map_err(|_| Unencodable { character })?;
        out.push(byte);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin_1_has_what_it_has() {
        let mut out = Vec::new();
        encode(&mut out, "Campaña ÿ".as_bytes(), Encoding::Latin1).expect("all there");
        assert_eq!(out, b"Campa\xf1a \xff");
        let lacks = encode(&mut out, "5 €".as_bytes(), Encoding::Latin1).expect_err("no euro");
        assert_eq!(lacks.to_string(), "El carácter '€' (U+20AC) no existe en latin-1; use utf-8");
        encode(&mut out, "😀".as_bytes(), Encoding::Utf8).expect("UTF-8 has all");
    }
}
