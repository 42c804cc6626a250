use std::collections::BTreeMap;

use chassis::db::decode;
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sea_orm::{
    FromQueryResult,
    sqlx::{self, Row as _, postgres::PgRow},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Conn;
use crate::{
    collections::numbers::{float, percent},
    storage::mart_version,
};

/// `GET /productivity`.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Productivity {
    pub daily_trend: Vec<Trend>,
    pub hourly_trend: Vec<Trend>,
    /// Los agentes por lo que se recuperó después de sus contactos.
    pub agent_ranking: Vec<Agent>,
    /// Los mismos agentes, por nombre.
    pub agent_heatmap: Vec<Heat>,
    pub metadata: Metadata,
}

/// De un día, o de una hora en todos los días.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Trend {
    /// 1 es el primer día del período.
    pub day: Option<i32>,
    #[schema(example = "09:00")]
    pub hour: Option<String>,
    pub llamadas: i64,
    pub compromisos: i64,
    /// Lo que se pagó en el día. Los pagos no tienen hora.
    pub recupero: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    pub id: String,
    pub rank: i64,
    pub agent_name: String,
    pub calls: i64,
    pub direct_contacts: i64,
    pub commitments: i64,
    pub amount_recovered: f64,
    pub closing_rate: f64,
    pub commitment_conversion: f64,
    #[schema(minimum = 1, maximum = 4)]
    pub quartile: i64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heat {
    pub id: String,
    pub dni: String,
    pub agent_name: String,
    /// Por día; 1 es el primero del período.
    pub daily_performance: BTreeMap<i32, Performance>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Performance {
    pub gestiones: i64,
    pub contactos_efectivos: i64,
    pub compromisos: i64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ProductivityMetadata)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub fecha_inicio: NaiveDate,
    pub fecha_fin: NaiveDate,
    pub total_agentes: usize,
    pub last_refresh: Option<DateTime<Utc>>,
}

impl Trend {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let (hour, money): (Option<i16>, Option<Decimal>) = (row.try_get("hour")?, row.try_get("money")?);
        Ok(Self {
            day: row.try_get("day")?,
            hour: hour.map(|hour| format!("{hour:02}:00")),
            llamadas: row.try_get("calls")?,
            compromisos: row.try_get("promises")?,
            recupero: money.map(float),
        })
    }
}

#[derive(Debug, FromQueryResult)]
struct Worked {
    agent: String,
    name: String,
    dni: String,
    day: i32,
    calls: i64,
    contacts: i64,
    promises: i64,
    kept: i64,
    money: Decimal,
}

#[derive(Debug, Default)]
struct Sums {
    id: String,
    name: String,
    dni: String,
    calls: i64,
    contacts: i64,
    promises: i64,
    kept: i64,
    money: Decimal,
    days: BTreeMap<i32, Performance>,
}

/// The work of a span of days, and what was paid in it.
///
/// # Errors
/// The database.
pub async fn productivity(
    conn: &mut Conn,
    version: &mart_version::Model,
    from: NaiveDate,
    to: NaiveDate,
) -> sqlx::Result<Productivity> {
    let found = sqlx::query(include_str!("../queries/productivity_trends.sql"))
        .bind(from)
        .bind(to)
        .fetch_all(&mut *conn)
        .await?;
    let mut trends = found.iter().map(Trend::read).collect::<sqlx::Result<Vec<_>>>()?;
    trends.sort_by(|one, other| (one.day, &one.hour).cmp(&(other.day, &other.hour)));
    let (daily_trend, hourly_trend) = trends.into_iter().partition(|trend| trend.day.is_some());

    let worked = sqlx::query(include_str!("../queries/productivity_agents.sql"))
        .bind(from)
        .bind(to)
        .fetch_all(conn)
        .await?;
    let mut agents: BTreeMap<String, Sums> = BTreeMap::new();
    for row in worked {
        let row: Worked = decode(row)?;
        let sums = agents.entry(row.agent.clone()).or_insert_with(|| Sums {
            id: row.agent,
            name: row.name,
            dni: row.dni,
            ..Sums::default()
        });
        sums.calls += row.calls;
        sums.contacts += row.contacts;
        sums.promises += row.promises;
        sums.kept += row.kept;
        sums.money += row.money;
        let day = Performance {
            gestiones: row.calls,
            contactos_efectivos: row.contacts,
            compromisos: row.promises,
        };
        sums.days.insert(row.day, day);
    }
    let mut agents: Vec<Sums> = agents.into_values().collect();
    agents.sort_by(|one, other| {
        other
            .money
            .cmp(&one.money)
            .then(other.promises.cmp(&one.promises))
            .then_with(|| one.id.cmp(&other.id))
    });
    let number = agents.len();
    let agent_ranking = agents
        .iter()
        .enumerate()
        .map(|(index, sums)| Agent {
            id: sums.id.clone(),
            rank: i64::try_from(index + 1).unwrap_or(i64::MAX),
            agent_name: sums.name.clone(),
            calls: sums.calls,
            direct_contacts: sums.contacts,
            commitments: sums.promises,
            amount_recovered: float(sums.money),
            closing_rate: percent(sums.promises, sums.contacts),
            commitment_conversion: percent(sums.kept, sums.promises),
            quartile: quartile(index, number),
        })
        .collect();
    agents.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    let agent_heatmap = agents
        .into_iter()
        .map(|sums| Heat { id: sums.id, dni: sums.dni, agent_name: sums.name, daily_performance: sums.days })
        .collect();
    let metadata = Metadata {
        fecha_inicio: from,
        fecha_fin: to,
        total_agentes: number,
        last_refresh: version.refreshed_at,
    };
    Ok(Productivity { daily_trend, hourly_trend, agent_ranking, agent_heatmap, metadata })
}

/// Which of four parts of `number` places is that of `index`, as SQL's `ntile(4)`: the first parts take what remains.
fn quartile(index: usize, number: usize) -> i64 {
    let (size, larger) = (number / 4, number % 4);
    let in_larger = larger * (size + 1);
    let part =
        if index < in_larger { index / (size + 1) } else { larger + (index - in_larger) / size.max(1) };
    i64::try_from(part + 1).unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::quartile;

    #[test]
    fn quartiles_are_ntiles() {
        let of = |number| (0..number).map(|index| quartile(index, number)).collect::<Vec<_>>();
        assert_eq!(of(1), [1]);
        assert_eq!(of(3), [1, 2, 3]);
        assert_eq!(of(4), [1, 2, 3, 4]);
        assert_eq!(of(6), [1, 1, 2, 2, 3, 4]);
        assert_eq!(of(8), [1, 1, 2, 2, 3, 3, 4, 4]);
    }
}
