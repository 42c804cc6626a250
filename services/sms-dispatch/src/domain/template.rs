//! A campaign's text, with placeholders, and the one function that makes a message of it: the same at planning, at sending
//! and at reading, so that the text itself need not be stored.
//!
//! `{nombre}` is replaced by a value, `{nombre|cliente}` by the default where there is none; `{{` and `}}` are braces.

use std::borrow::Cow;
use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

use super::parts::Alphabet;

/// What every recipient may have, whatever file it comes from.
pub const BUILT_IN: [&str; 4] = ["nombre", "primer_nombre", "ciudad", "baja"];

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { name: String, default: Option<String> },
}

/// Why a text is no template. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("la plantilla está vacía")]
    Empty,
    #[error("no existe el campo {{{name}}}; hay: {known}")]
    UnknownField { name: String, known: String },
    #[error("falta el nombre del campo en la posición {at}")]
    NoName { at: usize },
    #[error("la llave de la posición {at} no se cierra; una llave literal se escribe {{{{")]
    Unclosed { at: usize },
    #[error("la llave de la posición {at} no abre ningún campo; una llave literal se escribe }}}}")]
    Stray { at: usize },
}

/// There is no value for this field, and no default.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sin valor para {{{0}}}")]
pub struct NoValue(pub String);

/// What a recipient's message is made of.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The full name, as it was imported.
    pub name: Option<&'a str>,
    pub city: Option<&'a str>,
    /// The link that opts this recipient out.
    pub opt_out_link: Option<&'a str>,
    /// A file's columns, by [`field_name`]. They come before all else.
    pub columns: &'a BTreeMap<String, String>,
}

/// How a field is called in templates: in lower case, without accents, with `_` for everything that is neither letter nor
/// digit. `Fecha límite` is `fecha_limite`.
pub fn field_name(text: &str) -> String {
    let plain = text.trim().nfd().filter(|letter| !is_mark(*letter)).flat_map(char::to_lowercase);
    plain.map(|letter| if letter.is_alphanumeric() { letter } else { '_' }).collect()
}

fn is_mark(letter: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&letter)
}

impl Template {
    /// Reads a template whose placeholders are the built-in ones, or `columns` of a file (however they are written).
    ///
    /// # Errors
    /// The first mistake, with its place or its name.
    pub fn parse<'a>(text: &str, columns: impl IntoIterator<Item = &'a str>) -> Result<Self, TemplateError> {
        let mut known: Vec<String> = BUILT_IN.map(str::to_owned).to_vec();
        for column in columns.into_iter().map(field_name) {
            if !known.contains(&column) {
                known.push(column);
            }
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars().enumerate().peekable();
        while let Some((index, letter)) = letters.next() {
            let at = index + 1;
            match letter {
                '{' | '}' if letters.next_if(|(_, next)| *next == letter).is_some() => literal.push(letter),
                '}' => return Err(TemplateError::Stray { at }),
                '{' => {
                    let mut inner = String::new();
                    loop {
                        match letters.next() {
                            Some((_, '}')) => break,
                            Some((_, '{')) | None => return Err(TemplateError::Unclosed { at }),
                            Some((_, letter)) => inner.push(letter),
                        }
                    }
                    let (name, default) = match inner.split_once('|') {
                        Some((name, default)) => (name, Some(default.trim().to_owned())),
                        None => (inner.as_str(), None),
                    };
                    if name.trim().is_empty() {
                        return Err(TemplateError::NoName { at });
                    }
                    let field = field_name(name);
                    if !known.contains(&field) {
                        let known = known.join(", ");
                        return Err(TemplateError::UnknownField { name: name.trim().to_owned(), known });
                    }
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Field { name: field, default });
                }
                _ => literal.push(letter),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        let blank = |piece: &Piece| matches!(piece, Piece::Text(text) if text.trim().is_empty());
        if pieces.iter().all(blank) { Err(TemplateError::Empty) } else { Ok(Self { pieces }) }
    }

    /// The fields that it uses, by [`field_name`], each once, in order of appearance.
    pub fn fields(&self) -> Vec<&str> {
        let mut fields = Vec::new();
        for piece in &self.pieces {
            if let Piece::Field { name, .. } = piece
                && !fields.contains(&name.as_str())
            {
                fields.push(name.as_str());
            }
        }
        fields
    }

    /// Whether nothing is written without a value for `field`: it stands somewhere without a default.
    pub fn requires(&self, field: &str) -> bool {
        let bare = |piece: &Piece| matches!(piece, Piece::Field { name, default: None } if name == field);
        self.pieces.iter().any(bare)
    }

    /// Whether every message of it is the same.
    pub fn is_constant(&self) -> bool {
        self.fields().is_empty()
    }

    /// The message for one recipient, with only letters of an alphabet where `transliterated` names one.
    ///
    /// Values are cleaned: control characters are spaces, runs of spaces are one. What is left empty is no value.
    ///
    /// # Errors
    /// A field has no value and no default: this recipient is left out.
    pub fn render(&self, values: &Values<'_>, transliterated: Option<Alphabet>) -> Result<String, NoValue> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Field { name, default } => match (values.of(name), default) {
                    (Some(value), _) => text.push_str(&value),
                    (None, Some(default)) => text.push_str(default),
                    (None, None) => return Err(NoValue(name.clone())),
                },
            }
        }
        Ok(match transliterated {
            Some(alphabet) => alphabet.transliterate(&text),
            None => text,
        })
    }
}

impl Values<'_> {
    fn of(&self, field: &str) -> Option<Cow<'_, str>> {
        // Nothing takes the place of the link that opts out.
        let column = self.columns.get(field).filter(|_| field != "baja");
        let column = column.map(|value| clean(value)).filter(|value| !value.is_empty());
        column.map(Cow::Owned).or_else(|| self.built_in(field))
    }

    fn built_in(&self, field: &str) -> Option<Cow<'_, str>> {
        let value = match field {
            "nombre" => proper(&clean(self.name?)),
            "primer_nombre" => {
                // A file's own column of names counts as the name.
                let name = self.columns.get("nombre").map(String::as_str).or(self.name)?;
                proper(&clean(name)).split(' ').next().unwrap_or_default().to_owned()
            }
            "ciudad" => clean(self.city?),
            "baja" => return self.opt_out_link.map(Cow::Borrowed),
            _ => return None,
        };
        (!value.is_empty()).then_some(Cow::Owned(value))
    }
}

/// A value as messages have it: control characters are spaces, runs of spaces are one, and none stands at an end.
pub fn clean(value: &str) -> String {
    let words = value.split(|letter: char| letter.is_whitespace() || letter.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A name as people write it, where a file shouts it: `MARIA DE LA LUZ` is `Maria de la Luz`. Other names are left alone.
fn proper(name: &str) -> String {
    if name.chars().any(char::is_lowercase) {
        return name.to_owned();
    }
    let words = name.split(' ').enumerate().map(|(index, word)| {
        let word = word.to_lowercase();
        if index > 0 && matches!(word.as_str(), "de" | "del" | "la" | "las" | "los" | "y") {
            return word;
        }
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, name: Option<&str>, columns: &[(&str, &str)]) -> Result<String, NoValue> {
        let columns: BTreeMap<String, String> =
            columns.iter().map(|(name, value)| (field_name(name), (*value).to_owned())).collect();
        let template = Template::parse(template, columns.keys().map(String::as_str)).expect("a template");
        let values = Values {
            name,
            city: Some("La Paz"),
            opt_out_link: Some("https://lote.mx/b/1"),
            columns: &columns,
        };
        template.render(&values, None)
    }

    #[test]
    fn placeholders_are_replaced_and_defaults_fill_in() {
        let name = Some("CATALINO  RODRIGUEZ DE LA O");
        for (template, text) in [
            ("Hola {nombre}", "Hola Catalino Rodriguez de la O"),
            ("Hola {primer_nombre}!", "Hola Catalino!"),
            ("{ciudad}: {baja}", "La Paz: https://lote.mx/b/1"),
            ("{ Nombre }", "Catalino Rodriguez de la O"),
            ("Debe ${saldo|su saldo}", "Debe $1,250"),
            ("Vence {fecha_limite}", "Vence 3 de mayo"),
            ("Vence {Fecha límite}", "Vence 3 de mayo"),
            ("{folio|sin folio}", "sin folio"),
            ("{folio|}.", "."),
            ("{{nombre}} {{{saldo}}}", "{nombre} {1,250}"),
            ("}}{{", "}{"),
        ] {
            let columns = [("saldo", " 1,250\n"), ("Fecha Límite", "3 de mayo"), ("folio", "  ")];
            assert_eq!(render(template, name, &columns).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn who_has_no_value_and_no_default_is_left_out() {
        for name in [None, Some(""), Some(" \u{0} \t")] {
            assert_eq!(render("Hola {nombre}", name, &[]), Err(NoValue("nombre".to_owned())));
            assert_eq!(render("Hola {primer_nombre}", name, &[]), Err(NoValue("primer_nombre".to_owned())));
            assert_eq!(render("Hola {nombre|cliente}", name, &[]).as_deref(), Ok("Hola cliente"));
        }
        assert_eq!(render("{saldo}", None, &[("saldo", "")]), Err(NoValue("saldo".to_owned())));
    }

    #[test]
    fn a_value_is_no_template() {
        assert_eq!(render("{saldo}", Some("X"), &[("saldo", "{nombre}")]).as_deref(), Ok("{nombre}"));
    }

    #[test]
    fn a_files_own_columns_come_first() {
        let columns = [("nombre", "Ana María"), ("ciudad", "Loreto")];
        assert_eq!(render("{nombre} {ciudad}", Some("X"), &columns).as_deref(), Ok("Ana María Loreto"));
        assert_eq!(render("{primer_nombre}", Some("X"), &columns).as_deref(), Ok("Ana"));
        assert_eq!(render("{baja}", None, &[("baja", "2026")]).as_deref(), Ok("https://lote.mx/b/1"));
    }

    #[test]
    fn a_field_is_required_where_it_stands_somewhere_without_a_default() {
        let template =
            Template::parse("{nombre|a} {primer_nombre|b} {ciudad} {ciudad|c}", []).expect("a template");
        assert!(!template.requires("nombre") && !template.requires("primer_nombre"));
        assert!(template.requires("ciudad") && !template.requires("baja"));
    }

    #[test]
    fn each_mistake_is_named() {
        let parse = |text| Template::parse(text, ["Saldo"]).map_err(|error| error.to_string());
        for (text, error) in [
            ("", "la plantilla está vacía"),
            ("  \n", "la plantilla está vacía"),
            (
                "Hola {apellido}",
                "no existe el campo {apellido}; hay: nombre, primer_nombre, ciudad, baja, saldo",
            ),
            ("Hola {", "la llave de la posición 6 no se cierra; una llave literal se escribe {{"),
            ("Hola {nombre", "la llave de la posición 6 no se cierra; una llave literal se escribe {{"),
            ("{nombre {ciudad}}", "la llave de la posición 1 no se cierra; una llave literal se escribe {{"),
            ("a } b", "la llave de la posición 3 no abre ningún campo; una llave literal se escribe }}"),
            ("{}", "falta el nombre del campo en la posición 1"),
            ("á{ |x}", "falta el nombre del campo en la posición 2"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn fields_are_listed_once() {
        let template = Template::parse("{nombre} {ciudad|x} {Nombre}", []).expect("a template");
        assert_eq!(template.fields(), ["nombre", "ciudad"]);
        assert!(!template.is_constant());
        assert!(Template::parse("{{hola}}", []).expect("a template").is_constant());
    }

    #[test]
    fn transliteration_is_part_of_the_message() {
        let template = Template::parse("José: {nombre}", []).expect("a template");
        let columns = BTreeMap::new();
        let values = Values { name: Some("Íñigo"), city: None, opt_out_link: None, columns: &columns };
        assert_eq!(template.render(&values, Some(Alphabet::Telnyx)).as_deref(), Ok("José: Iñigo"));
        assert_eq!(template.render(&values, Some(Alphabet::Ascii)).as_deref(), Ok("Jose: Inigo"));
    }
}
