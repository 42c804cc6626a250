//! What a client makes of each answer, and of none.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use chassis::{Clock, config::Secret};
use chrono::{DateTime, TimeDelta, Utc};
use simulators::messages::{Answer, Fate, Faults};
use sms_dispatch::domain::{normalise, parts::Alphabet};
use sms_dispatch::providers::{
    log_messages::LogMessages,
    messaging::{
        AskError, Encoding, Messaging, Observed, Outcome, OutgoingMessage, ProviderName, Receipt, Refusal,
        Sender, SenderKind, Submission,
    },
    telnyx::TelnyxSettings,
    telnyx_messages::TelnyxMessages,
    twilio_messages::{TwilioMessages, TwilioSettings},
};
use uuid::Uuid;

use crate::receiver::{ACCOUNT, KEY, Provider, SENDER, TOKEN, both, instant, message, sought, telnyx};

const BASE: &str = "https://lote.example";

fn accepted(submission: Submission) -> Result<Receipt> {
    match submission {
        Submission::Accepted(receipt) => Ok(receipt),
        other => bail!("{other:?}"),
    }
}

fn refused(submission: Submission) -> Result<Refusal> {
    match submission {
        Submission::NotAccepted(refusal) => Ok(refusal),
        other => bail!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_accepted_found_and_fetched_as_it_was_sent() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(instant());
        let message =
            OutgoingMessage { validity: Some(Duration::from_secs(3_600)), ..message(name, BASE, 7000) };
        let receipt = accepted(client.send(&message).await)?;
        ensure!(receipt.observed == Observed::Accepted && receipt.parts == Some(1), "{receipt:?}");
        let truth = simulator.accepted();
        ensure!(truth.len() == 1 && truth[0].id == receipt.provider_id, "{truth:?}");
        ensure!(truth[0].to == message.to.to_string() && truth[0].from == SENDER);
        ensure!(truth[0].text.as_deref() == Some(&message.text) && !truth[0].ucs2);
        ensure!(truth[0].callback_url == message.callback_url);
        let fetched = client.fetch(receipt.provider_id).await?.context("it is known")?;
        ensure!(fetched.observed == Observed::Delivered, "{fetched:?}");
        ensure!(fetched.cost.map(|cost| cost.micros) == Some(5_100), "{fetched:?}");
        let found = client.find(&sought(&message)).await?;
        ensure!(found.len() == 1 && found[0].provider_id == receipt.provider_id, "{found:?}");
        ensure!(found[0].observed == Observed::Delivered && found[0].parts == Some(1));
        ensure!(client.fetch(Uuid::new_v4()).await?.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn each_fault_leaves_the_knowledge_that_it_should() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        for (faults, arrives) in [
            (Faults { lost_answers: 1.0, ..instant() }, Some(Answer::Lost)),
            (Faults { broken_answers: 1.0, ..instant() }, Some(Answer::Broken)),
            (Faults { accepted_errors: 1.0, ..instant() }, Some(Answer::Error)),
            (Faults { cut: 1.0, ..instant() }, None),
            (Faults { unavailable: 1.0, ..instant() }, None),
        ] {
            simulator.forget();
            simulator.set_faults(faults.clone());
            let message = message(name, BASE, 7001);
            let submission = client.send(&message).await;
            ensure!(matches!(submission, Submission::Unknown { .. }), "{name:?} {faults:?}: {submission:?}");
            // Nobody below us repeated it.
            ensure!(simulator.summary().requests == 1, "{name:?} {faults:?}: {:?}", simulator.summary());
            let answers: Vec<_> = simulator.accepted().into_iter().map(|accepted| accepted.answer).collect();
            ensure!(answers == Vec::from_iter(arrives), "{name:?} {faults:?}: {answers:?}");
            // The records tell what the answer didn't.
            let found = client.find(&sought(&message)).await?;
            ensure!(found.len() == usize::from(arrives.is_some()), "{name:?} {faults:?}: {found:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_to_talk_to_is_a_refusal() -> Result<()> {
    // A port that nobody listens at.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/v2", free.local_addr()?);
    drop(free);
    let settings = TelnyxSettings { url, key: Secret::new(KEY.to_owned()) };
    let client = TelnyxMessages::new(settings, None, Clock::System);
    let refusal = refused(client.send(&message(ProviderName::Telnyx, BASE, 7002)).await)?;
    ensure!(refusal.verdict.outcome == Outcome::Later && !refusal.verdict.billed, "{refusal:?}");
    ensure!(matches!(client.balance().await, Err(AskError::Unavailable(_))));
    Ok(())
}

/// A connection that was kept and then closed by the provider: the request either goes out on a new one, once, or is an
/// unknown; it never arrives twice.
#[tokio::test]
async fn a_connection_that_dies_between_requests_doubles_nothing() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        for round in 0..20 {
            simulator.set_faults(Faults { seed: round, lost_answers: 0.5, ..instant() });
            let _submission = client.send(&message(name, BASE, 7100)).await;
        }
        let summary = simulator.summary();
        ensure!(summary.accepted == 20 && summary.repeated_callbacks == 0, "{name:?}: {summary:?}");
    }
    Ok(())
}

#[tokio::test]
async fn refusals_say_whose_fault_it_is() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        let cases: &[(Faults, Option<Fate>, Outcome)] = &[
            (Faults { per_second: 1, ..instant() }, None, Outcome::Later),
            (Faults { queue_full: true, ..instant() }, None, Outcome::Later),
            (Faults { credit_micros: Some(5_099), ..instant() }, None, Outcome::ProviderClosed),
            (Faults { spend_limit: true, ..instant() }, None, Outcome::ProviderClosed),
            (Faults { bad_senders: vec![SENDER.to_owned()], ..instant() }, None, Outcome::SenderClosed),
            (instant(), Some(Fate::Invalid), Outcome::Failed),
            (instant(), Some(Fate::OptedOut), Outcome::Failed),
        ];
        for (index, (faults, fate, outcome)) in (0..).zip(cases) {
            simulator.forget();
            simulator.set_faults(faults.clone());
            let message = message(name, BASE, 7200 + index);
            if let Some(fate) = fate {
                simulator.fate(&message.to.to_string(), *fate);
            }
            if faults.per_second > 0 {
                accepted(client.send(&message).await)?;
            }
            let before = simulator.accepted().len();
            let message = OutgoingMessage { attempt: 2, ..message };
            let refusal = refused(client.send(&message).await)?;
            ensure!(refusal.verdict.outcome == *outcome, "{name:?} {faults:?} {fate:?}: {refusal:?}");
            ensure!(refusal.verdict.suppresses == (*fate == Some(Fate::OptedOut)), "{refusal:?}");
            ensure!(!refusal.verdict.billed && refusal.verdict.code.is_some(), "{refusal:?}");
            ensure!(simulator.accepted().len() == before);
        }
    }
    Ok(())
}

#[tokio::test]
async fn telnyx_says_how_long_to_wait() -> Result<()> {
    let now = DateTime::parse_from_rfc3339("2026-11-26T23:59:00Z")?.to_utc();
    let Provider { name, simulator, .. } = telnyx()?;
    let settings = TelnyxSettings { url: simulator.url(), key: Secret::new(KEY.to_owned()) };
    let client = TelnyxMessages::new(settings, None, Clock::fixed(now));
    simulator.set_faults(Faults { spend_limit: true, ..instant() });
    let refusal = refused(client.send(&message(name, BASE, 7300)).await)?;
    ensure!(
        refusal.verdict.code == Some(40333) && refusal.pause == Some(Duration::from_secs(60)),
        "{refusal:?}"
    );
    simulator.set_faults(Faults { per_second: 1, ..instant() });
    accepted(client.send(&message(name, BASE, 7301)).await)?;
    let refusal = refused(client.send(&message(name, BASE, 7302)).await)?;
    ensure!(
        refusal.verdict.code == Some(10011) && refusal.pause == Some(Duration::from_secs(1)),
        "{refusal:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_landline_is_reported_by_telnyx_and_refused_by_twilio() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(instant());
        let message = message(name, BASE, 7400);
        simulator.fate(&message.to.to_string(), Fate::Landline);
        let verdict = match client.send(&message).await {
            Submission::Accepted(receipt) if name == ProviderName::Telnyx => {
                let report = client.fetch(receipt.provider_id).await?.context("it is known")?;
                ensure!(report.observed == Observed::Failed, "{report:?}");
                report.verdict.context("a verdict")?
            }
            Submission::NotAccepted(refusal) if name == ProviderName::Twilio => refusal.verdict,
            other => bail!("{name:?}: {other:?}"),
        };
        ensure!(verdict.landline && !verdict.repeatable, "{verdict:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_credential_closes_the_provider() -> Result<()> {
    let [telnyx, twilio] = both()?;
    let wrong = Secret::new("wrong".to_owned());
    let settings = TelnyxSettings { url: telnyx.simulator.url(), key: wrong.clone() };
    let telnyx_client = TelnyxMessages::new(settings, None, Clock::System);
    let settings =
        TwilioSettings { url: twilio.simulator.url(), account_sid: ACCOUNT.to_owned(), auth_token: wrong };
    let twilio_client = TwilioMessages::new(settings);
    let settings = TwilioSettings {
        url: twilio.simulator.url(),
        account_sid: "AC00000000000000000000000000000002".to_owned(),
        auth_token: Secret::new(TOKEN.to_owned()),
    };
    let other_account = TwilioMessages::new(settings);
    let clients: [(ProviderName, &dyn Messaging); 3] = [
        (ProviderName::Telnyx, &telnyx_client),
        (ProviderName::Twilio, &twilio_client),
        (ProviderName::Twilio, &other_account),
    ];
    for (name, client) in clients {
        let refusal = refused(client.send(&message(name, BASE, 7500)).await)?;
        ensure!(refusal.verdict.outcome == Outcome::ProviderClosed, "{name:?}: {refusal:?}");
        let balance = client.balance().await;
        ensure!(matches!(balance, Err(AskError::Denied(_))), "{name:?}: {balance:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_ordered_status_without_a_known_code_does_no_harm() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(instant());
        for (status, outcome) in [
            (400, Some(Outcome::Failed)),
            (403, Some(Outcome::Failed)),
            (429, Some(Outcome::Later)),
            (402, Some(Outcome::ProviderClosed)),
            (408, None),
            (409, None),
            (500, None),
            (502, None),
            (504, None),
        ] {
            simulator.order([(status, 98_765)]);
            let submission = client.send(&message(name, BASE, 7600)).await;
            let seen = match &submission {
                Submission::NotAccepted(refusal) => Some(refusal.verdict.outcome),
                Submission::Unknown { .. } => None,
                Submission::Accepted(_) => bail!("{name:?} {status}: {submission:?}"),
            };
            ensure!(seen == outcome, "{name:?} {status}: {submission:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_queued_is_not_among_telnyxs_records_and_is_among_twilios() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(Faults { lost_answers: 1.0, ..instant() });
        let message = message(name, BASE, 7700);
        simulator.fate(&message.to.to_string(), Fate::Stuck);
        ensure!(matches!(client.send(&message).await, Submission::Unknown { .. }));
        let found = client.find(&sought(&message)).await?;
        match name {
            ProviderName::Telnyx => ensure!(found.is_empty(), "{found:?}"),
            _ => ensure!(found.len() == 1 && found[0].observed == Observed::Accepted, "{found:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_search_finds_its_own_attempt_and_no_other() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(instant());
        let wanted = message(name, BASE, 7800);
        let other_text = OutgoingMessage { text: "Otro texto".to_owned(), ..message(name, BASE, 7800) };
        let other_phone = message(name, BASE, 7801);
        for message in [&other_text, &other_phone, &wanted] {
            accepted(client.send(message).await)?;
        }
        // Several pages of others to the same phone.
        for _ in 0..260 {
            let text = "Uno de muchos".to_owned();
            accepted(client.send(&OutgoingMessage { text, ..message(name, BASE, 7800) }).await)?;
        }
        let id = simulator.accepted()[2].id;
        let found = client.find(&sought(&wanted)).await?;
        ensure!(found.iter().map(|report| report.provider_id).eq([id]), "{name:?}: {found:?}");
        let mut late = sought(&wanted);
        (late.from, late.until) = (late.from - TimeDelta::hours(2), late.until - TimeDelta::hours(2));
        ensure!(client.find(&late).await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_sender_and_text_is_counted_as_the_provider_counts_it() -> Result<()> {
    let senders = [
        (SenderKind::LongCode, SENDER),
        (SenderKind::TollFree, "+528001234567"),
        (SenderKind::ShortCode, "26262"),
        (SenderKind::Alphanumeric, "Lote MX"),
        (SenderKind::Pool, "MG0123456789abcdef0123456789abcdef"),
    ];
    let long = [
        "ñ".repeat(161),
        "a[".repeat(77) + "aa€",
        "á".repeat(71),
        format!("{}😀{}", "a".repeat(66), "a".repeat(66)),
    ];
    let texts =
        ["Hola", "Mañana ¿sí?", "5 €", "Ω y Ç y §", "`", "{[]}"].map(str::to_owned).into_iter().chain(long);
    let texts: Vec<String> = texts.collect();
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(instant());
        for (kind, value) in senders {
            for text in &texts {
                let count = Alphabet::of(name, kind).count(text);
                let message = OutgoingMessage {
                    from: Sender { kind, value: value.to_owned() },
                    text: text.clone(),
                    encoding: count.encoding,
                    ..message(name, BASE, 7900)
                };
                let receipt = accepted(client.send(&message).await)
                    .with_context(|| format!("{name:?} {kind:?} {text}"))?;
                let truth = simulator.accepted().pop().context("it was accepted")?;
                let counted = (u16::from(truth.parts), truth.ucs2);
                let expected = (count.parts, count.encoding == Encoding::Ucs2);
                ensure!(counted == expected, "{name:?} {kind:?} {text}: {counted:?}, we {expected:?}");
                // A service's message has no sender at first, and so no parts.
                let unknown = name == ProviderName::Twilio && kind == SenderKind::Pool;
                ensure!(receipt.parts == (!unknown).then_some(count.parts), "{receipt:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn both_count_texts_near_the_seams_alike() -> Result<()> {
    let Provider { name, simulator, client } = telnyx()?;
    simulator.set_faults(instant());
    let alphabet = Alphabet::of(name, SenderKind::LongCode);
    let letters = ["a", "[", "ñ", "é", "á", "😀", "€", " ", "\n", "~"];
    let mut state = 7_u64;
    for round in 0..300 {
        let mut text = String::from("x");
        // Mostly seven bits, and lengths near the seams.
        let variety = if round % 3 == 0 { letters.len() } else { 4 };
        while text.chars().count() < 60 + round * 2 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(letters[usize::try_from(state >> 33)? % variety]);
        }
        let count = alphabet.count(&text);
        if count.parts > 10 {
            continue;
        }
        let message = OutgoingMessage { text, encoding: count.encoding, ..message(name, BASE, 8000) };
        let receipt = accepted(client.send(&message).await)?;
        ensure!(receipt.parts == Some(count.parts), "{message:?}: {receipt:?}, we {count:?}");
    }
    Ok(())
}

#[tokio::test]
async fn telnyx_takes_the_same_attempt_once_and_answers_it_again() -> Result<()> {
    let Provider { name, simulator, client } = telnyx()?;
    simulator.set_faults(Faults { lost_answers: 1.0, ..instant() });
    let message = message(name, BASE, 8100);
    ensure!(matches!(client.send(&message).await, Submission::Unknown { .. }));
    simulator.set_faults(instant());
    let receipt = accepted(client.send(&message).await)?;
    ensure!(simulator.accepted().len() == 1 && simulator.accepted()[0].id == receipt.provider_id);
    // Another body under the same key is refused, another attempt is another message.
    let other = OutgoingMessage { text: "Otro".to_owned(), ..message.clone() };
    ensure!(refused(client.send(&other).await)?.verdict.outcome == Outcome::Failed);
    accepted(client.send(&OutgoingMessage { attempt: 2, ..message }).await)?;
    ensure!(simulator.accepted().len() == 2);
    Ok(())
}

#[tokio::test]
async fn the_balance_falls_with_each_part() -> Result<()> {
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(Faults { credit_micros: Some(1_000_000), ..instant() });
        for index in 0..10 {
            accepted(client.send(&message(name, BASE, 8200 + index)).await)?;
        }
        let balance = client.balance().await?.context("a balance")?;
        ensure!(balance.available.micros == 950_000 && balance.available.currency() == "USD", "{balance:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_writes_stop_is_listed_by_telnyx_and_refused_by_both() -> Result<()> {
    let since = Utc::now() - TimeDelta::minutes(1);
    for Provider { name, simulator, client } in both()? {
        simulator.set_faults(instant());
        let phones: Vec<String> = (0..260).map(|index| format!("+52612100{:04}", 1000 + index)).collect();
        for phone in &phones {
            simulator.write(phone, SENDER, "Stop", "", Uuid::new_v4());
        }
        let mut listed = Vec::new();
        let mut page = Some(1);
        while let Some(number) = page {
            let answer = client.opt_outs(since, number).await?;
            listed.extend(answer.opt_outs);
            page = answer.next;
        }
        if name == ProviderName::Telnyx {
            ensure!(listed.len() == 260, "{}", listed.len());
            ensure!(listed.iter().map(|opt_out| opt_out.phone.to_string()).eq(phones.iter().cloned()));
            ensure!(client.opt_outs(Utc::now() + TimeDelta::minutes(1), 1).await?.opt_outs.is_empty());
        } else {
            ensure!(listed.is_empty());
        }
        let phone = normalise(phones[0].as_bytes()).map_err(|reason| anyhow::anyhow!("{reason:?}"))?.phone;
        let refusal =
            refused(client.send(&OutgoingMessage { to: phone, ..message(name, BASE, 1000) }).await)?;
        ensure!(refusal.verdict.suppresses, "{refusal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_log_delivers_everything_to_nobody() -> Result<()> {
    let message = message(ProviderName::Log, BASE, 8400);
    let receipt = accepted(LogMessages.send(&message).await)?;
    ensure!(
        receipt.observed == Observed::Delivered
            && receipt.parts == Some(1)
            && receipt.provider_id == message.id
    );
    ensure!(LogMessages.find(&sought(&message)).await?.len() == 1);
    ensure!(LogMessages.balance().await?.is_none());
    Ok(())
}
