//! Delimited text, as several services write it: files to download ([`CsvExport`]), rows for PostgreSQL's COPY
//! ([`CopyText`]), and the letters by which names are compared.

mod copy_text;
mod export;

pub use copy_text::CopyText;
pub use export::{CsvExport, CsvField, CsvStyle, begins_like_a_formula};

/// A letter without the accent that Spanish writes on it, in its own case; others stay as they are.
pub const fn without_accent(letter: char) -> char {
    match letter {
        'á' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' | 'ü' => 'u',
        'ñ' => 'n',
        'Á' => 'A',
        'É' => 'E',
        'Í' => 'I',
        'Ó' => 'O',
        'Ú' | 'Ü' => 'U',
        'Ñ' => 'N',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::without_accent;

    #[test]
    fn letters_lose_accents_and_keep_their_case() {
        let plain: String = "Ñandú, pingüino: ÁÉÍÓÚÜ, ça va".chars().map(without_accent).collect();
        assert_eq!(plain, "Nandu, pinguino: AEIOUU, ça va");
    }
}
