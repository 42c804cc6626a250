//! What a report may be asked to be.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Qué contiene: `detalle`, un archivo por campaña y una línea por mensaje; `resumen`, un archivo y una
/// línea por campaña.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file a campaign, a line a message.
    #[default]
    Detalle,
    /// One file, a line a campaign.
    Resumen,
}

impl Kind {
    /// The name in the table, in APIs and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detalle => "detalle",
            Self::Resumen => "resumen",
        }
    }
}

/// Cómo se escriben los archivos: `csv` (RFC 4180), o `txt`, una línea por registro y escapes en lugar de
/// comillas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180.
    #[default]
    Csv,
    /// A line a record, escapes instead of quotes.
    Txt,
}

/// Con qué letras: `utf-8-bom` es el que reconoce Excel; `latin-1` tiene 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-8 behind a byte order mark, by which Excel knows it.
    #[serde(rename = "utf-8-bom")]
    Utf8Bom,
    /// ISO 8859-1, which has 256 letters.
    #[serde(rename = "latin-1")]
    Latin1,
}

/// Con qué compresión.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
}

/// El estado de un mensaje.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageState {
    Enviado,
    Pendiente,
    Fallido,
}

impl MessageState {
    /// The name in the table, in files and APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enviado => "ENVIADO",
            Self::Pendiente => "PENDIENTE",
            Self::Fallido => "FALLIDO",
        }
    }
}

/// Todo aquello en que dos reportes de un día pueden diferir.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, FromJsonQueryResult)]
pub struct Params {
    #[serde(rename = "tipo")]
    pub kind: Kind,
    #[serde(rename = "formato")]
    pub format: Format,
    /// Un carácter.
    #[serde(rename = "separador")]
    pub separator: char,
    #[serde(rename = "codificacion")]
    pub encoding: Encoding,
    #[serde(rename = "comprimir")]
    pub compression: Compression,
    /// Solo los mensajes en estos estados; todos si está vacío.
    #[serde(rename = "estados")]
    pub states: Vec<MessageState>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            format: Format::default(),
            separator: ',',
            encoding: Encoding::default(),
            compression: Compression::default(),
            states: Vec::new(),
        }
    }
}

/// A separator that would leave a file that nobody can read back. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "separador {0:?} inválido: se espera un solo carácter, como , ; | o tabulador; ni letra, ni dígito, ni comilla, ni barra invertida, ni fin de línea"
)]
pub struct BadSeparator(pub String);

/// The separator in `text`, or the format's own where there is none: `,` in CSV and `|` in TXT.
///
/// # Errors
/// More or less than one character, or one that fields consist of, that quotes or escapes them, that ends
/// lines, or that some encoding lacks.
pub fn separator(text: Option<&str>, format: Format) -> Result<char, BadSeparator> {
    let Some(text) = text else {
        return Ok(if format == Format::Csv { ',' } else { '|' });
    };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some('\t'), None) => Ok('\t'),
        // A `'` neutralises formulas, a `+` begins phones, `-` and `:` and spaces are in every time.
        (Some(c), None) if c.is_ascii_punctuation() && !"\"'\\+-:".contains(c) => Ok(c),
        _ => Err(BadSeparator(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_is_one_character_that_no_field_needs() {
        assert_eq!(separator(None, Format::Csv), Ok(','));
        assert_eq!(separator(None, Format::Txt), Ok('|'));
        for good in [",", ";", "|", "\t", "~", "^"] {
            assert_eq!(separator(Some(good), Format::Csv), Ok(good.chars().next().expect("one")));
        }
        for bad in
            ["", ",,", "a", "7", "\"", "'", "\\", "\n", "\r", " ", "¦", "ñ", "\u{1f600}", "\0", "+", "-", ":"]
        {
            assert_eq!(separator(Some(bad), Format::Txt), Err(BadSeparator(bad.to_owned())));
        }
    }

    #[test]
    fn parameters_have_one_json_form() {
        let params = Params { states: vec![MessageState::Enviado], ..Params::default() };
        let json = serde_json::to_value(&params).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "tipo": "detalle", "formato": "csv", "separador": ",", "codificacion": "utf-8",
                "comprimir": "none", "estados": ["ENVIADO"],
            })
        );
        assert_eq!(serde_json::from_value::<Params>(json).expect("the same"), params);
    }
}
