//! Telnyx's messages (<https://developers.telnyx.com/api-reference/messages/send-a-message>).

use std::time::Duration;

use async_trait::async_trait;
use chassis::Clock;
use chrono::{DateTime, Days, SecondsFormat, Utc};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::messaging::{
    AskError, Balance, Encoding, Messaging, Money, OptOut, OptOutPage, OutgoingMessage, ProviderName,
    Receipt, Report, SenderKind, Sought, Submission, ask, exchange, http_client, illegible, refused,
    unanswered,
};
use super::telnyx::TelnyxSettings;
use crate::domain::callback::Callback;
use crate::domain::webhooks::telnyx::{Code, Message};
use crate::domain::{normalise, outcomes, report::provider_id};

/// Records and opt-outs a page, and the most pages of one search: a phone gets few messages a day.
const PAGE_SIZE: &str = "250";
const MOST_PAGES: u32 = 20;
/// The profile's daily spend limit; it opens at midnight UTC.
const SPEND_LIMIT: u32 = 40333;

/// Sends messages through Telnyx.
#[derive(Clone, Debug)]
pub struct TelnyxMessages {
    http: reqwest::Client,
    settings: TelnyxSettings,
    /// The messaging profile, which alphanumeric senders need.
    profile: Option<String>,
    clock: Clock,
}

/// The body of a submission. Its bytes follow from the message alone: a repetition under the same idempotency key must be
/// the same to the byte.
#[derive(Serialize)]
struct Submitted<'a> {
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messaging_profile_id: Option<&'a str>,
    text: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    encoding: &'static str,
    webhook_url: &'a str,
    use_profile_webhooks: bool,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    total_pages: Option<u32>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    code: Code,
}

/// A detail record: final, and with other names and statuses than a message has.
#[derive(Deserialize)]
struct Record {
    uuid: String,
    status: Option<String>,
    #[serde(default)]
    errors: Option<Vec<Code>>,
    parts: Option<u16>,
    cost: Option<String>,
    currency: Option<String>,
    delivery_status_webhook_url: Option<String>,
    completed_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Credit {
    available_credit: String,
    currency: String,
}

#[derive(Deserialize)]
struct Blocked {
    /// Who is not to be written to; `from` is our sender.
    to: Option<String>,
    keyword: Option<String>,
    created_at: Option<DateTime<Utc>>,
}

impl TelnyxMessages {
    /// A client; it connects when it is asked something.
    pub fn new(settings: TelnyxSettings, profile: Option<String>, clock: Clock) -> Self {
        Self { http: http_client(), settings, profile, clock }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        let base = self.settings.url.trim_end_matches('/');
        self.http.get(format!("{base}/{path}")).bearer_auth(self.settings.key.expose())
    }

    fn until_midnight(&self) -> Duration {
        let now = self.clock.now();
        let midnight =
            now.date_naive().checked_add_days(Days::new(1)).and_then(|day| day.and_hms_opt(0, 0, 0));
        midnight.and_then(|midnight| (midnight.and_utc() - now).to_std().ok()).unwrap_or_default()
    }
}

impl Record {
    fn report(self) -> Option<Report> {
        let code = self.errors.as_deref().unwrap_or_default().iter().find_map(Code::number);
        let status = self.status.as_deref().unwrap_or_default();
        let (observed, verdict) = outcomes::report(ProviderName::Telnyx, status, code);
        Some(Report {
            provider_id: provider_id(&self.uuid)?,
            observed,
            verdict,
            parts: self.parts.filter(|parts| *parts > 0),
            cost: self.cost.zip(self.currency).and_then(|(cost, currency)| Money::parse(&cost, &currency)),
            at: self.completed_at.or(self.sent_at),
        })
    }
}

#[async_trait]
impl Messaging for TelnyxMessages {
    fn name(&self) -> ProviderName {
        ProviderName::Telnyx
    }

    async fn send(&self, message: &OutgoingMessage) -> Submission {
        let value = Some(message.from.value.as_str());
        let (from, messaging_profile_id) = match message.from.kind {
            SenderKind::Pool => (None, value),
            SenderKind::Alphanumeric => (value, self.profile.as_deref()),
            SenderKind::LongCode | SenderKind::ShortCode | SenderKind::TollFree => (value, None),
        };
        let body = Submitted {
            to: message.to.to_string(),
            from,
            messaging_profile_id,
            text: &message.text,
            kind: "SMS",
            encoding: match message.encoding {
                Encoding::Gsm7 => "gsm7",
                Encoding::Ucs2 => "ucs2",
            },
            webhook_url: &message.callback_url,
            use_profile_webhooks: false,
        };
        let base = self.settings.url.trim_end_matches('/');
        // "Idempotency": within 24 hours the same key and body replay the first success. Messages declare the header since the SDK of
        // 2026-11. We repeat nothing; what lies between may.
        let request = self
            .http
            .post(format!("{base}/messages"))
            .bearer_auth(self.settings.key.expose())
            .header("idempotency-key", message.idempotency_key())
            .json(&body);
        let (status, headers, body) = match exchange(request).await {
            Ok(answer) => answer,
            Err(error) => return unanswered(&error),
        };
        if !status.is_success() {
            let errors = serde_json::from_slice::<Errors>(&body).ok();
            let code = errors.and_then(|errors| errors.errors.first()?.code.number());
            let mut submission = refused(ProviderName::Telnyx, status, &headers, code);
            if let Submission::NotAccepted(refusal) = &mut submission
                && code == Some(SPEND_LIMIT)
            {
                refusal.pause = Some(self.until_midnight());
            }
            return submission;
        }
        let Ok(Data { data }) = serde_json::from_slice::<Data<Message>>(&body) else { return illegible() };
        let Some(report) = data.report(None) else { return illegible() };
        let wait = data.wait_seconds.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
        Submission::Accepted(Receipt {
            provider_id: report.provider_id,
            observed: report.observed,
            verdict: report.verdict,
            parts: report.parts,
            wait: wait.filter(|wait| !wait.is_zero()),
            cost: report.cost,
        })
    }

    /// Records are final: what is still queued, for four hours at most, is not among them.
    async fn find(&self, sought: &Sought) -> Result<Vec<Report>, AskError> {
        let wanted = Callback { message: sought.message.id, attempt: sought.message.attempt };
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut found = Vec::new();
        for number in 1..=MOST_PAGES {
            let request = self.get("detail_records").query(&[
                ("filter[record_type]", "messaging"),
                ("filter[cld]", &sought.message.to.to_string()),
                ("filter[created_at][gte]", &time(sought.from)),
                ("filter[created_at][lte]", &time(sought.until)),
                ("page[size]", PAGE_SIZE),
                ("page[number]", &number.to_string()),
            ]);
            let page: Page<Record> = ask(request).await?.ok_or_else(nothing_there)?;
            let ours = page.data.into_iter().filter(|record| {
                let url = record.delivery_status_webhook_url.as_deref();
                url.and_then(Callback::parse) == Some(wanted)
            });
            found.extend(ours.filter_map(Record::report));
            if page.meta.and_then(|meta| meta.total_pages).is_none_or(|pages| number >= pages) {
                break;
            }
        }
        Ok(found)
    }

    async fn fetch(&self, provider_id: Uuid) -> Result<Option<Report>, AskError> {
        let answer: Option<Data<Message>> = ask(self.get(&format!("messages/{provider_id}"))).await?;
        Ok(answer.and_then(|Data { data }| data.report(None)))
    }

    async fn balance(&self) -> Result<Option<Balance>, AskError> {
        let Data { data } = ask::<Data<Credit>>(self.get("balance")).await?.ok_or_else(nothing_there)?;
        let available = Money::parse(&data.available_credit, &data.currency);
        let available =
            available.ok_or_else(|| AskError::Unavailable("the balance is not an amount".to_owned()))?;
        Ok(Some(Balance { available }))
    }

    async fn opt_outs(&self, since: DateTime<Utc>, page: u32) -> Result<OptOutPage, AskError> {
        let request = self.get("messaging_optouts").query(&[
            ("created_at[gte]", since.to_rfc3339_opts(SecondsFormat::Millis, true).as_str()),
            ("page[size]", PAGE_SIZE),
            ("page[number]", &page.to_string()),
        ]);
        let answer: Page<Blocked> = ask(request).await?.ok_or_else(nothing_there)?;
        let pages = answer.meta.and_then(|meta| meta.total_pages).unwrap_or(1);
        let opt_outs = answer.data.into_iter().filter_map(|blocked| {
            let phone = normalise(blocked.to?.as_bytes()).ok()?.phone;
            Some(OptOut { phone, at: blocked.created_at, keyword: blocked.keyword })
        });
        Ok(OptOutPage { opt_outs: opt_outs.collect(), next: (page < pages).then_some(page + 1) })
    }
}

fn nothing_there() -> AskError {
    AskError::Denied(StatusCode::NOT_FOUND.to_string())
}
