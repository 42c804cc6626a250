//! What a campaign would come to.

use std::collections::BTreeMap;

use actix_web::web::{Data, Path};
use chassis::{ApiResult, Problem, auth::Caller};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Resources,
    campaigns::{found, may_read, refused},
    sees_masked, uncached,
    view::state_name,
};
use crate::{
    campaign_preview::{self, NoPreview, Preview},
    domain::campaign::Cost,
    storage::audit,
};

/// En qué quedaría una campaña si iniciara ahora.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignPreviewView {
    /// Se contó; si no, se estima con algunas páginas de la tabla, porque contar tarda demasiado.
    exact: bool,
    /// `matched = recipients + excluded`.
    matched: i64,
    recipients: i64,
    /// Quiénes quedarían fuera, por el primer motivo que aplica.
    excluded: BTreeMap<String, i64>,
    by_state: Vec<StateRecipients>,
    parts: PartsView,
    /// Un importe por cada moneda de los precios de los remitentes.
    costs: Vec<Cost>,
    /// Partes de remitentes sin precio, que no están en ningún costo.
    unpriced_parts: i64,
    /// Partes por segundo que permiten remitentes, proveedores y `per_minute`; null si ningún remitente está en uso.
    per_second: Option<f64>,
    starts_at: DateTime<Utc>,
    /// Cuándo saldría el último mensaje, si no se enviara nada más; null si faltan más de 90 días.
    ends_at: Option<DateTime<Utc>>,
    /// Cinco de los mensajes como máximo; ninguno para quien no puede ver contactos. Sus enlaces no llevan a ninguna parte.
    examples: Vec<TextExample>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StateRecipients {
    state_code: Option<String>,
    state_name: Option<&'static str>,
    recipients: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PartsView {
    total: i64,
    /// Se contaron; si no, es la media de `sampled` textos por los destinatarios.
    exact: bool,
    sampled: usize,
    /// Partes que `transliterate` ahorra, o ahorraría.
    transliteration_saves: i64,
    /// Mensajes con más partes de las que acepta un proveedor: no se enviarían.
    too_long: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TextExample {
    text: String,
    parts: u16,
    /// gsm7 o ucs2.
    encoding: &'static str,
}

fn whole(number: f64) -> i64 {
    number.round() as i64
}

impl CampaignPreviewView {
    fn of(preview: Preview, masked: bool) -> Self {
        let Preview { audience, parts, costs, unpriced_parts, per_second, starts_at, ends_at, shown } =
            preview;
        let mut by_state: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for group in &audience.groups {
            *by_state.entry(group.state_code.clone()).or_default() += group.recipients;
        }
        let mut by_state: Vec<StateRecipients> = by_state
            .into_iter()
            .map(|(state_code, recipients)| StateRecipients {
                state_name: state_name(state_code.as_deref()),
                state_code,
                recipients,
            })
            .collect();
        by_state.sort_by_key(|state| std::cmp::Reverse(state.recipients));
        let cost = |(currency, micros): (String, f64)| Cost { micros: whole(micros), currency };
        Self {
            exact: audience.exact,
            matched: audience.matched,
            recipients: audience.recipients(),
            excluded: audience.excluded.into_iter().collect(),
            by_state,
            parts: PartsView {
                total: whole(parts.total),
                exact: parts.exact,
                sampled: parts.sampled,
                transliteration_saves: whole(parts.as_written - parts.transliterated),
                too_long: whole(parts.too_long),
            },
            costs: costs.into_iter().map(cost).collect(),
            unpriced_parts: whole(unpriced_parts),
            per_second,
            starts_at,
            ends_at,
            examples: shown
                .into_iter()
                .filter(|_| !masked)
                .map(|one| TextExample {
                    text: one.text,
                    parts: one.count.parts,
                    encoding: one.count.encoding.name(),
                })
                .collect(),
        }
    }
}

/// What a campaign would come to: recipients and who falls out, parts, cost, and when it ends.
#[utoipa::path(
    operation_id = "campaigns_preview", summary = "Calcular una campaña antes de iniciarla",
    description = "Destinatarios por estado, excluidos por motivo, partes, costo y fin estimado. Con audiencias grandes es una estimación, y lo dice.",
    get, path = "/api/v1/campaigns/{id}/preview", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 200, body = CampaignPreviewView), (status = 409, description = "Ya inició: vea su avance"), (status = 422), (status = 503, description = "Los contactos no tienen índices ahora"))
)]
pub(super) async fn preview(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let campaign = found(&api, &id).await?;
    let preview = campaign_preview::preview(&api.database.pool, &api.sms, &campaign).await;
    let preview = preview.map_err(|error| match error {
        NoPreview::Refused(error) => refused(error),
        NoPreview::TooLate => Problem::unavailable("preview_timeout", error),
    })?;
    let masked = sees_masked(&caller);
    let contacts: Vec<i64> = preview.shown.iter().filter(|_| !masked).map(|one| one.contact).collect();
    let mut conn = api.database.pool.acquire().await?;
    let details = json!({ "version": campaign.version, "ids": contacts });
    audit::record(&mut conn, caller.id(), "campaign_previewed", Some(&id), &details).await?;
    Ok(uncached().json(CampaignPreviewView::of(preview, masked)))
}
