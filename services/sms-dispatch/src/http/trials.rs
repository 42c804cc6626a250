//! Test messages of a campaign: to a few phones, outside of its totals.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, request_id},
};
use chrono::{TimeDelta, Utc};
use sea_orm::sqlx::PgConnection;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Resources,
    campaigns::{found, may_write, refused},
    messages::{self, MessageAccepted, not_suppressed, phone},
};
use crate::{
    campaigns as acts,
    singles::{Asked, Day, Message},
    storage::{audit, campaigns::Campaign},
    texts::{Given, Texts},
};

/// Phones of one request.
const MOST: usize = 5;
/// A test that comes later than this helps nobody.
const VALIDITY: TimeDelta = TimeDelta::minutes(15);

/// Con quién se prueban los textos de una campaña.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CampaignTest {
    /// De uno a cinco, se escriban como se escriban.
    phones: Vec<String>,
    /// Lo que son `{nombre}` y `{primer_nombre}`.
    #[serde(default)]
    nombre: Option<String>,
    /// Lo que es `{ciudad}`.
    #[serde(default)]
    ciudad: Option<String>,
    /// Lo que hay en las columnas del archivo de su audiencia, por su nombre en los textos.
    #[serde(default)]
    columns: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignTested {
    /// Uno por teléfono y texto, en su orden.
    messages: Vec<MessageAccepted>,
}

/// Sends a campaign's texts to a few phones.
#[utoipa::path(
    operation_id = "campaigns_test", summary = "Enviar mensajes de prueba de una campaña",
    description = "Cada texto a cada uno de hasta cinco teléfonos, que no estén dados de baja. No cuentan en los totales de la campaña: quedan en la campaña del día.",
    post, path = "/api/v1/campaigns/{id}/test", tag = "campaigns", params(("id" = String, Path)), request_body = CampaignTest,
    responses(
        (status = 202, body = CampaignTested),
        (status = 409, description = "Un teléfono no debe recibir mensajes, o no hay remitentes"),
        (status = 422),
    )
)]
pub(super) async fn test(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    body: Json<CampaignTest>,
) -> ApiResult {
    may_write(&caller)?;
    let CampaignTest { phones, nombre, ciudad, columns } = body.into_inner();
    if !(1..=MOST).contains(&phones.len()) {
        return Err(Problem::unprocessable(
            "invalid_phones",
            format!("phones lleva de 1 a {MOST} teléfonos"),
        ));
    }
    let phones = phones.iter().map(|text| phone(text)).collect::<Result<Vec<_>, _>>()?;
    let campaign = found(&api, &id).await?;
    let now = Utc::now();
    let mut transaction = api.database.pool.begin().await?;
    let texts = texts(&mut transaction, &campaign).await?;
    for phone in &phones {
        not_suppressed(&mut transaction, *phone, campaign.kind).await?;
    }
    let mut day = Day::open(&mut transaction, &api.sms, now).await.map_err(messages::refused)?;
    // The first of its senders that is in use.
    let senders = campaign.plan.senders.iter();
    let sender = senders
        .filter_map(|wanted| day.senders().iter().find(|known| known.address == wanted.address))
        .next()
        .cloned()
        .ok_or_else(|| Problem::conflict("no_sender", "Ningún remitente de la campaña está habilitado"))?;
    let mut accepted = Vec::new();
    for phone in phones {
        for variant in 0..campaign.plan.texts.len() {
            let link = day.next_link()?;
            let given = Given {
                name: nombre.as_deref(),
                city: ciudad.as_deref(),
                columns: Some(&columns),
                link: link.as_deref(),
            };
            let text = texts.with(variant, &given, (sender.provider, sender.kind));
            let text = text.map_err(|missing| {
                Problem::unprocessable(
                    "no_value",
                    format!("{missing}: envíe nombre, ciudad o columns para la prueba"),
                )
            })?;
            let message =
                Message { to: phone, text: &text, sender: Some(&sender.address), expires_at: now + VALIDITY };
            let asked = Asked { actor: caller.id(), key: None, hash: None, correlation: request_id() };
            let id = day.add(&mut transaction, &api.sms, &message, asked).await.map_err(messages::refused)?;
            accepted.push(MessageAccepted::of(id));
        }
    }
    let details = json!({ "messages": &accepted });
    audit::record(&mut transaction, caller.id(), "campaign_tested", Some(&id), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::Accepted().json(CampaignTested { messages: accepted }))
}

/// A campaign's texts: of a draft, as its audience's file is now.
async fn texts(conn: &mut PgConnection, campaign: &Campaign) -> Result<Texts, Problem> {
    let file = match &campaign.frozen {
        Some(frozen) => frozen.file.clone(),
        None => acts::file(conn, &campaign.plan, campaign.kind).await.map_err(refused)?,
    };
    Texts::of(&campaign.plan, file.as_ref()).map_err(Problem::internal)
}
