use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sea_orm::sqlx;
use serde::Serialize;
use utoipa::ToSchema;

use super::Conn;
use crate::{
    collections::numbers::{average, float, variation},
    storage::mart_version,
};

/// `GET /assignment`.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    #[schema(example = "success")]
    pub status: &'static str,
    pub success: bool,
    pub message: String,
    pub kpis: Vec<Kpi>,
    /// La deuda de cada cartera, de mayor a menor.
    pub composition_data: Vec<Composition>,
    pub detail_breakdown: Vec<Detail>,
    pub metadata: Metadata,
    #[schema(example = "2025-06")]
    pub current_period: String,
    pub previous_period: String,
    /// Cuándo se calculó.
    pub query_time: DateTime<Utc>,
    /// Siempre nulo: lo que hay está al lado.
    pub data: Option<serde_json::Value>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AssignmentKpi)]
#[serde(rename_all = "camelCase")]
pub struct Kpi {
    pub label: &'static str,
    pub valor_actual: f64,
    pub valor_anterior: f64,
    /// En porcentaje del valor anterior.
    pub variacion: f64,
    #[schema(example = "number")]
    pub value_type: &'static str,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Composition {
    pub name: String,
    pub value: f64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    pub id: String,
    pub name: String,
    pub clientes_actual: i64,
    pub clientes_anterior: i64,
    pub cuentas_actual: i64,
    pub cuentas_anterior: i64,
    pub saldo_actual: f64,
    pub saldo_anterior: f64,
    pub ticket_promedio_actual: f64,
    pub ticket_promedio_anterior: f64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AssignmentMetadata)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub fecha_actual: NaiveDate,
    pub fecha_anterior: NaiveDate,
    pub total_carteras: usize,
    pub last_refresh: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    clientes: i64,
    cuentas: i64,
    saldo: Decimal,
}

impl Sums {
    fn ticket(&self) -> Decimal {
        average(self.saldo, self.cuentas)
    }
}

/// What was assigned on a day, beside what was on another.
///
/// # Errors
/// The database.
pub async fn assignment(
    conn: &mut Conn,
    version: &mart_version::Model,
    now: NaiveDate,
    before: NaiveDate,
    cartera: &BTreeSet<String>,
) -> sqlx::Result<Assignment> {
    let carteras: Option<Vec<&String>> = (!cartera.is_empty()).then(|| cartera.iter().collect());
    let found: Vec<(i32, Option<String>, i64, i64, Decimal)> =
        sqlx::query_as(include_str!("../queries/assignment.sql"))
            .bind(now)
            .bind(before)
            .bind(carteras)
            .fetch_all(conn)
            .await?;
    let mut by_name: BTreeMap<Option<String>, [Sums; 2]> = BTreeMap::new();
    for (period, name, cuentas, clientes, saldo) in found {
        by_name.entry(name).or_default()[usize::from(period == 2)] = Sums { clientes, cuentas, saldo };
    }
    let [total, total_before] = by_name.remove(&None).unwrap_or_default();
    let mut rows: Vec<(String, [Sums; 2])> =
        by_name.into_iter().filter_map(|(name, sums)| name.map(|name| (name, sums))).collect();
    rows.sort_by(|(one, a), (other, b)| b[0].saldo.cmp(&a[0].saldo).then_with(|| one.cmp(other)));
    let kpi = |label, value_type, value: fn(&Sums) -> Decimal| {
        let (now, before) = (value(&total), value(&total_before));
        Kpi {
            label,
            valor_actual: float(now),
            valor_anterior: float(before),
            variacion: variation(now, before),
            value_type,
        }
    };
    Ok(Assignment {
        status: "success",
        success: true,
        message: format!("Asignación al {now} comparada con la del {before}"),
        kpis: vec![
            kpi("Total Clientes", "number", |sums| sums.clientes.into()),
            kpi("Total Cuentas", "number", |sums| sums.cuentas.into()),
            kpi("Saldo Total Deuda", "currency", |sums| sums.saldo),
            kpi("Ticket Promedio", "currency", Sums::ticket),
        ],
        composition_data: rows
            .iter()
            .map(|(name, [now, _])| Composition { name: name.clone(), value: float(now.saldo) })
            .collect(),
        metadata: Metadata {
            fecha_actual: now,
            fecha_anterior: before,
            total_carteras: rows.len(),
            last_refresh: version.refreshed_at,
        },
        detail_breakdown: rows
            .into_iter()
            .map(|(name, [now, before])| Detail {
                id: name.to_lowercase(),
                name,
                clientes_actual: now.clientes,
                clientes_anterior: before.clientes,
                cuentas_actual: now.cuentas,
                cuentas_anterior: before.cuentas,
                saldo_actual: float(now.saldo),
                saldo_anterior: float(before.saldo),
                ticket_promedio_actual: float(now.ticket()),
                ticket_promedio_anterior: float(before.ticket()),
            })
            .collect(),
        current_period: now.format("%Y-%m").to_string(),
        previous_period: before.format("%Y-%m").to_string(),
        query_time: Utc::now(),
        data: None,
    })
}
