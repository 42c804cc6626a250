//! The campaigns there are.

use actix_web::{HttpResponse, web::Data};
use chassis::{ApiResult, auth::Caller, http::Query};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Resources, day::day, in_range, may_read};
use crate::{
    domain::date,
    storage::{
        campaigns::{self, Campaign},
        days as campaign_days,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ListQuery {
    /// `YYYY/MM/DD`; si falta, todos los días, del más reciente al más antiguo.
    fecha: Option<String>,
    /// Desde 1.
    #[param(minimum = 1)]
    page: Option<i64>,
    /// Campañas por página, de 1 a 100.
    #[param(minimum = 1, maximum = 100)]
    page_size: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Item {
    id: i64,
    nombre: String,
    fecha: NaiveDate,
    estado: String,
    descripcion: String,
}

impl From<Campaign> for Item {
    fn from(campaign: Campaign) -> Self {
        let Campaign { id, fecha, nombre, estado, descripcion } = campaign;
        Self { id, nombre, fecha, estado, descripcion }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignPage {
    items: Vec<Item>,
    total: i64,
    page: i64,
    page_size: i64,
    total_pages: i64,
}

/// A page of campaigns.
#[utoipa::path(
    operation_id = "campaigns_list", summary = "Listar campañas",
    description = "Las de una fecha, o todas, de la más reciente a la más antigua.",
    get, path = "/campania/list", tag = "report", params(ListQuery),
    responses((status = 200, body = CampaignPage))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    may_read(&caller)?;
    let fecha = query.fecha.as_deref().map(day).transpose()?;
    let page = in_range("page", query.page.unwrap_or(1), 1, 1_000_000_000)?;
    let page_size = in_range("page_size", query.page_size.unwrap_or(20), 1, 100)?;
    let (items, total) = campaigns::page(&api.database.orm, fecha, page, page_size).await?;
    let items = items.into_iter().map(Item::from).collect();
    let total_pages = (total + page_size - 1) / page_size;
    Ok(HttpResponse::Ok().json(CampaignPage { items, total, page, page_size, total_pages }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Days {
    /// `YYYY/MM/DD`: tal cual son la `fecha` de `/campania/list` y `/reporte`.
    #[schema(example = json!(["2025/01/27"]))]
    fechas: Vec<String>,
    total: usize,
}

/// The days that have campaigns, newest first.
#[utoipa::path(
    operation_id = "campaigns_list_days", summary = "Listar las fechas con campañas",
    description = "De la más reciente a la más antigua.",
    get, path = "/campania/fechas", tag = "report",
    responses((status = 200, body = Days))
)]
pub(super) async fn days(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let days = campaign_days::list(&api.database.orm).await?;
    let fechas: Vec<_> = days.into_iter().map(date::show).collect();
    Ok(HttpResponse::Ok().json(Days { total: fechas.len(), fechas }))
}
