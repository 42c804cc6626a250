//! A source that fails, and what is not taken for an empty page.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etl::{
    bsale::{Bsale, Priority, redrive, webhook},
    domain::run::{Mode, RunParams},
    target::{self, Sql},
};
use jobs::State;
use serde_json::json;
use simulators::bsale::{Fault, Shop, Size, truth};

use crate::world::{Kind, World};

#[tokio::test]
async fn failures_of_the_moment_lose_nothing() -> Result<()> {
    let world = World::new("etlflaky", Kind::MariaDb, Shop::new(11, Size::default())).await?;
    world.bsale.fail_one_in(5);
    world.sync_all(Mode::Full).await?;
    truth::tables(&world.ours().target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn a_page_that_stays_broken_is_no_empty_page() -> Result<()> {
    let world = World::new("etlbroken", Kind::Postgres, Shop::new(11, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    for fault in [Fault::Empty, Fault::Broken, Fault::Status(500)] {
        // More often than one attempt asks.
        world.bsale.fail_next([fault; 5]);
        let job = world.run(&RunParams::new("bsale.clientes", Mode::Daily)).await?;
        ensure!(job.state == State::Pending && job.error.is_some(), "{fault:?}: {job:?}");
        // Nothing was taken for gone.
        truth::tables(&world.ours().target.db, &world.bsale.shop(|shop| shop.clone())).await?;
        sea_orm::sqlx::query("update jobs set next_run_at = now()")
            .execute(&world.resources.database.pool)
            .await?;
        world.bsale.fail_next([]);
        let again = world.attempt(job.id).await;
        let again = match again {
            Ok(job) if job.state == State::Pending => {
                sea_orm::sqlx::query("update jobs set next_run_at = now()")
                    .execute(&world.resources.database.pool)
                    .await?;
                world.attempt(job.id).await?
            }
            other => other?,
        };
        ensure!(again.state == State::Completed, "{fault:?}: {:?}", again.error);
    }
    Ok(())
}

#[tokio::test]
async fn what_no_retry_mends_fails_by_name() -> Result<()> {
    let world = World::new("etlrefused", Kind::MariaDb, Shop::new(11, Size::default())).await?;
    for (status, told) in [(402, "not paid"), (401, "401"), (403, "403")] {
        world.bsale.fail_next([Fault::Status(status)]);
        let job = world.run(&RunParams::new("bsale.clientes", Mode::Full)).await?;
        let error = job.error.context("an error")?;
        ensure!(job.state == State::Failed && error.contains(told), "{status}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sweep_that_would_empty_a_table_stops_and_asks() -> Result<()> {
    let world = World::new("etlfuse", Kind::Postgres, Shop::new(11, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let target = &world.ours().target;
    let before = target::count_live(&target.db, "stock").await?;
    world.bsale.shop(|shop| {
        let kept: Vec<_> = shop.stock.keys().copied().take(3).collect();
        shop.stock.retain(|key, _| kept.contains(key));
    });
    let job = world.run(&RunParams::new("bsale.stock", Mode::Daily)).await?;
    let error = job.error.context("an error")?;
    ensure!(job.state == State::Failed && error.contains("more than 5 %"), "{error}");
    ensure!(target::count_live(&target.db, "stock").await? == before, "rows were marked");
    // Somebody has looked, and says so.
    let force = RunParams { force: true, ..RunParams::new("bsale.stock", Mode::Daily) };
    let job = world.run(&force).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    ensure!(target::count_live(&target.db, "stock").await? == 3);
    truth::tables(&target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn a_record_that_cannot_be_kept_is_in_quarantine_and_the_others_are_there() -> Result<()> {
    let world = World::new("etlquarantine", Kind::MariaDb, Shop::new(11, Size::default())).await?;
    let id = world.bsale.shop(|shop| {
        let client = shop.clients.values_mut().next().expect("a client");
        client.first_name = Some("x".repeat(300));
        client.id
    });
    let job = world.sync("bsale.clientes", Mode::Full).await?;
    let result = job.result.context("a result")?;
    ensure!(result["contadores"]["en_cuarentena"] == 1, "{result}");
    let db = &world.ours().target.db;
    let kept = target::quarantined(db, Some("bsale.clientes"), 10).await?;
    let [kept] = kept.as_slice() else { anyhow::bail!("{kept:?}") };
    ensure!(
        kept.record.clave == id.to_string() && kept.record.regla.contains("client.firstName"),
        "{kept:?}"
    );
    ensure!(
        kept.record.registro.contains(&"x".repeat(300)) && kept.corrida == job.id.to_string(),
        "{kept:?}"
    );
    let count = target::count_live(db, "clientes").await?;
    ensure!(count as usize == world.bsale.shop(|shop| shop.clients.len()) - 1, "{count}");
    // Again: it is one row still.
    world.sync("bsale.clientes", Mode::Daily).await?;
    ensure!(target::quarantined(db, None, 10).await?.len() == 1);
    let rows = Sql::new("SELECT clave FROM lote_vistos").all(db).await?;
    ensure!(rows.is_empty(), "what was met is forgotten at the end");
    Ok(())
}

/// None is refused, and no two wait for each other: so much of the quota is used.
async fn limits(label: &str, more: &[(&str, &str)], used: f64) -> Result<()> {
    let size = Size { products: 0, clients: 1, days: 0, documents_a_day: 0 };
    let settings: Vec<_> = [("BSALE_REQUESTS_PER_SECOND", "8")].iter().chain(more).copied().collect();
    let world = World::with(label, Kind::Postgres, Shop::new(1, size), &settings).await?;
    world.bsale.limit(true);
    let client = &world.ours().client;
    // 40 at 8 a second take 39/8 s. While the machine stands still nobody asks: it need not be the first time.
    let most = Duration::from_secs_f64(39.0 / 8.0 / used + 0.3);
    let mut fastest = Duration::MAX;
    for _ in 0..4 {
        let ask = async |_: usize| {
            for _ in 0..10 {
                client.page("clients.json", &[], 0, Priority::Daily).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let begin = Instant::now();
        futures::future::try_join_all((0..4).map(ask)).await?;
        fastest = fastest.min(begin.elapsed());
        ensure!(world.bsale.refused() == 0, "{} were refused", world.bsale.refused());
        if fastest < most {
            return Ok(());
        }
    }
    anyhow::bail!("{fastest:?}, and at most {most:?} were right")
}

#[tokio::test]
async fn limits_are_kept_over_all_workers_and_used_well() -> Result<()> {
    limits("etllimits", &[], 0.95).await
}

/// PostgreSQL keeps the pace then, with a transaction for each turn.
#[tokio::test]
async fn limits_are_kept_and_used_well_while_redis_is_down() -> Result<()> {
    limits("etlnoredis", &[("REDIS_URL", "redis://127.0.0.1:1")], 0.7).await
}

/// Where a source allows many, workers take turns some at a time: all of them together still keep what it allows.
#[tokio::test]
async fn workers_that_take_turns_together_keep_the_quota() -> Result<()> {
    const A_SECOND: u32 = 400;
    let size = Size { products: 0, clients: 1, days: 0, documents_a_day: 0 };
    let more = [("BSALE_REQUESTS_PER_SECOND", "400")];
    let world = World::with("etltogether", Kind::Postgres, Shop::new(1, size), &more).await?;
    let (ours, resources) = (world.ours(), &world.resources);
    let other = Bsale::new(ours.settings.clone(), &resources.database, &resources.redis)?;
    let ask = async |number: usize| {
        let client = if number.is_multiple_of(2) { &ours.client } else { &other.client };
        for _ in 0..60 {
            client.page("clients.json", &[], 0, Priority::Daily).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let begin = Instant::now();
    futures::future::try_join_all((0..8).map(ask)).await?;
    let (took, least) = (begin.elapsed(), Duration::from_secs(1) * (480 - 2 * 16) / A_SECOND);
    ensure!(took >= least, "480 requests took {took:?}, at {A_SECOND} a second they take {least:?} at least");
    Ok(())
}

#[tokio::test]
async fn a_webhook_removes_the_lines_that_a_document_has_no_more() -> Result<()> {
    let world = World::new("etlhooklines", Kind::MariaDb, Shop::new(11, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let id = world.bsale.shop(|shop| {
        let document = shop.documents.values_mut().find(|document| document.details.len() > 1);
        let document = document.expect("a document of several lines");
        document.details.pop();
        document.id
    });
    let written = webhook::refetch(world.ours(), &webhook::Resource::Document(id), "a webhook").await;
    ensure!(written.map_err(|error| anyhow::anyhow!("{error:?}"))? >= 1, "a line was marked");
    truth::tables(&world.ours().target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn a_record_in_quarantine_is_read_again_without_asking_bsale() -> Result<()> {
    let world = World::new("etlredrive", Kind::Postgres, Shop::new(11, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let (id, name) = world.bsale.shop(|shop| {
        let client = shop.clients.values_mut().next().expect("a client");
        let name = client.first_name.replace("x".repeat(300));
        (client.id, name)
    });
    world.sync("bsale.clientes", Mode::Full).await?;
    let (ours, requests) = (world.ours(), world.bsale.requests());
    let again = redrive::redrive(ours, "bsale.clientes", &[], 1_000).await?;
    ensure!((again.leidos, again.recuperados, again.en_cuarentena) == (1, 0, 1), "{again:?}");
    // Somebody has mended the reading: here the record itself, which is the same to what reads it.
    let mended = Sql::new("UPDATE lote_cuarentena SET registro = replace(registro, ?, 'Recuperada')");
    mended.bind("x".repeat(300)).run(&ours.target.db).await?;
    let again = redrive::redrive(ours, "bsale.clientes", &[], 1_000).await?;
    ensure!((again.leidos, again.recuperados, again.en_cuarentena) == (1, 1, 0), "{again:?}");
    ensure!(target::quarantined(&ours.target.db, None, 10).await?.is_empty());
    ensure!(world.bsale.requests() == requests, "Bsale was asked");
    world.bsale.shop(|shop| {
        let client = shop.clients.get_mut(&id).expect("the client");
        client.first_name = name.map(|_| "Recuperada".to_owned());
    });
    truth::tables(&ours.target.db, &world.bsale.shop(|shop| shop.clone())).await
}

/// A document was bad an hour ago, and had a line that it has no more: by now it is read, and right.
async fn kept_lines(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(11, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let (ours, shop) = (world.ours(), world.bsale.shop(|shop| shop.clone()));
    let db = &ours.target.db;
    let id = *shop.documents.keys().next().context("a document")?;
    let amounts = json!({ "netAmount": 100, "taxAmount": 19, "totalAmount": 119 });
    let (mut line, mut document) = (amounts.clone(), amounts);
    line["id"] = json!(999_999_999);
    line["quantity"] = json!(1);
    line["netUnitValue"] = json!(100);
    document["id"] = json!(id);
    document["document_type"] = json!({ "id": "1" });
    document["emissionDate"] = json!(1_700_000_000);
    document["details"] = json!({ "count": 1, "items": [line] });
    let kept = Sql::new(
        "INSERT INTO lote_cuarentena (id, stream, clave, regla, registro, corrida, visto_en)
         VALUES ('1', 'bsale.documentos', ?, 'a rule', ?, 'a run', ?)",
    );
    let seen = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    kept.bind(id.to_string()).bind(document.to_string()).bind(seen).run(db).await?;
    let again = redrive::redrive(ours, "bsale.documentos", &[], 10).await?;
    ensure!((again.leidos, again.recuperados) == (1, 1), "{again:?}");
    ensure!(target::quarantined(db, None, 10).await?.is_empty());
    truth::tables(db, &shop).await
}

#[tokio::test]
async fn an_older_answer_adds_no_lines_to_a_document_in_mariadb() -> Result<()> {
    kept_lines("etlkeptmy", Kind::MariaDb).await
}

#[tokio::test]
async fn an_older_answer_adds_no_lines_to_a_document_in_postgresql() -> Result<()> {
    kept_lines("etlkeptpg", Kind::Postgres).await
}

#[tokio::test]
async fn a_bad_record_is_as_of_when_it_was_asked_for() -> Result<()> {
    let world = World::new("etlkeptwhen", Kind::MariaDb, Shop::new(11, Size::default())).await?;
    world.bsale.shop(|shop| {
        let newest = shop.clients.values_mut().rev().find(|client| client.state == 0);
        newest.expect("a client").first_name = Some("x".repeat(300));
    });
    // What a webhook fetches meanwhile is newer, though it may be committed before.
    world.bsale.fail_next([Fault::Slow(Duration::from_millis(1_500))]);
    world.sync("bsale.clientes", Mode::Full).await?;
    let db = &world.ours().target.db;
    let lane = target::lane(db, "bsale.clientes").await?.context("a lane")?;
    let kept = target::quarantined(db, None, 10).await?.pop().context("a record")?;
    let before = lane.updated_at - kept.visto_en;
    ensure!(before > chrono::TimeDelta::milliseconds(1_400), "{before}");
    Ok(())
}

#[tokio::test]
async fn a_bad_record_that_no_list_shows_fails_no_run() -> Result<()> {
    let size = Size { products: 0, clients: 1, days: 0, documents_a_day: 0 };
    let world = World::new("etlunlisted", Kind::Postgres, Shop::new(1, size)).await?;
    world.sync("bsale.clientes", Mode::Full).await?;
    world.bsale.shop(|shop| {
        let client = shop.clients.values_mut().next().expect("a client");
        // Neither active nor inactive: it is there, and has to be asked for.
        client.state = 5;
        client.first_name = Some("x".repeat(300));
    });
    let job = world.sync("bsale.clientes", Mode::Full).await?;
    ensure!((job.progress.processed, job.progress.failed) == (0, 1), "{job:?}");
    ensure!(target::count_live(&world.ours().target.db, "clientes").await? == 1);
    Ok(())
}

async fn outdated(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(11, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let rename = |name: Option<String>| {
        world.bsale.shop(|shop| {
            let client = shop.clients.values_mut().next().expect("a client");
            std::mem::replace(&mut client.first_name, name)
        })
    };
    let name = rename(Some("x".repeat(300)));
    world.sync("bsale.clientes", Mode::Full).await?;
    rename(name);
    // The row is as it was, and keeps the version that it had before.
    world.sync("bsale.clientes", Mode::Full).await?;
    let ours = world.ours();
    let mended = Sql::new("UPDATE lote_cuarentena SET registro = replace(registro, ?, 'Recuperada')");
    ensure!(mended.bind("x".repeat(300)).run(&ours.target.db).await? == 1, "nothing in quarantine");
    let again = redrive::redrive(ours, "bsale.clientes", &[], 1_000).await?;
    ensure!((again.leidos, again.recuperados, again.en_cuarentena) == (1, 1, 0), "{again:?}");
    ensure!(target::quarantined(&ours.target.db, None, 10).await?.is_empty());
    truth::tables(&ours.target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn a_record_in_quarantine_that_is_not_bsales_any_more_writes_nothing_in_mariadb() -> Result<()> {
    outdated("etloutdatedmy", Kind::MariaDb).await
}

#[tokio::test]
async fn a_record_in_quarantine_that_is_not_bsales_any_more_writes_nothing_in_postgresql() -> Result<()> {
    outdated("etloutdatedpg", Kind::Postgres).await
}
