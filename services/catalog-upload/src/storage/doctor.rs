//! The service's own invariants, for `doctor`. SQL by hand: what it compares spans all tables.

use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};

use super::{retention::LEDGERS, search::WORDS};

/// Each query yields one row a finding, as a sentence.
const CHECKS: &[&str] = &[
    "SELECT format('import %s: its summary says %s accepted (%s of them unchanged) and %s rejected, its ledger has %s and %s',
            id, accepted, unchanged, rejected, changes, rejections)
     FROM (SELECT i.id, i.accepted, i.rejected, i.unchanged,
                  CASE i.kind WHEN 'dry_run'
                      THEN (SELECT count(*) FROM import_plan p WHERE p.import_id = i.id)
                      ELSE (SELECT count(*) + i.unchanged FROM import_ledger c WHERE c.import_id = i.id) END AS changes,
                  (SELECT count(*) FROM import_rejections r WHERE r.import_id = i.id) AS rejections
           FROM imports i JOIN jobs j ON j.id = i.id
           WHERE j.state = 'completed' AND i.purged_at IS NULL) AS counted
     WHERE accepted IS DISTINCT FROM changes OR rejected IS DISTINCT FROM rejections LIMIT 20",
    "SELECT format('import %s: row %s is both accepted and rejected', import_id, row_number)
     FROM import_ledger JOIN import_rejections USING (import_id, row_number) LIMIT 20",
    "SELECT format('import %s is all or nothing, and has both changes and rejections', i.id)
     FROM imports i WHERE i.all_or_nothing AND i.kind = 'import'
         AND EXISTS (SELECT FROM import_ledger c WHERE c.import_id = i.id)
         AND EXISTS (SELECT FROM import_rejections r WHERE r.import_id = i.id) LIMIT 20",
    "SELECT format('dry run %s has changed products', i.id)
     FROM imports i WHERE i.kind = 'dry_run'
         AND EXISTS (SELECT FROM import_ledger c WHERE c.import_id = i.id) LIMIT 20",
    "SELECT format('import %s has ended, and its plan is still there', i.id)
     FROM imports i JOIN jobs j ON j.id = i.id
     WHERE i.kind = 'import' AND j.state = 'completed'
         AND EXISTS (SELECT FROM import_plan p WHERE p.import_id = i.id) LIMIT 20",
    "SELECT format('job %s: an import''s job without its import', j.id)
     FROM jobs j LEFT JOIN imports i ON i.id = j.id
     WHERE j.kind IN ('catalog.imports', 'catalog.undos') AND i.id IS NULL LIMIT 20",
    "SELECT format('inventory of product %s, which does not exist', product_id)
     FROM inventory v WHERE NOT EXISTS (SELECT FROM products p WHERE p.id = v.product_id) LIMIT 20",
    "SELECT format('product %s is at version %s, below the %s of an edit of it (%s)', p.id, p.version, e.version, e.action)
     FROM product_edits e JOIN products p ON p.id = e.product_id WHERE e.version > p.version LIMIT 20",
    "SELECT format('task %s waits for the ledger of import %s, which is purged', i.id, base.id)
     FROM imports i JOIN jobs j ON j.id = i.id JOIN imports base ON base.id IN (i.corrects, i.undoes)
     WHERE j.finished_at IS NULL AND base.purged_at IS NOT NULL LIMIT 20",
    "SELECT format('import %s has completed, and its claims are still there', i.id)
     FROM imports i JOIN jobs j ON j.id = i.id
     WHERE j.state = 'completed' AND EXISTS (SELECT FROM import_claims c WHERE c.import_id = i.id) LIMIT 20",
    // Fewer there may be: those of a worker that did not note them yet.
    "SELECT format('import %s: its summary says %s rows changed nothing, %s products are noted as unchanged',
            i.id, i.unchanged, noted.amount)
     FROM imports i JOIN jobs j ON j.id = i.id
         JOIN (SELECT import_id, sum(cardinality(product_ids)) AS amount FROM import_unchanged GROUP BY import_id) noted
             ON noted.import_id = i.id
     WHERE j.state = 'completed' AND noted.amount > i.unchanged LIMIT 20",
    "SELECT format('import %s: row %s stands in its change log %s times', import_id, row_number, count(*))
     FROM import_ledger GROUP BY import_id, row_number HAVING count(*) > 1 LIMIT 20",
];

const ANALYZE: &str = "ANALYZE jobs, imports, import_changes, import_creations, import_updates, import_unchanged, \
    import_rejections, import_plan, products, product_edits, inventory, product_words";

/// A sentence for each thing that does not hold.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    // Right after a large import the planner knows the ledgers as empty, and joins them row by row for minutes.
    sqlx::query(ANALYZE).execute(pool).await?;
    let mut findings = chassis::doctor::findings(pool, CHECKS).await?;
    // Words that are older than their product are right where the change was of something else.
    let unfound = format!(
        "SELECT format('product %s has had no words to search it by for %s s', p.id,
                extract(epoch FROM now() - p.updated_at)::bigint)
         FROM products p WHERE p.updated_at < now() - interval '5 minutes'
             AND NOT EXISTS (SELECT FROM product_words w
                 WHERE w.product_id = p.id AND (w.version >= p.version OR w.words = {WORDS})) LIMIT 20"
    );
    findings.extend(sqlx::query_scalar::<_, String>(AssertSqlSafe(unfound)).fetch_all(pool).await?);
    for ledger in LEDGERS {
        // From one import's rows to the next one's along the index, not over every row.
        let strays = format!(
            "WITH RECURSIVE held (id) AS (
                 (SELECT import_id FROM {ledger} ORDER BY import_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT import_id FROM {ledger} l WHERE l.import_id > held.id ORDER BY import_id LIMIT 1)
                 FROM held WHERE held.id IS NOT NULL)
             SELECT format('{ledger}: rows of import %s, which does not exist', id)
             FROM held WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM imports i WHERE i.id = held.id) LIMIT 20"
        );
        findings.extend(sqlx::query_scalar::<_, String>(AssertSqlSafe(strays)).fetch_all(pool).await?);
    }
    Ok(findings)
}
