use chassis::db::decode;
use chrono::NaiveDate;
use sea_orm::{FromQueryResult, sqlx};
use serde::Serialize;
use utoipa::ToSchema;

use super::Conn;
use crate::collections::numbers::{percent, ratio};

/// `GET /operation`.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    pub kpis: Vec<Kpi>,
    pub channel_performance: Vec<Channel>,
    /// Las horas con llamadas, en Lima.
    pub hourly_performance: Vec<Hour>,
    /// Los primeros cinco intentos con un cliente en una campaña.
    pub attempt_effectiveness: Vec<Attempt>,
    /// Por llamadas. La llamada de un cliente con dos carteras está en ambas.
    pub queue_performance: Vec<QueueRow>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = OperationKpi)]
pub struct Kpi {
    pub label: &'static str,
    pub value: String,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    #[schema(example = "Call Center")]
    pub channel: String,
    pub calls: i64,
    pub effective_contacts: i64,
    pub non_effective_contacts: i64,
    pub pdp: i64,
    pub cierre_rate: f64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hour {
    #[schema(example = "09:00")]
    pub hour: String,
    pub effective_contacts: i64,
    pub non_effective_contacts: i64,
    pub pdp: i64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub attempt: i64,
    pub cierre_rate: f64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueRow {
    pub queue_name: String,
    pub calls: i64,
    pub effective_contacts: i64,
    pub pdp: i64,
    pub cierre_rate: f64,
}

#[derive(Debug, FromQueryResult)]
struct Part {
    part: String,
    name: String,
    calls: i64,
    cd: i64,
    ci: i64,
    promises: i64,
}

impl Part {
    fn closing(&self) -> f64 {
        percent(self.promises, self.cd)
    }
}

/// The calls of one day.
///
/// # Errors
/// The database.
pub async fn operation(conn: &mut Conn, day: NaiveDate) -> sqlx::Result<Operation> {
    let found = sqlx::query(include_str!("../queries/operation.sql")).bind(day).fetch_all(conn).await?;
    let mut parts = found.into_iter().map(decode).collect::<sqlx::Result<Vec<Part>>>()?;
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    let of = |name: &'static str| parts.iter().filter(move |part| part.part == name);
    let sum = |value: fn(&Part) -> i64| of("channel").map(value).sum::<i64>();
    let (calls, cd, ci, promises) =
        (sum(|part| part.calls), sum(|part| part.cd), sum(|part| part.ci), sum(|part| part.promises));
    let (reached, accounts) = of("accounts").map(|part| (part.calls, part.cd)).next().unwrap_or_default();
    let mut queues: Vec<_> = of("queue")
        .map(|part| QueueRow {
            queue_name: part.name.clone(),
            calls: part.calls,
            effective_contacts: part.cd,
            pdp: part.promises,
            cierre_rate: part.closing(),
        })
        .collect();
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.calls));
    let rate = |value: f64| format!("{value:.1}%");
    Ok(Operation {
        kpis: [
            ("Total Llamadas", thousands(calls)),
            ("Tasa de Contacto", rate(percent(cd + ci, calls))),
            ("Contacto Directo", rate(percent(cd, calls))),
            ("Tasa de Cierre", rate(percent(promises, cd))),
            ("Intensidad", format!("{:.1}", ratio(reached, accounts))),
            ("Cuentas Gestionadas", thousands(accounts)),
        ]
        .map(|(label, value)| Kpi { label, value })
        .into(),
        channel_performance: of("channel")
            .map(|part| Channel {
                channel: part.name.clone(),
                calls: part.calls,
                effective_contacts: part.cd,
                non_effective_contacts: part.ci,
                pdp: part.promises,
                cierre_rate: part.closing(),
            })
            .collect(),
        hourly_performance: of("hour")
            .map(|part| Hour {
                hour: part.name.clone(),
                effective_contacts: part.cd,
                non_effective_contacts: part.ci,
                pdp: part.promises,
            })
            .collect(),
        attempt_effectiveness: of("attempt")
            .map(|part| Attempt {
                attempt: part.name.parse().unwrap_or_default(),
                cierre_rate: part.closing(),
            })
            .collect(),
        queue_performance: queues,
    })
}

/// A number with commas between thousands.
fn thousands(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_have_commas() {
        let shown = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
