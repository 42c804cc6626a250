//! What a file of contacts is, and which of its columns hold what.

use std::collections::BTreeMap;

use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult};
use serde::{Deserialize, Serialize};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[serde(rename_all = "lowercase")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Kind {
    #[sea_orm(string_value = "sqlite")]
    Sqlite,
    #[sea_orm(string_value = "csv")]
    Csv,
}

impl Kind {
    /// What the first bytes say.
    pub fn detect(beginning: &[u8]) -> Self {
        if beginning.starts_with(b"SQLite format 3\0") { Self::Sqlite } else { Self::Csv }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Csv => "csv",
        }
    }
}

/// Which column of the file holds which field: field → the column's name. What is not named here is found by its own
/// name, as the database `numeros` or a contact has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct Mapping(pub BTreeMap<String, String>);
