use sea_orm::sqlx::{self, PgPool};

use crate::Error;

/// Each query yields one row a finding, as a sentence. The thresholds leave a working relay ample time.
const CHECKS: &[&str] = &[
    "SELECT format('outbox: %s rows to %s have waited for more than 60 s, the oldest for %s s; last error: %s',
            count(*), destination, extract(epoch FROM now() - min(created_at))::bigint,
            coalesce(max(last_error), 'none'))
     FROM outbox WHERE created_at < now() - interval '60 seconds' GROUP BY destination",
    "SELECT format('outbox: %s rows were written in the future: the server''s clock was set back', count(*))
     FROM outbox WHERE created_at > now() + interval '60 seconds' HAVING count(*) > 0",
    "SELECT format('outbox: message %s stands in it %s times for %s', message_id, count(*), destination)
     FROM outbox GROUP BY message_id, destination HAVING count(*) > 1 LIMIT 20",
    "SELECT format('dead letters: %s of %s are open (%s), the last from %s', count(*), queue,
            string_agg(DISTINCT reason, ', '), max(failed_at))
     FROM dead_letters WHERE state = 'open' GROUP BY queue",
    "SELECT format('dead letters: %s replayed or discarded, but the audit counts %s', letters, audited)
     FROM (SELECT (SELECT count(*) FROM dead_letters WHERE state <> 'open') AS letters,
                  (SELECT coalesce(sum(count), 0) FROM dead_letter_audit) AS audited) AS both_counts
     WHERE letters > audited",
];

/// Checks what must hold in this crate's tables and says what does not, a sentence each. Empty: all is
/// well.
///
/// # Errors
/// The database.
pub async fn doctor(pool: &PgPool) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend(sqlx::query_scalar::<_, String>(*check).fetch_all(pool).await?);
    }
    Ok(findings)
}
