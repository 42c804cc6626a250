//! The marts' own invariants, for `doctor`. SQL by hand: what it compares spans all tables.

use chassis::doctor::findings;
use sea_orm::sqlx::{self, PgPool};

/// Each query yields one row a finding, as a sentence.
const CHECKS: &[&str] = &[
    "SELECT format('campaign %s: the marts count %s accounts, there are %s', archivo, m.n, a.n)
     FROM (SELECT archivo, sum(cuentas) AS n FROM mart_days GROUP BY archivo) AS m
     FULL JOIN (SELECT archivo, count(*) AS n FROM aux_accounts GROUP BY archivo) AS a USING (archivo)
     WHERE m.n IS DISTINCT FROM a.n LIMIT 20",
    "SELECT format('campaign %s: levels do not add up: managed %s, CD %s, CI %s', archivo, sum(gestionadas), sum(cd), sum(ci))
     FROM mart_days GROUP BY archivo
     HAVING sum(cd) < 0 OR sum(ci) < 0 OR sum(cd) + sum(ci) > sum(gestionadas) OR sum(gestionadas) > sum(cuentas) LIMIT 20",
    "SELECT format('campaign %s: the marts have %s paid, its payments are %s', archivo, m.n, coalesce(p.n, 0))
     FROM (SELECT archivo, sum(recupero) AS n FROM mart_days GROUP BY archivo) AS m
     LEFT JOIN (SELECT archivo, sum(monto) AS n FROM aux_payments GROUP BY archivo) AS p USING (archivo)
     WHERE m.n <> coalesce(p.n, 0) LIMIT 20",
    "SELECT format('campaign %s: the marts have %s managements, the days of its clients %s', archivo, coalesce(m.n, 0), coalesce(d.n, 0))
     FROM (SELECT archivo, sum(gestiones) AS n FROM mart_days GROUP BY archivo) AS m
     FULL JOIN (SELECT archivo, sum(d.calls * m.accounts) AS n FROM aux_member_days d JOIN aux_members m USING (member)
                GROUP BY archivo) AS d USING (archivo)
     WHERE coalesce(m.n, 0) <> coalesce(d.n, 0) LIMIT 20",
    "SELECT format('campaign %s: the marts have %s accounts managed and %s paying, there are %s and %s', archivo, m.managed, m.paying, a.managed, a.paying)
     FROM (SELECT archivo, sum(gestionadas) AS managed, sum(pagadoras) AS paying FROM mart_days GROUP BY archivo) AS m
     JOIN (SELECT a.archivo, count(m.first_managed) AS managed, count(a.first_paid) AS paying
           FROM aux_accounts a JOIN aux_members m USING (member) GROUP BY a.archivo) AS a USING (archivo)
     WHERE (m.managed, m.paying) <> (a.managed, a.paying) LIMIT 20",
    "SELECT format('campaign %s: less than nothing is owed: %s', archivo, sum(deuda_act))
     FROM mart_days GROUP BY archivo HAVING sum(deuda_act) < 0 LIMIT 20",
    "SELECT format('the dashboards are held back since %s: %s', refreshed_at, held_back) FROM mart_version
     WHERE held_back IS NOT NULL AND refreshed_at < now() - interval '1 day'",
    "SELECT format('stream %s: its watermark %s is ahead of what was read at %s', stream, watermark, read_at)
     FROM raw_streams WHERE watermark > read_at + interval '5 minutes' LIMIT 20",
];

/// A sentence for each thing that does not hold.
///
/// # Errors
/// The database.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    findings(pool, CHECKS).await
}
