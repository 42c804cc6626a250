//! A provider that sends nothing: for a machine without accounts.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::messaging::{
    AskError, Balance, Messaging, Observed, OptOutPage, OutgoingMessage, ProviderName, Receipt, Report,
    Sought, Submission,
};
use crate::domain::parts::Alphabet;

/// Writes a line of the log a message, and says that it arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogMessages;

fn parts(message: &OutgoingMessage) -> u16 {
    Alphabet::of(ProviderName::Log, message.from.kind).count(&message.text).parts
}

fn delivered(provider_id: Uuid, parts: Option<u16>) -> Report {
    Report { provider_id, observed: Observed::Delivered, verdict: None, parts, cost: None, at: None }
}

#[async_trait]
impl Messaging for LogMessages {
    fn name(&self) -> ProviderName {
        ProviderName::Log
    }

    async fn send(&self, message: &OutgoingMessage) -> Submission {
        let parts = parts(message);
        tracing::info!(
            message_id = %message.id,
            attempt = message.attempt,
            to = message.to.masked(),
            from = message.from.value,
            parts,
            "a message that nobody gets"
        );
        Submission::Accepted(Receipt {
            provider_id: message.id,
            observed: Observed::Delivered,
            verdict: None,
            parts: Some(parts),
            wait: None,
            cost: None,
        })
    }

    async fn find(&self, sought: &Sought) -> Result<Vec<Report>, AskError> {
        Ok(vec![delivered(sought.message.id, Some(parts(&sought.message)))])
    }

    async fn fetch(&self, provider_id: Uuid) -> Result<Option<Report>, AskError> {
        Ok(Some(delivered(provider_id, None)))
    }

    async fn balance(&self) -> Result<Option<Balance>, AskError> {
        Ok(None)
    }

    async fn opt_outs(&self, _since: DateTime<Utc>, _page: u32) -> Result<OptOutPage, AskError> {
        Ok(OptOutPage::default())
    }
}
