use std::collections::{BTreeMap, BTreeSet};

use chassis::db::decode;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use sea_orm::{FromQueryResult, sqlx};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Conn, cut_query, shown};
use crate::collections::{
    numbers::{float, percent, ratio},
    question::{Cut, Metric},
};

/// La serie de una métrica.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evolution {
    pub metric: Metric,
    #[schema(example = "percent")]
    pub value_type: &'static str,
    /// Primero `TODAS`, después cada valor de la dimensión.
    pub series: Vec<Series>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Series {
    pub name: String,
    /// Faltan los días sin una campaña abierta.
    pub data: Vec<Point>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// 1 es el primer día del período.
    pub day: i32,
    pub value: f64,
}

#[derive(Debug, FromQueryResult)]
struct Sums {
    day: i32,
    /// None: all together.
    name: Option<String>,
    cuentas: i64,
    gestionadas: i64,
    gestiones: i64,
    cd: i64,
    ci: i64,
    pagadoras: i64,
    recupero: Decimal,
}

impl Sums {
    fn value(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Cobertura => percent(self.gestionadas, self.cuentas),
            Metric::Contacto => percent(self.cd + self.ci, self.cuentas),
            Metric::Cd => percent(self.cd, self.cuentas),
            Metric::Ci => percent(self.ci, self.cuentas),
            Metric::Sc => percent(self.gestionadas - self.cd - self.ci, self.cuentas),
            Metric::Cierre => percent(self.pagadoras, self.cuentas),
            Metric::Recupero => float(self.recupero),
            Metric::Intensidad => ratio(self.gestiones, self.gestionadas),
        }
    }
}

/// Each day of a span as the dashboard of that day has it.
///
/// # Errors
/// The database.
pub async fn evolution(
    conn: &mut Conn,
    (from, to): (NaiveDate, NaiveDate),
    cut: &Cut,
    dimension: &'static str,
    metrics: &BTreeSet<Metric>,
) -> sqlx::Result<Vec<Evolution>> {
    let query = cut_query(include_str!("../queries/evolution.sql"), to, cut).bind(from).bind(dimension);
    let mut series: BTreeMap<Option<String>, Vec<Sums>> = BTreeMap::new();
    for row in query.fetch_all(conn).await? {
        let sums: Sums = decode(row)?;
        // None is before all names.
        let name = sums.name.clone().map(|name| shown(dimension, name));
        series.entry(name).or_default().push(sums);
    }
    let of = |metric: Metric| Evolution {
        metric,
        value_type: metric.value_type(),
        series: series
            .iter()
            .map(|(name, days)| Series {
                name: name.clone().unwrap_or_else(|| "TODAS".to_owned()),
                data: days.iter().map(|sums| Point { day: sums.day, value: sums.value(metric) }).collect(),
            })
            .collect(),
    };
    Ok(metrics.iter().copied().map(of).collect())
}
