use chassis::SqlMigration;

pub const MIGRATION: SqlMigration =
    SqlMigration { file: file!(), up: UP, down: "drop table consent_withdrawals" };

/// Whose consent a person took back, by phone: like a suppression it outlives contacts, imports, rollbacks and restores. A file
/// that claims a basis for everybody in it is no new consent.
const UP: &str = r#"
create table consent_withdrawals (
    phone_e164 text collate "C" primary key,
    withdrawn_by text not null,
    withdrawn_at timestamptz not null default now()
);
"#;
