//! The shop is the tables, after full and daily runs, back-dating, annulments and deletions, on both databases.

use anyhow::{Context as _, Result, ensure};
use etl::{
    bsale,
    domain::run::{Mode, RunParams},
    target,
};
use jobs::State;
use simulators::bsale::{Shop, Size, truth};

use crate::world::{Kind, World};

async fn a_month(label: &str, kind: Kind) -> Result<()> {
    let world = World::new(label, kind, Shop::new(7, Size::default())).await?;
    let target = &world.ours().target;
    world.sync_all(Mode::Full).await?;
    let shop = world.bsale.shop(|shop| shop.clone());
    truth::tables(&target.db, &shop).await.context("after the full sync")?;
    truth::views(&target.db, &shop).await.context("after the full sync")?;

    // Nothing has changed: nothing is written.
    world.sync_all(Mode::Daily).await?;
    for lane in target::lanes(&target.db).await? {
        let state = lane.state.context("a state")?;
        let counters = &state["counters"];
        for written in ["insertados", "actualizados", "eliminados"] {
            ensure!(counters[written] == 0, "{}: {counters}", lane.lane);
        }
        ensure!(counters["leidos"] != 0 || lane.lane == "bsale.costos", "{}: {counters}", lane.lane);
    }

    for day in 0..30 {
        world.bsale.shop(|shop| shop.live_a_day(25));
        if day % 6 == 5 {
            world.sync_all(Mode::Daily).await?;
            let shop = world.bsale.shop(|shop| shop.clone());
            truth::tables(&target.db, &shop).await.with_context(|| format!("after day {day}"))?;
        }
    }
    let shop = world.bsale.shop(|shop| shop.clone());
    truth::views(&target.db, &shop).await.context("after a month")?;
    ensure!(bsale::doctor(target).await?.is_empty(), "{:?}", bsale::doctor(target).await?);

    // Back-dated further than a daily run looks: a full one finds it.
    world.bsale.shop(|shop| shop.sell(shop.today - chrono::Days::new(60)));
    world.sync("bsale.documentos", Mode::Full).await?;
    truth::tables(&target.db, &world.bsale.shop(|shop| shop.clone())).await.context("back-dated by 60 days")
}

#[tokio::test]
async fn the_shop_is_the_tables_of_mariadb() -> Result<()> {
    a_month("etlmaria", Kind::MariaDb).await
}

#[tokio::test]
async fn the_shop_is_the_tables_of_postgresql() -> Result<()> {
    a_month("etlpg", Kind::Postgres).await
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_is_read_again() -> Result<()> {
    let size = Size { products: 60, clients: 180, days: 2, documents_a_day: 120 };
    let world = World::new("etlshift", Kind::MariaDb, Shop::new(3, size)).await?;
    // A client comes between the first page and the second, another goes between the second and the third.
    world.bsale.change_at_list(2, |shop| {
        shop.add_client();
    });
    world.bsale.change_at_list(3, |shop| {
        let oldest = shop.clients.keys().next().copied();
        shop.clients.retain(|id, _| Some(*id) != oldest);
        shop.documents
            .values_mut()
            .for_each(|document| document.client = document.client.filter(|id| Some(*id) != oldest));
    });
    for stream in [
        "bsale.clientes",
        "bsale.tipos_documento",
        "bsale.tipos_producto",
        "bsale.productos",
        "bsale.variantes",
    ] {
        world.sync(stream, Mode::Full).await?;
    }
    // Documents too: one of today comes and one goes.
    world.bsale.change_at_list(2, |shop| {
        shop.sell(shop.today);
    });
    world.bsale.change_at_list(4, |shop| {
        let some = shop.some_document();
        some.into_iter().for_each(|id| shop.delete_document(id));
    });
    for stream in ["bsale.documentos", "bsale.stock", "bsale.listas_precio", "bsale.costos"] {
        world.sync(stream, Mode::Full).await?;
    }
    world.sync("bsale.documentos", Mode::Daily).await?;
    truth::tables(&world.ours().target.db, &world.bsale.shop(|shop| shop.clone())).await
}

#[tokio::test]
async fn a_backfill_reads_its_days_and_moves_no_watermark() -> Result<()> {
    let world = World::new("etlback", Kind::Postgres, Shop::new(5, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let target = &world.ours().target;
    let before = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
    ensure!(before.watermark.is_some(), "{before:?}");
    let day = world.bsale.shop(|shop| shop.today) - chrono::Days::new(40);
    world.bsale.shop(|shop| shop.sell(day));
    let params = RunParams {
        from: Some(day - chrono::Days::new(2)),
        to: Some(day + chrono::Days::new(2)),
        ..RunParams::new("bsale.documentos", Mode::Backfill)
    };
    let job = world.run(&params).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    truth::tables(&target.db, &world.bsale.shop(|shop| shop.clone())).await?;
    let after = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
    ensure!(after == before, "{before:?} {after:?}");
    let backfill = target::lane(&target.db, "bsale.documentos#backfill").await?.context("a lane")?;
    ensure!(backfill.watermark.is_none(), "{backfill:?}");
    Ok(())
}

#[tokio::test]
async fn a_daily_run_moves_the_watermark_over_whole_days_only() -> Result<()> {
    let world =
        World::new("etlmark", Kind::MariaDb, Shop::new(5, Size { days: 3, ..Size::default() })).await?;
    let target = &world.ours().target;
    // Before anything was read whole there is no watermark to move.
    let from = Some(world.bsale.shop(|shop| shop.today) - chrono::Days::new(3));
    let job = world.run(&RunParams { from, ..RunParams::new("bsale.documentos", Mode::Daily) }).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    let lane = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
    ensure!(lane.watermark.is_none(), "{lane:?}");
    world.sync("bsale.documentos", Mode::Full).await?;
    let lane = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
    let today = world.bsale.shop(|shop| shop.today).and_time(chrono::NaiveTime::MIN).and_utc();
    // Today is not over.
    ensure!(lane.watermark == Some(today), "{lane:?}");
    // Somebody sets it back: empty days move it too.
    let set = target::Sql::new("UPDATE lote_streams SET marca = ? WHERE stream = 'bsale.documentos'");
    set.bind(today - chrono::TimeDelta::days(20)).run(&target.db).await?;
    world.sync("bsale.documentos", Mode::Daily).await?;
    let lane = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
    ensure!(lane.watermark == Some(today), "{lane:?}");
    Ok(())
}

#[tokio::test]
async fn a_daily_run_reads_all_where_nothing_was_read_or_is_forgotten() -> Result<()> {
    let world =
        World::new("etlfirst", Kind::Postgres, Shop::new(5, Size { days: 3, ..Size::default() })).await?;
    let target = &world.ours().target;
    let today = world.bsale.shop(|shop| shop.today).and_time(chrono::NaiveTime::MIN).and_utc();
    let live = async || target::count_live(&target.db, "documentos_venta").await;
    for reset in [false, true] {
        if reset {
            target::reset(&target.db, "bsale.documentos", chrono::Utc::now()).await?;
        }
        // Longer ago than a daily run looks.
        world.bsale.shop(|shop| shop.sell(shop.today - chrono::Days::new(70)));
        world.sync("bsale.documentos", Mode::Daily).await?;
        let there = world.bsale.shop(|shop| shop.documents.len());
        ensure!(live().await? as usize == there, "{} of {there}", live().await?);
        let lane = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
        ensure!(lane.watermark == Some(today), "{lane:?}");
    }
    // From the first day on is all, too.
    target::reset(&target.db, "bsale.documentos", chrono::Utc::now()).await?;
    let from = Some(world.ours().settings.start);
    let job = world.run(&RunParams { from, ..RunParams::new("bsale.documentos", Mode::Daily) }).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    let lane = target::lane(&target.db, "bsale.documentos").await?.context("a lane")?;
    ensure!(lane.watermark == Some(today), "{lane:?}");
    Ok(())
}

#[tokio::test]
async fn costs_wait_for_the_variants_that_they_are_of() -> Result<()> {
    let world = World::new("etlorder", Kind::Postgres, Shop::new(7, Size::default())).await?;
    let variants = world.ask(&RunParams::new("bsale.variantes", Mode::Full)).await?.job().id;
    let costs = world.run(&RunParams::new("bsale.costos", Mode::Full)).await?;
    ensure!(costs.state == State::Pending && costs.attempts == 0 && costs.error.is_none(), "{costs:?}");
    world.attempt(variants).await?;
    let due = "update jobs set next_run_at = now() where id = $1";
    sea_orm::sqlx::query(due).bind(costs.id).execute(&world.resources.database.pool).await?;
    let costs = world.attempt(costs.id).await?;
    ensure!(costs.state == State::Completed, "{costs:?}");
    let read = &costs.result.as_ref().context("a result")?["contadores"]["leidos"];
    let there = world.bsale.shop(|shop| shop.variants.len());
    ensure!(*read == there, "{read} of {there}");
    Ok(())
}
