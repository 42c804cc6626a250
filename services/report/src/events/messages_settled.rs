//! `MessagesSettled`: rows into `ta_sms_detalle`, as many times and in whatever order they come.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use contracts::sms::v1::{MessageState as SettledState, MessagesSettled, SettledMessage};
use failpoints::Point;
use messaging::{Context, Handler, JobError};
use uuid::Uuid;

use super::{clean, sensible_day};
use crate::{
    Resources,
    domain::params::MessageState,
    storage::{
        campaigns::{self, Origin},
        messages::{self, Message, Written},
    },
};

/// Campaigns that a process remembers.
const KNOWN: usize = 10_000;

/// Keeps settled messages. Needs no inbox: each row says of which version it is.
#[derive(Clone)]
pub struct MessagesSettledHandler {
    pub resources: Resources,
    known: Arc<Mutex<HashMap<Uuid, (i64, NaiveDate)>>>,
}

/// A message, understood.
struct Batch {
    campaign: Uuid,
    fecha: NaiveDate,
    messages: Vec<Message>,
}

impl MessagesSettledHandler {
    pub fn new(resources: Resources) -> Self {
        Self { resources, known: Arc::default() }
    }

    fn remembered(&self, campaign: Uuid) -> Option<(i64, NaiveDate)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&campaign).copied()
    }

    /// Our id and day of a campaign, whose row and partition are there afterwards.
    async fn prepare(&self, batch: &Batch) -> anyhow::Result<(i64, NaiveDate)> {
        let mut conn = self.resources.database.pool.acquire().await?;
        let origin_id = batch.campaign.to_string();
        let found = campaigns::known(&mut conn, Origin::Sms, &origin_id, batch.fecha).await?;
        messages::ensure_day(&mut conn, found.1).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(batch.campaign, found);
        Ok(found)
    }

    /// Writes a batch. None: what was remembered of its campaign is no longer so.
    async fn write(&self, campaign: (i64, NaiveDate), batch: &Batch) -> anyhow::Result<Option<i64>> {
        let mut conn = self.resources.database.pool.acquire().await?;
        match messages::write(&mut conn, campaign.0, campaign.1, &batch.messages).await {
            Ok(Written::Rows(rows)) => Ok(Some(rows)),
            Ok(Written::NoCampaign) => Ok(None),
            Err(error) if messages::is_missing_day(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl Handler<MessagesSettled> for MessagesSettledHandler {
    async fn handle(&self, message: MessagesSettled, _: &Context) -> Result<(), JobError> {
        let batch = read(message).map_err(JobError::Fail)?;
        if self.resources.settings.is_past(batch.fecha, Utc::now()) {
            tracing::warn!(campaign = %batch.campaign, fecha = %batch.fecha, "rows of a campaign that is past its days");
            return Ok(());
        }
        // Twice at most: after a retention that came between, all is made again.
        for _ in 0..2 {
            let campaign = match self.remembered(batch.campaign) {
                Some(campaign) => campaign,
                None => self.prepare(&batch).await.map_err(JobError::Retry)?,
            };
            if campaign.1 != batch.fecha {
                return Err(JobError::Fail(anyhow::anyhow!(
                    "campaign {} is of {}, its rows say {}",
                    batch.campaign,
                    campaign.1,
                    batch.fecha
                )));
            }
            if self.write(campaign, &batch).await.map_err(JobError::Retry)?.is_some() {
                failpoints::hit(Point::BatchCommitted);
                return Ok(());
            }
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&batch.campaign);
        }
        Err(JobError::Retry(anyhow::anyhow!("campaign {} is deleted at this moment", batch.campaign)))
    }
}

fn read(message: MessagesSettled) -> anyhow::Result<Batch> {
    let campaign = Uuid::parse_str(&message.campaign_id)
        .with_context(|| format!("campaign {:?} is not a valid UUID", message.campaign_id))?;
    let fecha = sensible_day(&message.campaign_date)?;
    let mut messages = message.rows.into_iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    // By id, newest first: of one message's rows the first stays.
    messages.sort_by(|one, other| one.id.cmp(&other.id).then(other.version.cmp(&one.version)));
    messages.dedup_by(|later, first| later.id == first.id);
    Ok(Batch { campaign, fecha, messages })
}

fn row(row: SettledMessage) -> anyhow::Result<Message> {
    let id = Uuid::parse_str(&row.message_id)
        .with_context(|| format!("message {:?} is not a valid UUID", row.message_id))?;
    let state = match row.state() {
        SettledState::Sent => MessageState::Enviado,
        SettledState::Pending => MessageState::Pendiente,
        SettledState::Failed => MessageState::Fallido,
        SettledState::Unspecified => anyhow::bail!("message {id} has no state"),
    };
    let sent_at = match row.sent_at {
        None => None,
        Some(time) => {
            let nanos = u32::try_from(time.nanos).context("sent_at")?;
            Some(DateTime::from_timestamp(time.seconds, nanos).context("sent_at is not a valid time")?)
        }
    };
    Ok(Message {
        id,
        version: i64::try_from(row.version).context("version")?,
        phone: clean(row.phone),
        text: clean(row.text),
        sent_at,
        state,
        error: Some(clean(row.error)).filter(|error| !error.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(id: u128, version: u64) -> SettledMessage {
        SettledMessage {
            message_id: Uuid::from_u128(id).to_string(),
            version,
            phone: "+573001234567".into(),
            text: format!("v{version}\0"),
            state: SettledState::Sent.into(),
            ..SettledMessage::default()
        }
    }

    fn message(rows: Vec<SettledMessage>) -> MessagesSettled {
        MessagesSettled { campaign_id: Uuid::nil().to_string(), campaign_date: "2025-01-27".into(), rows }
    }

    #[test]
    fn of_one_messages_rows_the_newest_stays_and_all_are_in_order() {
        let rows = vec![settled(9, 1), settled(3, 2), settled(3, 5), settled(3, 4)];
        let batch = read(message(rows)).expect("well formed");
        let kept: Vec<_> = batch.messages.iter().map(|row| (row.id.as_u128(), row.version)).collect();
        assert_eq!(kept, [(3, 5), (9, 1)]);
        assert_eq!(batch.messages[0].text, "v5\u{fffd}", "PostgreSQL holds no NUL");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |change: fn(&mut MessagesSettled)| {
            let mut message = message(vec![settled(1, 1)]);
            change(&mut message);
            read(message).is_err()
        };
        assert!(refused(|message| message.campaign_id = "7".into()));
        assert!(refused(|message| message.campaign_date = "9999-01-01".into()));
        assert!(refused(|message| message.rows[0].state = 0));
        assert!(refused(|message| message.rows[0].message_id = String::new()));
        assert!(!refused(|_| {}));
    }
}
