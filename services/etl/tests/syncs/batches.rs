//! What commits together, and what is done at the same time.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use etl::{
    bsale::{redrive, tables},
    domain::{
        run::{Mode, RunParams},
        table::{Cell as _, Row},
    },
    target::{self, Sql},
};
use jobs::State;
use sea_orm::{DbBackend, TransactionTrait as _};
use simulators::bsale::{Fault, Money, Shop, Size};
use stack::wait;
use tokio_util::sync::CancellationToken;

use crate::world::{Kind, World};

async fn live(world: &World, table: &str) -> Result<usize> {
    Ok(usize::try_from(target::count_live(&world.ours().target.db, table).await?)?)
}

async fn pages_share_a_transaction(label: &str, kind: Kind) -> Result<()> {
    let size = Size { days: 4, documents_a_day: 130, ..Size::default() };
    let world = World::new(label, kind, Shop::new(9, size)).await?;
    world.bsale.take_log();
    world.sync("bsale.documentos", Mode::Full).await?;
    let log = world.bsale.take_log();
    let pages = log.iter().filter(|line| line.starts_with("/v1/documents.json")).count();
    let lane = target::lane(&world.ours().target.db, "bsale.documentos").await?.context("a lane")?;
    let state = lane.state.context("a state")?;
    let commits = state["place"]["step"].as_u64().context("its commits")?;
    ensure!((commits as usize) < pages, "{commits} commits for {pages} pages");
    let shop = world.bsale.shop(|shop| shop.clone());
    ensure!(live(&world, "documentos_venta").await? == shop.documents.len());
    let lines: usize = shop.documents.values().map(|document| document.details.len()).sum();
    ensure!(live(&world, "detalles_documento").await? == lines);
    ensure!(state["counters"]["leidos"] == shop.documents.len(), "{state}");
    Ok(())
}

#[tokio::test]
async fn pages_share_a_transaction_in_mariadb() -> Result<()> {
    pages_share_a_transaction("etlbatchmy", Kind::MariaDb).await
}

#[tokio::test]
async fn pages_share_a_transaction_in_postgresql() -> Result<()> {
    pages_share_a_transaction("etlbatchpg", Kind::Postgres).await
}

/// Active and inactive ones are lists of their own.
#[tokio::test]
async fn the_lists_of_a_scan_share_a_transaction() -> Result<()> {
    let world = World::new("etllists", Kind::Postgres, Shop::new(9, Size::default())).await?;
    let mut fewest = u64::MAX;
    // What is gathered for a second is committed anyhow: it need not be the first time.
    for _ in 0..5 {
        world.sync("bsale.clientes", Mode::Full).await?;
        let lane = target::lane(&world.ours().target.db, "bsale.clientes").await?.context("a lane")?;
        let state = lane.state.context("a state")?;
        fewest = fewest.min(state["place"]["step"].as_u64().context("its commits")?);
    }
    // What was met, and the end.
    ensure!(fewest == 2, "{fewest} commits");
    ensure!(live(&world, "clientes").await? == world.bsale.shop(|shop| shop.clients.len()));
    Ok(())
}

/// Somebody holds the lane's row, so that the first commit waits for as long as that.
async fn reads_on(label: &str, kind: Kind) -> Result<()> {
    let size = Size { clients: 4_500, days: 0, ..Size::default() };
    let world = World::new(label, kind, Shop::new(9, size)).await?;
    let id = world.ask(&RunParams::new("bsale.clientes", Mode::Full)).await?.job().id;
    // Nothing is gathered before the row is held.
    world.bsale.fail_next([Fault::Slow(Duration::from_secs(2))]);
    let (runner, runs) = (world.runner.clone(), world.runs.clone());
    let running = tokio::spawn(async move { runner.run(id, &CancellationToken::new(), &*runs).await });
    let asked = |number: u64| {
        let bsale = &world.bsale;
        wait::until("requests", Duration::from_secs(60), move || {
            std::future::ready(bsale.requests() >= number)
        })
    };
    asked(1).await?;
    let transaction = world.ours().target.db.begin().await?;
    let hold = Sql::new("SELECT epoca FROM lote_streams WHERE stream = 'bsale.clientes' FOR UPDATE");
    hold.one(&transaction).await?.context("a lane")?;
    // A full batch waits, and another one is full; 50 clients are 100 rows, of the table and of what the scan has met.
    asked(65).await?;
    let lane = target::lane(&world.ours().target.db, "bsale.clientes").await?.context("a lane")?;
    ensure!(lane.state.is_none(), "it was committed: {lane:?}");
    transaction.rollback().await?;
    running.await?.map_err(|error| anyhow!("{error:?}"))?;
    let job = world.job(id).await?;
    ensure!(job.state == State::Completed, "{job:?}");
    ensure!(live(&world, "clientes").await? == world.bsale.shop(|shop| shop.clients.len()));
    Ok(())
}

#[tokio::test]
async fn a_commit_that_waits_holds_up_no_reading_in_mariadb() -> Result<()> {
    reads_on("etlreadsmy", Kind::MariaDb).await
}

#[tokio::test]
async fn a_commit_that_waits_holds_up_no_reading_in_postgresql() -> Result<()> {
    reads_on("etlreadspg", Kind::Postgres).await
}

#[tokio::test]
async fn documents_with_more_lines_than_come_along_are_asked_for_at_the_same_time() -> Result<()> {
    let size = Size { days: 1, documents_a_day: 120, ..Size::default() };
    let long = |shop: &Shop| shop.documents.values().filter(|document| document.details.len() > 25).count();
    // Three on one of the three pages at least.
    let shop = (9..).map(|seed| Shop::new(seed, size)).find(|shop| long(shop) >= 7);
    let shop = shop.context("a shop with long documents")?;
    let world = World::new("etlatonce", Kind::Postgres, shop).await?;
    // Clients that are not there yet would be asked for at the same time, too.
    world.sync("bsale.clientes", Mode::Full).await?;
    world.bsale.fail_next([Fault::Slow(Duration::from_millis(60)); 400]);
    world.sync("bsale.documentos", Mode::Full).await?;
    let most = world.bsale.most_at_once();
    // Eight, and a page ahead; one after the other and a page ahead would be two.
    ensure!((3..=9).contains(&most), "{most} at once");
    Ok(())
}

#[tokio::test]
async fn a_page_does_not_wait_for_the_lines_of_the_page_before() -> Result<()> {
    let size = Size { days: 1, documents_a_day: 101, ..Size::default() };
    let long = |shop: &Shop, page: usize| -> Vec<usize> {
        let documents = shop.documents.values().rev().skip(50 * page).take(50);
        documents.map(|document| document.details.len()).filter(|lines| *lines > 25).collect()
    };
    // Lines that take two requests on the first page, and two lists of lines on the second.
    let fits = |shop: &Shop| {
        let first = long(shop, 0);
        first.len() <= 2 && first.iter().any(|lines| *lines > 50) && long(shop, 1).len() == 2
    };
    let shop = (9..).map(|seed| Shop::new(seed, size)).find(fits).context("a shop with such pages")?;
    let world = World::new("etlpages", Kind::Postgres, shop).await?;
    world.sync("bsale.clientes", Mode::Full).await?;
    world.bsale.fail_next([Fault::Slow(Duration::from_millis(400)); 400]);
    let day = Some(world.bsale.shop(|shop| shop.today));
    let params = RunParams { from: day, to: day, ..RunParams::new("bsale.documentos", Mode::Backfill) };
    let job = world.run(&params).await?;
    ensure!(job.state == State::Completed, "{job:?}");
    // The second list of the first page's lines, both of the second page's, and the third page.
    let most = world.bsale.most_at_once();
    ensure!(most >= 4, "{most} at once");
    Ok(())
}

#[tokio::test]
async fn the_next_day_is_read_while_a_day_is_read() -> Result<()> {
    let size = Size { days: 6, documents_a_day: 3, ..Size::default() };
    // A request a list, and no more: what is under way at the same time is of two days.
    let short = |shop: &Shop| shop.documents.values().all(|document| document.details.len() <= 25);
    let shop = (9..).map(|seed| Shop::new(seed, size)).find(short).context("a shop of short documents")?;
    let world = World::new("etlnextday", Kind::Postgres, shop).await?;
    world.sync("bsale.clientes", Mode::Full).await?;
    world.bsale.fail_next([Fault::Slow(Duration::from_millis(100)); 100]);
    let from = Some(world.bsale.shop(|shop| shop.today) - chrono::Days::new(10));
    let params = RunParams { from, ..RunParams::new("bsale.documentos", Mode::Backfill) };
    let job = world.run(&params).await?;
    ensure!(job.state == State::Completed, "{job:?}");
    let most = world.bsale.most_at_once();
    ensure!(most == 2, "{most} at once");
    ensure!(live(&world, "documentos_venta").await? == world.bsale.shop(|shop| shop.documents.len()));
    Ok(())
}

/// One of the documents whose lists of lines were cut has a line that can't be kept, on the second of three pages.
async fn bad_line(label: &str, kind: Kind) -> Result<()> {
    let size = Size { days: 1, documents_a_day: 120, ..Size::default() };
    let world = World::new(label, kind, Shop::new(9, size)).await?;
    let (id, documents, lines) = world.bsale.shop(|shop| {
        let second_page = shop.documents.values_mut().rev().skip(50).take(50);
        let bad = second_page.max_by_key(|document| document.details.len()).expect("a document");
        bad.details.first_mut().expect("a line").net_unit = Money(2_000_000_000_000_000_000);
        let id = bad.id;
        let others = shop.documents.values().filter(|document| document.id != id);
        let lines = others.clone().map(|document| document.details.len()).sum::<usize>();
        (id, others.count(), lines)
    });
    let day = Some(world.bsale.shop(|shop| shop.today));
    let params = RunParams { from: day, to: day, ..RunParams::new("bsale.documentos", Mode::Backfill) };
    let job = world.run(&params).await?;
    ensure!(job.state == State::Completed, "{job:?}");
    let kept = target::quarantined(&world.ours().target.db, Some("bsale.documentos"), 10).await?;
    let [kept] = kept.as_slice() else { anyhow::bail!("{kept:?}") };
    ensure!(kept.record.clave == id.to_string(), "{kept:?}");
    ensure!(kept.record.regla.contains("netUnitValue"), "{kept:?}");
    ensure!(live(&world, "documentos_venta").await? == documents);
    ensure!(live(&world, "detalles_documento").await? == lines);
    Ok(())
}

#[tokio::test]
async fn a_document_with_a_bad_line_leaves_the_others_of_its_commit_whole() -> Result<()> {
    bad_line("etlbadlinemy", Kind::MariaDb).await?;
    bad_line("etlbadlinepg", Kind::Postgres).await
}

/// Somebody has deleted a document and left its lines, which are taken for new where their document is.
async fn parent_alone(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(9, Size { days: 1, ..Size::default() })).await?;
    let day = Some(world.bsale.shop(|shop| shop.today));
    let params = RunParams { from: day, to: day, ..RunParams::new("bsale.documentos", Mode::Backfill) };
    let first = world.run(&params).await?;
    ensure!(first.state == State::Completed, "{first:?}");
    let (documents, lines) =
        (live(&world, "documentos_venta").await?, live(&world, "detalles_documento").await?);
    let some = world.bsale.shop(|shop| {
        shop.documents.values().find(|document| !document.details.is_empty()).map(|document| document.id)
    });
    let delete =
        Sql::new("DELETE FROM documentos_venta WHERE id_bsale = ?").bind(some.context("a document")?);
    ensure!(delete.run(&world.ours().target.db).await? == 1);
    let second = world.run(&params).await?;
    ensure!(second.state == State::Completed, "{second:?}");
    let counters = &second.result.as_ref().context("a result")?["contadores"];
    ensure!(counters["insertados"] == 1, "{counters}");
    ensure!(live(&world, "documentos_venta").await? == documents);
    ensure!(live(&world, "detalles_documento").await? == lines);
    Ok(())
}

#[tokio::test]
async fn a_document_that_somebody_has_deleted_comes_back_to_its_lines_in_mariadb() -> Result<()> {
    parent_alone("etlalonemy", Kind::MariaDb).await
}

#[tokio::test]
async fn a_document_that_somebody_has_deleted_comes_back_to_its_lines_in_postgresql() -> Result<()> {
    parent_alone("etlalonepg", Kind::Postgres).await
}

#[tokio::test]
async fn what_was_read_before_a_failure_is_kept() -> Result<()> {
    let world =
        World::new("etlkept", Kind::Postgres, Shop::new(9, Size { clients: 300, ..Size::default() })).await?;
    let faults = [Fault::Slow(Duration::from_millis(1)); 3].into_iter().chain([Fault::Status(500); 5]);
    world.bsale.fail_next(faults);
    let job = world.run(&RunParams::new("bsale.clientes", Mode::Full)).await?;
    ensure!(job.state == State::Pending && job.error.is_some(), "{job:?}");
    ensure!(live(&world, "clientes").await? == 150);
    let lane = target::lane(&world.ours().target.db, "bsale.clientes").await?.context("a lane")?;
    let state = lane.state.context("a state")?;
    ensure!(state["place"]["offset"] == 150 && state["counters"]["leidos"] == 150, "{state}");
    // And its row says so.
    ensure!(job.progress.processed == 150, "{job:?}");
    Ok(())
}

/// A document is read twice, with a line less the second time, and both readings commit together.
async fn a_line_goes(label: &str, kind: Kind) -> Result<()> {
    let size = Size { days: 1, documents_a_day: 120, ..Size::default() };
    let world = World::new(label, kind, Shop::new(9, size)).await?;
    world.bsale.change_at_list(2, |shop| {
        let newest = shop.documents.values_mut().rev().take(40);
        let mut some = newest.filter(|document| (2..20).contains(&document.details.len()));
        some.next().expect("a document of some lines").details.pop();
        // The day is another one, and read again.
        shop.sell(shop.today);
    });
    world.sync("bsale.documentos", Mode::Full).await?;
    let lines: usize =
        world.bsale.shop(|shop| shop.documents.values().map(|document| document.details.len()).sum());
    let there = live(&world, "detalles_documento").await?;
    ensure!(there == lines, "{there} of {lines}");
    Ok(())
}

#[tokio::test]
async fn a_line_that_goes_while_its_day_is_read_is_gone_in_mariadb() -> Result<()> {
    a_line_goes("etllinemy", Kind::MariaDb).await
}

#[tokio::test]
async fn a_line_that_goes_while_its_day_is_read_is_gone_in_postgresql() -> Result<()> {
    a_line_goes("etllinepg", Kind::Postgres).await
}

#[tokio::test]
async fn a_client_that_bsale_does_not_have_is_asked_for_once() -> Result<()> {
    let mut shop = Shop::new(9, Size { days: 3, documents_a_day: 120, clients: 5, ..Size::default() });
    let gone = *shop.clients.keys().next().context("a client")?;
    shop.clients.remove(&gone);
    let world = World::new("etlnoclient", Kind::MariaDb, shop).await?;
    world.bsale.take_log();
    world.sync("bsale.documentos", Mode::Full).await?;
    let path = format!("/v1/clients/{gone}.json");
    let asked = world.bsale.take_log().iter().filter(|line| line.starts_with(&path)).count();
    ensure!(asked == 1, "{asked} times");
    Ok(())
}

/// Texts that mean something in arrays, in JSON or in SQL.
async fn strange_texts(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(9, Size { days: 1, ..Size::default() })).await?;
    let names = [
        Some(""),
        Some("NULL"),
        None,
        Some(r#"{"a", 'b'}"#),
        Some(r"C:\new\\"),
        Some("?$1,;--"),
        Some(" ñ\n\t\u{1f600} "),
    ];
    let extra = r#"{"nota": "\"x\" \\ {1,2} \u00f1"}"#;
    let row = |id: i64, name: Option<&str>, version: i64| {
        let name = name.map(str::to_owned);
        Row::new(
            vec![id.cell(), name.cell(), false.cell(), (-1_i64).cell(), extra.to_owned().cell()],
            version,
        )
    };
    let transaction = world.ours().target.db.begin().await?;
    // Inserted, and then written over what was there, the other way round.
    for (version, names) in [(1, names.to_vec()), (2, names.iter().rev().copied().collect::<Vec<_>>())] {
        let rows: Vec<Row> = (1..).zip(&names).map(|(id, name)| row(id, *name, version)).collect();
        let merged =
            target::merge(&transaction, &tables::PRODUCT_TYPES, &rows, "run", chrono::Utc::now()).await?;
        let written = rows.len() as u64;
        // The middle one stays as it was.
        let expected = if version == 1 { (written, 0, 0) } else { (0, written - 1, 1) };
        ensure!((merged.inserted, merged.updated, merged.same) == expected, "{merged:?}");
        let there = Sql::new("SELECT nombre FROM tipos_producto ORDER BY id_bsale");
        for (there, name) in there.all(&transaction).await?.iter().zip(names) {
            let found: Option<String> = there.try_get("", "nombre")?;
            ensure!(found.as_deref() == name, "{found:?} for {name:?}");
        }
    }
    transaction.commit().await?;
    ensure!(live(&world, "tipos_producto").await? == names.len());
    Ok(())
}

#[tokio::test]
async fn strange_texts_are_kept_as_they_are_in_mariadb() -> Result<()> {
    strange_texts("etltextsmy", Kind::MariaDb).await
}

#[tokio::test]
async fn strange_texts_are_kept_as_they_are_in_postgresql() -> Result<()> {
    strange_texts("etltextspg", Kind::Postgres).await
}

/// Merges of any number of rows, on one connection, and the statements that it has prepared for them.
async fn few_statements(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(9, Size { days: 1, ..Size::default() })).await?;
    let row = |id: i64, name: &str, version: i64| {
        let values =
            vec![id.cell(), name.to_owned().cell(), true.cell(), 0_i64.cell(), "{}".to_owned().cell()];
        Row::new(values, version)
    };
    let transaction = world.ours().target.db.begin().await?;
    let (mut last, mut all) = (0, 0);
    for number in 1..=60 {
        // As many new rows, and as many that have changed.
        for (name, version) in [("a", 1), ("b", 2)] {
            let rows: Vec<Row> = (0..number).map(|index| row(last + index, name, version)).collect();
            let now = chrono::Utc::now();
            let merged = target::merge(&transaction, &tables::PRODUCT_TYPES, &rows, "run", now).await?;
            let expected = if version == 1 { (number, 0) } else { (0, number) };
            ensure!((merged.inserted as i64, merged.updated as i64) == expected, "{number}: {merged:?}");
        }
        last += number;
        all += number;
    }
    let prepared: i64 = match world.ours().target.backend() {
        DbBackend::Postgres => {
            let row = Sql::new("SELECT count(*) AS n FROM pg_prepared_statements").one(&transaction).await?;
            row.context("a count")?.try_get("", "n")?
        }
        _ => {
            let row = Sql::new("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'").one(&transaction).await?;
            row.context("a status")?.try_get::<String>("", "Value")?.parse()?
        }
    };
    transaction.commit().await?;
    ensure!(live(&world, "tipos_producto").await? == usize::try_from(all)?);
    ensure!(prepared < 30, "{prepared} statements for 60 numbers of rows");
    Ok(())
}

#[tokio::test]
async fn rows_of_any_number_take_few_statements_in_mariadb() -> Result<()> {
    few_statements("etlfewmy", Kind::MariaDb).await
}

#[tokio::test]
async fn rows_of_any_number_take_few_statements_in_postgresql() -> Result<()> {
    few_statements("etlfewpg", Kind::Postgres).await
}

#[tokio::test]
async fn a_record_that_is_named_is_read_again_however_many_came_after_it() -> Result<()> {
    let world = World::new("etlnamed", Kind::MariaDb, Shop::new(9, Size::default())).await?;
    world.bsale.shop(|shop| {
        for client in shop.clients.values_mut().take(5) {
            client.first_name = Some("x".repeat(300));
        }
    });
    world.sync("bsale.clientes", Mode::Full).await?;
    let (ours, db) = (world.ours(), &world.ours().target.db);
    let kept = target::quarantined(db, Some("bsale.clientes"), 10).await?;
    let last = kept.last().context("a record")?.id.clone();
    // No more are read at once than two.
    let again = redrive::redrive(ours, "bsale.clientes", &[last], 2).await?;
    ensure!((again.leidos, again.en_cuarentena) == (1, 1), "{again:?}");
    Ok(())
}
