//! Campaigns through the vendors' own protocols, while answers are lost: what they accepted, and when, is the truth.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use chassis::{Clock, config::Secret};
use chrono::TimeDelta;
use jobs::Runner;
use sea_orm::sqlx;
use serde_json::json;
use simulators::messages::{Faults, Messages};
use sms_dispatch::{
    again::{Order, Which, decide},
    domain::{
        callback::Callback,
        campaign::{Action, Kind},
        message_id::MessageId,
        message_state::MessageState,
        sender::{ProviderName, SenderKind},
    },
    jobs::send_slice::SendSlices,
    providers::{
        messaging::Messaging,
        telnyx::TelnyxSettings,
        telnyx_messages::TelnyxMessages,
        twilio_messages::{TwilioMessages, TwilioSettings},
    },
    reconciler::{Patience, Reconciler},
    reports::Reports,
    storage::{campaigns, providers, senders},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{LIMIT, World};

const ADDRESS: &str = "+525550003333";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

/// A vendor, and a worker whose messages go there.
struct Vendor {
    simulator: Messages,
    client: Arc<dyn Messaging>,
    work: SendSlices,
}

impl Vendor {
    async fn new(world: &World, name: ProviderName) -> Result<Self> {
        let (key, token) = (Secret::new("KEY".to_owned()), Secret::new("token".to_owned()));
        let (simulator, client): (Messages, Arc<dyn Messaging>) = match name {
            ProviderName::Telnyx => {
                let simulator = Messages::telnyx("KEY", 0)?;
                let settings = TelnyxSettings { url: simulator.url(), key };
                (simulator, Arc::new(TelnyxMessages::new(settings, None, Clock::System)))
            }
            ProviderName::Twilio => {
                let simulator = Messages::twilio(ACCOUNT, "token", 0)?;
                let account_sid = ACCOUNT.to_owned();
                let settings = TwilioSettings { url: simulator.url(), account_sid, auth_token: token };
                (simulator, Arc::new(TwilioMessages::new(settings)))
            }
            ProviderName::Log => bail!("nobody answers"),
        };
        providers::configure(&world.pool, name, 5_000.0).await?;
        let values = senders::SenderValues {
            address: ADDRESS.to_owned(),
            provider: name,
            kind: SenderKind::LongCode,
            per_second: 5_000.0,
            price: Some((5_100, "USD".to_owned())),
            enabled: true,
        };
        senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
        let all = Arc::new(HashMap::from([(name, Arc::clone(&client))]));
        Ok(Self { simulator, client, work: SendSlices { providers: all, ..world.sender() } })
    }

    /// Feeds, and runs what is with workers.
    async fn step(&self, world: &World) -> Result<()> {
        world.round().await?;
        let (runner, token) = (Runner::new(world.pool.clone()), CancellationToken::new());
        let ids = world.waiting("sms.slices").await?;
        for ran in futures::future::join_all(ids.iter().map(|id| runner.run(*id, &token, &self.work))).await {
            ran.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    async fn finish(&self, world: &World, id: Uuid) -> Result<()> {
        let began = Instant::now();
        while world.campaign(id).await?.finished_at.is_none() {
            ensure!(began.elapsed() < LIMIT, "{:?}", world.campaign(id).await?);
            // What failed to be answered closed the provider.
            world.execute("update sms_providers set opens_at = now() where opens_at is not null").await?;
            self.step(world).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn answers_lost_after_acceptance_are_found_in_the_records_of_both_vendors() -> Result<()> {
    for name in [ProviderName::Telnyx, ProviderName::Twilio] {
        let world = World::new("vendorrecords").await?;
        world.contacts(90).await?;
        let vendor = Vendor::new(&world, name).await?;
        let lost = Faults {
            seed: 7,
            lost_answers: 0.15,
            broken_answers: 0.05,
            accepted_errors: 0.05,
            cut: 0.05,
            ..Faults::default()
        };
        vendor.simulator.set_faults(Faults { webhooks: false, sent_ms: 1, final_ms: 2, ..lost });
        let plan = World::plan(|plan| plan["senders"] = json!([{ "address": ADDRESS }]));
        let campaign = world.started(Kind::Marketing, plan).await?;
        vendor.finish(&world, campaign.id).await?;
        let accepted = vendor.simulator.accepted();
        let unknown = world.in_state(&campaign, MessageState::Unknown.code()).await?;
        let cut = 90 - accepted.len() as i64;
        ensure!(unknown > cut && cut > 0, "{name:?}: {unknown} unknown, {cut} were never accepted");

        let mut settings = (*world.settings).clone();
        settings.records_per_second = 1_000.0;
        let patience = Patience {
            unknown: TimeDelta::zero(),
            accepted: TimeDelta::zero(),
            unconfirmed: TimeDelta::hours(72),
            again: TimeDelta::zero(),
        };
        let known = Arc::new(HashMap::from([(name, Arc::clone(&vendor.client))]));
        let reconciler = Reconciler::new(world.pool.clone(), known, Arc::new(settings), patience);
        reconciler.round().await?.context("nobody else asks")?;
        // Whatever was accepted is known, each by its own id; what never was stays unknown.
        ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == cut, "{name:?}");
        ensure!(world.in_state(&campaign, MessageState::Delivered.code()).await? == 90 - cut, "{name:?}");
        let ids: Vec<(String, Uuid)> =
            sqlx::query_as("select phone_e164, provider_id from messages where provider_id is not null")
                .fetch_all(&world.pool)
                .await?;
        let ids: HashMap<String, Uuid> = ids.into_iter().collect();
        ensure!(
            accepted.iter().all(|one| ids.get(&one.to) == Some(&one.id)),
            "{name:?}: another message's id"
        );
        ensure!(vendor.simulator.summary().repeated_phones == 0);
        world.is_sound().await?;
    }
    Ok(())
}

/// A generator whose every step follows from its seed (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Pause, resume, cancel and sending again, at random, while answers are lost and messages are refused: nobody but the audience
/// is written to, no attempt is made twice, and the totals are the ledger's.
#[tokio::test]
async fn whatever_people_do_no_attempt_is_made_twice_and_the_totals_are_the_ledgers() -> Result<()> {
    for seed in [20_261_126, 7, 99] {
        let world = World::new("whatever").await?;
        world.contacts(150).await?;
        let vendor = Vendor::new(&world, ProviderName::Telnyx).await?;
        vendor.simulator.set_faults(Faults {
            seed,
            lost_answers: 0.03,
            cut: 0.02,
            webhooks: false,
            ..Faults::default()
        });
        let plan = World::plan(|plan| {
            plan["senders"] = json!([{ "address": ADDRESS }]);
            plan["per_minute"] = 3_000.into();
            plan["pause_above_percent"] = 100.into();
        });
        let campaign = world.started(Kind::Cobranza, plan).await?;
        let (mut chance, began) = (Chance(seed), Instant::now());
        // Most of them should be sent before it is cancelled.
        while began.elapsed() < Duration::from_secs(5) || vendor.simulator.accepted().len() <= 75 {
            ensure!(began.elapsed() < Duration::from_secs(60), "seed {seed}: nothing goes on");
            match chance.below(8) {
                0 => drop(world.act(campaign.id, Action::Pause).await),
                1 | 2 => drop(world.act(campaign.id, Action::Resume).await),
                3 => again(&world, campaign.id, Which::Failed).await?,
                4 => again(&world, campaign.id, Which::Unknown { since: TimeDelta::zero() }).await?,
                5 => vendor.simulator.order((0..chance.below(4)).map(|_| (400, 10_015))),
                6 => failed_report(&world, &vendor, &mut chance).await?,
                _ => {}
            }
            world.execute("update sms_providers set opens_at = now() where opens_at is not null").await?;
            vendor.step(&world).await?;
        }
        let cancelled = chance.below(2) == 0 && world.act(campaign.id, Action::Cancel).await.is_ok();
        drop(world.act(campaign.id, Action::Resume).await);
        if cancelled {
            world.execute("update slices set due_at = now() where state = 'waiting'").await?;
        }
        vendor.finish(&world, campaign.id).await?;

        let audience: HashSet<String> =
            world.messages(&campaign).await?.into_iter().map(|(_, phone)| phone).collect();
        let accepted = vendor.simulator.accepted();
        ensure!(accepted.iter().all(|one| audience.contains(&one.to)), "seed {seed}: a stranger's phone");
        let summary = vendor.simulator.summary();
        ensure!(summary.repeated_callbacks == 0, "seed {seed}: an attempt went out twice: {summary:?}");
        let mut attempts = HashMap::new();
        for one in &accepted {
            let callback = Callback::parse(&one.callback_url).context("a message of ours")?;
            let id = MessageId::parse(callback.message).context("a message of ours")?;
            let latest: &mut i16 = attempts.entry(id.position).or_default();
            *latest = (*latest).max(callback.attempt);
        }
        let rows: Vec<(i32, i16)> =
            sqlx::query_as("select position, attempt from messages").fetch_all(&world.pool).await?;
        for (position, attempt) in rows {
            let sent = attempts.get(&position).copied().unwrap_or_default();
            ensure!(sent <= attempt, "seed {seed}: attempt {sent} at {position}, the ledger knows {attempt}");
        }
        let open = "select count(*) from messages where state in (0, 1)";
        ensure!(world.count(open).await? == 0, "seed {seed}: something is still to be sent");
        world.is_sound().await.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// Somebody has messages sent again, where the campaign's state allows that.
async fn again(world: &World, id: Uuid, which: Which) -> Result<()> {
    let mut transaction = world.pool.begin().await?;
    let campaign = campaigns::lock(&mut transaction, id).await?.context("the campaign")?;
    if decide(&mut transaction, &campaign, which, Order::Resend, 0, false, "ana").await.is_ok() {
        transaction.commit().await?;
    }
    Ok(())
}

/// The provider says of one of its messages, of whatever attempt, that it did not arrive.
async fn failed_report(world: &World, vendor: &Vendor, chance: &mut Chance) -> Result<()> {
    let accepted = vendor.simulator.accepted();
    if accepted.is_empty() {
        return Ok(());
    }
    let one = &accepted[chance.below(accepted.len() as u64) as usize];
    let callback = Callback::parse(&one.callback_url).context("a message of ours")?;
    let (id, attempt) = (callback.message, callback.attempt);
    world.reported(id, attempt, &one.to, "delivery_failed", ("0.0051", "USD")).await?;
    Reports::new(world.pool.clone()).statuses().await?;
    Ok(())
}
