//! What a message carries beside its envelope: how often it failed, when and why.

use chrono::{DateTime, SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

use crate::delivery::{Failure, clip};

const ATTEMPTS: &str = "lote-attempts";
const FIRST_FAILED_AT: &str = "lote-first-failed-at";
const FAILED_AT: &str = "lote-failed-at";
const REASON: &str = "lote-reason";
const ERROR: &str = "lote-error";

/// Set by the broker where a delivery ended without a settlement.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// A header must fit a frame, and a person has to read it.
const MOST_ERROR: usize = 4096;

pub(crate) fn properties(id: Uuid, kind: &str, service: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/cloudevents+json".into())
        .with_message_id(id.to_string().into())
        .with_type(short(kind))
        .with_app_id(short(service))
}

fn short(text: &str) -> ShortString {
    clip(text, 255).into()
}

/// What the headers say of a delivery's past.
pub(crate) struct Past {
    /// Attempts that came to an end.
    pub attempts: u32,
    /// Deliveries since, that did not.
    pub lost: u32,
    pub first_failed_at: Option<DateTime<Utc>>,
    pub failed_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    pub error: Option<String>,
}

pub(crate) fn past(properties: &BasicProperties) -> Past {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let value = |name: &str| headers.and_then(|headers| headers.get(name));
    let count = |name: &str| value(name).and_then(int).map_or(0, |n| u32::try_from(n).unwrap_or(0));
    let time = |name: &str| value(name).and_then(text).and_then(|text| text.parse().ok());
    Past {
        attempts: count(ATTEMPTS),
        lost: count(DELIVERY_COUNT),
        first_failed_at: time(FIRST_FAILED_AT),
        failed_at: time(FAILED_AT),
        reason: value(REASON).and_then(text),
        error: value(ERROR).and_then(text),
    }
}

/// The properties of a message that is published again: with our headers, and without the broker's. A
/// message whose `x-death` says that it came round without a rejection is dropped silently.
pub(crate) fn again(
    properties: &BasicProperties,
    attempts: u32,
    failure: Option<&Failure>,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        let name = name.as_str();
        let brokers = name.starts_with("x-death")
            || name.starts_with("x-first-death-")
            || name.starts_with("x-last-death-")
            || name == DELIVERY_COUNT
            || name == "x-acquired-count";
        if !brokers {
            headers.insert(name.into(), value.clone());
        }
    }
    headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts.into()));
    if let Some(failure) = failure {
        let mut put = |name: &str, value: &str| {
            headers.insert(name.into(), AMQPValue::LongString(value.as_bytes().into()));
        };
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        put(FIRST_FAILED_AT, &time(failure.first_failed_at));
        put(FAILED_AT, &time(failure.failed_at));
        put(REASON, failure.reason);
        put(ERROR, clip(&failure.error, MOST_ERROR));
    }
    let mut again = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    if let Some(value) = properties.content_type() {
        again = again.with_content_type(value.clone());
    }
    if let Some(value) = properties.message_id() {
        again = again.with_message_id(value.clone());
    }
    if let Some(value) = properties.kind() {
        again = again.with_type(value.clone());
    }
    if let Some(value) = properties.app_id() {
        again = again.with_app_id(value.clone());
    }
    again
}

/// The broker's own record of why it gave a message up, as a word and a time.
pub(crate) fn death(properties: &BasicProperties, queue: &str) -> Option<(String, Option<DateTime<Utc>>)> {
    let headers = properties.headers().as_ref()?.inner();
    let AMQPValue::FieldArray(deaths) = headers.get("x-death")? else { return None };
    let mut deaths = deaths.as_slice().iter().filter_map(|death| match death {
        AMQPValue::FieldTable(table) => Some(table.inner()),
        _ => None,
    });
    // A message that waited in a retry queue has that death too.
    let death = deaths.find(|death| death.get("queue").and_then(text).as_deref() == Some(queue))?;
    let reason = death.get("reason").and_then(text)?;
    let time = match death.get("time") {
        Some(AMQPValue::Timestamp(seconds)) => DateTime::from_timestamp(seconds.cast_signed(), 0),
        _ => None,
    };
    Some((reason, time))
}

fn int(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => *n,
        _ => return None,
    })
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> BasicProperties {
        properties(Uuid::nil(), "lote.test.v1.Thing", "test")
    }

    fn with(mut table: FieldTable, name: &str, value: AMQPValue) -> FieldTable {
        table.insert(name.into(), value);
        table
    }

    #[test]
    fn a_retry_counts_on_and_leaves_the_brokers_headers_behind() {
        let headers = with(FieldTable::default(), "x-death", AMQPValue::FieldArray(Vec::new().into()));
        let headers = with(headers, "x-first-death-queue", AMQPValue::LongString("q".as_bytes().into()));
        let headers = with(headers, DELIVERY_COUNT, AMQPValue::LongLongInt(2));
        let headers = with(headers, "theirs", AMQPValue::Boolean(true));
        let delivered = sent().with_headers(headers);
        assert_eq!(past(&delivered).lost, 2);

        let now: DateTime<Utc> = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        let failure = Failure {
            reason: "retry",
            error: "é".repeat(MOST_ERROR),
            attempts: 3,
            first_failed_at: now,
            failed_at: now,
        };
        let again = again(&delivered, failure.attempts, Some(&failure));
        let names: Vec<_> =
            again.headers().iter().flatten().map(|(name, _)| name.as_str().to_owned()).collect();
        assert_eq!(
            names,
            [
                "lote-attempts",
                "lote-error",
                "lote-failed-at",
                "lote-first-failed-at",
                "lote-reason",
                "theirs"
            ]
        );
        let past = past(&again);
        assert_eq!((past.attempts, past.lost), (3, 0));
        assert_eq!(past.first_failed_at, Some(now));
        assert_eq!(past.error.map(|error| error.len()), Some(MOST_ERROR));
        assert_eq!(again.message_id(), delivered.message_id());
        assert_eq!(again.kind(), delivered.kind());
    }

    #[test]
    fn a_death_is_the_one_in_the_queue_itself() {
        let death = |queue: &str, reason: &str| {
            let table = with(FieldTable::default(), "queue", AMQPValue::LongString(queue.as_bytes().into()));
            let table = with(table, "reason", AMQPValue::LongString(reason.as_bytes().into()));
            AMQPValue::FieldTable(with(table, "time", AMQPValue::Timestamp(1_700_000_000)))
        };
        let deaths = vec![death("q.retry.1000ms", "expired"), death("q", "delivery_limit")];
        let headers = with(FieldTable::default(), "x-death", AMQPValue::FieldArray(deaths.into()));
        let (reason, time) = super::death(&sent().with_headers(headers), "q").expect("a death");
        assert_eq!(reason, "delivery_limit");
        assert_eq!(time.map(|time| time.timestamp()), Some(1_700_000_000));
        assert!(super::death(&sent(), "q").is_none());
    }
}
