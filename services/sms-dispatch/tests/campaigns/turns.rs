//! What campaigns are given to send, and that no job sends more than that.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use jobs::Runner;
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{
    domain::{campaign::Kind, message_id::MessageId, sender::ProviderName},
    storage::{campaigns::Campaign, providers},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{LIMIT, World};

/// Feeds so often, as if all jobs were done at once and nothing of their slices was. Gives what each campaign was given.
async fn given(world: &World, rounds: usize) -> Result<HashMap<i32, i64>> {
    let mut given = HashMap::new();
    for _ in 0..rounds {
        world.round().await?;
        let fed = "select campaign, sum(granted)::bigint from slices where state = 'fed' group by 1";
        let fed: Vec<(i32, i64)> = sqlx::query_as(fed).fetch_all(&world.pool).await?;
        for (campaign, messages) in fed {
            *given.entry(campaign).or_default() += messages;
        }
        world
            .execute(
                "update slices set state = 'waiting', job = null, granted = 0 where state = 'fed';
                 delete from jobs where kind = 'sms.slices'",
            )
            .await?;
    }
    Ok(given)
}

/// Two campaigns whose sender would take all of the provider's rate for one of them.
async fn two_campaigns(world: &World, per_second: f64) -> Result<(Campaign, Campaign)> {
    providers::configure(&world.pool, ProviderName::Telnyx, per_second).await?;
    world.contacts(900).await?;
    let one = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let other = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    Ok((one, other))
}

#[tokio::test]
async fn campaigns_that_share_a_rate_have_equal_parts_of_it() -> Result<()> {
    let world = World::new("turns").await?;
    // Ten seconds of it are less than a slice.
    let (one, other) = two_campaigns(&world, 20.0).await?;
    world.round().await?;
    let fed = world.count("select count(*) from slices where state = 'fed'").await?;
    ensure!(fed == 6, "each goes on while one of its three slices comes to its end: {fed}");
    let given = given(&world, 6).await?;
    // A third of a hundred for each slice.
    ensure!(given.get(&one.number) == Some(&594) && given.get(&other.number) == Some(&594), "{given:?}");
    Ok(())
}

#[tokio::test]
async fn campaigns_of_which_one_can_send_take_turns() -> Result<()> {
    let world = World::new("oneturn").await?;
    let (one, other) = two_campaigns(&world, 0.1).await?;
    let given = given(&world, 6).await?;
    ensure!(given.get(&one.number) == Some(&3) && given.get(&other.number) == Some(&3), "{given:?}");
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_run_again_sends_no_more_than_it_was_given() -> Result<()> {
    let world = World::new("rerun").await?;
    world.contacts(120).await?;
    world.started(Kind::Cobranza, World::plan(|plan| plan["ramp"] = json!(5))).await?;
    world.provider.answer_after(Duration::from_millis(1_500));
    world.round().await?;
    let job: Uuid = sqlx::query_scalar("select id from jobs where kind = 'sms.slices'")
        .fetch_one(&world.pool)
        .await
        .context("one job")?;
    let runner = Runner::new(world.pool.clone()).lease(Duration::from_secs(1));
    let (work, token) = (world.sender(), CancellationToken::new());
    // Its worker dies, or loses its lease, before it is done.
    tokio::select! {
        ran = runner.run(job, &token, &work) => anyhow::bail!("it left before its answers: {}", ran.is_ok()),
        () = world.provider.has_accepted(5) => {}
    }
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    world
        .execute("update jobs set lease_until = now() where kind = 'sms.slices' and state = 'running'")
        .await?;
    ensure!(world.send().await? == 1, "nobody runs it again");
    let sent = world.provider.accepted().len();
    ensure!(sent == 5, "{sent} went before the first reports came");
    let told = "select sum(processed)::bigint from jobs where kind = 'sms.slices'";
    ensure!(world.count(told).await? == 5);
    world.is_sound().await
}

/// Who opts out, or pauses, is heeded within a second: what was claimed before begins sooner, or is not made.
#[tokio::test]
async fn a_request_begins_soon_after_its_claim() -> Result<()> {
    let world = World::new("soon").await?;
    world.contacts(25).await?;
    let plan = World::plan(|plan| plan["per_minute"] = 600.into());
    let campaign = world.started(Kind::Cobranza, plan).await?;
    let partition: String = sqlx::query_scalar("select tableoid::regclass::text from messages limit 1")
        .fetch_one(&world.pool)
        .await?;
    world
        .execute(&format!(
            "create table claims (position integer primary key, at timestamptz not null);
             create function claimed() returns trigger language plpgsql as $$
             begin
                 insert into claims values (new.position, clock_timestamp())
                 on conflict (position) do update set at = excluded.at;
                 return null;
             end $$;
             create trigger claimed after update on {partition} for each row when (new.state = 1 and old.state <> 1)
                 execute function claimed()"
        ))
        .await?;
    world.finish(campaign.id).await?;
    let claims: HashMap<i32, DateTime<Utc>> =
        sqlx::query_as("select position, at from claims").fetch_all(&world.pool).await?.into_iter().collect();
    let asked = world.provider.asked_for();
    ensure!(asked.len() == 25, "{} were sent", asked.len());
    for (id, at) in asked {
        let position = MessageId::parse(id).context("an id of ours")?.position;
        let claimed = claims.get(&position).context("its claim")?;
        let late = (at - *claimed).num_milliseconds();
        ensure!(late < 900, "a message was asked for {late} ms after its claim");
    }
    Ok(())
}
