//! A campaign's texts: which names they need, and what a message says. One pure function makes a text of its row: it is never
//! stored.

use crate::{
    domain::{
        campaign::Plan,
        parts::Encoding,
        sender::{ProviderName, SenderKind},
    },
    storage::{
        audiences::{Name, OF_CONTACTS},
        ledger::Row,
    },
};

/// Why a text can't be. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    #[error("El texto no conoce {{{0}}}; conoce {known}", known = known())]
    Unknown(String),
    #[error("El texto tiene una llave sin pareja")]
    Brace,
    #[error("El texto está vacío")]
    Empty,
}

fn known() -> String {
    OF_CONTACTS.map(|(name, _)| format!("{{{name}}}")).join(", ")
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A name's place in `vars`, and what stands there where it has no value.
    Value(usize, String),
}

/// The texts of a plan, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    names: Vec<Name>,
    texts: Vec<Vec<Piece>>,
}

impl Texts {
    /// # Errors
    /// As [`BadText`] says.
    pub fn of(plan: &Plan) -> Result<Self, BadText> {
        let mut names: Vec<Name> = Vec::new();
        let mut texts = Vec::new();
        for text in &plan.texts {
            let mut pieces = Vec::new();
            let mut rest = text.text.as_str();
            if rest.trim().is_empty() {
                return Err(BadText::Empty);
            }
            while let Some((before, behind)) = rest.split_once('{') {
                if before.contains('}') {
                    return Err(BadText::Brace);
                }
                pieces.push(Piece::Text(before.to_owned()));
                let (inner, behind) = behind.split_once('}').ok_or(BadText::Brace)?;
                let (name, default) = match inner.split_once('|') {
                    Some((name, default)) => (name.trim(), Some(default)),
                    None => (inner.trim(), None),
                };
                if !OF_CONTACTS.iter().any(|(known, _)| *known == name) {
                    return Err(BadText::Unknown(name.to_owned()));
                }
                let place = names.iter().position(|known| known.name == name).unwrap_or_else(|| {
                    names.push(Name { name: name.to_owned(), required: false });
                    names.len() - 1
                });
                names[place].required |= default.is_none();
                pieces.push(Piece::Value(place, default.unwrap_or_default().to_owned()));
                rest = behind;
            }
            if rest.contains('}') {
                return Err(BadText::Brace);
            }
            pieces.push(Piece::Text(rest.to_owned()));
            texts.push(pieces);
        }
        Ok(Self { names, texts })
    }

    /// The names in the order of a row's `vars`.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// What a message says.
    pub fn render(&self, row: &Row) -> String {
        let text = usize::try_from(row.variant).ok().and_then(|variant| self.texts.get(variant));
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(place, default) => match row.vars.get(*place) {
                Some(value) if !value.is_empty() => value.clone(),
                _ => default.clone(),
            },
        };
        text.map(|pieces| pieces.iter().map(piece).collect()).unwrap_or_default()
    }

    /// What a message says, as a sender of this kind sends it through this provider: text, encoding and parts.
    pub fn write(&self, row: &Row, _provider: ProviderName, _kind: SenderKind) -> (String, Encoding, u16) {
        let text = self.render(row);
        let parts = text.chars().count().div_ceil(153).max(1);
        (text, Encoding::Gsm7, u16::try_from(parts).unwrap_or(u16::MAX))
    }
}
