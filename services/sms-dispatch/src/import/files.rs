//! Where an import's file can be read on this machine: where it lies, or in a copy of what S3 has, for SQLite needs to jump
//! about in it.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use chassis::{
    disk,
    s3::{self, DownloadError},
};
use jobs::Lease;
use messaging::JobError;
use uuid::Uuid;

use crate::storage::imports::Import;

/// Where an import's file can be read, on this machine.
#[async_trait]
pub trait Files: Send + Sync {
    /// A path that lasts as long as what is returned, for who holds the import by `lease`.
    async fn fetch(&self, import: &Import, lease: &Lease) -> Result<Fetched, JobError>;
}

/// A file on this machine.
pub struct Fetched {
    pub path: PathBuf,
    /// Removed when this is dropped.
    pub _copy: Option<tempfile::TempPath>,
}

/// The file stays where it is.
pub struct InPlace;

#[async_trait]
impl Files for InPlace {
    async fn fetch(&self, import: &Import, _lease: &Lease) -> Result<Fetched, JobError> {
        let found = || -> anyhow::Result<PathBuf> {
            let path = PathBuf::from(import.path.as_deref().context("the import has no path")?);
            ensure!(path.is_file(), "{} is no file on this machine", path.display());
            Ok(path)
        };
        Ok(Fetched { path: found().map_err(JobError::Fail)?, _copy: None })
    }
}

/// Copies files of a bucket into a directory.
#[derive(Clone, Debug)]
pub struct Spool {
    pub client: Client,
    pub bucket: String,
    pub dir: PathBuf,
}

#[async_trait]
impl Files for Spool {
    async fn fetch(&self, import: &Import, lease: &Lease) -> Result<Fetched, JobError> {
        let key = import
            .object_key
            .as_deref()
            .ok_or_else(|| JobError::fail(anyhow!("the import names no object")))?;
        self.copy(import.id, key, lease).await
    }
}

impl Spool {
    /// A copy of an object, for who holds the job `id` by `lease`.
    ///
    /// # Errors
    /// [`JobError::Fail`] where the object is gone; a disk or a bucket that does not answer.
    pub async fn copy(&self, id: Uuid, key: &str, lease: &Lease) -> Result<Fetched, JobError> {
        self.tidy(id, lease.epoch).map_err(JobError::Retry)?;
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let size = match head {
            Ok(head) => u64::try_from(head.content_length().unwrap_or(0)).unwrap_or(0),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => {
                return Err(JobError::fail(anyhow!("El archivo {key} ya no está en el almacenamiento")));
            }
            Err(error) => return Err(JobError::retry(error)),
        };
        disk::ensure_room(&self.dir, size).map_err(JobError::retry)?;
        let copy = tempfile::Builder::new()
            .prefix(&format!("{}{}-", prefix(id), lease.epoch))
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

    /// Removes what holders of lower epochs left of this import's file when they were killed. Only theirs: this worker
    /// may have lost its lease without knowing, and a copy of this epoch or a higher one may be in use.
    fn tidy(&self, import: Uuid, held: i64) -> anyhow::Result<()> {
        let said = || format!("the spool directory {}", self.dir.display());
        std::fs::create_dir_all(&self.dir).with_context(said)?;
        for entry in std::fs::read_dir(&self.dir).with_context(said)? {
            let entry = entry.with_context(said)?;
            if epoch(import, &entry.file_name().to_string_lossy()).is_some_and(|epoch| epoch < held) {
                std::fs::remove_file(entry.path()).with_context(said)?;
            }
        }
        Ok(())
    }
}

fn prefix(import: Uuid) -> String {
    format!("contacts-{import}-")
}

/// The epoch of the claim that made a copy of the import's file. Copies of the version before this one name none, and
/// are older than all.
fn epoch(import: Uuid, name: &str) -> Option<i64> {
    let rest = name.strip_prefix(&prefix(import))?;
    Some(rest.split_once('-').and_then(|(epoch, _)| epoch.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_lower_epochs_are_removed() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let config = aws_sdk_s3::Config::builder().behavior_version_latest().build();
        let client = Client::from_conf(config);
        let spool = Spool { client, bucket: String::new(), dir: dir.path().to_owned() };
        let (import, other) = (Uuid::now_v7(), Uuid::now_v7());
        let name = |import: Uuid, rest: &str| format!("{}{rest}", prefix(import));
        let older = [name(import, "2-aBc123"), name(import, "1-x"), name(import, "oLd123")];
        let kept = [name(import, "3-aBc123"), name(import, "10-x"), name(other, "1-x"), "else".to_owned()];
        for name in older.iter().chain(&kept) {
            std::fs::write(dir.path().join(name), "copy")?;
        }
        spool.tidy(import, 3)?;
        assert!(older.iter().all(|name| !dir.path().join(name).exists()));
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
        Ok(())
    }
}
