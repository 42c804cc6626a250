//! Answers AYUDA, once a day a phone. An answer whose worker dies is not sent: of two errors, that is the one that costs nobody
//! anything.

use std::{sync::Arc, time::Duration};

use sea_orm::sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    buckets::{Buckets, HORIZON},
    config::SmsSettings,
    domain::{
        Phone,
        callback::Callback,
        pace::{Ask, Bucket},
        parts::Alphabet,
        sender::Sender,
    },
    opt_outs,
    providers::{
        Providers,
        messaging::{OutgoingMessage, Submission},
    },
    storage::{
        help_answers::{self, Answer},
        providers, senders,
    },
};

/// How often it looks whether somebody asked for help.
const PAUSE: Duration = Duration::from_secs(1);

/// Longer than an answer takes, whose statements the server ends, and whose request has an end. A server whose host is gone ends nothing.
const UNANSWERED: Duration = Duration::from_secs(180);

/// The background task. Any number may run at once.
pub struct Help {
    pub pool: PgPool,
    pub providers: Providers,
    pub buckets: Arc<Buckets>,
    pub settings: Arc<SmsSettings>,
}

impl Help {
    /// Answers until `shutdown` is cancelled; nobody where no text is configured.
    pub async fn run(self, shutdown: CancellationToken) {
        if self.settings.help_text.is_none() {
            return shutdown.cancelled().await;
        }
        loop {
            let answer =
                async { timeout(UNANSWERED, self.answer()).await.unwrap_or_else(|late| Err(late.into())) };
            let more = match shutdown.run_until_cancelled(answer).await {
                None => return,
                Some(Ok(more)) => more,
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), "nobody is answered who asks for help");
                    false
                }
            };
            if !more && shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Answers the next one. Gives whether there was one.
    ///
    /// # Errors
    /// The database.
    pub async fn answer(&self) -> anyhow::Result<bool> {
        let Some(text) = &self.settings.help_text else { return Ok(false) };
        let states = providers::list(&chassis::db::orm(&self.pool)).await?;
        let open: Vec<&str> = states
            .iter()
            .filter(|state| state.closed_at.is_none() && self.providers.contains_key(&state.name))
            .map(|state| state.name.name())
            .collect();
        let Some(answer) = help_answers::take(&self.pool, &open).await? else { return Ok(false) };
        let outcome = self.send(&answer, text).await?;
        help_answers::note(&self.pool, &answer, &outcome).await?;
        Ok(true)
    }

    /// Sends an answer from the number that was written to. Gives what became of it, for people.
    async fn send(&self, answer: &Answer, text: &str) -> anyhow::Result<String> {
        let known =
            senders::of(&mut *self.pool.acquire().await?, std::slice::from_ref(&answer.sender)).await?;
        let sender =
            known.into_iter().find(|sender| sender.enabled && sender.provider.name() == answer.provider);
        let (Some(sender), Some(to)) = (sender, Phone::from_e164(&answer.phone_e164)) else {
            return Ok("El remitente no está en uso".to_owned());
        };
        let Some(client) = self.providers.get(&sender.provider) else {
            return Ok("El proveedor no está configurado".to_owned());
        };
        let count = Alphabet::of(sender.provider, sender.kind).count(text);
        // What campaigns share.
        let part = 1.0 - self.settings.singles_share;
        let rate = self.settings.per_second(sender.provider);
        let buckets = [
            Bucket { key: format!("account:{}", sender.provider.name()), per_second: rate * part },
            Bucket { key: format!("sender:{}", sender.address), per_second: sender.per_second * part },
        ];
        let ask = Ask { parts: u32::from(count.parts), buckets: vec![0, 1] };
        loop {
            let reserved =
                self.buckets.reserve(&buckets, std::slice::from_ref(&ask), Duration::ZERO, HORIZON).await;
            let start = reserved.starts_us.first().copied();
            tokio::time::sleep(Duration::from_micros(start.unwrap_or(reserved.wait_us))).await;
            if start.is_some() {
                break;
            }
        }
        if !help_answers::is_wanted(&self.pool, &answer.phone_e164).await? {
            return Ok("El destinatario se dio de baja".to_owned());
        }
        // No row of the ledger: what is reported of it is nobody's.
        let id = Uuid::now_v7();
        let message = OutgoingMessage {
            id,
            attempt: 1,
            to,
            from: Sender { kind: sender.kind, value: sender.address },
            text: text.to_owned(),
            encoding: count.encoding,
            validity: None,
            callback_url: Callback { message: id, attempt: 1 }
                .url(&self.settings.public_url, sender.provider),
        };
        Ok(match client.send(&message).await {
            Submission::Accepted(_) => "Enviada".to_owned(),
            Submission::Unknown { reason } => reason,
            Submission::NotAccepted(refusal) => {
                if refusal.verdict.suppresses {
                    let mut transaction = self.pool.begin().await?;
                    let phones = [answer.phone_e164.clone()];
                    let new = opt_outs::suppress(&mut transaction, &phones, "proveedor", "provider").await?;
                    transaction.commit().await?;
                    opt_outs::follow(&self.pool, &new).await;
                }
                refusal.verdict.reason
            }
        })
    }
}
