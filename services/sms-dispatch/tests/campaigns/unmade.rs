//! A claim of which nobody knows whether it was committed, and that nobody makes requests of.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use jobs::Runner;
use sea_orm::sqlx;
use sms_dispatch::{
    domain::{
        campaign::{Kind, State},
        message_state::{MessageState, Observed},
    },
    jobs::send_slice::SendSlices,
    settle::{Fact, Open, observe},
    storage::campaigns::Campaign,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{LIMIT, World};

/// A job that loses its lease, or whose process is stopped, may be dropped while its claim is being committed.
#[tokio::test]
async fn what_was_claimed_for_nobody_is_sent_by_the_next() -> Result<()> {
    let world = World::new("unmade").await?;
    world.contacts(10).await?;
    // All in one slice.
    world.execute("update contacts set state_code = 'SON'").await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let (holder, work) = (hold_commits(&world).await?, world.sender());
    drop_in_commit(&world, &work).await?;
    holder.rollback().await?;
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    let pending = world.in_state(&campaign, MessageState::Pending.code()).await?;
    ensure!(pending == 10 && world.provider.accepted().is_empty(), "{pending} of 10 wait");
    // Of the one slice that was begun.
    let claimed = world.count("select count(*) from messages where attempt = 1").await?;
    let taken_back = world.count("select count(*) from messages where attempt = 1 and unasked = 1").await?;
    ensure!(claimed > 0 && taken_back == claimed, "{taken_back} of {claimed}");
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 10);
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 10);
    world.is_sound().await
}

/// The next claim of a row has the number of one that was rolled back, and its request may be under way.
#[tokio::test]
async fn what_a_claim_that_was_rolled_back_says_is_nothing_of_the_next() -> Result<()> {
    let world = World::new("unmadetwice").await?;
    world.contacts(10).await?;
    // All in one slice.
    world.execute("update contacts set state_code = 'SON'").await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let (holder, work) = (hold_commits(&world).await?, world.sender());
    drop_in_commit(&world, &work).await?;
    world
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where wait_event_type = 'Lock' and query = 'COMMIT' and usename = current_user",
        )
        .await?;
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    holder.rollback().await?;
    let untouched = "select count(*) from messages where state = 0 and attempt = 0 and unasked = 0";
    ensure!(world.count(untouched).await? == 10, "nothing was committed, and so nothing is taken back");

    // Now it comes late: the first attempt is somebody else's, whose request is being made.
    world.provider.fall_silent(true);
    world
        .execute("update jobs set lease_until = now() where kind = 'sms.slices' and state = 'running'")
        .await?;
    let next = world.sender();
    let runner = Runner::new(world.pool.clone()).lease(Duration::from_secs(5));
    let (job, token) = (slice_job(&world).await?, CancellationToken::new());
    tokio::select! {
        ran = runner.run(job, &token, &next) => anyhow::bail!("it left before its requests: {}", ran.is_ok()),
        () = world.provider.has_accepted(1) => {}
    }
    let campaign = world.campaign(campaign.id).await?;
    let open = Open::of(&campaign)?;
    let claimed: (i32, i16, DateTime<Utc>) = sqlx::query_as(
        "select position, attempt, deadline from messages where state = 1 order by position limit 1",
    )
    .fetch_one(&world.pool)
    .await?;
    ensure!(claimed.1 == 1, "{claimed:?}");
    let unasked = |until| Fact {
        unasked: true,
        claimed_until: Some(until),
        ..Fact::plain(claimed.0, claimed.1, Observed::NotAccepted, Utc::now())
    };
    for (until, changes) in [(claimed.2 - TimeDelta::microseconds(1), 0), (claimed.2, 1)] {
        let mut transaction = world.pool.begin().await?;
        let changed = observe(&mut transaction, &open, &[unasked(until)]).await?;
        ensure!(changed.rows.len() == changes, "{changed:?}");
        transaction.rollback().await?;
    }
    Ok(())
}

/// A worker that slept past its deadlines says that it made no requests when its campaign has completed without it.
#[tokio::test]
async fn what_was_never_asked_is_sent_though_its_campaign_has_completed() -> Result<()> {
    let world = World::new("unmadelate").await?;
    world.contacts(10).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let asleep = "update messages set state = 1, attempt = 1, deadline = now() - interval '1 second'
                  where position <= 3";
    world.execute(asleep).await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed && world.provider.accepted().len() == 7, "{ended:?}");
    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 3);

    // Two say so at once, and neither keeps the other from it.
    futures::future::try_join_all([1, 2].map(|position| unasked(&world, &ended, position))).await?;
    let again = world.campaign(campaign.id).await?;
    ensure!(again.state == State::Running && again.finished_at.is_none(), "{again:?}");
    let begun = "select count(*) from contact_audit where action = 'campaign_retried' and actor = 'system'";
    ensure!(world.count(begun).await? == 1);
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed && world.provider.accepted().len() == 9, "{ended:?}");

    // After a day nobody expects it any more.
    world.execute("update campaigns set finished_at = now() - interval '25 hours'").await?;
    unasked(&world, &ended, 3).await?;
    ensure!(world.campaign(campaign.id).await?.state == State::Completed);
    ensure!(world.count("select count(*) from messages where state = 6 and repeatable").await? == 1);
    ensure!(world.provider.accepted().values().all(|messages| messages.len() == 1));
    Ok(())
}

/// Both saw it run, wait for its end, and have it then: neither may wait for the other.
#[tokio::test]
async fn two_that_come_when_a_campaign_completes_begin_it_again_once() -> Result<()> {
    let world = World::new("unmadeend").await?;
    world.contacts(10).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let asleep = "update messages set state = 1, attempt = 1, deadline = now() - interval '1 second'
                  where position <= 3";
    world.execute(asleep).await?;
    let ended = world.finish(campaign.id).await?;
    // As it was before it completed, and as it does now.
    world.execute("update campaigns set state = 'running', finished_at = null").await?;
    let mut completes = world.pool.begin().await?;
    sqlx::query("update campaigns set state = 'completed', finished_at = now()")
        .execute(&mut *completes)
        .await?;
    let both = futures::future::try_join_all([1, 2].map(|position| unasked(&world, &ended, position)));
    let end = async {
        let waits = "select count(*) from pg_stat_activity
                     where wait_event_type = 'Lock' and usename = current_user and query like '%for share'";
        let began = Instant::now();
        while world.count(waits).await? < 2 {
            ensure!(began.elapsed() < LIMIT, "they do not wait for its end");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        completes.commit().await?;
        anyhow::Ok(())
    };
    tokio::try_join!(both, end)?;
    let again = world.campaign(campaign.id).await?;
    ensure!(again.state == State::Running && again.finished_at.is_none(), "{again:?}");
    let begun = "select count(*) from contact_audit where action = 'campaign_retried' and actor = 'system'";
    ensure!(world.count(begun).await? == 1);
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 9);
    Ok(())
}

/// A day has one open campaign of single messages: what belongs to an ended one does not keep its answers from being written.
#[tokio::test]
async fn what_was_never_asked_fails_where_another_campaign_has_the_days_single_messages() -> Result<()> {
    let world = World::new("unmadesingle").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world
        .execute("update messages set state = 1, attempt = 1, deadline = now() - interval '1 second'")
        .await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed, "{ended:?}");
    let other = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    ensure!(other.date == ended.date && other.state == State::Running, "{other:?}");
    world.execute("update campaigns set single = true").await?;
    unasked(&world, &ended, 1).await?;
    ensure!(world.campaign(campaign.id).await?.state == State::Completed);
    ensure!(world.count("select count(*) from messages where state = 6 and repeatable").await? == 1);

    // Nobody else has the day.
    world.execute(&format!("update campaigns set single = false where id = '{}'", other.id)).await?;
    unasked(&world, &ended, 2).await?;
    ensure!(world.campaign(campaign.id).await?.state == State::Running);
    Ok(())
}

/// Says of a message's first attempt that nothing was asked.
async fn unasked(world: &World, campaign: &Campaign, position: i32) -> Result<()> {
    let deadline = "select deadline from messages where campaign = $1 and position = $2";
    let deadline = sqlx::query_scalar(deadline).bind(campaign.number).bind(position);
    let fact = Fact {
        unasked: true,
        claimed_until: deadline.fetch_one(&world.pool).await?,
        ..Fact::plain(position, 1, Observed::NotAccepted, Utc::now())
    };
    let mut transaction = world.pool.begin().await?;
    let changed = observe(&mut transaction, &Open::of(campaign)?, &[fact]).await?;
    ensure!(changed.rows.len() == 1, "{changed:?}");
    Ok(transaction.commit().await?)
}

/// Has the commit of each claim wait until the transaction that is given ends.
async fn hold_commits(world: &World) -> Result<sqlx::Transaction<'static, sqlx::Postgres>> {
    let partition: String = sqlx::query_scalar("select tableoid::regclass::text from messages limit 1")
        .fetch_one(&world.pool)
        .await?;
    world
        .execute(&format!(
            "create function wait_here() returns trigger language plpgsql as $$
             begin perform pg_advisory_xact_lock_shared(hashtext(current_schema() || '.a test')); return null; end $$;
             create constraint trigger wait_here after update on {partition} deferrable initially deferred
                 for each row when (new.state = 1 and old.state <> 1) execute function wait_here()"
        ))
        .await?;
    let mut holder = world.pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock(hashtext(current_schema() || '.a test'))")
        .execute(&mut *holder)
        .await?;
    Ok(holder)
}

async fn slice_job(world: &World) -> Result<Uuid> {
    Ok(sqlx::query_scalar("select id from jobs where kind = 'sms.slices' limit 1")
        .fetch_one(&world.pool)
        .await?)
}

/// Begins the job of a slice, and drops it while its claim is being committed.
async fn drop_in_commit(world: &World, work: &SendSlices) -> Result<()> {
    world.round().await?;
    let runner = Runner::new(world.pool.clone()).lease(Duration::from_secs(1));
    let (job, token) = (slice_job(world).await?, CancellationToken::new());
    let mut run = std::pin::pin!(runner.run(job, &token, work));
    tokio::select! {
        ran = &mut run => anyhow::bail!("the claim is committed: {}", ran.is_ok()),
        blocked = world.blocked("COMMIT") => blocked?,
    }
    // A process that ends waits for it: its requests are yet to be made.
    ensure!(!work.under_way.is_empty());
    Ok(())
}
