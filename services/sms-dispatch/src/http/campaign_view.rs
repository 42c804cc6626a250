//! A campaign, and how far it is, as the API shows it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{
        campaign::{Kind, Plan, State},
        message_state::MessageState,
    },
    storage::{campaigns::Campaign, ledger::Row, totals::Total},
};

/// A campaign.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignView {
    id: Uuid,
    name: String,
    description: String,
    kind: Kind,
    /// Whether it is the campaign of its day's single messages.
    single: bool,
    state: State,
    plan: Plan,
    /// Its day, from the start on.
    date: Option<NaiveDate>,
    /// `matched = recipients + excluded`.
    matched: i64,
    recipients: i64,
    excluded: i64,
    /// Why it is paused or failed.
    reason: Option<String>,
    created_by: String,
    edited_by: String,
    approved_by: Option<String>,
    start_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Campaign> for CampaignView {
    fn from(row: Campaign) -> Self {
        Self {
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

/// How far a campaign is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgressView {
    id: Uuid,
    state: State,
    reason: Option<String>,
    matched: i64,
    recipients: i64,
    /// Who fell out of the audience, by the first reason that holds.
    excluded: BTreeMap<String, i64>,
    /// Messages by their state: pending, submitting, unknown, accepted, sent, delivered, failed, expired, unconfirmed, skipped,
    /// cancelled. Their sum is `recipients`.
    messages: BTreeMap<&'static str, i64>,
    /// Of the messages that ended otherwise than sent: by code.
    codes: BTreeMap<String, i64>,
    /// Parts and cost, in millionths, of what was submitted.
    parts: i64,
    cost_micros: i64,
    /// What those that are still to be sent wait for.
    waits: Vec<WaitView>,
}

/// Messages that wait.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WaitView {
    /// horario, proveedor, error; ritmo where nothing but their turn is missing.
    reason: String,
    /// So many at most: of a slice that is sent in part all are counted.
    messages_at_most: i64,
    next_at: Option<DateTime<Utc>>,
}

impl ProgressView {
    pub(super) fn of(
        campaign: &Campaign,
        exclusions: Vec<(String, i64)>,
        totals: &[Total],
        waits: Vec<(Option<String>, i64, Option<DateTime<Utc>>)>,
    ) -> Self {
        let (mut messages, mut codes) = (BTreeMap::new(), BTreeMap::new());
        for total in totals {
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
            cost_micros: totals.iter().map(|total| total.cost_micros).sum(),
            waits: waits
                .into_iter()
                .map(|(reason, messages_at_most, next_at)| WaitView {
                    reason: reason.unwrap_or_else(|| "ritmo".to_owned()),
                    messages_at_most,
                    next_at,
                })
                .collect(),
        }
    }
}

/// A message of a campaign.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageView {
    id: Uuid,
    position: i32,
    /// The last four digits only, for who may not see phones.
    phone: String,
    state_code: Option<String>,
    text: Option<String>,
    variant: i16,
    /// pending, submitting, unknown, accepted, sent, delivered, failed, expired, unconfirmed, skipped or cancelled.
    state: &'static str,
    attempt: i16,
    sender: Option<String>,
    parts: i16,
    cost_micros: i64,
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
            provider_id: row.provider_id,
            sent_at: row.sent_at,
            changed_at: row.changed_at,
            code: row.code,
            reason: row.reason,
            state_code: row.state_code,
        }
    }
}
