//! The gateway's own invariants, for `doctor`. SQL by hand: they span tables, and each is one count.

use sea_orm::sqlx::{self, PgPool};

/// What must not be, and the sentence that says so. Each asks for a count that should be zero.
const CHECKS: &[(&str, &str)] = &[
    (
        "no enabled administrator: set ADMIN_USER to a new name and ADMIN_PASSWORD, and start the gateway",
        "SELECT count(*) FROM (SELECT) AS one
         WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin' AND disabled_at IS NULL)",
    ),
    (
        "no signing key in force: nobody can log in (the gateway makes one when it starts)",
        "SELECT count(*) FROM (SELECT) AS one
         WHERE NOT EXISTS (SELECT FROM signing_keys WHERE activates_at <= now())",
    ),
    (
        "live logins without a refresh token of their newest generation",
        "SELECT count(*) FROM token_families f
         WHERE f.session_digest IS NULL AND f.revoked_at IS NULL AND f.expires_at > now()
           AND NOT EXISTS (SELECT FROM refresh_tokens t
                           WHERE t.family_id = f.id AND t.generation = f.generation)",
    ),
    (
        "refresh tokens of a generation their login has not reached",
        "SELECT count(*) FROM refresh_tokens t JOIN token_families f ON f.id = t.family_id
         WHERE t.generation > f.generation",
    ),
    (
        "live logins of disabled users",
        "SELECT count(*) FROM token_families f JOIN users u ON u.id = f.user_id
         WHERE u.disabled_at IS NOT NULL AND f.revoked_at IS NULL AND f.expires_at > now()",
    ),
    (
        "logins that ended over a day ago and are still stored: does the gateway's upkeep run?",
        "SELECT count(*) FROM token_families WHERE expires_at < now() - interval '1 day'",
    ),
];

/// Checks the invariants of users, logins and keys: one sentence for each that is broken.
///
/// # Errors
/// The database.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    let mut findings = Vec::new();
    for (finding, check) in CHECKS {
        let broken: i64 = sqlx::query_scalar(*check).fetch_one(pool).await?;
        if broken > 0 {
            findings.push(format!("{finding} ({broken})"));
        }
    }
    Ok(findings)
}
