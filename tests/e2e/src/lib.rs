//! What the journeys share: a platform in a namespace of its own, and workbooks to send to it.

pub mod figures;
pub mod reports;
pub mod stream;

use anyhow::Result;
use stack::Namespace;
use stack::platform::{Options, Place, Platform};
use stack::workbook::{Spec, Truth};
use std::path::PathBuf;

/// A platform in a namespace of its own. What it leaves to look at after a failure is its logs, beside the
/// test servers.
pub struct Scene {
    /// The processes. They go before their namespace does.
    pub platform: Platform,
    /// Logs and workbooks.
    pub dir: PathBuf,
    /// Schemas, queues and bucket.
    pub namespace: Namespace,
}

/// A place in the shared test servers, and options that keep its logs apart.
///
/// # Errors
/// Where a server refuses.
pub async fn place(label: &str) -> Result<(Namespace, Place, Options)> {
    let namespace = Namespace::create(label).await?;
    let place = Place::of(&namespace).await?;
    let dir = stack::servers::shared_dir().join("logs").join(&namespace.name);
    // A job whose worker died is missed soon, and receives end soon where a process is to stop.
    let options = Options::new(dir).env("IMPORT_LEASE_SECONDS", 5).env("SQS_WAIT_SECONDS", 2);
    Ok((namespace, place, options))
}

impl Scene {
    /// A platform with the services' own settings, nearly.
    ///
    /// # Errors
    /// Where something doesn't start.
    pub async fn start(label: &str, change: impl FnOnce(Options) -> Options) -> Result<Self> {
        let (namespace, place, options) = place(label).await?;
        Self::on(namespace, place, &change(options)).await
    }

    /// A platform at a place.
    ///
    /// # Errors
    /// Where something doesn't start.
    pub async fn on(namespace: Namespace, place: Place, options: &Options) -> Result<Self> {
        let dir = options.dir.clone();
        Ok(Self { platform: Platform::start(place, options).await?, dir, namespace })
    }

    /// Writes a workbook as .xlsx, named after its prefix.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn workbook(&self, spec: &Spec) -> Result<(PathBuf, Truth)> {
        let file = self.dir.join(format!("{}.xlsx", spec.prefix));
        let truth = spec.write_xlsx(&file)?;
        Ok((file, truth))
    }
}
