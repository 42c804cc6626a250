use std::{collections::BTreeMap, time::Duration};

use chassis::config::Env;
use chrono::NaiveDate;
use serde::Deserialize;

/// How dashboards are shown and kept.
#[derive(Clone, Debug)]
pub struct CollectionsSettings {
    /// Days that are not worked, beside weekends.
    pub holidays: Vec<NaiveDate>,
    /// From which values on a figure is marked.
    pub thresholds: Thresholds,
    pub dashboard_ttl: Duration,
    pub evolution_ttl: Duration,
    pub assignment_ttl: Duration,
}

/// By field of a row (`contacto`, `cierre`, `inten`, `porcentajeDeuda`, `porcentajeDeudaAct`, `status` for the whole
/// row, judged by its `contacto`): least value and mark, the highest that is reached counts.
pub type Thresholds = BTreeMap<String, Vec<Threshold>>;

/// A mark and the least value that has it.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub from: f64,
    pub status: Status,
}

/// Las marcas que conocen los tableros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Up,
    Down,
    Neutral,
    Warning,
    Ok,
    Bad,
    #[default]
    None,
}

impl CollectionsSettings {
    /// `COLLECTIONS_HOLIDAYS` (none; days as 2025-07-28, with commas between), `COLLECTIONS_THRESHOLDS` (none; JSON, as
    /// `{"contacto": [{"from": 0, "status": "bad"}, {"from": 40, "status": "ok"}]}`), `DASHBOARD_TTL_SECONDS` (1,800),
    /// `EVOLUTION_TTL_SECONDS` (3,600), `ASSIGNMENT_TTL_SECONDS` (7,200).
    pub fn read(env: &mut Env) -> Self {
        let holidays: String =
            env.default("COLLECTIONS_HOLIDAYS", String::new(), "days, as 2025-07-28,2025-07-29");
        let mut days = Vec::new();
        for day in holidays.split(',').map(str::trim).filter(|day| !day.is_empty()) {
            match day.parse() {
                Ok(day) => days.push(day),
                Err(error) => env.reject("COLLECTIONS_HOLIDAYS", format!("{day:?}: {error}")),
            }
        }
        let thresholds: String = env.default("COLLECTIONS_THRESHOLDS", "{}".to_owned(), "JSON");
        let thresholds = serde_json::from_str(&thresholds).unwrap_or_else(|error| {
            env.reject("COLLECTIONS_THRESHOLDS", error);
            Thresholds::new()
        });
        Self {
            holidays: days,
            thresholds,
            dashboard_ttl: env.seconds("DASHBOARD_TTL_SECONDS", Duration::from_secs(1_800)),
            evolution_ttl: env.seconds("EVOLUTION_TTL_SECONDS", Duration::from_secs(3_600)),
            assignment_ttl: env.seconds("ASSIGNMENT_TTL_SECONDS", Duration::from_secs(7_200)),
        }
    }

    /// The mark of a field's value.
    pub fn status(&self, field: &str, value: f64) -> Status {
        let reached =
            self.thresholds.get(field).into_iter().flatten().filter(|threshold| value >= threshold.from);
        reached
            .max_by(|one, other| one.from.total_cmp(&other.from))
            .map_or(Status::None, |threshold| threshold.status)
    }
}
