//! The service's own invariants, for `doctor`. SQL by hand: what it compares spans all tables.

use chassis::doctor::findings;
use sea_orm::sqlx::{self, PgPool};

/// Each query yields one row a finding, as a sentence.
const CHECKS: &[&str] = &[
    "SELECT format('run %s says %s files done and %s failed, its files say %s and %s', id, done, failed, made, lost)
     FROM (SELECT r.id, r.done, r.failed, count(f.object_key) AS made,
                  count(*) FILTER (WHERE j.state IN ('failed', 'cancelled')
                                      OR (f.job_id IS NULL AND r.finished_at IS NOT NULL)) AS lost
           FROM runs r JOIN run_files f ON f.run_id = r.id LEFT JOIN jobs j ON j.id = f.job_id
           GROUP BY r.id) AS counted
     WHERE done <> made OR failed <> lost LIMIT 20",
    "SELECT format('run %s says %s rows and %s bytes, its files have %s and %s', id, rows, bytes, r_sum, b_sum)
     FROM (SELECT r.id, r.rows, r.bytes, coalesce(sum(f.rows), 0) AS r_sum, coalesce(sum(f.bytes), 0) AS b_sum
           FROM runs r JOIN run_files f ON f.run_id = r.id GROUP BY r.id) AS summed
     WHERE rows <> r_sum OR bytes <> b_sum LIMIT 20",
    "SELECT format('run %s has %s files, its row says %s', r.id, count(*), r.files)
     FROM runs r JOIN run_files f ON f.run_id = r.id GROUP BY r.id HAVING count(*) <> r.files LIMIT 20",
    "SELECT format('run %s: all of its files have ended, and it has not', id)
     FROM runs WHERE finished_at IS NULL AND done + failed = files LIMIT 20",
    "SELECT format('run %s: the file of campaign %s has a completed job and no file', f.run_id, f.campaign_id)
     FROM run_files f JOIN jobs j ON j.id = f.job_id
     WHERE (j.state = 'completed') <> (f.object_key IS NOT NULL) LIMIT 20",
    "SELECT format('%s: campaigns_per_day says %s campaigns, there are %s', fecha, total, found)
     FROM (SELECT fecha, coalesce(d.total, 0) AS total, coalesce(m.found, 0) AS found
           FROM campaigns_per_day d FULL JOIN
               (SELECT fecha, count(*) AS found FROM ta_sms_maestro GROUP BY fecha) m USING (fecha)) AS days
     WHERE total <> found LIMIT 20",
    // The newest days only: older ones don't change, and counting all rows would take long.
    "WITH days AS (SELECT fecha FROM campaigns_per_day ORDER BY fecha DESC LIMIT 3),
     counted AS (SELECT d.id_maestro, count(*) AS found FROM ta_sms_detalle d
                 WHERE d.fecha IN (SELECT fecha FROM days) GROUP BY d.id_maestro)
     SELECT format('campaign %s has %s rows, its row says %s', coalesce(m.id, c.id_maestro), coalesce(c.found, 0), m.filas)
     FROM (SELECT * FROM ta_sms_maestro WHERE fecha IN (SELECT fecha FROM days)) m
         FULL JOIN counted c ON c.id_maestro = m.id
     WHERE m.filas IS DISTINCT FROM coalesce(c.found, 0) LIMIT 20",
    "SELECT format('schedule %s has been due for %s s', id, extract(epoch FROM now() - next_at)::bigint)
     FROM schedules WHERE active AND next_at < now() - interval '10 minutes' LIMIT 20",
];

/// A sentence for each thing that does not hold.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    findings(pool, CHECKS).await
}
