//! Who a message is sent through, and in whose name.

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Un proveedor que recibe mensajes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum ProviderName {
    #[sea_orm(string_value = "telnyx")]
    Telnyx,
    #[sea_orm(string_value = "twilio")]
    Twilio,
    /// No envía nada: escribe una línea en la bitácora y dice que todo llegó.
    #[sea_orm(string_value = "log")]
    Log,
}

impl ProviderName {
    pub const ALL: [Self; 3] = [Self::Telnyx, Self::Twilio, Self::Log];

    /// Its name in tables, settings and APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Telnyx => "telnyx",
            Self::Twilio => "twilio",
            Self::Log => "log",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

/// Qué tipo de remitente tiene un mensaje. De él dependen el ritmo, el alfabeto y si se le puede responder.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum SenderKind {
    /// Un número de diez cifras.
    #[sea_orm(string_value = "long_code")]
    LongCode,
    /// De tres a ocho cifras.
    #[sea_orm(string_value = "short_code")]
    ShortCode,
    #[sea_orm(string_value = "toll_free")]
    TollFree,
    /// Un nombre. Nadie puede responderle: para darse de baja hace falta un enlace.
    #[sea_orm(string_value = "alphanumeric")]
    Alphanumeric,
    /// Varios números entre los que elige el proveedor: el perfil de mensajes de Telnyx, el servicio de mensajes de Twilio.
    #[sea_orm(string_value = "pool")]
    Pool,
}

impl SenderKind {
    pub const ALL: [Self; 5] =
        [Self::LongCode, Self::ShortCode, Self::TollFree, Self::Alphanumeric, Self::Pool];

    /// Its name in tables, settings and APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LongCode => "long_code",
            Self::ShortCode => "short_code",
            Self::TollFree => "toll_free",
            Self::Alphanumeric => "alphanumeric",
            Self::Pool => "pool",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// In whose name a message is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    pub kind: SenderKind,
    /// A number in E.164, a short code's digits, a name, or the id of a pool, as the provider knows it.
    pub value: String,
}
