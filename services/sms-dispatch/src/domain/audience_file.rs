//! Audiences that come as a file: what its columns are called in texts, and on what grounds its people may be written to.

use chrono::NaiveDate;
use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::template::field_name;

/// Columns that a file may have.
pub const MOST_COLUMNS: usize = 50;
/// Letters of a column's name.
const LONGEST_NAME: usize = 64;
/// Each message's own link: no column takes its place.
const LINK: &str = "baja";

/// Con qué consentimiento se escribe a las personas de un archivo; lo dice quien lo sube, por todas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, FromJsonQueryResult)]
pub struct Consent {
    /// De quién y con qué fundamento: contrato, formulario web.
    pub basis: String,
    /// Desde cuándo.
    pub at: NaiveDate,
    /// Dónde consta.
    pub source: String,
}

/// What a file's rows hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Shape {
    /// How its columns are called in texts, in the order of its rows' values.
    pub columns: Vec<String>,
    /// How long the longest value of each is, in UTF-16 units.
    pub longest: Vec<usize>,
    /// Whether its rows have full names, whatever their column is called.
    pub has_names: bool,
}

/// A file that is an audience, as a campaign uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAudience {
    /// The file's number, which its rows carry.
    pub number: i32,
    /// People in it, each row one.
    pub people: i64,
    pub shape: Shape,
}

/// Where the value of a template's name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    FullName,
    City,
    /// Among a row's values, from 0.
    Column(usize),
    /// The same, of a column of names of which the first name is meant.
    FirstNameIn(usize),
}

impl Source {
    /// Where a contact has a value for `name`; none where contacts have none.
    pub fn of_contacts(name: &str) -> Option<Self> {
        match name {
            "nombre" | "primer_nombre" => Some(Self::FullName),
            "ciudad" => Some(Self::City),
            _ => None,
        }
    }
}

impl Shape {
    /// Where a row has a value for `name`; none where the file has no such column. The file's own columns come first.
    pub fn source(&self, name: &str) -> Option<Source> {
        let column = |name: &str| self.columns.iter().position(|column| column == name);
        if let Some(place) = column(name) {
            return Some(Source::Column(place));
        }
        match name {
            "primer_nombre" => column("nombre").map(Source::FirstNameIn).or(self.full_name()),
            "nombre" => self.full_name(),
            // The LADA tells one where the file does not.
            "ciudad" => Some(Source::City),
            _ => None,
        }
    }

    fn full_name(&self) -> Option<Source> {
        self.has_names.then_some(Source::FullName)
    }

    /// All names that texts may have, but for each message's link.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        for built_in in ["nombre", "primer_nombre", "ciudad"] {
            if !names.contains(&built_in) && self.source(built_in).is_some() {
                names.push(built_in);
            }
        }
        names
    }

    /// How long the longest value behind `source` is, in UTF-16 units, where that was measured.
    pub fn longest(&self, source: Source) -> Option<usize> {
        match source {
            Source::Column(place) | Source::FirstNameIn(place) => self.longest.get(place).copied(),
            Source::FullName | Source::City => None,
        }
    }
}

/// Why a file's first line names no columns that texts could use. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadColumns {
    #[error("El archivo tiene {0} columnas: se admiten {MOST_COLUMNS}")]
    Many(usize),
    #[error("Dos columnas del archivo se llaman {0:?} en los textos")]
    Twice(String),
    #[error("El nombre de una columna pasa de {LONGEST_NAME} letras: {0:?}…")]
    Long(String),
}

/// The columns that have a name of their own in texts, with their places in the file. One without a name, and one that is
/// called as each message's link is, are in no text.
///
/// # Errors
/// As [`BadColumns`] says.
pub fn columns(names: &[String]) -> Result<Vec<(usize, String)>, BadColumns> {
    let mut columns: Vec<(usize, String)> = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let name = field_name(name);
        if name.chars().all(|letter| letter == '_') || name == LINK {
            continue;
        }
        if name.chars().count() > LONGEST_NAME {
            return Err(BadColumns::Long(name.chars().take(20).collect()));
        }
        if columns.iter().any(|(_, known)| *known == name) {
            return Err(BadColumns::Twice(name));
        }
        columns.push((place, name));
    }
    if columns.len() > MOST_COLUMNS {
        return Err(BadColumns::Many(columns.len()));
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<Vec<(usize, String)>, BadColumns> {
        columns(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_have_canonical_names_each_once() {
        let found = named(&["celular", "fecha límite", "", "baja", "saldo"]).expect("columns");
        assert_eq!(found, [(0, "celular".into()), (1, "fecha_limite".into()), (4, "saldo".into())]);
        assert_eq!(named(&["saldo", "Saldo "]), Err(BadColumns::Twice("saldo".into())));
        assert!(matches!(named(&[&"x".repeat(65)]), Err(BadColumns::Long(_))));
        let many: Vec<String> = (0..=MOST_COLUMNS).map(|number| format!("c{number}")).collect();
        assert_eq!(columns(&many), Err(BadColumns::Many(MOST_COLUMNS + 1)));
    }

    #[test]
    fn a_files_own_columns_come_before_what_contacts_have() {
        let shape = |columns: &[&str], has_names| Shape {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            longest: vec![7; columns.len()],
            has_names,
        };
        let own = shape(&["celular", "nombre"], true);
        assert_eq!(own.source("nombre"), Some(Source::Column(1)));
        assert_eq!(own.source("primer_nombre"), Some(Source::FirstNameIn(1)));
        assert_eq!(own.source("saldo"), None);
        assert_eq!(own.longest(Source::Column(1)), Some(7));
        let aliased = shape(&["celular", "full_name"], true);
        assert_eq!(aliased.source("nombre"), Some(Source::FullName));
        assert_eq!(aliased.names(), ["celular", "full_name", "nombre", "primer_nombre", "ciudad"]);
        let nameless = shape(&["celular"], false);
        assert_eq!(nameless.source("nombre"), None);
        assert_eq!(nameless.source("ciudad"), Some(Source::City));
        assert_eq!(nameless.names(), ["celular", "ciudad"]);
    }
}
