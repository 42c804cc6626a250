use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::domain::message_state::Observed;

const NOW: i64 = 1_790_000_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).expect("a time")
}

fn key_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes")
}

fn public_key() -> telnyx::PublicKey {
    telnyx::PublicKey::parse(&STANDARD.encode(key_pair().public_key().as_ref())).expect("a key")
}

fn signed(timestamp: &str, body: &[u8]) -> String {
    STANDARD.encode(key_pair().sign(&[timestamp.as_bytes(), b"|", body].concat()).as_ref())
}

#[test]
fn telnyx_signs_the_time_and_the_raw_body() {
    let body = br#"{"data": {"id":"1"}}"#;
    let timestamp = NOW.to_string();
    let signature = signed(&timestamp, body);
    let verify = |signature: Option<&str>, timestamp: Option<&str>, body: &[u8]| {
        telnyx::verify(public_key(), signature, timestamp, body, now())
    };
    assert_eq!(verify(Some(&signature), Some(&timestamp), body), Ok(()));
    let wrong = Err(WebhookError::Signature);
    assert_eq!(verify(None, Some(&timestamp), body), wrong);
    assert_eq!(verify(Some(&signature), None, body), wrong);
    assert_eq!(verify(Some("x"), Some(&timestamp), body), wrong);
    assert_eq!(verify(Some(&signature), Some(&timestamp), br#"{"data":{"id":"1"}}"#), wrong);
    assert_eq!(verify(Some(&signature), Some(&(NOW + 1).to_string()), body), wrong);
    assert_eq!(verify(Some(&signature), Some("soon"), body), wrong);
    for (offset, expected) in
        [(-300, Ok(())), (300, Ok(())), (-301, Err(WebhookError::Time)), (301, Err(WebhookError::Time))]
    {
        let timestamp = (NOW + offset).to_string();
        assert_eq!(verify(Some(&signed(&timestamp, body)), Some(&timestamp), body), expected, "{offset}");
    }
    assert_eq!(telnyx::PublicKey::parse("c2hvcnQ="), None);
}

const MESSAGE: &str =
    "https://lote.mx/webhooks/telnyx?message=00000000-0000-8000-8000-000000000001&attempt=2";

fn callback() -> Callback {
    Callback::parse(MESSAGE).expect("a callback")
}

#[test]
fn telnyx_reports_are_read_with_the_id_from_the_signed_payload() {
    let event = |kind: &str, status: &str, errors: serde_json::Value| {
        json!({
            "data": {
                "record_type": "event", "id": "4ee8c3a6-4995-4309-a3c6-38e3db9ea4be", "event_type": kind,
                "occurred_at": "2026-09-21T14:13:20.000Z",
                "payload": {
                    "record_type": "message", "id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c", "direction": "outbound",
                    "type": "SMS", "from": { "phone_number": "+525550001234", "carrier": "", "line_type": "" },
                    "to": [{ "phone_number": "+526121004768", "status": status, "carrier": "TELCEL", "line_type": "Wireless" }],
                    "text": "Hola", "encoding": "GSM-7", "parts": 1, "errors": errors, "webhook_url": MESSAGE,
                    "cost": { "amount": "0.0051", "currency": "USD" },
                },
            },
            "meta": { "attempt": 1, "delivered_to": "https://lote.mx/webhooks/telnyx?message=00000000-0000-8000-8000-00000000ffff&attempt=9" },
        })
        .to_string()
    };
    let status = |body: &str| match telnyx::parse(body.as_bytes()) {
        Ok(Webhook::Status(status)) => status,
        other => panic!("{other:?}"),
    };
    let sent = status(&event("message.sent", "sent", json!([])));
    assert_eq!(sent.callback, Some(callback()));
    assert_eq!(sent.event_id.as_deref(), Some("4ee8c3a6-4995-4309-a3c6-38e3db9ea4be"));
    assert_eq!(sent.report.observed, Observed::Sent);
    assert_eq!((sent.report.parts, sent.report.cost.map(|cost| cost.micros)), (Some(1), Some(5_100)));
    assert_eq!(sent.report.at.map(|at| at.timestamp()), Some(NOW));
    let failed = status(&event(
        "message.finalized",
        "delivery_failed",
        json!([{ "code": "40001", "title": "Not routable" }]),
    ));
    assert_eq!(failed.report.observed, Observed::Failed);
    assert!(failed.report.verdict.is_some_and(|verdict| verdict.landline));
    // A number for a code is understood as well, and no list at all.
    let failed = status(&event("message.finalized", "delivery_failed", json!([{ "code": 40300 }])));
    assert!(failed.report.verdict.is_some_and(|verdict| verdict.suppresses));
    assert_eq!(
        status(&event("message.finalized", "delivered", json!(null))).report.observed,
        Observed::Delivered
    );
}

#[test]
fn telnyx_inbound_messages_and_other_events() {
    let body = json!({ "data": {
        "record_type": "event", "id": "1", "event_type": "message.received", "occurred_at": "2026-09-21T14:13:20Z",
        "payload": {
            "record_type": "message", "id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c", "direction": "inbound", "type": "SMS",
            "from": { "phone_number": "+526121004768", "carrier": "TELCEL", "line_type": "Wireless", "status": "webhook_delivered" },
            "to": [{ "phone_number": "+525550001234", "status": "webhook_delivered" }], "text": "BAJA",
            "received_at": "2026-09-21T14:13:19Z", "webhook_url": null, "parts": 1,
        },
    } });
    let Ok(Webhook::Inbound(inbound)) = telnyx::parse(body.to_string().as_bytes()) else {
        panic!("no message")
    };
    assert_eq!(inbound.from.map(|from| from.to_string()).as_deref(), Some("+526121004768"));
    assert_eq!((inbound.to.as_str(), inbound.text.as_str()), ("+525550001234", "BAJA"));
    assert_eq!(inbound.at.map(|at| at.timestamp()), Some(NOW - 1));
    let other = json!({ "data": { "event_type": "messaging-profile.spend-limit-reached", "payload": {} } });
    let expected = Webhook::Other("messaging-profile.spend-limit-reached".to_owned());
    assert_eq!(telnyx::parse(other.to_string().as_bytes()), Ok(expected));
    for body in ["", "{}", "[]", r#"{"data":{"event_type":"message.sent","payload":{"id":"x"}}}"#] {
        assert!(matches!(telnyx::parse(body.as_bytes()), Err(WebhookError::Body(_))), "{body}");
    }
}

/// Twilio's own example, "Webhooks security".
#[test]
fn twilio_signs_the_address_and_the_sorted_form() {
    let url = "https://example.com/myapp.php?foo=1&bar=2";
    let body =
        b"Digits=1234&To=%2B18005551212&From=%2B14158675310&Caller=%2B14158675310&CallSid=CA1234567890ABCDE";
    let signature = "L/OH5YylLD5NRKLltdqwSvS0BnU=";
    let verify = |signature, url: &str, body: &[u8]| twilio::verify("12345", signature, url, body);
    assert_eq!(verify(Some(signature), url, body), Ok(()));
    assert_eq!(verify(Some(signature), &format!("{url}#rc=5&rp=all"), body), Ok(()));
    // Signed without the port, and told with it.
    assert_eq!(verify(Some(signature), "https://example.com:443/myapp.php?foo=1&bar=2", body), Ok(()));
    let wrong = Err(WebhookError::Signature);
    assert_eq!(verify(None, url, body), wrong);
    assert_eq!(verify(Some("AAAA"), url, body), wrong);
    assert_eq!(verify(Some("no base64"), url, body), wrong);
    assert_eq!(verify(Some(signature), "https://example.com/myapp.php?foo=2&bar=2", body), wrong);
    assert_eq!(verify(Some(signature), "http://example.com/myapp.php?foo=1&bar=2", body), wrong);
    assert_eq!(verify(Some(signature), url, b"Digits=1235"), wrong);
    assert_eq!(twilio::verify("12346", Some(signature), url, body), wrong);
}

#[test]
fn twilio_reports_are_read_with_the_id_from_the_signed_address() {
    let url = MESSAGE.replace("telnyx", "twilio");
    let status = |body: &str| match twilio::parse(&url, body.as_bytes(), now()) {
        Ok(Webhook::Status(status)) => status,
        other => panic!("{other:?}"),
    };
    let sid = "MessageSid=SM0123456789abcdef0123456789abcdef&SmsSid=SM0123456789abcdef0123456789abcdef";
    let sent = status(&format!("{sid}&MessageStatus=sent&SmsStatus=sent&To=%2B526121004768&AccountSid=AC1"));
    assert_eq!(sent.callback, Some(callback()));
    assert_eq!(sent.report.provider_id, Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
    assert_eq!((sent.report.observed, sent.event_id), (Observed::Sent, None));
    let failed = status(&format!("{sid}&MessageStatus=undelivered&ErrorCode=30006"));
    assert!(failed.report.verdict.is_some_and(|verdict| verdict.landline));
    let late = status(&format!("{sid}&MessageStatus=failed&ErrorCode=30036"));
    assert_eq!(late.report.observed, Observed::Expired);
}

#[test]
fn twilio_inbound_messages_and_other_forms() {
    let parse = |body: &str| twilio::parse("https://lote.mx/webhooks/twilio", body.as_bytes(), now());
    let body = "ToCountry=MX&SmsMessageSid=SM0123456789abcdef0123456789abcdef&SmsStatus=received&Body=No+m%C3%A1s&\
        To=%2B525550001234&MessageSid=SM0123456789abcdef0123456789abcdef&From=%2B526121004768&OptOutType=STOP";
    let Ok(Webhook::Inbound(inbound)) = parse(body) else { panic!("no message") };
    assert_eq!((inbound.to.as_str(), inbound.text.as_str()), ("+525550001234", "No más"));
    assert_eq!(inbound.from.map(|from| from.to_string()).as_deref(), Some("+526121004768"));
    // From abroad: read, and from nobody that could be suppressed.
    let abroad = parse(&body.replace("%2B526121004768", "%2B14155550100"));
    assert!(matches!(abroad, Ok(Webhook::Inbound(Inbound { from: None, .. }))), "{abroad:?}");
    assert_eq!(parse("CallSid=CA1"), Ok(Webhook::Other("unknown".to_owned())));
    assert!(matches!(parse(""), Err(WebhookError::Body(_))));
    assert!(matches!(parse("MessageSid=SMx&MessageStatus=sent"), Err(WebhookError::Body(_))));
}
