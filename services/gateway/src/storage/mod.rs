//! The gateway's schema: users and what proves who they are. SQL by hand for the advisory lock.

pub mod api_keys;
pub mod audit;
mod doctor;
pub mod ended_sessions;
pub mod families;
pub mod login_throttle;
mod migrations;
pub mod refresh_tokens;
pub mod signing_keys;
pub mod users;

pub use doctor::doctor;
pub use migrations::Migrator;

use chassis::db::sql;
use sea_orm::{ConnectionTrait, DbErr, DeriveValueType};

/// A stored password hash. Not printed.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct PasswordHash(pub String);

/// A stored hash of a token. Not printed.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct Digest(pub Vec<u8>);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hash]")
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[digest]")
    }
}

/// One writer at a time for a purpose, until the transaction ends. The lock belongs to this schema: two
/// installations in one database don't wait for each other.
async fn take_turn(connection: &impl ConnectionTrait, purpose: &str) -> Result<(), DbErr> {
    connection
        .execute_raw(sql(
            "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || current_schema(), 0))",
            [purpose.into()],
        ))
        .await?;
    Ok(())
}
