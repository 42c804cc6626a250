//! The service's own invariants, for `doctor`.

use sea_orm::sqlx::{self, PgPool};

/// Each query yields one row a finding, as a sentence. Phones are masked: what a doctor prints ends in logs.
const CHECKS: &[&str] = &[
    // What comes due is applied within the time that counts may be old.
    "select format('contact %s is not opted out, and its phone is suppressed since %s', c.id, s.since)
     from (select phone_e164, min(effective_at) as since from suppressions group by 1) s
     join contacts c using (phone_e164)
     where c.opt_out_at is null and s.since < now() - interval '1 hour' limit 20",
    "select format('contact %s is opted out, and no suppression of its phone is in effect', c.id)
     from contacts c where c.opt_out_at is not null and not exists (
         select from suppressions s where s.phone_e164 = c.phone_e164 and s.effective_at <= now()) limit 20",
];

/// A sentence for each thing that does not hold.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    let mut transaction = pool.begin().await?;
    // Millions of contacts are looked through.
    sqlx::query("set local statement_timeout = 0").execute(&mut *transaction).await?;
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend(sqlx::query_scalar::<_, String>(*check).fetch_all(&mut *transaction).await?);
    }
    transaction.commit().await?;
    Ok(findings)
}
