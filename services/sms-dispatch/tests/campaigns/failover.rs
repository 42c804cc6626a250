//! Two providers: what one surely does not have goes through the other, and nothing else does.

use anyhow::{Result, ensure};
use serde_json::json;
use sms_dispatch::{
    domain::{
        campaign::{Kind, State},
        message_state::MessageState,
        sender::{ProviderName, SenderKind},
    },
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    storage::{providers, senders},
};

use crate::world::{SENDER, World};

const OTHER: &str = "+525550004444";

#[tokio::test]
async fn what_a_provider_without_credit_refused_goes_through_the_other_and_what_it_may_have_does_not()
-> Result<()> {
    let world = World::new("failover").await?;
    providers::configure(&world.pool, ProviderName::Twilio, 5_000.0).await?;
    let values = senders::SenderValues {
        address: OTHER.to_owned(),
        provider: ProviderName::Twilio,
        kind: SenderKind::LongCode,
        per_second: 5_000.0,
        price: Some((8_300, "USD".to_owned())),
        enabled: true,
    };
    senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
    world.contacts(60).await?;
    let verdict = Verdict {
        outcome: Outcome::ProviderClosed,
        code: Some(20_100),
        reason: "La cuenta del proveedor no tiene fondos.".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: true,
    };
    // Of two it may have lost the answers. All others it refuses.
    let unknown = Submission::Unknown { reason: "La conexión se cortó".to_owned() };
    let refused = Submission::NotAccepted(Refusal { verdict, pause: None });
    let refusals = std::iter::repeat_n(refused, 60);
    world.provider.answer_next(std::iter::repeat_n(unknown, 2).chain(refusals));
    let plan = World::plan(|plan| plan["senders"] = json!([{ "address": SENDER }, { "address": OTHER }]));
    let campaign = world.started(Kind::Marketing, plan).await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed, "{ended:?}");
    ensure!(world.count("select count(*) from sms_providers where closed_at is not null").await? == 1);

    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 2);
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 58);
    let through_the_other = world.twilio.accepted();
    ensure!(through_the_other.len() == 58 && world.provider.accepted().is_empty());
    ensure!(through_the_other.values().all(|messages| messages.len() == 1), "somebody has it twice");
    let second = "select count(*) from messages where attempt > 1 and state = 3";
    ensure!(world.count(second).await? > 0, "none was refused by the one before the other had it");
    // What was sent costs what the other takes.
    ensure!(world.count("select sum(cost_micros) from messages where state = 3").await? == 58 * 8_300);
    world.is_sound().await
}
