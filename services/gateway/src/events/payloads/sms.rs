//! What sms-dispatch says: of campaigns, and of people who want no more messages.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use contracts::sms::v1::{Campaign, ContactOptedOut};
use serde::Serialize;
use utoipa::ToSchema;

/// El avance de una campaña: el documento de `GET /api/v1/campaigns/{id}/progress`. Llega una vez por segundo como máximo,
/// mientras cambia, y por última vez cuando ya no queda nada por enviar.
#[derive(Serialize, ToSchema)]
pub struct CampaignProgress {
    id: String,
    state: CampaignState,
    /// Por qué está en pausa o falló.
    reason: Option<String>,
    matched: i64,
    recipients: i64,
    /// Quiénes quedaron fuera del público, por motivo.
    excluded: BTreeMap<String, i64>,
    /// Mensajes por estado; su suma es `recipients`.
    messages: BTreeMap<String, i64>,
    /// Los mensajes que no llegaron, por código.
    codes: BTreeMap<String, i64>,
    parts: i64,
    /// En millonésimas; null si hay varias monedas.
    cost_micros: Option<i64>,
    costs: Vec<CampaignCost>,
    waits: Vec<CampaignWait>,
}

/// En qué va una campaña.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CampaignState {
    Draft,
    Scheduled,
    Preparing,
    Running,
    Paused,
    Completed,
    Cancelled,
    Failed,
}

/// Lo que cuesta una campaña en una moneda.
#[derive(Serialize, ToSchema)]
pub struct CampaignCost {
    /// ISO 4217; null si nadie la dijo.
    currency: Option<String>,
    cost_micros: i64,
}

/// Mensajes de una campaña que esperan.
#[derive(Serialize, ToSchema)]
pub struct CampaignWait {
    /// `horario`, `ritmo`, `proveedor`, `presupuesto`, `rampa` o `error`.
    reason: String,
    messages_at_most: i64,
    next_at: Option<String>,
}

/// Una campaña se creó, o cambió de estado.
#[derive(Serialize, ToSchema)]
pub struct CampaignNews {
    id: String,
    name: String,
    /// Su día, `YYYY-MM-DD`; null si aún no inicia.
    date: Option<String>,
    state: CampaignState,
    /// A cuántas personas se envía; 0 si aún no inicia.
    recipients: u64,
    /// Por qué está en pausa.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Aumenta con cada cambio de la campaña; se ignora una menor que la última vista.
    version: u64,
}

/// Alguien se dio de baja: desde entonces no se le escribe.
#[derive(Serialize, ToSchema)]
pub struct OptedOutContact {
    /// Nunca el número entero: solo sus cuatro últimas cifras, como `+52******0150`.
    phone: String,
    /// Cómo: `respuesta`, `enlace`, `proveedor`, o lo que dijo quien lo registró.
    source: String,
    opted_out_at: Option<String>,
}

impl CampaignState {
    /// How a campaign ended, by the state that its last event names for people.
    pub fn ended(told: &str) -> Self {
        match told {
            "CANCELADA" => Self::Cancelled,
            "FALLIDA" => Self::Failed,
            _ => Self::Completed,
        }
    }
}

impl CampaignNews {
    /// What is told of a campaign that is in this state now; `reason` is why it is paused.
    pub fn new(campaign: Campaign, state: CampaignState, reason: Option<String>) -> Self {
        Self {
            id: campaign.id,
            name: campaign.name,
            date: Some(campaign.date).filter(|date| !date.is_empty()),
            state,
            recipients: campaign.expected_rows,
            reason: reason.filter(|reason| !reason.is_empty()),
            version: campaign.version,
        }
    }
}

impl From<ContactOptedOut> for OptedOutContact {
    fn from(message: ContactOptedOut) -> Self {
        let at =
            message.opted_out_at.and_then(|at| DateTime::from_timestamp(at.seconds, at.nanos.unsigned_abs()));
        Self {
            phone: masked(&message.phone),
            source: message.source,
            opted_out_at: at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        }
    }
}

/// A phone's country and last four digits. The stream is for viewers too, who see no phones; whoever may see them asks the
/// API for suppressions, and Redis keeps none.
fn masked(phone: &str) -> String {
    match (
        phone.get(..3),
        phone.len().checked_sub(4).filter(|rest| *rest > 3).and_then(|rest| phone.get(rest..)),
    ) {
        (Some(country), Some(last)) => format!("{country}******{last}"),
        _ => "******".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_a_phone() {
        let payload = OptedOutContact::from(ContactOptedOut {
            phone: "+526121000150".into(),
            source: "respuesta".into(),
            opted_out_at: Some(Default::default()),
        });
        let json = serde_json::to_value(&payload).expect("JSON");
        assert_eq!(json["phone"], "+52******0150");
        assert_eq!(json["opted_out_at"], "1970-01-01T00:00:00.000Z");
        for odd in ["", "1234", "+521234", "ñññññ"] {
            assert_eq!(masked(odd), "******", "{odd:?}");
        }
    }

    #[test]
    fn campaigns_end_as_their_last_event_says() {
        for (told, state) in [("COMPLETADA", "completed"), ("CANCELADA", "cancelled"), ("FALLIDA", "failed")]
        {
            let campaign = Campaign {
                id: "c".into(),
                date: "2026-11-27".into(),
                state: told.into(),
                ..Default::default()
            };
            let payload = CampaignNews::new(campaign, CampaignState::ended(told), None);
            let json = serde_json::to_value(&payload).expect("JSON");
            assert_eq!(json["state"], state);
            assert_eq!(json["date"], "2026-11-27");
            assert!(json.get("reason").is_none(), "{json}");
        }
    }
}
