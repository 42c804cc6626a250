//! Answers AYUDA, once a day a phone: as soon as the number that was written to may send, on that day. An answer whose worker dies
//! is not sent again: of two errors, that is the one that costs nobody anything.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use sea_orm::sqlx::{self, PgPool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    buckets::{Buckets, HORIZON, LONGEST_LEAD},
    closings,
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
        messaging::{Outcome, OutgoingMessage, Refusal, Submission},
    },
    storage::{
        help_answers::{self, Answer},
        providers, senders,
    },
};

/// How often it looks whether somebody asked for help.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a sender is left alone whose provider has too much of it and does not say for how long.
const HOLD: Duration = Duration::from_secs(10);

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

    /// Answers the next one that can go. Gives whether there was one.
    ///
    /// # Errors
    /// The database.
    pub async fn answer(&self) -> anyhow::Result<bool> {
        let Some(text) = &self.settings.help_text else { return Ok(false) };
        help_answers::lapse(&self.pool).await?;
        let states = providers::list(&chassis::db::orm(&self.pool)).await?;
        let open: Vec<&str> = states
            .iter()
            .filter(|state| state.closed_at.is_none() && self.providers.contains_key(&state.name))
            .map(|state| state.name.name())
            .collect();
        for answer in help_answers::waiting(&self.pool, &open).await? {
            if self.send_next(&answer, text).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends the oldest answer of a sender, one of which is seen to wait, from the number that was written to. False where it goes
    /// on waiting for that.
    async fn send_next(&self, waiting: &Answer, text: &str) -> anyhow::Result<bool> {
        let (provider, address) = (&waiting.provider, &waiting.sender);
        let known = senders::of(&mut *self.pool.acquire().await?, std::slice::from_ref(address)).await?;
        let sender = known.into_iter().find(|sender| sender.enabled && sender.provider.name() == *provider);
        let Some(sender) = sender else {
            if let Some(answer) = help_answers::take(&self.pool, provider, address).await? {
                self.end(&answer, "El remitente no está en uso").await?;
            }
            return Ok(true);
        };
        let Some(client) = self.providers.get(&sender.provider) else { return Ok(false) };
        let count = Alphabet::of(sender.provider, sender.kind).count(text);
        if !sender.is_usable(Utc::now()) || !self.turn(&sender, count.parts.into()).await {
            return Ok(false);
        }
        // Not before: what is taken goes now. Other workers have seen the same one wait, and have turns of their own.
        let Some(answer) = help_answers::take(&self.pool, provider, address).await? else { return Ok(true) };
        let Some(to) = Phone::from_e164(&answer.phone_e164) else {
            self.end(&answer, "No es un teléfono").await?;
            return Ok(true);
        };
        // No row of the ledger: what is reported of it is nobody's.
        let id = Uuid::now_v7();
        let message = OutgoingMessage {
            id,
            attempt: 1,
            to,
            from: Sender { kind: sender.kind, value: sender.address.clone() },
            text: text.to_owned(),
            encoding: count.encoding,
            validity: None,
            callback_url: Callback { message: id, attempt: 1 }
                .url(&self.settings.public_url, sender.provider),
        };
        let submission = client.send(&message).await;
        self.settle(&answer, &sender, submission).await
    }

    /// Notes why an answer that was taken is not sent.
    async fn end(&self, answer: &Answer, why: &str) -> sqlx::Result<()> {
        help_answers::note(&mut *self.pool.acquire().await?, answer, why).await
    }

    /// Waits for a start by what campaigns share of the rates. False where there is none soon.
    async fn turn(&self, sender: &senders::Sender, parts: u32) -> bool {
        let part = 1.0 - self.settings.singles_share;
        let rate = self.settings.per_second(sender.provider);
        let buckets = [
            Bucket { key: format!("account:{}", sender.provider.name()), per_second: rate * part },
            Bucket { key: format!("sender:{}", sender.address), per_second: sender.per_second * part },
        ];
        let ask = Ask { parts, buckets: vec![0, 1] };
        // As far ahead as campaigns take theirs.
        let ahead = LONGEST_LEAD + HORIZON;
        let reserved = self.buckets.reserve(&buckets, &[ask], Duration::ZERO, ahead).await;
        let Some(start) = reserved.starts_us.first() else { return false };
        tokio::time::sleep(Duration::from_micros(*start)).await;
        true
    }

    /// Notes what became of an answer, and what that says of others. False where it waits again: it was surely not sent, and can be
    /// later.
    async fn settle(
        &self,
        answer: &Answer,
        sender: &senders::Sender,
        submission: Submission,
    ) -> anyhow::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let conn = &mut *transaction;
        let (mut suppressed, mut waits) = (Vec::new(), false);
        match submission {
            Submission::Accepted(_) => help_answers::note(conn, answer, "Enviada").await?,
            Submission::Unknown { reason } => help_answers::note(conn, answer, &reason).await?,
            Submission::NotAccepted(Refusal { verdict, pause }) => {
                let reason = &verdict.reason;
                match verdict.outcome {
                    // Without both there was no connection.
                    Outcome::Later if verdict.code.is_some() || pause.is_some() => {
                        senders::hold(conn, &sender.address, pause.unwrap_or(HOLD)).await?;
                    }
                    Outcome::ProviderClosed => {
                        closings::close_provider(conn, sender.provider, reason, pause).await?;
                    }
                    Outcome::SenderClosed => closings::close_sender(conn, &sender.address, reason).await?,
                    _ => {}
                }
                waits = matches!(verdict.outcome, Outcome::Later | Outcome::ProviderClosed);
                match waits {
                    true => help_answers::give_back(conn, answer, reason).await?,
                    false => help_answers::note(conn, answer, reason).await?,
                }
                if verdict.suppresses {
                    let phones = [answer.phone_e164.clone()];
                    suppressed = opt_outs::suppress(conn, &phones, "proveedor", "provider").await?;
                }
            }
        }
        transaction.commit().await?;
        opt_outs::follow(&self.pool, &suppressed).await;
        Ok(!waits)
    }
}
