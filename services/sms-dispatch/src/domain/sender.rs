//! Who a message is sent through, and in whose name.

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A carrier's API that takes messages.
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
    /// Sends nothing: writes a line of the log, and says that all was delivered.
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

/// What kind of sender a message has. Rates, alphabets and the possibility to answer depend on it.
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
    /// A number of ten digits.
    #[sea_orm(string_value = "long_code")]
    LongCode,
    /// Three to eight digits.
    #[sea_orm(string_value = "short_code")]
    ShortCode,
    #[sea_orm(string_value = "toll_free")]
    TollFree,
    /// A name. Nobody can answer it, so opting out needs a link.
    #[sea_orm(string_value = "alphanumeric")]
    Alphanumeric,
    /// A set of numbers of which the provider chooses: Telnyx's messaging profile, Twilio's messaging service.
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
