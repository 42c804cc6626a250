//! How many contacts there are, and where.

use actix_web::{HttpResponse, web::Data};
use chassis::{ApiResult, auth::Caller};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Resources, may_read, view::state_name};
use crate::storage::stats::{self, Counts};

/// Cuentas de la última actualización: después de cada importación, y cada cuarto de hora si no se configura
/// otra cosa.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// Nulo si todavía no se ha contado.
    as_of: Option<DateTime<Utc>>,
    total: i64,
    /// Activos, y que no se dieron de baja.
    active: i64,
    /// Se sabe que son móviles.
    mobile: i64,
    opted_out: i64,
    /// Se les escribió en los últimos 30 días.
    recently_contacted: i64,
    /// A quiénes se puede escribir, por estado.
    by_state: Vec<StateCounts>,
    /// A quiénes se puede escribir, por LADA.
    by_lada: Vec<LadaCounts>,
    /// A quiénes se puede escribir, en las cien ciudades más grandes.
    by_city: Vec<CityCounts>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StateCounts {
    state_code: Option<String>,
    state_name: Option<&'static str>,
    total: i64,
    active: i64,
    mobile: i64,
    recently_contacted: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LadaCounts {
    lada: Option<String>,
    total: i64,
    active: i64,
    mobile: i64,
    recently_contacted: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CityCounts {
    state_code: Option<String>,
    city: Option<String>,
    total: i64,
    active: i64,
    mobile: i64,
    recently_contacted: i64,
}

impl From<Counts> for StateCounts {
    fn from(counts: Counts) -> Self {
        let Counts { state_code, total, active, mobile, recently_contacted, .. } = counts;
        Self {
            state_name: state_name(state_code.as_deref()),
            state_code,
            total,
            active,
            mobile,
            recently_contacted,
        }
    }
}

impl From<Counts> for LadaCounts {
    fn from(counts: Counts) -> Self {
        let Counts { place, total, active, mobile, recently_contacted, .. } = counts;
        Self { lada: place, total, active, mobile, recently_contacted }
    }
}

impl From<Counts> for CityCounts {
    fn from(counts: Counts) -> Self {
        let Counts { state_code, place, total, active, mobile, recently_contacted } = counts;
        Self { state_code, city: place, total, active, mobile, recently_contacted }
    }
}

/// Counts of all contacts, by state, LADA and city.
#[utoipa::path(
    operation_id = "contacts_get_stats", summary = "Ver cuántos contactos hay",
    description = "En total, por estado, por LADA y por ciudad.",
    get, path = "/api/v1/contacts/stats", tag = "contacts",
    responses((status = 200, body = Stats))
)]
pub(super) async fn stats(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let pool = &api.database.pool;
    let totals = stats::totals(pool).await?;
    Ok(HttpResponse::Ok().json(Stats {
        as_of: totals.as_of,
        total: totals.total,
        active: totals.active,
        mobile: totals.mobile,
        opted_out: totals.opted_out,
        recently_contacted: totals.recently_contacted,
        by_state: stats::by_state(pool).await?.into_iter().map(StateCounts::from).collect(),
        by_lada: stats::by_lada(pool).await?.into_iter().map(LadaCounts::from).collect(),
        by_city: stats::by_city(pool).await?.into_iter().map(CityCounts::from).collect(),
    }))
}
