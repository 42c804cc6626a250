//! A file of S3 as a file of this machine: SQLite needs to jump about in it.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use chassis::s3::{self, DownloadError};
use messaging::JobError;

use super::import_contacts::{Fetched, Files};
use crate::storage::imports::Import;

/// What stays free on the disk.
const RESERVE_BYTES: u64 = 256 << 20;

/// Copies files of a bucket into a directory.
#[derive(Clone, Debug)]
pub struct Spool {
    pub client: Client,
    pub bucket: String,
    pub dir: PathBuf,
}

#[async_trait]
impl Files for Spool {
    async fn fetch(&self, import: &Import) -> Result<Fetched, JobError> {
        let key = import
            .object_key
            .as_deref()
            .ok_or_else(|| JobError::fail(anyhow!("the import names no object")))?;
        self.tidy(import).map_err(JobError::Retry)?;
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let size = match head {
            Ok(head) => u64::try_from(head.content_length().unwrap_or(0)).unwrap_or(0),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => {
                return Err(JobError::fail(anyhow!("El archivo {key} ya no está en el almacenamiento")));
            }
            Err(error) => return Err(JobError::retry(error)),
        };
        self.ensure_room(size).map_err(JobError::Retry)?;
        let copy = tempfile::Builder::new()
            .prefix(&prefix(import))
            .tempfile_in(&self.dir)
            .with_context(|| format!("a copy in {}", self.dir.display()))
            .map_err(JobError::Retry)?
            .into_temp_path();
        match s3::download(&self.client, &self.bucket, key, &copy).await {
            Ok(_) => Ok(Fetched { path: copy.to_path_buf(), _copy: Some(copy) }),
            Err(DownloadError::Missing { .. }) => {
                Err(JobError::fail(anyhow!("El archivo {key} ya no está en el almacenamiento")))
            }
            Err(error) => Err(JobError::retry(error)),
        }
    }
}

impl Spool {
    /// Removes what a process that was killed left of this import's file: the lease says that nobody reads it now.
    fn tidy(&self, import: &Import) -> anyhow::Result<()> {
        let said = || format!("the spool directory {}", self.dir.display());
        std::fs::create_dir_all(&self.dir).with_context(said)?;
        for entry in std::fs::read_dir(&self.dir).with_context(said)? {
            let entry = entry.with_context(said)?;
            if entry.file_name().to_string_lossy().starts_with(&prefix(import)) {
                std::fs::remove_file(entry.path()).with_context(said)?;
            }
        }
        Ok(())
    }

    fn ensure_room(&self, size: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(&self.dir).context("asking how much room there is")?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = size.saturating_add(RESERVE_BYTES);
        anyhow::ensure!(
            free >= needed,
            "{} has {} MB free, the file needs {} MB",
            self.dir.display(),
            free >> 20,
            needed >> 20
        );
        Ok(())
    }
}

fn prefix(import: &Import) -> String {
    format!("contacts-{}-", import.id)
}
