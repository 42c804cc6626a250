//! Twilio's messages (<https://www.twilio.com/docs/messaging/api/message-resource>).

use async_trait::async_trait;
use chassis::config::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::messaging::{
    AskError, Balance, Messaging, Money, OptOutPage, OutgoingMessage, ProviderName, Receipt, Report,
    SenderKind, Sought, Submission, ask, exchange, http_client, illegible, refused, unanswered,
};
use crate::domain::{outcomes, report::provider_id};

/// Messages a page, and the most pages of one search: a phone gets few messages a day.
const PAGE_SIZE: &str = "100";
const MOST_PAGES: u32 = 10;
/// The longest validity that is taken, in seconds.
const LONGEST_VALIDITY: u64 = 36_000;
/// Records have whole seconds, and a clock of their own.
const CLOCKS: TimeDelta = TimeDelta::minutes(2);

/// Where Twilio is, and in whose name it is asked.
#[derive(Clone, Debug)]
pub struct TwilioSettings {
    /// `https://api.twilio.com/2010-04-01`, or a simulator.
    pub url: String,
    /// `AC…`.
    pub account_sid: String,
    /// It also signs webhooks.
    pub auth_token: Secret<String>,
}

/// Sends messages through Twilio.
#[derive(Clone, Debug)]
pub struct TwilioMessages {
    http: reqwest::Client,
    settings: TwilioSettings,
}

/// A message as Twilio writes it.
#[derive(Deserialize)]
struct Message {
    sid: String,
    #[serde(default)]
    status: String,
    to: Option<String>,
    from: Option<String>,
    body: Option<String>,
    direction: Option<String>,
    /// A number in a string; 0 until there is a sender.
    num_segments: Option<String>,
    /// What was deducted, below zero; none at first.
    price: Option<String>,
    price_unit: Option<String>,
    error_code: Option<u32>,
    date_created: Option<String>,
    date_updated: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Error {
    code: Option<u32>,
}

#[derive(Deserialize)]
struct Credit {
    balance: String,
    currency: String,
}

impl Message {
    fn report(&self) -> Option<Report> {
        let (observed, verdict) = outcomes::report(ProviderName::Twilio, &self.status, self.error_code);
        let price = self.price.as_deref().zip(self.price_unit.as_deref());
        let cost = price.and_then(|(price, unit)| Money::parse(price, unit));
        Some(Report {
            provider_id: provider_id(&self.sid)?,
            observed,
            verdict,
            parts: self
                .num_segments
                .as_deref()
                .and_then(|parts| parts.parse().ok())
                .filter(|parts| *parts > 0),
            cost: cost.map(|cost| Money { micros: cost.micros.saturating_abs(), ..cost }),
            at: self.date_updated.as_deref().and_then(time),
        })
    }

    fn created(&self) -> Option<DateTime<Utc>> {
        self.date_created.as_deref().and_then(time)
    }

    /// Whether it may be the one that is sought. Twilio keeps nothing of ours but the text.
    fn is(&self, sought: &Sought) -> bool {
        let message = &sought.message;
        let sender =
            message.from.kind == SenderKind::Pool || self.from.as_deref() == Some(&message.from.value);
        let from_us = self.direction.as_deref().is_none_or(|direction| direction != "inbound");
        let in_time = self
            .created()
            .is_none_or(|created| (sought.from - CLOCKS..=sought.until + CLOCKS).contains(&created));
        let to = self.to.as_deref() == Some(&message.to.to_string());
        sender && from_us && in_time && to && self.body.as_deref() == Some(&message.text)
    }
}

/// RFC 2822, as Twilio's 2010 API has it.
fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|time| time.to_utc())
}

impl TwilioMessages {
    /// A client; it connects when it is asked something.
    pub fn new(settings: TwilioSettings) -> Self {
        Self { http: http_client(), settings }
    }

    /// A resource of the account: `Messages.json`.
    fn address(&self, resource: &str) -> String {
        let TwilioSettings { url, account_sid, .. } = &self.settings;
        format!("{}/Accounts/{account_sid}/{resource}", url.trim_end_matches('/'))
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let TwilioSettings { account_sid, auth_token, .. } = &self.settings;
        request.basic_auth(account_sid, Some(auth_token.expose()))
    }

    fn get(&self, resource: &str) -> reqwest::RequestBuilder {
        self.signed(self.http.get(self.address(resource)))
    }
}

#[async_trait]
impl Messaging for TwilioMessages {
    fn name(&self) -> ProviderName {
        ProviderName::Twilio
    }

    async fn send(&self, message: &OutgoingMessage) -> Submission {
        let to = message.to.to_string();
        let sender = match message.from.kind {
            SenderKind::Pool => "MessagingServiceSid",
            _ => "From",
        };
        let mut form = vec![
            ("To", to.as_str()),
            (sender, message.from.value.as_str()),
            ("Body", message.text.as_str()),
            ("StatusCallback", message.callback_url.as_str()),
            // Otherwise it may rewrite the text, and with it the count.
            ("SmartEncoded", "false"),
        ];
        let validity =
            message.validity.map(|validity| validity.as_secs().clamp(1, LONGEST_VALIDITY).to_string());
        if let Some(validity) = &validity {
            form.push(("ValidityPeriod", validity));
        }
        let request = self.signed(self.http.post(self.address("Messages.json"))).form(&form);
        let (status, headers, body) = match exchange(request).await {
            Ok(answer) => answer,
            Err(error) => return unanswered(&error),
        };
        if !status.is_success() {
            let code = serde_json::from_slice::<Error>(&body).ok().and_then(|error| error.code);
            return refused(ProviderName::Twilio, status, &headers, code);
        }
        let Ok(receipt) = serde_json::from_slice::<Message>(&body) else { return illegible() };
        let Some(report) = receipt.report() else { return illegible() };
        Submission::Accepted(Receipt {
            provider_id: report.provider_id,
            observed: report.observed,
            verdict: report.verdict,
            parts: report.parts,
            wait: None,
            cost: report.cost,
        })
    }

    /// The list is asked without a date: what still waits has no date of sending, and would be left out. It comes newest
    /// first, so the search ends where it gets older than what is sought.
    async fn find(&self, sought: &Sought) -> Result<Vec<Report>, AskError> {
        let mut request = {
            let to = sought.message.to.to_string();
            let mut query = vec![("To", to.as_str()), ("PageSize", PAGE_SIZE)];
            if sought.message.from.kind != SenderKind::Pool {
                query.push(("From", &sought.message.from.value));
            }
            self.get("Messages.json").query(&query)
        };
        let mut found: Vec<Report> = Vec::new();
        for _ in 0..MOST_PAGES {
            let page: Page = ask(request).await?.ok_or_else(nothing_there)?;
            found.extend(
                page.messages.iter().filter(|message| message.is(sought)).filter_map(Message::report),
            );
            let older = page.messages.last().and_then(Message::created);
            let exhausted = older.is_some_and(|created| created < sought.from - CLOCKS);
            let Some(next) = page.next_page_uri.filter(|_| !exhausted) else { break };
            // A path: our credential goes to no other host.
            let next = Some(next).filter(|next| next.starts_with('/') && !next.starts_with("//"));
            let Some(next) = next else { break };
            let next = url::Url::parse(&self.settings.url).and_then(|base| base.join(&next));
            let Ok(next) = next else { break };
            request = self.signed(self.http.get(next));
        }
        Ok(found)
    }

    async fn fetch(&self, provider_id: Uuid) -> Result<Option<Report>, AskError> {
        let request = self.get(&format!("Messages/SM{}.json", provider_id.simple()));
        Ok(ask::<Message>(request).await?.and_then(|message| message.report()))
    }

    async fn balance(&self) -> Result<Option<Balance>, AskError> {
        let credit: Credit = ask(self.get("Balance.json")).await?.ok_or_else(nothing_there)?;
        let available = Money::parse(&credit.balance, &credit.currency);
        let available =
            available.ok_or_else(|| AskError::Unavailable("the balance is not an amount".to_owned()))?;
        Ok(Some(Balance { available }))
    }

    /// Twilio has no list of them: an opt-out shows as an inbound STOP, and as 21610 at the next message.
    async fn opt_outs(&self, _since: DateTime<Utc>, _page: u32) -> Result<OptOutPage, AskError> {
        Ok(OptOutPage::default())
    }
}

fn nothing_there() -> AskError {
    AskError::Denied(StatusCode::NOT_FOUND.to_string())
}
