use chassis::db::decode;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use sea_orm::{
    FromQueryResult,
    sqlx::{self, Row as _},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Conn, cut_query, shown};
use crate::collections::{
    numbers::{float, percent, ratio, working_days},
    question::Cut,
    settings::{CollectionsSettings, Status},
};

/// `GET /dashboard`.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Una fila por cada valor de la primera dimensión, por cuentas.
    pub segmento_data: Vec<Row>,
    /// Una fila por cada valor de la segunda.
    pub negocio_data: Vec<Row>,
    pub integral_chart_data: Vec<ChartPoint>,
}

/// Las cuentas con un valor de una dimensión. Los porcentajes van de 0 a 100, con un decimal.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub id: String,
    pub name: String,
    pub status: Status,
    pub cuentas: i64,
    pub porcentaje_cuentas: f64,
    pub deuda_asig: f64,
    pub porcentaje_deuda: f64,
    pub porcentaje_deuda_status: Status,
    pub deuda_act: f64,
    pub porcentaje_deuda_act: f64,
    pub porcentaje_deuda_act_status: Status,
    pub cobertura: f64,
    pub contacto: f64,
    pub contacto_status: Status,
    pub cd: f64,
    pub ci: f64,
    pub sc: f64,
    pub cierre: f64,
    pub cierre_status: Status,
    pub inten: f64,
    pub inten_status: Status,
    pub cd_count: i64,
    pub ci_count: i64,
    pub sc_count: i64,
    pub sg_count: i64,
    pub pdp_count: i64,
    pub frac_count: i64,
    pub pdp_frac_count: i64,
    pub fecha_asignacion: Option<NaiveDate>,
    pub fecha_cierre: Option<NaiveDate>,
    pub dias_gestion: Option<i64>,
    pub dias_habiles: Option<i64>,
}

/// Las tasas de una fila, para el gráfico.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartPoint {
    pub name: String,
    pub cobertura: f64,
    pub contacto: f64,
    pub contacto_directo: f64,
    pub contacto_indirecto: f64,
    pub tasa_de_cierre: f64,
    pub intensidad: f64,
}

/// What was counted; all rates are of these sums.
#[derive(Debug, FromQueryResult)]
struct Sums {
    cuentas: i64,
    fraccionadas: i64,
    gestionadas: i64,
    gestiones: i64,
    cd: i64,
    ci: i64,
    pdp: i64,
    pdp_frac: i64,
    pagadoras: i64,
    deuda_asig: Decimal,
    deuda_act: Decimal,
    fecha_asignacion: Option<NaiveDate>,
    opens: NaiveDate,
    fecha_cierre: Option<NaiveDate>,
    dias_habiles: Option<i64>,
}

/// The dashboard as of the end of a day.
///
/// # Errors
/// The database.
pub async fn dashboard(
    conn: &mut Conn,
    settings: &CollectionsSettings,
    corte: NaiveDate,
    cut: &Cut,
    dimensions: [&'static str; 2],
) -> sqlx::Result<Dashboard> {
    let query = cut_query(include_str!("../queries/dashboard.sql"), corte, cut);
    let found = query.bind(dimensions[0]).bind(dimensions[1]).fetch_all(conn).await?;
    let (mut rows, mut total) = ([Vec::new(), Vec::new()], None);
    for row in found {
        let (dimension, name): (i32, String) = (row.try_get("dimension")?, row.try_get("name")?);
        let sums: Sums = decode(row)?;
        match dimension {
            0 => total = Some(sums),
            1 => rows[0].push((shown(dimensions[0], name), sums)),
            _ => rows[1].push((shown(dimensions[1], name), sums)),
        }
    }
    let Some(total) = total else {
        return Ok(Dashboard {
            segmento_data: Vec::new(),
            negocio_data: Vec::new(),
            integral_chart_data: Vec::new(),
        });
    };
    let [segments, businesses] = rows.map(|mut rows| {
        rows.sort_by(|(one, a), (other, b)| b.cuentas.cmp(&a.cuentas).then_with(|| one.cmp(other)));
        rows.into_iter().map(|(name, sums)| Row::of(name, &sums, &total, settings, corte)).collect::<Vec<_>>()
    });
    let chart = segments.iter().map(Row::chart).collect();
    Ok(Dashboard { segmento_data: segments, negocio_data: businesses, integral_chart_data: chart })
}

impl Row {
    fn of(name: String, sums: &Sums, total: &Sums, settings: &CollectionsSettings, corte: NaiveDate) -> Self {
        let contacto = percent(sums.cd + sums.ci, sums.cuentas);
        let cierre = percent(sums.pagadoras, sums.cuentas);
        let inten = ratio(sums.gestiones, sums.gestionadas);
        let porcentaje_deuda = percent(sums.deuda_asig, total.deuda_asig);
        let porcentaje_deuda_act = percent(sums.deuda_act, total.deuda_act);
        let sc = sums.gestionadas - sums.cd - sums.ci;
        Self {
            id: name.to_lowercase(),
            name,
            status: settings.status("status", contacto),
            cuentas: sums.cuentas,
            porcentaje_cuentas: percent(sums.cuentas, total.cuentas),
            deuda_asig: float(sums.deuda_asig),
            porcentaje_deuda,
            porcentaje_deuda_status: settings.status("porcentajeDeuda", porcentaje_deuda),
            deuda_act: float(sums.deuda_act),
            porcentaje_deuda_act,
            porcentaje_deuda_act_status: settings.status("porcentajeDeudaAct", porcentaje_deuda_act),
            cobertura: percent(sums.gestionadas, sums.cuentas),
            contacto,
            contacto_status: settings.status("contacto", contacto),
            cd: percent(sums.cd, sums.cuentas),
            ci: percent(sums.ci, sums.cuentas),
            sc: percent(sc, sums.cuentas),
            cierre,
            cierre_status: settings.status("cierre", cierre),
            inten,
            inten_status: settings.status("inten", inten),
            cd_count: sums.cd,
            ci_count: sums.ci,
            sc_count: sc,
            sg_count: sums.cuentas - sums.gestionadas,
            pdp_count: sums.pdp,
            frac_count: sums.fraccionadas,
            pdp_frac_count: sums.pdp_frac,
            fecha_asignacion: sums.fecha_asignacion,
            fecha_cierre: sums.fecha_cierre,
            dias_gestion: Some(working_days(sums.opens, corte, &settings.holidays)),
            dias_habiles: sums.dias_habiles,
        }
    }

    fn chart(&self) -> ChartPoint {
        ChartPoint {
            name: self.name.clone(),
            cobertura: self.cobertura,
            contacto: self.contacto,
            contacto_directo: self.cd,
            contacto_indirecto: self.ci,
            tasa_de_cierre: self.cierre,
            intensidad: self.inten,
        }
    }
}
