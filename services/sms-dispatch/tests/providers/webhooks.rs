//! The simulators' webhooks, verified and read as the service does.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::Utc;
use simulators::messages::{Fate, Faults};
use sms_dispatch::domain::{
    callback::Callback,
    keywords::{Keyword, keyword},
    message_state::{MessageState, Standing},
    webhooks::{self, Webhook, WebhookError},
};
use sms_dispatch::providers::messaging::{Observed, ProviderName, Submission};
use uuid::Uuid;

use crate::receiver::{Provider, Received, Receiver, SENDER, TOKEN, both, message, until};

/// As the service reads it.
fn read(provider: &Provider, receiver: &Receiver, received: &Received) -> Result<Webhook, WebhookError> {
    match provider.name {
        ProviderName::Telnyx => {
            let key = provider.simulator.public_key().as_deref().and_then(webhooks::telnyx::PublicKey::parse);
            let key = key.ok_or(WebhookError::Signature)?;
            let (signature, timestamp) = (received.signature.as_deref(), received.timestamp.as_deref());
            webhooks::telnyx::verify(key, signature, timestamp, &received.body, Utc::now())?;
            webhooks::telnyx::parse(&received.body)
        }
        _ => {
            let url = format!("{}{}", receiver.url, received.path);
            webhooks::twilio::verify(TOKEN, received.signature.as_deref(), &url, &received.body)?;
            webhooks::twilio::parse(&url, &received.body, Utc::now())
        }
    }
}

fn statuses(provider: &Provider, receiver: &Receiver) -> Result<Vec<webhooks::Status>> {
    let read = receiver.received().into_iter().map(|received| match read(provider, receiver, &received) {
        Ok(Webhook::Status(status)) => Ok(status),
        other => bail!("{other:?}"),
    });
    read.collect()
}

#[tokio::test]
async fn reports_name_their_message_and_attempt_under_the_signature() -> Result<()> {
    for provider in both()? {
        let receiver = Receiver::start(0)?;
        let message = message(provider.name, &receiver.url, 3000);
        let Submission::Accepted(receipt) = provider.client.send(&message).await else {
            bail!("not accepted")
        };
        receiver.wait_for(2).await?;
        let reports = statuses(&provider, &receiver)?;
        let callback = Callback { message: message.id, attempt: 1 };
        ensure!(reports.iter().all(|status| status.callback == Some(callback)), "{reports:?}");
        ensure!(reports.iter().all(|status| status.report.provider_id == receipt.provider_id), "{reports:?}");
        let observed: Vec<_> = reports.iter().map(|status| status.report.observed).collect();
        ensure!(observed == [Observed::Sent, Observed::Delivered], "{observed:?}");
        // One byte, and it is nobody's.
        let mut forged = receiver.received()[0].clone();
        forged.body[10] ^= 1;
        ensure!(read(&provider, &receiver, &forged) == Err(WebhookError::Signature));
    }
    Ok(())
}

#[tokio::test]
async fn doubled_reordered_and_early_reports_end_in_the_same_state() -> Result<()> {
    for provider in both()? {
        let receiver = Receiver::start(0)?;
        provider.simulator.set_faults(Faults {
            doubled: 0.5,
            reordered: 0.5,
            early: 0.3,
            late_ms: 100,
            lost_answers: 0.2,
            fates: true,
            ..Faults::default()
        });
        let mut ends = BTreeMap::new();
        for index in 0..40 {
            // Fates by the last digits, those that are refused at once left out.
            let message = message(provider.name, &receiver.url, 3100 + index);
            if matches!(index, 1 | 3 | 4) {
                continue;
            }
            let observed = match provider.client.send(&message).await {
                Submission::Accepted(receipt) => receipt.observed,
                Submission::Unknown { .. } => Observed::Unknown,
                Submission::NotAccepted(refusal) => bail!("{refusal:?}"),
            };
            let end = match index {
                2 => MessageState::Failed,
                5 => MessageState::Expired,
                // Twilio makes no callback where its carrier says nothing.
                6 if provider.name == ProviderName::Twilio => MessageState::Sent,
                6 => MessageState::Unconfirmed,
                _ => MessageState::Delivered,
            };
            ends.insert(message.id, (observed, end));
        }
        let state_of = |id: &Uuid, answer: Observed, reports: &[webhooks::Status], answer_first: bool| {
            let mut at = Standing { state: MessageState::Submitting, attempt: 1 };
            let mut observed: Vec<_> = reports
                .iter()
                .filter(|status| status.callback.is_some_and(|callback| callback.message == *id))
                .map(|status| status.report.observed)
                .collect();
            if answer_first {
                observed.insert(0, answer)
            } else {
                observed.push(answer)
            }
            for observed in observed {
                at.state = at.after(1, observed).unwrap_or(at.state);
            }
            at.state
        };
        until("the last report", || {
            let reports = statuses(&provider, &receiver).ok()?;
            let all = ends.iter().all(|(id, (answer, end))| {
                [true, false].into_iter().all(|first| state_of(id, *answer, &reports, first) == *end)
            });
            all.then_some(())
        })
        .await?;
        let events: Vec<_> =
            statuses(&provider, &receiver)?.into_iter().filter_map(|status| status.event_id).collect();
        if provider.name == ProviderName::Telnyx {
            let distinct: std::collections::BTreeSet<_> = events.iter().collect();
            ensure!(distinct.len() < events.len(), "nothing was doubled");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_report_that_is_not_taken_comes_again() -> Result<()> {
    for provider in both()? {
        let receiver = Receiver::start(2)?;
        let message = message(provider.name, &receiver.url, 3200);
        provider.simulator.set_faults(Faults { final_ms: 2_000, ..Faults::default() });
        let Submission::Accepted(_) = provider.client.send(&message).await else { bail!("not accepted") };
        receiver.wait_for(4).await?;
        let reports = statuses(&provider, &receiver)?;
        let observed: Vec<_> = reports.iter().map(|status| status.report.observed).collect();
        ensure!(
            observed == [Observed::Sent, Observed::Sent, Observed::Sent, Observed::Delivered],
            "{observed:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_people_write_is_read_once_by_its_id() -> Result<()> {
    for provider in both()? {
        let receiver = Receiver::start(0)?;
        let url = format!("{}/webhooks/{}", receiver.url, provider.name.name());
        let id = Uuid::new_v4();
        for _ in 0..2 {
            provider.simulator.write("+526121003300", SENDER, "¡Baja, por favor!", &url, id);
        }
        for received in receiver.wait_for(2).await? {
            let Ok(Webhook::Inbound(inbound)) = read(&provider, &receiver, &received) else {
                bail!("{received:?}")
            };
            ensure!(inbound.provider_id == id && inbound.to == SENDER, "{inbound:?}");
            ensure!(
                inbound.from.map(|from| from.to_string()).as_deref() == Some("+526121003300"),
                "{inbound:?}"
            );
            ensure!(keyword(&inbound.text) == Some(Keyword::Stop), "{inbound:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_landline_is_told_of_by_webhook() -> Result<()> {
    let [provider, _] = both()?;
    let receiver = Receiver::start(0)?;
    let message = message(provider.name, &receiver.url, 3400);
    provider.simulator.fate(&message.to.to_string(), Fate::Landline);
    let Submission::Accepted(_) = provider.client.send(&message).await else { bail!("not accepted") };
    receiver.wait_for(2).await?;
    let last = statuses(&provider, &receiver)?.pop().context("a report")?;
    ensure!(last.report.verdict.is_some_and(|verdict| verdict.landline));
    Ok(())
}
