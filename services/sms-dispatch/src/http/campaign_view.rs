//! A campaign, and how far it is, as the API shows it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx::PgPool;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    config::SmsSettings,
    domain::{
        campaign::{Kind, Plan, State},
        message_state::MessageState,
    },
    storage::{
        audiences,
        campaigns::Campaign,
        ledger::Row,
        slices::{self, Waiting},
        totals::{self, Total},
    },
};

/// Una campaña.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignView {
    id: Uuid,
    name: String,
    description: String,
    kind: Kind,
    /// Si es la campaña de los mensajes individuales de su día.
    single: bool,
    state: State,
    plan: Plan,
    /// Su día, desde que inicia.
    date: Option<NaiveDate>,
    /// `matched = recipients + excluded`.
    matched: i64,
    recipients: i64,
    excluded: i64,
    /// Por qué está en pausa o falló.
    reason: Option<String>,
    created_by: String,
    edited_by: String,
    approved_by: Option<String>,
    start_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    /// La hora de cada destinatario a la que se le escribe, como `10:00`, y su día; null si a todos a la vez.
    at_local: Option<String>,
    local_date: Option<NaiveDate>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Campaign> for CampaignView {
    fn from(row: Campaign) -> Self {
        Self {
            at_local: row.own_hour().map(|hour| hour.to_string()),
            local_date: row.own_date,
            id: row.id,
            name: row.name,
            description: row.description,
            kind: row.kind,
            single: row.single,
            state: row.state,
            plan: row.plan,
            date: row.date,
            matched: row.matched,
            recipients: row.recipients,
            excluded: row.excluded,
            reason: row.reason,
            created_by: row.created_by,
            edited_by: row.edited_by,
            approved_by: row.approved_by,
            start_at: row.start_at,
            expires_at: row.expires_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Cuánto lleva una campaña.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProgressView {
    id: Uuid,
    state: State,
    reason: Option<String>,
    matched: i64,
    recipients: i64,
    /// Quiénes quedaron fuera del público, por el primer motivo que aplica.
    excluded: BTreeMap<String, i64>,
    /// Mensajes por estado: pending, submitting, unknown, accepted, sent, delivered, failed, expired, unconfirmed, skipped,
    /// cancelled. Su suma es `recipients`.
    messages: BTreeMap<&'static str, i64>,
    /// Los mensajes que no llegaron, por código.
    codes: BTreeMap<String, i64>,
    /// Partes de lo que se envió.
    parts: i64,
    /// Su costo, en millonésimas; null si hay varias monedas.
    cost_micros: Option<i64>,
    /// Su costo por moneda: nunca se suman importes de monedas distintas.
    costs: Vec<CostView>,
    /// Qué esperan los que faltan por enviar.
    waits: Vec<WaitView>,
}

/// Un costo.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CostView {
    /// ISO 4217; null si nadie la dijo.
    currency: Option<String>,
    /// En millonésimas.
    cost_micros: i64,
}

/// Mensajes que esperan.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WaitView {
    /// horario, proveedor, presupuesto, rampa, error; ritmo si solo les falta su turno.
    reason: String,
    /// Cuántos son como máximo: de un tramo enviado en parte se cuentan todos.
    messages_at_most: i64,
    next_at: Option<DateTime<Utc>>,
}

impl ProgressView {
    /// How far a campaign is now: what its API answers, and what those who watch are told.
    ///
    /// # Errors
    /// The database.
    pub(crate) async fn read(pool: &PgPool, sms: &SmsSettings, campaign: &Campaign) -> anyhow::Result<Self> {
        let exclusions = audiences::exclusions(pool, campaign.number).await?;
        let totals = totals::of(pool, campaign.number).await?;
        let costs = totals::costs(pool, campaign.number).await?;
        let (waiting, now) = (slices::waits(pool, campaign.number).await?, Utc::now());
        let waits = WaitView::all(campaign, waiting, |zone| sms.opens_at(zone, now), now);
        Ok(Self::of(campaign, exclusions, &totals, costs, waits))
    }

    fn of(
        campaign: &Campaign,
        exclusions: Vec<(String, i64)>,
        totals: &[Total],
        costs: Vec<(String, i64)>,
        waits: Vec<WaitView>,
    ) -> Self {
        let (mut messages, mut codes) = (BTreeMap::new(), BTreeMap::new());
        // Attempts that were repeated are no messages.
        for total in totals.iter().filter(|total| total.messages != 0) {
            if let Some(state) = MessageState::from_code(total.status) {
                *messages.entry(state.name()).or_default() += total.messages;
            }
            if !total.code.is_empty() {
                *codes.entry(total.code.clone()).or_default() += total.messages;
            }
        }
        Self {
            id: campaign.id,
            state: campaign.state,
            reason: campaign.reason.clone(),
            matched: campaign.matched,
            recipients: campaign.recipients,
            excluded: exclusions.into_iter().collect(),
            messages,
            codes,
            parts: totals.iter().map(|total| total.parts).sum(),
            cost_micros: match costs.as_slice() {
                [] => Some(0),
                [(_, cost)] => Some(*cost),
                _ => None,
            },
            costs: costs
                .into_iter()
                .map(|(currency, cost_micros)| CostView {
                    currency: Some(currency).filter(|currency| !currency.is_empty()),
                    cost_micros,
                })
                .collect(),
            waits,
        }
    }
}

impl WaitView {
    /// What the slices of a campaign wait for: each for something of its own, or with their zone for its hours, or all for a
    /// provider.
    fn all(
        campaign: &Campaign,
        waiting: Vec<Waiting>,
        opens_at: impl Fn(i16) -> Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Vec<Self> {
        let mut views: BTreeMap<String, Self> = BTreeMap::new();
        for slices in waiting {
            let opens = opens_at(slices.zone).filter(|at| *at > now);
            let (reason, next_at) = match (slices.reason, &campaign.waiting, opens) {
                (Some(reason), _, _) => (reason, slices.due),
                (None, Some(all), _) => (all.clone(), None),
                (None, None, Some(at)) => ("horario".to_owned(), Some(at)),
                (None, None, None) => ("ritmo".to_owned(), slices.due),
            };
            let view = views.entry(reason.clone()).or_insert(Self { reason, messages_at_most: 0, next_at });
            view.messages_at_most += slices.messages;
            view.next_at = view.next_at.into_iter().chain(next_at).min();
        }
        views.into_values().collect()
    }
}

/// Un mensaje de una campaña.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageView {
    id: Uuid,
    position: i32,
    /// Solo las cuatro últimas cifras para quien no puede ver teléfonos.
    phone: String,
    state_code: Option<String>,
    text: Option<String>,
    variant: i16,
    /// pending, submitting, unknown, accepted, sent, delivered, failed, expired, unconfirmed, skipped o cancelled.
    state: &'static str,
    attempt: i16,
    sender: Option<String>,
    parts: i16,
    cost_micros: i64,
    currency: Option<String>,
    provider_id: Option<Uuid>,
    sent_at: Option<DateTime<Utc>>,
    changed_at: DateTime<Utc>,
    code: Option<String>,
    reason: Option<String>,
}

impl MessageView {
    /// Without phone and text where they are hidden from the caller.
    pub(super) fn of(row: Row, date: NaiveDate, campaign: i32, text: Option<String>, masked: bool) -> Self {
        let phone = match masked {
            true => format!("+52******{}", row.phone_e164.get(9..).unwrap_or_default()),
            false => row.phone_e164.clone(),
        };
        Self {
            id: row.id(date, campaign),
            position: row.position,
            phone,
            text: text.filter(|_| !masked),
            variant: row.variant,
            state: row.state().name(),
            attempt: row.attempt,
            sender: row.sender,
            parts: row.parts,
            cost_micros: row.cost_micros,
            currency: row.currency,
            provider_id: row.provider_id,
            sent_at: row.sent_at,
            changed_at: row.changed_at,
            code: row.code,
            reason: row.reason,
            state_code: row.state_code,
        }
    }
}
