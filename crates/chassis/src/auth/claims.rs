use std::{fmt, str::FromStr};

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// El rol de quien llama.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[serde(rename_all = "lowercase")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Role {
    /// Everything, users and keys included.
    #[sea_orm(string_value = "admin")]
    Admin,
    /// Runs the platform: all suppliers' data, dead letters, jobs.
    #[sea_orm(string_value = "operator")]
    Operator,
    /// A supplier: its own data.
    #[sea_orm(string_value = "supplier")]
    Supplier,
    /// Reads, never writes.
    #[sea_orm(string_value = "viewer")]
    Viewer,
}

impl Role {
    /// Every role there is.
    pub const ALL: &[Self] = &[Self::Admin, Self::Operator, Self::Supplier, Self::Viewer];

    /// The name in tokens, tables and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Supplier => "supplier",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("unknown role {text:?}, expected admin, operator, supplier or viewer"))
    }
}

/// What a token says (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// The user's or API key's id.
    pub sub: String,
    /// Valid until, in Unix seconds.
    pub exp: i64,
    /// Since, in Unix seconds.
    pub iat: i64,
    /// The token's own id.
    pub jti: String,
    /// The login it belongs to; an API key's has none. The gateway refuses it once that is ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sid: Option<Uuid>,
    /// What its bearer is.
    pub role: Role,
    /// The supplier it acts for; a supplier has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proveedor_id: Option<String>,
    /// What of its role it may use, as `catalog:read`; empty for all of it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub scopes: Vec<String>,
    /// Of an API key: the id of the user who made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// A name to show.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}
