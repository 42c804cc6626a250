//! The ledger's days: made and dropped while others read and write, and left alone by who has no business with them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chassis::{config::DatabaseSettings, db};
use chrono::NaiveDate;
use sea_orm::sqlx::{self, Postgres, Transaction};
use sea_orm_migration::MigratorTrait as _;
use serde_json::json;
use sms_dispatch::{
    SERVICE,
    again::{Order, Which, decide},
    domain::campaign::Kind,
    reports::Reports,
    storage::{ledger, migrations::Migrator, reports},
};
use stack::Namespace;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{SENDER, World};

const SOON: Duration = Duration::from_secs(60);

fn day(year: i32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, 1, 5).expect("a day")
}

async fn impatient(world: &World) -> Result<Transaction<'_, Postgres>> {
    let mut transaction = world.pool.begin().await?;
    sqlx::raw_sql("set local lock_timeout = '1s'").execute(&mut *transaction).await?;
    Ok(transaction)
}

const READ: &str = "select count(*) from messages";

#[tokio::test]
async fn a_new_day_waits_for_no_reader_and_lets_none_wait() -> Result<()> {
    let world = World::new("newday").await?;
    let mut reader = world.pool.begin().await?;
    sqlx::query(READ).execute(&mut *reader).await?;
    let mut maker = impatient(&world).await?;
    ledger::ensure_day(&mut maker, day(2031)).await.context("it waits for a reader")?;
    let mut other = impatient(&world).await?;
    sqlx::query(READ).execute(&mut *other).await.context("a reader waits for it")?;
    other.rollback().await?;
    maker.commit().await?;
    reader.rollback().await?;
    world
        .execute(
            "insert into messages (campaign, position, date, phone_e164, lada, vars, variant)
             values (1, 1, '2031-01-05', '+526121000007', '612', '{}', 0)",
        )
        .await?;
    ensure!(world.count("select count(*) from messages_20310105").await? == 1);
    let indexes = "select count(*) from pg_indexes where schemaname = current_schema() and tablename = 'messages_20310105'";
    ensure!(world.count(indexes).await? == 2);
    let again = world
        .execute(
            "insert into messages (campaign, position, date, phone_e164, lada, vars, variant)
             values (1, 2, '2031-01-05', '+526121000007', '612', '{}', 0)",
        )
        .await;
    ensure!(again.is_err(), "a phone is in a campaign once");
    Ok(())
}

#[tokio::test]
async fn an_old_day_is_dropped_without_stopping_anybody() -> Result<()> {
    let world = World::new("oldday").await?;
    ledger::ensure_day(&mut *world.pool.acquire().await?, day(2021)).await?;
    let mut reader = world.pool.begin().await?;
    sqlx::query(READ).execute(&mut *reader).await?;
    let pool = world.pool.clone();
    let dropped = tokio::spawn(async move { ledger::drop_before(&pool, day(2022)).await });
    world.blocked("detach partition").await?;
    let mut other = impatient(&world).await?;
    sqlx::query(READ).execute(&mut *other).await.context("a reader waits for the drop")?;
    other.rollback().await?;
    reader.rollback().await?;
    ensure!(dropped.await?? == 1);
    let there = "select count(*) from pg_class where relname = 'messages_20210105' and relnamespace = current_schema()::regnamespace";
    ensure!(world.count(there).await? == 0);
    Ok(())
}

/// A partition that a worker was detaching when it died is neither one nor the other.
#[tokio::test]
async fn a_drop_that_was_broken_off_is_taken_up_again() -> Result<()> {
    let world = World::new("halfday").await?;
    ledger::ensure_day(&mut *world.pool.acquire().await?, day(2021)).await?;
    let mut reader = world.pool.begin().await?;
    sqlx::query(READ).execute(&mut *reader).await?;
    let mut conn = world.pool.acquire().await?;
    sqlx::raw_sql("set lock_timeout = '300ms'").execute(&mut *conn).await?;
    let broken = sqlx::raw_sql("alter table messages detach partition messages_20210105 concurrently");
    ensure!(broken.execute(&mut *conn).await.is_err());
    conn.close().await?;
    reader.rollback().await?;
    ensure!(world.count("select count(*) from pg_inherits where inhdetachpending").await? == 1);
    ensure!(ledger::drop_before(&world.pool, day(2022)).await? == 1);
    ensure!(world.count("select count(*) from pg_inherits where inhdetachpending").await? == 0);
    Ok(())
}

/// Of who asks about some days, nobody looks at the others: the planner would lock them all.
#[tokio::test]
async fn days_that_are_not_asked_about_are_left_alone() -> Result<()> {
    let world = World::new("otherdays").await?;
    world.contacts(30).await?;
    let plan = World::plan(|plan| plan["audience"]["filter"] = json!({ "states": ["SON"] }));
    let first = world.started(Kind::Cobranza, plan).await?;
    world.finish(first.id).await?;
    ledger::ensure_day(&mut *world.pool.acquire().await?, day(2021)).await?;
    let mut holder = world.pool.begin().await?;
    sqlx::query("lock table messages_20210105 in access exclusive mode").execute(&mut *holder).await?;

    let accepted = world.provider.accepted();
    let phone = accepted.keys().next().context("a phone")?;
    reports::keep_inbound(&world.pool, "telnyx", Uuid::new_v4(), phone, SENDER, "¿Cuánto debo?").await?;
    let handled = Reports::new(world.pool.clone());
    tokio::time::timeout(SOON, handled.inbound()).await.context("a reply waits for an old day")??;
    let answered: Option<i32> =
        sqlx::query_scalar("select campaign from inbound_messages").fetch_one(&world.pool).await?;
    ensure!(answered == Some(first.number), "{answered:?}");

    let rest = World::plan(|plan| plan["audience"]["less_campaigns"] = json!([first.id]));
    let rest = tokio::time::timeout(SOON, world.started(Kind::Cobranza, rest)).await;
    let rest = rest.context("an audience waits for an old day")??;
    ensure!(rest.recipients == 30 - first.recipients, "{rest:?}");
    holder.rollback().await?;
    Ok(())
}

/// The ledger of the campaign is locked against everybody meanwhile.
#[tokio::test]
async fn what_a_decision_would_change_is_counted_by_the_totals() -> Result<()> {
    let world = World::new("drycount").await?;
    world.contacts(12).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let ended = world.finish(campaign.id).await?;
    world
        .execute(
            "with changed as (
                 update messages set state = 6, code = '40008', repeatable = position <= 4 where position <= 9
                 returning state_code, repeatable, parts, cost_micros, changed_at)
             insert into campaign_deltas
                 (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable)
             select 1, coalesce(state_code, ''), date_trunc('hour', changed_at, 'UTC'), d.status, d.code, 0, d.sign * count(*),
                    d.sign * sum(parts), d.sign * sum(cost_micros),
                    case when d.sign > 0 then count(*) filter (where repeatable) else 0 end
             from changed, (values (3, '', -1), (6, '40008', 1)) d (status, code, sign) group by 2, 3, 4, 5, d.sign",
        )
        .await?;
    world.is_sound().await?;
    let mut transaction = world.pool.begin().await?;
    let mut holder = world.pool.begin().await?;
    let ledger = format!("messages_{}", ended.date.context("its day")?.format("%Y%m%d"));
    let lock = format!("lock table {ledger} in access exclusive mode");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *holder).await?;
    let dry = decide(&mut transaction, &ended, Which::Failed, Order::Resend, 0, true, "ana");
    let dry = tokio::time::timeout(SOON, dry).await.context("a dry run reads the ledger")??;
    ensure!(dry.messages == 4, "{dry:?}");
    holder.rollback().await?;
    // Behind a position only the rest is looked at.
    let done = decide(&mut transaction, &ended, Which::Failed, Order::Resend, 2, false, "ana").await?;
    ensure!(done.messages == 2 && done.next.is_none(), "{done:?}");
    transaction.commit().await?;
    world.is_sound().await
}

/// The version before goes on sending, and somebody reads for an hour.
#[tokio::test]
async fn a_migration_lets_nobody_wait_behind_a_long_reader() -> Result<()> {
    stack::install_tls();
    let namespace = Namespace::create("migrating").await?;
    let settings = DatabaseSettings::at(namespace.database_url.as_str());
    let shutdown = CancellationToken::new();
    let database = db::connect(&settings, SERVICE, &shutdown).await?;
    let steps = Migrator::migrations().iter().position(|one| one.name() == "m0012_sending");
    Migrator::up(&database.orm, Some(steps.context("the migration")? as u32)).await?;
    let pool = database.pool;
    // As the version before left them: what may be sent again was not counted.
    sqlx::raw_sql(
        "select ensure_message_day('2031-01-05');
         insert into messages (campaign, position, date, phone_e164, lada, vars, variant, state, cost_micros, repeatable, changed_at)
         select 1, n, '2031-01-05', '+52612' || (1000000 + n), '612', '{}', 0, 6, 100, n <= 3, '2031-01-05 12:00Z'
         from generate_series(1, 10) n;
         insert into campaign_totals (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros)
         values (1, '', '2031-01-05 12:00Z', 6, '', 0, 10, 0, 1000)",
    )
    .execute(&pool)
    .await?;
    let mut reader = pool.begin().await?;
    sqlx::query(READ).execute(&mut *reader).await?;
    let migrates = tokio::spawn({
        let settings = settings.clone();
        async move { db::migrate::<Migrator>(&settings, SERVICE, &CancellationToken::new()).await }
    });
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ilike '%alter table messages%'
                     and pid <> pg_backend_pid() and datname = current_database()";
    let (mut met, began) = (0, Instant::now());
    while met < 3 {
        ensure!(began.elapsed() < SOON, "the migration does not try again");
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&pool).await?;
        if waiting > 0 {
            met += 1;
            let mut other = pool.begin().await?;
            sqlx::raw_sql("set local lock_timeout = '3s'").execute(&mut *other).await?;
            sqlx::query(READ).execute(&mut *other).await.context("a reader waits for the migration")?;
            sqlx::raw_sql(
                "insert into campaign_deltas (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros)
                 values (2, '', now(), 0, '', 0, 1, 0, 0)",
            )
            .execute(&mut *other)
            .await
            .context("who sends waits for the migration")?;
            other.commit().await?;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    reader.rollback().await?;
    migrates.await??;
    let repeatable: i64 = sqlx::query_scalar(
        "select sum(repeatable)::bigint from (select repeatable from campaign_totals
                                              union all select repeatable from campaign_deltas) t",
    )
    .fetch_one(&pool)
    .await?;
    let cost: i64 =
        sqlx::query_scalar("select sum(cost_micros)::bigint from campaign_costs").fetch_one(&pool).await?;
    ensure!((repeatable, cost) == (3, 1_000), "{repeatable} repeatable, {cost}");
    Ok(())
}
