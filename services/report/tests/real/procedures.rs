//! The procedures that other programs call too: what they give, and what it costs.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use report::storage::{campaigns, days, messages};
use sea_orm::sqlx::{self, AssertSqlSafe};

use crate::world::{World, day, message};

/// What the planner makes of a query.
async fn plan(world: &World, query: &str) -> Result<String> {
    let explain = format!("explain (costs off) {query}");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&world.pool).await?;
    Ok(lines.join("\n"))
}

#[tokio::test]
async fn a_page_of_messages_costs_what_it_holds() -> Result<()> {
    let world = World::new("reportplan").await?;
    let today = day("2025-01-27")?;
    world.campaign(day("2025-01-26")?, "Otro día", 10).await?;
    let mut campaign = 0;
    for name in ["Una", "Dos", "Tres"] {
        campaign = world.campaign(today, name, 10_000).await?;
    }
    sqlx::raw_sql("analyze ta_sms_maestro; analyze ta_sms_detalle").execute(&world.pool).await?;
    let call = |rest: &str| {
        format!("select * from sp_obtener_detalle_campana_paginado({campaign}, 15000, 100{rest})")
    };
    // Inlined: the planner sees through to the keyset index. A function that is called would be a Function Scan,
    // whose rows are all there before the first is given.
    let told = plan(&world, &call(", date '2025-01-27'")).await?;
    ensure!(told.contains("Index Scan using ta_sms_detalle_20250127_pkey"), "{told}");
    ensure!(told.contains("(id > '15000'::bigint)") && told.contains("Limit"), "{told}");
    for dear in ["Function Scan", "Seq Scan", "Sort", "20250126"] {
        ensure!(!told.contains(dear), "{told}");
    }
    // Who doesn't know the campaign's day pays for a look at it, and other days' partitions are left alone.
    let told = plan(&world, &call("")).await?;
    ensure!(told.contains("(id > '15000'::bigint)") && !told.contains("Function Scan"), "{told}");
    let query = format!("analyze, timing off, summary off) {}", call(""));
    let explain = format!("explain (costs off, {query}");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&world.pool).await?;
    let other = lines.iter().filter(|line| line.contains("ta_sms_detalle_20250126")).collect::<Vec<_>>();
    ensure!(other.iter().all(|line| line.contains("never executed")), "{lines:#?}");
    Ok(())
}

#[tokio::test]
async fn pages_hold_each_message_once_while_more_arrive() -> Result<()> {
    let world = World::new("reportpages").await?;
    let today = day("2025-01-27")?;
    let campaign = world.campaign(today, "Una", 1_000).await?;
    world.campaign(today, "Otra", 500).await?;
    let query = "select id, telefono from sp_obtener_detalle_campana_paginado($1, $2, $3)";
    let (mut after, mut seen, mut late) = (0_i64, Vec::new(), 10_000);
    loop {
        let page: Vec<(i64, String)> =
            sqlx::query_as(query).bind(campaign).bind(after).bind(70_i64).fetch_all(&world.pool).await?;
        let Some((last, _)) = page.last() else { break };
        ensure!(page.is_sorted_by(|one, other| one.0 < other.0), "{page:?}");
        after = *last;
        seen.extend(page.into_iter().map(|(_, phone)| phone));
        // The original, which counted rows off, gave one again for each that came before it.
        if late < 10_020 {
            let mut conn = world.pool.acquire().await?;
            messages::write(&mut conn, campaign, today, &[message(late, 1), message(late + 1, 1)]).await?;
            late += 2;
        }
    }
    let different: BTreeSet<_> = seen.iter().collect();
    ensure!(different.len() == seen.len(), "{} rows, {} of them different", seen.len(), different.len());
    let first = (0..1_000).map(|number| message(number, 1).phone);
    ensure!(first.into_iter().all(|phone| different.contains(&phone)), "rows are missing");
    Ok(())
}

#[tokio::test]
async fn campaigns_by_day_by_page_and_without_report() -> Result<()> {
    let world = World::new("reportcamps").await?;
    let (early, late) = (day("2025-01-26")?, day("2025-01-27")?);
    let mut ids = Vec::new();
    for (fecha, name) in [(early, "A"), (late, "B"), (late, "C"), (early, "D"), (late, "E")] {
        ids.push(world.campaign(fecha, name, 1).await?);
    }
    let names = |campaigns: Vec<campaigns::Campaign>| {
        campaigns.into_iter().map(|campaign| campaign.nombre).collect::<String>()
    };
    ensure!(names(campaigns::of_day(&world.resources.database.orm, late).await?) == "BCE");
    // Newest day first, by id within it; pages of any size join to the whole.
    for size in 1..=6 {
        let mut all = String::new();
        for page in 1.. {
            let (page, total) = campaigns::page(&world.resources.database.orm, None, page, size).await?;
            ensure!(total == 5, "{total}");
            if page.is_empty() {
                break;
            }
            all += &names(page);
        }
        ensure!(all == "BCEAD", "{size} a page: {all}");
    }
    let (page, total) = campaigns::page(&world.resources.database.orm, Some(early), 2, 1).await?;
    ensure!(names(page) == "D" && total == 2);
    ensure!(days::list(&world.resources.database.orm).await? == [late, early]);
    ensure!(names(campaigns::without_report(&world.resources.database.orm, late).await?) == "BCE");
    Ok(())
}
