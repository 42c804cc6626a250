mod ack;
mod import;
mod peak;
mod status;
mod tasks;
mod update;

use anyhow::Result;
use stack::platform::{Options, Place, Platform};
use stack::workbook::{Spec, Truth};
use stack::{Namespace, Stack};
use std::path::{Path, PathBuf};

/// The supplier who uploads.
pub const SUPPLIER: &str = "PROV-BENCH";

/// Measures what is wanted, on servers of its own that are as durable as in production, each figure on a
/// platform of its own with the services' default settings.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/catalog-{}", stack::random_hex(3)));
    let stack = Stack::start(&dir).await?;
    if wanted("ack_6mb") {
        let arena = Arena::start(&stack, &dir, "ack").await?;
        ack::measure(&arena).await?;
        arena.end().await?;
    }
    if wanted("import_100k") || wanted("status_latency") {
        let arena = Arena::start(&stack, &dir, "import").await?;
        if wanted("import_100k") {
            import::measure(&arena).await?;
        }
        if wanted("status_latency") {
            status::measure(&arena).await?;
        }
        arena.end().await?;
    }
    if ["resync_100k", "update_100k"].iter().any(|figure| wanted(figure)) {
        let arena = Arena::start(&stack, &dir, "update").await?;
        update::measure(&arena).await?;
        arena.end().await?;
    }
    if ["dry_run_100k", "undo_100k", "annotated_100k"].iter().any(|figure| wanted(figure)) {
        let arena = Arena::start(&stack, &dir, "tasks").await?;
        tasks::measure(&arena).await?;
        arena.end().await?;
    }
    if wanted("worker_peak_1m") {
        let mut arena = Arena::start(&stack, &dir, "peak").await?;
        peak::measure(&mut arena).await?;
        arena.end().await?;
    }
    stack.remove().await
}

/// A platform and a directory for workbooks.
pub struct Arena {
    pub namespace: Namespace,
    pub platform: Platform,
    pub dir: PathBuf,
}

impl Arena {
    async fn start(stack: &Stack, dir: &Path, label: &str) -> Result<Self> {
        let namespace = Namespace::create_on(&stack.servers(), label).await?;
        let dir = dir.join(label);
        let options = Options::new(&dir).env("ACCESS_TOKEN_SECONDS", 86_400).env("RUST_LOG", "warn");
        let platform = Platform::start(Place::of(&namespace).await?, &options).await?;
        Ok(Self { namespace, platform, dir })
    }

    async fn end(self) -> Result<()> {
        drop(self.platform);
        self.namespace.cleanup().await
    }

    /// Writes a workbook of which one row in a hundred is bad and one in a hundred repeats another.
    pub fn workbook(&self, prefix: &str, rows: usize) -> Result<(PathBuf, Truth)> {
        let file = self.dir.join(format!("{prefix}.xlsx"));
        let seed = prefix.bytes().fold(0_u64, |seed, byte| seed * 31 + u64::from(byte));
        let spec = Spec { bad: rows / 100, duplicates: rows / 100, ..Spec::new(seed, prefix, rows) };
        let truth = spec.write_xlsx(&file)?;
        Ok((file, truth))
    }
}
