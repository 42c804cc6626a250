//! What a sync must find, and what it must not take for gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::Days;
use deadpool_redis::redis::cmd;
use etl::{
    bsale::{
        Priority, tables,
        webhook::{self, Resource},
    },
    domain::{
        run::{Mode, RunParams},
        table::{Cell as _, Row},
    },
    target::{self, Gone, Sql},
};
use jobs::{Job, State};
use sea_orm::{TransactionTrait as _, sqlx};
use simulators::bsale::{DocumentType, Fault, Money, Shop, Size, truth};
use stack::{Namespace, wait};

use crate::world::{Kind, World};

impl World {
    async fn is_the_shop(&self) -> Result<()> {
        truth::tables(&self.ours().target.db, &self.bsale.shop(|shop| shop.clone())).await
    }

    /// Another attempt at a run that waits for it.
    async fn again(&self, job: &Job) -> Result<Job> {
        let due = "update jobs set next_run_at = now() where id = $1";
        sqlx::query(due).bind(job.id).execute(&self.resources.database.pool).await?;
        self.attempt(job.id).await
    }
}

async fn dispatches(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(7, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let db = &world.ours().target.db;
    let shop = world.bsale.shop(|shop| shop.clone());
    ensure!(shop.documents.values().any(|document| document.document_type == 7), "there are dispatches");
    truth::views(db, &shop).await?;
    // A type of today: its documents are read before it is.
    world.bsale.shop(|shop| {
        shop.document_types.insert(12, DocumentType::new("BOLETA NUEVA", 0));
        let id = shop.sell(shop.today);
        shop.documents.get_mut(&id).expect("a document").document_type = 12;
    });
    world.sync("bsale.documentos", Mode::Daily).await?;
    truth::views(db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn dispatches_are_no_sales_and_documents_of_a_new_type_are_in_mariadb() -> Result<()> {
    dispatches("etldispatchmy", Kind::MariaDb).await
}

#[tokio::test]
async fn dispatches_are_no_sales_and_documents_of_a_new_type_are_in_postgresql() -> Result<()> {
    dispatches("etldispatchpg", Kind::Postgres).await
}

#[tokio::test]
async fn a_document_that_is_issued_again_under_another_date_is_found() -> Result<()> {
    use chrono::Datelike as _;
    let size = Size { days: 29, documents_a_day: 3, ..Size::default() };
    let world = World::new("etlredate", Kind::Postgres, Shop::new(5, size)).await?;
    world.sync_all(Mode::Full).await?;
    // Beyond the look-back, within one month: the month's totals are as they were.
    world.bsale.shop(|shop| {
        let today = shop.today;
        let day = (10..26)
            .map(|back| today - Days::new(back))
            .find(|day| day.succ_opt().is_some_and(|next| next.month() == day.month()));
        let day = day.expect("two days of one month");
        let document =
            shop.documents.values_mut().find(|document| document.day == day && document.total.0 > 0);
        document.expect("a document").day = day.succ_opt().expect("a day");
    });
    world.sync("bsale.documentos", Mode::Daily).await?;
    world.is_the_shop().await
}

#[tokio::test]
async fn a_day_whose_documents_are_all_annulled_is_read() -> Result<()> {
    let mut shop = Shop::new(5, Size { days: 5, ..Size::default() });
    let id = shop.sell(shop.today - Days::new(40));
    shop.annul(id);
    let world = World::new("etlannulled", Kind::MariaDb, shop).await?;
    world.sync_all(Mode::Full).await?;
    world.is_the_shop().await?;
    // And one that came back-dated and was annulled before anybody looked.
    world.bsale.shop(|shop| {
        let id = shop.sell(shop.today - Days::new(20));
        shop.annul(id);
    });
    world.sync("bsale.documentos", Mode::Daily).await?;
    world.is_the_shop().await
}

#[tokio::test]
async fn a_forced_run_reads_the_days_whose_totals_are_the_same() -> Result<()> {
    let world = World::new("etlforce", Kind::Postgres, Shop::new(5, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    world.bsale.shop(|shop| {
        let (day, client) = (shop.today - Days::new(15), *shop.clients.keys().next().expect("a client"));
        let document = shop
            .documents
            .values_mut()
            .find(|document| document.day == day && document.client.is_some_and(|known| known != client));
        document.expect("a document").client = Some(client);
    });
    world.sync("bsale.documentos", Mode::Full).await?;
    ensure!(world.is_the_shop().await.is_err(), "totals don't show it");
    let force = RunParams { force: true, ..RunParams::new("bsale.documentos", Mode::Full) };
    let job = world.run(&force).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    world.is_the_shop().await
}

async fn deleted_before(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(1, Size { days: 1, ..Size::default() })).await?;
    let (db, now) = (&world.ours().target.db, chrono::Utc::now());
    let table = &tables::PRODUCT_TYPES;
    let row = |version: i64| {
        let values = vec![
            7_i64.cell(),
            "Alimento".to_owned().cell(),
            true.cell(),
            0_i64.cell(),
            "{}".to_owned().cell(),
        ];
        Row::new(values, version)
    };
    let gone = |version: i64| Gone { table, keys: vec![vec![7_i64.into()]], version };
    let live = async || target::count_live(db, table.name).await;
    target::merge(db, table, &[row(10)], "run", now).await?;
    // An answer from before it was written says nothing of it.
    ensure!(target::delete_by_key(db, &gone(9), "run", now).await? == 0 && live().await? == 1);
    ensure!(target::delete_by_key(db, &gone(30), "run", now).await? == 1 && live().await? == 0);
    let merged = target::merge(db, table, &[row(20)], "run", now).await?;
    ensure!(merged.older == 1 && live().await? == 0, "an answer from before brought it back: {merged:?}");
    let merged = target::merge(db, table, &[row(40)], "run", now).await?;
    ensure!(merged.updated == 1 && live().await? == 1, "it is there again: {merged:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_from_before_a_deletion_brings_nothing_back() -> Result<()> {
    deleted_before("etlgonemy", Kind::MariaDb).await?;
    deleted_before("etlgonepg", Kind::Postgres).await
}

#[tokio::test]
async fn a_list_that_never_stands_still_is_begun_again_by_the_next_attempt() -> Result<()> {
    let world =
        World::new("etlrestless", Kind::Postgres, Shop::new(3, Size { clients: 180, ..Size::default() }))
            .await?;
    for list in 1..=30 {
        world.bsale.change_at_list(list, |shop| {
            let id = shop.add_client();
            shop.clients.get_mut(&id).expect("a client").state = 0;
        });
    }
    let job = world.run(&RunParams::new("bsale.clientes", Mode::Full)).await?;
    let error = job.error.clone().context("an error")?;
    ensure!(job.state == State::Pending && error.contains("changed 5 times"), "{error}");
    let job = world.again(&job).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    let there = target::count_live(&world.ours().target.db, "clientes").await?;
    ensure!(there as usize == world.bsale.shop(|shop| shop.clients.len()), "{there}");
    Ok(())
}

#[tokio::test]
async fn a_scan_that_another_worker_began_is_checked_too() -> Result<()> {
    let world =
        World::new("etlhandover", Kind::MariaDb, Shop::new(3, Size { clients: 230, ..Size::default() }))
            .await?;
    // Before the third page one goes that was read: the pages move up by one, and one of the others is on none.
    world.bsale.change_at_list(3, |shop| {
        let newest = shop.clients.values().rev().find(|client| client.state == 0).map(|client| client.id);
        shop.clients.retain(|id, _| Some(*id) != newest);
    });
    // Then the worker dies, and one comes: there are as many as in the beginning.
    let steps = [Fault::Slow(Duration::from_millis(1)); 3].into_iter().chain([Fault::Status(500); 5]);
    world.bsale.fail_next(steps);
    let job = world.run(&RunParams::new("bsale.clientes", Mode::Full)).await?;
    ensure!(job.state == State::Pending && job.error.is_some(), "{job:?}");
    world.bsale.shop(|shop| {
        let id = shop.add_client();
        shop.clients.get_mut(&id).expect("a client").state = 0;
    });
    let job = world.again(&job).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    let live = "SELECT id_bsale FROM clientes WHERE eliminado_en IS NULL";
    let live = Sql::new(live).all(&world.ours().target.db).await?;
    let live = live.iter().map(|row| Ok(row.try_get("", "id_bsale")?)).collect::<Result<Vec<i64>>>()?;
    let missing: Vec<i64> =
        world.bsale.shop(|shop| shop.clients.keys().copied().filter(|id| !live.contains(id)).collect());
    ensure!(missing.is_empty(), "{missing:?}");
    Ok(())
}

#[tokio::test]
async fn bad_records_of_stock_and_prices_keep_their_rows() -> Result<()> {
    let world = World::new("etlbadstock", Kind::Postgres, Shop::new(3, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let db = &world.ours().target.db;
    // More digits than the tables hold.
    let most = Money(1_000_000_000_000_000_000);
    let (stock, prices) = world.bsale.shop(|shop| {
        let mut stock = Vec::new();
        for record in shop.stock.values_mut().take(2) {
            record.quantity = most;
            stock.push(format!("{}|{}", record.variant, record.office));
        }
        let mut prices = Vec::new();
        for price in shop.prices.values_mut().take(2) {
            price.value = most;
            prices.push(format!("2|{}", price.variant));
        }
        (stock, prices)
    });
    for (stream, table, keys) in
        [("bsale.stock", "stock", stock), ("bsale.listas_precio", "listas_precio", prices)]
    {
        let before = target::count_live(db, table).await?;
        let job = world.sync(stream, Mode::Daily).await?;
        let counters = &job.result.as_ref().context("a result")?["contadores"];
        ensure!(counters["en_cuarentena"] == 2 && counters["eliminados"] == 0, "{stream}: {counters}");
        ensure!(target::count_live(db, table).await? == before, "{stream}");
        let kept = target::quarantined(db, Some(stream), 10).await?;
        let mut kept: Vec<_> = kept.into_iter().map(|kept| kept.record.clave).collect();
        kept.sort();
        let mut keys = keys;
        keys.sort();
        ensure!(kept == keys, "{kept:?} {keys:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_prices_webhook_fetches_that_price() -> Result<()> {
    let world = World::new("etlprice", Kind::MariaDb, Shop::new(3, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    // One that is not on the list's first page.
    let variant = world.bsale.shop(|shop| {
        assert!(shop.prices.len() > 50);
        let price = shop.prices.values_mut().next().expect("a price");
        price.value = Money(7_770_000);
        price.variant
    });
    let written = webhook::refetch(world.ours(), &Resource::Price { list: 2, variant }, "a webhook").await;
    ensure!(written.map_err(|error| anyhow::anyhow!("{error:?}"))? == 1);
    world.is_the_shop().await
}

/// What a webhook has fetched waits for a row, as long as a process may sleep. Meanwhile the product is again what the table
/// has: a run that sees that writes nothing.
async fn late(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(3, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let (db, requests) = (&world.ours().target.db, world.bsale.requests());
    let (id, name) = world.bsale.shop(|shop| {
        let (id, product) = shop.products.iter_mut().next().expect("a product");
        (*id, std::mem::replace(&mut product.name, "Otro".to_owned()))
    });
    let transaction = db.begin().await?;
    let hold = Sql::new("SELECT id_bsale FROM productos WHERE id_bsale = ? FOR UPDATE").bind(id);
    hold.one(&transaction).await?.context("the product")?;
    let (resource, limit) = (Resource::Product(id), Duration::from_secs(60));
    let fetching = webhook::refetch(world.ours(), &resource, "a webhook");
    let meanwhile = async {
        let asked = || std::future::ready(world.bsale.requests() > requests);
        wait::until("it should be fetched", limit, asked).await?;
        world.bsale.shop(|shop| shop.products.get_mut(&id).expect("the product").name = name);
        let begin = Instant::now();
        wait::until("time passes", limit, || std::future::ready(begin.elapsed() > webhook::SOON)).await?;
        Ok::<_, anyhow::Error>(transaction.rollback().await?)
    };
    let (fetched, held) = futures::future::join(fetching, meanwhile).await;
    held?;
    fetched.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    world.is_the_shop().await
}

#[tokio::test]
async fn a_webhook_that_writes_late_asks_once_more_in_mariadb() -> Result<()> {
    late("etllatemy", Kind::MariaDb).await
}

#[tokio::test]
async fn a_webhook_that_writes_late_asks_once_more_in_postgresql() -> Result<()> {
    late("etllatepg", Kind::Postgres).await
}

#[tokio::test]
async fn half_of_a_surrogate_pair_stops_no_stream() -> Result<()> {
    let world = World::new("etlsurrogate", Kind::Postgres, Shop::new(3, Size::default())).await?;
    world.sync("bsale.clientes", Mode::Full).await?;
    let db = &world.ours().target.db;
    let before = target::count_live(db, "clientes").await?;
    world.bsale.shop(|shop| shop.broken_note = shop.clients.keys().next().copied());
    let job = world.sync("bsale.clientes", Mode::Daily).await?;
    let result = job.result.context("a result")?;
    ensure!(result["contadores"]["en_cuarentena"] == 1, "{result}");
    ensure!(target::count_live(db, "clientes").await? == before);
    Ok(())
}

#[tokio::test]
async fn a_redis_that_answers_and_takes_nothing_leaves_the_pace_to_postgresql() -> Result<()> {
    let shop = || Shop::new(1, Size { products: 0, clients: 1, days: 0, documents_a_day: 0 });
    let world = World::new("etlredisfull", Kind::Postgres, shop()).await?;
    let namespace = Namespace::create("etlredisfull2").await?;
    let url = namespace.servers().redis_url.clone();
    let user = format!("reads{}", std::process::id());
    let allow = cmd("ACL")
        .arg("SETUSER")
        .arg(&user)
        .arg(["on", ">secret", "~*", "&*", "+@all", "-@write"].as_slice())
        .to_owned();
    world.resources.redis.query::<String>(&allow).await?;
    let reads = url.replacen("redis://", &format!("redis://{user}:secret@"), 1);
    let more = [("REDIS_URL", reads.as_str()), ("BSALE_REQUESTS_PER_SECOND", "8")];
    let full = World::with("etlredisfull3", Kind::Postgres, shop(), &more).await?;
    let asked = async {
        for _ in 0..3 {
            full.ours().client.page("clients.json", &[], 0, Priority::Daily).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let asked = tokio::time::timeout(Duration::from_secs(60), asked).await;
    world.resources.redis.query::<i64>(cmd("ACL").arg("DELUSER").arg(&user)).await?;
    asked.context("it asks Redis for ever")??;
    let paced = "select count(*) from buckets where next_at > now() - interval '1 minute'";
    let paced: i64 = sqlx::query_scalar(paced).fetch_one(&full.resources.database.pool).await?;
    ensure!(paced == 1, "{paced}");
    Ok(())
}
