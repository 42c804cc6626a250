use super::state::{self, Demo};
use super::up::drain;
use anyhow::Result;
use futures::future::join_all;

/// Stops the services, then the servers. The data stays.
pub async fn down() -> Result<()> {
    let _lock = stack::servers::lock(&Demo::dir()).await?;
    if !Demo::exists() {
        println!("Nothing to stop");
        return Ok(());
    }
    stop().await?;
    println!("Stopped. The data stays in .stack/demo; `make clean` removes it");
    Ok(())
}

/// Stops everything, the servers of tests too, and removes all data.
pub async fn clean() -> Result<()> {
    stack::servers::remove_shared().await?;
    let _lock = stack::servers::lock(&Demo::dir()).await?;
    if Demo::exists() {
        stop().await?.stack.remove().await?;
    }
    Ok(())
}

async fn stop() -> Result<Demo> {
    let running: Vec<_> = state::process_names().filter_map(|name| state::running(&name)).collect();
    for drained in join_all(running.iter().map(drain)).await {
        drained?;
    }
    let demo = Demo::open()?;
    demo.stack.stop_all().await?;
    Ok(demo)
}
