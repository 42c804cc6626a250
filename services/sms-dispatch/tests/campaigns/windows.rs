//! A ledger that is written in several windows: each is judged while the one before is written.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jobs::Runner;
use sea_orm::sqlx::{self, PgTransaction};
use serde_json::json;
use sms_dispatch::{
    campaigns as acts,
    domain::{
        campaign::{Action, Kind, Plan, State},
        message_state::MessageState,
    },
    jobs::prepare_campaign::PrepareCampaigns,
    start_campaign::start_campaign,
    storage::campaigns::{self, ActiveModel, Campaign},
};
use tokio_util::sync::CancellationToken;

use crate::world::{LIMIT, World};

/// Contacts a window.
const WINDOW: i64 = 10;

/// Starts a campaign whose ledger nobody writes yet.
async fn starting(world: &World, plan: Plan) -> Result<Campaign> {
    start(world, world.draft(Kind::Cobranza, plan).await?).await
}

async fn start(world: &World, draft: Campaign) -> Result<Campaign> {
    let mut transaction = world.pool.begin().await?;
    start_campaign(&mut transaction, &draft, "ana", None, "https://lote.mx").await?;
    transaction.commit().await?;
    world.campaign(draft.id).await
}

/// Writes the ledgers that wait, in small windows.
async fn prepare(world: &World) -> Result<()> {
    let work = PrepareCampaigns::new(world.pool.clone()).window(WINDOW);
    for id in world.waiting("sms.audiences").await? {
        let ran = Runner::new(world.pool.clone()).run(id, &CancellationToken::new(), &work).await;
        ran.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    Ok(())
}

/// Makes a job that was deferred due now.
async fn due_again(world: &World) -> Result<()> {
    let failed =
        "select count(*) from jobs where kind = 'sms.audiences' and state = 'pending' and error is not null";
    ensure!(world.count(failed).await? == 1, "its failure was not written");
    world.execute("update jobs set next_run_at = now() where kind = 'sms.audiences'").await
}

/// Fails unless a campaign's messages have the positions from 1 on, and its slices each of them once.
async fn is_dense(world: &World, messages: i64) -> Result<()> {
    let positions =
        format!("select count(distinct position) from messages where position between 1 and {messages}");
    ensure!(world.count("select count(*) from messages").await? == messages);
    ensure!(world.count(&positions).await? == messages, "positions are missing");
    let covered = "select count(*) from messages m join slices s
                       on s.campaign = m.campaign and m.position between s.first_position and s.last_position";
    ensure!(world.count(covered).await? == messages, "slices don't cover them");
    let covered = "select coalesce(sum(last_position - first_position + 1), 0) from slices";
    ensure!(world.count(covered).await? == messages, "slices overlap");
    world.is_sound().await
}

/// Holds the campaign's row, so that whoever writes its first window waits for it.
async fn hold(world: &World, campaign: &Campaign) -> Result<PgTransaction<'static>> {
    let mut transaction = world.pool.begin().await?;
    campaigns::lock(&mut transaction, campaign.id).await?.context("the campaign")?;
    Ok(transaction)
}

#[tokio::test]
async fn windows_follow_each_other_without_a_gap() -> Result<()> {
    let world = World::new("windows").await?;
    world.contacts(95).await?;
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select phone_e164, 'opt_out', now(), 'test' from contacts where source_id between 18 and 44",
        )
        .await?;
    let campaign = starting(&world, World::plan(|_| ())).await?;
    prepare(&world).await?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Running, "{campaign:?}");
    ensure!((campaign.matched, campaign.recipients, campaign.excluded) == (95, 68, 27), "{campaign:?}");
    let mixed = "select count(*) from (select s.first_position from slices s join messages m
                     on m.campaign = s.campaign and m.position between s.first_position and s.last_position
                 group by 1 having count(distinct coalesce(m.state_code, 'BCS')) > 1) mixed";
    ensure!(world.count(mixed).await? == 0, "slices share a zone");
    let opted_out = "select contacts from campaign_exclusions where reason = 'opt_out'";
    ensure!(world.count(opted_out).await? == 27);
    is_dense(&world, 68).await
}

/// Locks what judging reads and writing doesn't, behind whoever has it or waits for it: so a test lets one window be judged at
/// a time.
async fn shut(world: &World) -> Result<PgTransaction<'static>> {
    let mut transaction = world.pool.begin().await?;
    sqlx::raw_sql("lock table suppressions in access exclusive mode").execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Lets the window be judged that waits for `held`, and gives the lock on the next one.
async fn let_one_pass(world: &World, held: PgTransaction<'static>) -> Result<PgTransaction<'static>> {
    world.blocked("with matching as").await?;
    let open = async {
        world.blocked("lock table suppressions").await?;
        anyhow::Ok(held.commit().await?)
    };
    let (next, ()) = tokio::try_join!(shut(world), open)?;
    Ok(next)
}

/// Its contact was replaced between the two windows: the second one is judged when the first is not committed.
#[tokio::test]
async fn a_phone_that_comes_back_in_a_window_judged_ahead_counts_as_repeated() -> Result<()> {
    let world = World::new("ahead").await?;
    world.contacts(15).await?;
    let campaign = starting(&world, World::plan(|_| ())).await?;
    let row = hold(&world, &campaign).await?;
    let first = shut(&world).await?;
    let meddle = async {
        let second = let_one_pass(&world, first).await?;
        world.execute("update contacts set id = default where source_id = 3").await?;
        let third = let_one_pass(&world, second).await?;
        ensure!(world.count("select count(*) from messages").await? == 0, "the first one is committed");
        third.commit().await?;
        anyhow::Ok(row.commit().await?)
    };
    tokio::try_join!(prepare(&world), meddle)?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Running, "{campaign:?}");
    ensure!((campaign.matched, campaign.recipients, campaign.excluded) == (16, 15, 1), "{campaign:?}");
    let repeated = "select contacts from campaign_exclusions where reason = 'repeated'";
    ensure!(world.count(repeated).await? == 1);
    is_dense(&world, 15).await
}

#[tokio::test]
async fn a_window_that_can_not_be_written_leaves_those_before_it() -> Result<()> {
    let world = World::new("unwritten").await?;
    world.contacts(35).await?;
    let campaign = starting(&world, World::plan(|_| ())).await?;
    let partition = campaign.date.context("its day")?.format("messages_%Y%m%d").to_string();
    world.execute(&format!("alter table {partition} add constraint no_25 check (position <> 25)")).await?;
    prepare(&world).await?;
    let stopped = world.campaign(campaign.id).await?;
    ensure!(stopped.state == State::Preparing && stopped.recipients == 20, "{stopped:?}");
    is_dense(&world, 20).await?;
    due_again(&world).await?;
    world.execute(&format!("alter table {partition} drop constraint no_25")).await?;
    prepare(&world).await?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Running && campaign.recipients == 35, "{campaign:?}");
    is_dense(&world, 35).await
}

/// A window of more bytes than may wait; and whoever judges it ends in the midst of its rows.
#[tokio::test]
async fn of_a_window_whose_rows_did_not_all_come_nothing_is_written() -> Result<()> {
    const MANY: i32 = 20_000;
    let world = World::new("short").await?;
    world.contacts(MANY).await?;
    world.execute("update contacts set full_name = 'P ' || repeat('x', 1200)").await?;
    let campaign = starting(&world, World::plan(|_| ())).await?;
    let partition = campaign.date.context("its day")?.format("messages_%Y%m%d").to_string();
    let mut busy = world.pool.begin().await?;
    let lock = format!("lock table {partition} in share mode");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *busy).await?;
    let end = async {
        world.blocked(&format!("copy {partition}")).await?;
        let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where query like 'copy judged_window%' and wait_event = 'ClientWrite'";
        let began = Instant::now();
        while world.count(ended).await? == 0 {
            ensure!(began.elapsed() < LIMIT, "nobody waits until its rows are taken");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        anyhow::Ok(busy.commit().await?)
    };
    tokio::try_join!(world.prepare(), end)?;
    is_dense(&world, 0).await?;
    due_again(&world).await?;
    world.prepare().await?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Running && campaign.recipients == i64::from(MANY), "{campaign:?}");
    is_dense(&world, MANY.into()).await
}

#[tokio::test]
async fn of_a_campaign_that_is_cancelled_meanwhile_nothing_more_is_written() -> Result<()> {
    let world = World::new("meanwhile").await?;
    world.contacts(35).await?;
    let campaign = starting(&world, World::plan(|_| ())).await?;
    let mut row = hold(&world, &campaign).await?;
    acts::act(&mut row, &campaign, Action::Cancel, "ana", ActiveModel::default()).await?;
    let cancel = async {
        world.blocked("insert into slices").await?;
        anyhow::Ok(row.commit().await?)
    };
    tokio::try_join!(prepare(&world), cancel)?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Cancelled && campaign.matched == 0, "{campaign:?}");
    ensure!(world.count("select count(*) from jobs where state = 'completed'").await? == 1);
    is_dense(&world, 0).await
}

#[tokio::test]
async fn whoever_has_lost_its_lease_writes_nothing() -> Result<()> {
    let world = World::new("lostlease").await?;
    world.contacts(35).await?;
    let campaign = starting(&world, World::plan(|_| ())).await?;
    let row = hold(&world, &campaign).await?;
    let lose = async {
        world.blocked("insert into slices").await?;
        world
            .execute("update jobs set epoch = epoch + 1, state = 'pending', owner = null, lease_until = null")
            .await?;
        anyhow::Ok(row.commit().await?)
    };
    tokio::try_join!(prepare(&world), lose)?;
    is_dense(&world, 0).await?;
    prepare(&world).await?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Running && campaign.recipients == 35, "{campaign:?}");
    is_dense(&world, 35).await
}

#[tokio::test]
async fn an_audience_passes_its_limit_in_a_later_window() -> Result<()> {
    let world = World::new("laterlimit").await?;
    world.contacts(35).await?;
    let plan = World::plan(|plan| plan["most_recipients"] = json!(25));
    let campaign = starting(&world, plan).await?;
    prepare(&world).await?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!(campaign.state == State::Failed && campaign.recipients == 20, "{campaign:?}");
    is_dense(&world, 20).await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().is_empty());
    Ok(())
}

#[tokio::test]
async fn what_was_written_of_a_campaign_that_fails_waits_for_no_hour() -> Result<()> {
    let world = World::new("failedhour").await?;
    world.contacts(35).await?;
    let plan = World::plan(|plan| plan["most_recipients"] = json!(25));
    let draft = world.draft(Kind::Cobranza, plan).await?;
    // An hour that has come nowhere.
    let hour = format!(
        "update campaigns set own_date = current_date + 2, own_minute = 600 where id = '{}'",
        draft.id
    );
    world.execute(&hour).await?;
    let campaign = start(&world, world.campaign(draft.id).await?).await?;
    prepare(&world).await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Failed && ended.recipients == 20, "{ended:?}");
    ensure!(world.in_state(&ended, MessageState::Cancelled.code()).await? == 20);
    ensure!(world.provider.accepted().is_empty());
    world.is_sound().await
}
