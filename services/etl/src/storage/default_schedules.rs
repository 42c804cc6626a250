//! The schedules that a new installation begins with. They are made once: who deletes one does not get it again.

use chassis::db::Orm;
use chrono::Utc;
use schedules::{Missed, Schedule, Timetable};
use serde_json::json;
use uuid::Uuid;

use super::seeded_schedules;
use crate::{Resources, domain::stream::Source};

/// Fixed ids, so that all workers mean the same ones: what, cron.
const DEFAULTS: [(u128, Source, &str, &str, &str); 3] = [
    (0x0190_b5a4_0000_7000_8000_0000_0000_0001, Source::Bsale, "bsale", "daily", "0 6 * * 1-6"),
    // Sundays: all there is.
    (0x0190_b5a4_0000_7000_8000_0000_0000_0002, Source::Bsale, "bsale", "full", "0 6 * * 0"),
    (0x0190_b5a4_0000_7000_8000_0000_0000_0003, Source::BigQuery, "bigquery", "daily", "0 */3 * * *"),
];

/// Makes those that this installation's sources need, unless it ever had schedules.
///
/// # Errors
/// The database.
pub async fn ensure(resources: &Resources) -> anyhow::Result<()> {
    for (id, of, source, mode, cron) in DEFAULTS {
        if !resources.has(of) {
            continue;
        }
        let zone = match of {
            Source::Bsale => resources.settings.zone.name(),
            Source::BigQuery => chrono_tz::America::Lima.name(),
        };
        let mut transaction = resources.database.pool.begin().await?;
        if !seeded_schedules::record(&mut transaction, Uuid::from_u128(id)).await? {
            continue;
        }
        let schedule = Schedule {
            id: Uuid::from_u128(id),
            cron: cron.to_owned(),
            zone: zone.to_owned(),
            missed: Missed::Last,
            params: json!({ "source": source, "mode": mode, "overlap": "omitir" }),
            active: true,
            next_at: Timetable::parse(cron, zone)?.next(Utc::now())?,
            last_at: None,
            last_run: None,
            last_error: None,
            waiting_since: None,
            created_by: "lote".to_owned(),
            created_at: Utc::now(),
            version: 1,
        };
        schedules::put(&Orm::on(&mut transaction), schedule).await?;
        transaction.commit().await?;
    }
    Ok(())
}
