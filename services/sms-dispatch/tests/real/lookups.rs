//! Which look-ups are paid for, whatever a provider answers.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use chassis::config::Env;
use jobs::{Job, NewJob, Runner};
use sea_orm::sqlx;
use serde_json::Value;
use simulators::telnyx::Telnyx;
use sms_dispatch::{
    config::LookupSettings,
    domain::segment::Segment,
    jobs::validate_contacts::{KIND, ValidateContacts},
    storage::validations,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    source::{Row, numeros},
    world::World,
};

const KEY: &str = "KEY-of-a-test";

struct Asking {
    world: World,
    telnyx: Telnyx,
    work: ValidateContacts,
}

impl Asking {
    /// So many contacts, and a provider that is asked about one after the other.
    async fn about(many: i64) -> Result<Self> {
        let world = World::new("smslookups").await?;
        let rows: Vec<Row> = (0..many).map(|id| Row::new(id + 1, format!("6121{id:06}"))).collect();
        world.import(&numeros(&world, "a.db", &rows)?).await?;
        let telnyx = Telnyx::start(KEY)?;
        telnyx.limit(10_000);
        let settings = LookupSettings {
            at_once: 1,
            pause: Duration::from_millis(1),
            ..LookupSettings::read(&mut Env::from_map([
                ("TELNYX_URL", telnyx.url()),
                ("TELNYX_API_KEY", KEY),
                ("LOOKUPS_PER_SECOND", "1000"),
            ]))
        };
        let work = ValidateContacts::new(world.pool.clone(), Arc::new(settings));
        Ok(Self { world, telnyx, work })
    }

    /// Asks for a validation.
    async fn ask(&self, budget: i64) -> Result<Uuid> {
        let id = Uuid::now_v7();
        let mut transaction = self.world.pool.begin().await?;
        jobs::create(&mut transaction, NewJob { id, ..NewJob::plain(KIND, "ana", 5) }).await?;
        let filter = Segment::default().checked()?;
        let since = sms_dispatch::storage::suppressions::now(&mut transaction).await?;
        validations::insert(&mut transaction, id, &filter, budget, since, "ana").await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Makes one attempt; gives the job as it then is, and what is spent.
    async fn attempt(&self, id: Uuid) -> Result<(Job, i64)> {
        sqlx::query("update jobs set next_run_at = now() where id = $1")
            .bind(id)
            .execute(&self.world.pool)
            .await?;
        // What goes wrong is in the job's row.
        let _gone_wrong =
            Runner::new(self.world.pool.clone()).run(id, &CancellationToken::new(), &self.work).await;
        let job = jobs::get(&mut *self.world.pool.acquire().await?, id).await?.context("a job")?;
        let validation = validations::get(&self.world.pool, id).await?.context("a validation")?;
        Ok((job, validation.spent))
    }
}

#[tokio::test]
async fn errors_from_behind_the_look_up_count_as_spent() -> Result<()> {
    for (status, spent) in [(500, 1), (502, 1), (504, 1), (503, 0), (429, 0)] {
        let asking = Asking::about(1).await?;
        // Tried again at once where nothing was billed, until it gives up for now.
        asking.telnyx.fail_next(&[status; 5]);
        let id = asking.ask(10).await?;
        let (job, told) = asking.attempt(id).await?;
        ensure!(!job.state.is_final() && told == spent, "{status}: {told} spent, {job:?}");
        let requests = if spent == 0 { 5 } else { 1 };
        ensure!(asking.telnyx.requests() == requests, "{status}: {} requests", asking.telnyx.requests());
    }
    Ok(())
}

#[tokio::test]
async fn a_number_that_is_always_refused_fails_no_validation() -> Result<()> {
    for status in [403, 404] {
        let asking = Asking::about(12).await?;
        asking.telnyx.fail_next(&[status]);
        let (job, spent) = asking.attempt(asking.ask(20).await?).await?;
        let told = job.result.clone().unwrap_or_default();
        ensure!(job.state == jobs::State::Completed, "{status}: {job:?}");
        // Telnyx refuses some numbers by itself.
        ensure!(told["refused"].as_i64() >= Some(1) && spent == 12, "{status}: {told}");
        let noted = "select count(*) from phone_lookups where refusal like '40%'";
        ensure!(asking.world.count(noted).await? >= 1);
    }
    // A whole batch is not about the numbers: nothing is noted against them, and nothing was paid.
    let asking = Asking::about(12).await?;
    asking.telnyx.fail_next(&[403; 12]);
    let (job, spent) = asking.attempt(asking.ask(20).await?).await?;
    ensure!(job.state == jobs::State::Failed && spent == 0, "{job:?}, {spent} spent");
    ensure!(job.error.as_deref().is_some_and(|error| error.contains("403")), "{job:?}");
    ensure!(asking.world.count("select count(*) from phone_lookups").await? == 0);
    Ok(())
}

#[tokio::test]
async fn nobody_is_asked_about_who_is_suppressed() -> Result<()> {
    let asking = Asking::about(12).await?;
    // Suppressed, and not marked yet: an import has just brought the contact in.
    asking
        .world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select phone_e164, 'opt_out', now() - interval '1 day', 'sms' from contacts order by id limit 5",
        )
        .await?;
    let (job, spent) = asking.attempt(asking.ask(20).await?).await?;
    ensure!(job.state == jobs::State::Completed && spent == 7, "{job:?}, {spent} spent");
    let asked = "select count(*) from phone_lookups l join suppressions s using (phone_e164)";
    ensure!(asking.world.count(asked).await? == 0, "suppressed people were asked about");
    let total = job.checkpoint.as_ref().and_then(|place| place.get("total")).and_then(Value::as_i64);
    ensure!(total == Some(7), "{job:?}");
    Ok(())
}
