//! `stack contacts`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use stack::contacts::{self, Dirt, Spec};

/// What to generate, and where.
#[derive(Args)]
pub struct Arguments {
    /// The file; one of that name is replaced
    file: PathBuf,
    /// Rows of the table numeros
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only clean rows, each a contact of its own
    #[arg(long)]
    clean: bool,
}

/// Writes the file, with a progress bar on standard error; prints the truth as one line of JSON.
///
/// # Errors
/// The file can't be written.
pub fn generate(arguments: &Arguments) -> Result<()> {
    let bar = ProgressBar::new(arguments.rows);
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {human_pos}/{human_len} rows, {per_sec}, {eta} left{msg}",
    )?);
    let dirt = if arguments.clean { Dirt::none() } else { Dirt::default() };
    let spec = Spec { rows: arguments.rows, seed: arguments.seed, dirt };
    let truth = contacts::generate(&arguments.file, &spec, |written| {
        bar.set_position(written);
        if written == arguments.rows {
            bar.set_message("; indexes");
        }
    })?;
    bar.finish_and_clear();
    println!("{}", serde_json::to_string(&truth)?);
    Ok(())
}
