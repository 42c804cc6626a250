use super::*;

const TELNYX: ProviderName = ProviderName::Telnyx;
const TWILIO: ProviderName = ProviderName::Twilio;

/// Provider, status and code of an answer; what it means.
#[rustfmt::skip]
const ANSWERS: [(ProviderName, u16, Option<u32>, Outcome); 47] = [
    (TELNYX, 401, Some(10009), ProviderClosed),
    (TELNYX, 404, Some(10005), ProviderClosed),
    (TELNYX, 429, Some(10011), Later),
    (TELNYX, 429, Some(40333), ProviderClosed),
    (TELNYX, 402, Some(20100), ProviderClosed),
    (TELNYX, 400, Some(10015), Failed),
    (TELNYX, 400, Some(10004), Failed),
    (TELNYX, 422, Some(10027), Failed),
    (TELNYX, 403, Some(10010), ProviderClosed),
    (TELNYX, 403, Some(10039), ProviderClosed),
    (TELNYX, 400, Some(40300), Failed),
    (TELNYX, 400, Some(40305), SenderClosed),
    (TELNYX, 400, Some(40310), Failed),
    (TELNYX, 400, Some(40309), SenderClosed),
    (TELNYX, 400, Some(40318), Later),
    (TELNYX, 429, Some(40318), Later),
    (TELNYX, 400, Some(40320), SenderClosed),
    (TELNYX, 400, Some(40321), SenderClosed),
    (TELNYX, 500, Some(10007), Unknown),
    (TELNYX, 408, Some(10008), Unknown),
    (TWILIO, 400, Some(21610), Failed),
    (TWILIO, 400, Some(21211), Failed),
    (TWILIO, 429, Some(20429), Later),
    (TWILIO, 400, Some(21614), Failed),
    (TWILIO, 400, Some(21611), Later),
    (TWILIO, 400, Some(30001), Later),
    (TWILIO, 403, Some(10001), ProviderClosed),
    (TWILIO, 403, Some(20005), ProviderClosed),
    (TWILIO, 401, Some(20003), ProviderClosed),
    (TWILIO, 404, Some(20404), ProviderClosed),
    // What nobody knows.
    (TELNYX, 400, Some(99999), Failed),
    (TELNYX, 403, None, Failed),
    (TELNYX, 401, None, ProviderClosed),
    (TELNYX, 402, None, ProviderClosed),
    (TELNYX, 404, None, ProviderClosed),
    (TELNYX, 429, None, Later),
    (TELNYX, 409, None, Unknown),
    (TELNYX, 302, None, Unknown),
    (TELNYX, 408, None, Unknown),
    (TELNYX, 500, None, Unknown),
    (TELNYX, 502, None, Unknown),
    (TELNYX, 503, None, Unknown),
    (TELNYX, 504, None, Unknown),
    // A status that says nothing outweighs a code that does.
    (TELNYX, 503, Some(10011), Unknown),
    (TWILIO, 500, Some(21211), Unknown),
    (TWILIO, 503, Some(20503), Unknown),
    (TWILIO, 400, Some(1), Failed),
];

/// Provider, status and code of a report; what is observed, and what follows.
type Reported = (ProviderName, &'static str, Option<u32>, Observed, Option<Outcome>);

#[rustfmt::skip]
const REPORTS: [Reported; 54] = [
    (TELNYX, "queued", None, Observed::Accepted, None),
    (TELNYX, "sending", None, Observed::Accepted, None),
    (TELNYX, "sent", None, Observed::Sent, None),
    (TELNYX, "delivered", None, Observed::Delivered, None),
    (TELNYX, "expired", None, Observed::Expired, Some(Failed)),
    (TELNYX, "sending_failed", None, Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", None, Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_unconfirmed", None, Observed::Unconfirmed, Some(Unknown)),
    (TELNYX, "failed", Some(40008), Observed::Failed, Some(Failed)),
    (TELNYX, "gw_timeout", None, Observed::Unconfirmed, Some(Unknown)),
    (TELNYX, "gw_reject", None, Observed::Failed, Some(Failed)),
    (TELNYX, "dlr_unconfirmed", None, Observed::Unconfirmed, Some(Unknown)),
    (TELNYX, "dlr_timeout", None, Observed::Unconfirmed, Some(Unknown)),
    (TELNYX, "brand_new", None, Observed::Accepted, None),
    (TELNYX, "delivery_failed", Some(40001), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40002), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40003), Observed::Failed, Some(SenderClosed)),
    (TELNYX, "delivery_failed", Some(40004), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40005), Observed::Expired, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40006), Observed::Failed, Some(Later)),
    (TELNYX, "delivery_failed", Some(40008), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40009), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40011), Observed::Failed, Some(Later)),
    (TELNYX, "delivery_failed", Some(40012), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(40013), Observed::Failed, Some(SenderClosed)),
    (TELNYX, "sending_failed", Some(40014), Observed::Expired, Some(Later)),
    (TELNYX, "expired", Some(40014), Observed::Expired, Some(Later)),
    (TELNYX, "delivery_failed", Some(40015), Observed::Failed, Some(Failed)),
    (TELNYX, "sending_failed", Some(40300), Observed::Failed, Some(Failed)),
    (TELNYX, "delivery_failed", Some(99999), Observed::Failed, Some(Failed)),
    // An error beside a success changes nothing.
    (TELNYX, "delivered", Some(40008), Observed::Delivered, None),
    (TWILIO, "accepted", None, Observed::Accepted, None),
    (TWILIO, "scheduled", None, Observed::Accepted, None),
    (TWILIO, "queued", None, Observed::Accepted, None),
    (TWILIO, "sending", None, Observed::Accepted, None),
    (TWILIO, "sent", None, Observed::Sent, None),
    (TWILIO, "delivered", None, Observed::Delivered, None),
    (TWILIO, "read", None, Observed::Delivered, None),
    (TWILIO, "undelivered", None, Observed::Failed, Some(Failed)),
    (TWILIO, "failed", None, Observed::Failed, Some(Failed)),
    (TWILIO, "canceled", None, Observed::Failed, Some(Failed)),
    (TWILIO, "partially_delivered", None, Observed::Unconfirmed, Some(Unknown)),
    (TWILIO, "brand_new", None, Observed::Accepted, None),
    (TWILIO, "failed", Some(30001), Observed::Failed, Some(Later)),
    (TWILIO, "failed", Some(30002), Observed::Failed, Some(ProviderClosed)),
    (TWILIO, "undelivered", Some(30003), Observed::Failed, Some(Failed)),
    (TWILIO, "undelivered", Some(30005), Observed::Failed, Some(Failed)),
    (TWILIO, "undelivered", Some(30006), Observed::Failed, Some(Failed)),
    (TWILIO, "undelivered", Some(30007), Observed::Failed, Some(Failed)),
    (TWILIO, "undelivered", Some(30008), Observed::Failed, Some(Failed)),
    (TWILIO, "failed", Some(30036), Observed::Expired, Some(Failed)),
    (TWILIO, "failed", Some(21610), Observed::Failed, Some(Failed)),
    (TWILIO, "undelivered", Some(99999), Observed::Failed, Some(Failed)),
    (ProviderName::Log, "", None, Observed::Delivered, None),
];

#[test]
fn each_answer_means_what_the_providers_say() {
    for (provider, status, code, outcome) in ANSWERS {
        let verdict = refusal(provider, status, code);
        assert_eq!(verdict.outcome, outcome, "{provider:?} {status} {code:?}");
        assert_eq!(verdict.code, code);
        assert!(verdict.reason.ends_with('.'), "{}", verdict.reason);
        // What was surely refused costs nothing.
        assert_eq!(verdict.billed, outcome == Unknown, "{provider:?} {status} {code:?}");
    }
}

#[test]
fn each_report_means_what_the_providers_say() {
    for (provider, status, code, observed, outcome) in REPORTS {
        let (seen, verdict) = report(provider, status, code);
        assert_eq!(seen, observed, "{provider:?} {status} {code:?}");
        assert_eq!(verdict.map(|verdict| verdict.outcome), outcome, "{provider:?} {status} {code:?}");
    }
}

#[test]
fn tables_are_sorted_and_every_code_has_one_row() {
    assert!(super::TELNYX.is_sorted_by(|one, other| one.code < other.code));
    assert!(super::TWILIO.is_sorted_by(|one, other| one.code < other.code));
}

#[test]
fn an_opt_out_at_the_provider_suppresses_and_nothing_else_does() {
    let suppress = |provider, table: &[Row]| -> Vec<u32> {
        let codes = table.iter().map(|row| row.code);
        codes.filter(|code| refusal(provider, 400, Some(*code)).suppresses).collect()
    };
    assert_eq!(suppress(TELNYX, &super::TELNYX), [40300]);
    assert_eq!(suppress(TWILIO, &super::TWILIO), [21610]);
}

#[test]
fn landlines_are_known_by_their_codes() {
    let landlines = |provider, table: &[Row]| -> Vec<u32> {
        let codes = table.iter().map(|row| row.code);
        codes.filter(|code| refusal(provider, 400, Some(*code)).landline).collect()
    };
    assert_eq!(landlines(TELNYX, &super::TELNYX), [40001]);
    assert_eq!(landlines(TWILIO, &super::TWILIO), [21614, 21635, 30006]);
}

#[test]
fn a_failed_delivery_is_billed_unless_the_provider_says_otherwise() {
    let billed = |provider, code| report(provider, "failed", Some(code)).1.map(|verdict| verdict.billed);
    assert_eq!(billed(TELNYX, 40001), Some(true));
    assert_eq!(billed(TELNYX, 40014), Some(false));
    assert_eq!(billed(TELNYX, 99999), Some(true));
    assert_eq!(billed(TWILIO, 30003), Some(true));
    assert_eq!(billed(TWILIO, 30002), Some(false));
    // Twilio refuses landlines in Mexico with 400, which costs nothing.
    assert!(!refusal(TWILIO, 400, Some(21614)).billed);
}

#[test]
fn only_what_can_succeed_is_repeated_on_request() {
    let repeatable =
        |provider, code| report(provider, "failed", Some(code)).1.map(|verdict| verdict.repeatable);
    for (provider, code, expected) in [
        (TELNYX, 40001, false),
        (TELNYX, 40012, false),
        (TELNYX, 40300, false),
        (TELNYX, 40009, false),
        (TELNYX, 40006, true),
        (TELNYX, 40008, true),
        (TELNYX, 40013, true),
        (TELNYX, 40014, true),
        (TELNYX, 99999, true),
        (TWILIO, 21610, false),
        (TWILIO, 30005, false),
        (TWILIO, 30002, true),
        (TWILIO, 30003, true),
    ] {
        assert_eq!(repeatable(provider, code), Some(expected), "{provider:?} {code}");
    }
    assert!(!refusal(TELNYX, 500, None).repeatable);
}
