//! The main job, as a user would do it: a supplier's workbook in, every row accounted for; then the reports of a
//! day of campaigns, contacts from a database of numbers, a campaign to some of them, and syncs of sales and collections.

use super::state::Demo;
use super::up::up;
use super::{demo_campaign, demo_contacts, demo_report, demo_syncs, upload};
use anyhow::{Result, ensure};
use stack::workbook::Spec;
use std::time::Instant;

const SUPPLIER: &str = "PROV001";
const ROWS: usize = 300;
const BAD: usize = 10;
const DUPLICATES: usize = 5;

/// Starts everything, imports a workbook, has a day's reports made, imports contacts, sends a campaign to some of them, syncs
/// sales and collections, shows what came of it.
pub async fn demo() -> Result<()> {
    let demo = up().await?;
    let client = stack::http();
    println!("\nA supplier's workbook through the gateway, as {}", demo.wiring.admin_user);
    let token = upload::admin_token(&demo).await?;

    // New products each time, so that each run has the same result.
    let run = chrono::Utc::now().format("%m%d%H%M%S").to_string();
    let spec = Spec { bad: BAD, duplicates: DUPLICATES, ..Spec::new(7, &format!("DEMO{run}"), ROWS) };
    let path = Demo::dir().join("catalogo.xlsx");
    let truth = spec.write_xlsx(&path)?;
    println!(
        "  {ROWS} rows, of which {BAD} are bad and {DUPLICATES} repeat others: .stack/demo/catalogo.xlsx"
    );

    let begin = Instant::now();
    let options = [("proveedor_id", SUPPLIER.to_owned())];
    let accepted = upload::send(&client, &demo, &token, &path, &options).await?;
    println!("  accepted as {} after {} ms", accepted.task_id, begin.elapsed().as_millis());
    let outcome = upload::follow(&client, &demo, &token, &accepted, Some(ROWS as u64)).await?;
    upload::print(&outcome, begin.elapsed());
    ensure!(
        outcome.resumen == truth.summary,
        "the workbook was made to give {:?}, the import says {:?}",
        truth.summary,
        outcome.resumen
    );
    demo_report::run(&demo, &client, &token).await?;
    demo_contacts::run(&demo, &client, &token).await?;
    demo_campaign::run(&demo, &client, &token).await?;
    demo_syncs::run(&demo, &client, &token).await?;
    print_where(&demo);
    Ok(())
}

/// Prints addresses, credentials and what to do next.
pub fn print_where(demo: &Demo) {
    let wiring = &demo.wiring;
    println!("\n  API and its documentation   {}/docs", wiring.gateway_url());
    println!("  user                        {}", wiring.admin_user);
    println!("  password                    {}", wiring.admin_password);
    println!("  RabbitMQ's management       {}", wiring.servers.management_url);
    println!("\n  Next: bin/lote     make status     make logs SERVICE=catalog-upload-worker     make down");
}
