//! Starts and stops the stack.

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "stack", about = "Lote's servers and services on this machine")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the servers that tests share
    TestUp,
    /// Stop the servers that tests share and remove their data
    TestDown,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Verb::TestUp => {
            stack::servers::start_shared().await?;
            Ok(())
        }
        Verb::TestDown => stack::servers::remove_shared().await,
    }
}
