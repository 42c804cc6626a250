//! Files in S3, streamed: memory stays at one part whatever the size of the file.

mod files;
mod part;
mod upload;

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::Credentials,
    error::{DisplayErrorContext, ProvideErrorMetadata as _},
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, TryStreamExt as _};
use sea_orm::sqlx;
use tokio::io::AsyncWriteExt as _;

pub use self::{
    part::Gather,
    upload::{UploadError, Uploaded, upload_stream},
};
use crate::config::S3Settings;

/// A client with path-style addressing (which LocalStack and MinIO need), ring for TLS, and an end to
/// each attempt. No network yet, unless AWS's own chain has to find credentials.
pub async fn client(settings: &S3Settings) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .pool_idle_timeout(Duration::from_secs(60))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .read_timeout(Duration::from_secs(30))
        .operation_attempt_timeout(Duration::from_secs(60))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(settings.region.clone()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3));
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((key, secret)) = &settings.credentials {
        loader =
            loader.credentials_provider(Credentials::new(key, secret.expose(), None, None, "environment"));
    }
    let shared = loader.load().await;
    Client::from_conf(aws_sdk_s3::config::Builder::from(&shared).force_path_style(true).build())
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There is no such object: fetching it again won't help.
    #[error("{key} is not in the bucket {bucket}")]
    Missing {
        /// Where it was looked for.
        bucket: String,
        /// Its key.
        key: String,
    },
    /// S3 can't be reached, refuses, or broke off.
    #[error("S3 did not give the file: {0}")]
    Store(String),
    /// The local file can't be written.
    #[error("writing the local copy: {0}")]
    Local(#[from] std::io::Error),
}

/// Fetches an object into a file, which is created or overwritten. Returns its size in bytes.
///
/// # Errors
/// As [`DownloadError`] says; the file may then hold a part.
pub async fn download(client: &Client, bucket: &str, key: &str, path: &Path) -> Result<u64, DownloadError> {
    let mut body = open(client, bucket, key).await?;
    let mut file = tokio::fs::File::create(path).await?;
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| DownloadError::Store(DisplayErrorContext(error).to_string()))?;
        bytes += chunk.len() as u64;
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(bytes)
}

/// An object's content, as a stream.
///
/// # Errors
/// [`DownloadError::Missing`] or [`DownloadError::Store`].
pub async fn open(client: &Client, bucket: &str, key: &str) -> Result<ByteStream, DownloadError> {
    match client.get_object().bucket(bucket).key(key).send().await {
        Ok(object) => Ok(object.body),
        Err(error) if error.code() == Some("NoSuchKey") => {
            Err(DownloadError::Missing { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        Err(error) => Err(DownloadError::Store(DisplayErrorContext(error).to_string())),
    }
}

/// Whether an object is there.
///
/// # Errors
/// S3 can't be reached or refuses.
pub async fn exists(client: &Client, bucket: &str, key: &str) -> anyhow::Result<bool> {
    match client.head_object().bucket(bucket).key(key).send().await {
        Ok(_) => Ok(true),
        Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
        Err(error) => Err(anyhow::anyhow!("{}", DisplayErrorContext(error))),
    }
}

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// When it was last modified, in seconds since 1970.
    pub modified: i64,
}

/// The objects under `prefix` in the order of their keys, a page of a thousand at most at a time.
pub fn list<'a>(
    client: &'a Client,
    bucket: &'a str,
    prefix: &'a str,
) -> impl Stream<Item = anyhow::Result<Vec<Listed>>> + 'a {
    futures::stream::try_unfold(None::<String>, move |after| async move {
        let page = client.list_objects_v2().bucket(bucket).prefix(prefix).set_start_after(after).send().await;
        let page = page.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(error)))?;
        let listed = page.contents().iter().filter_map(|object| {
            // Of which nobody knows how old it is, is not old.
            let modified = object.last_modified().map_or(i64::MAX, |time| time.secs());
            Some(Listed { key: object.key()?.to_owned(), modified })
        });
        let listed: Vec<_> = listed.collect();
        let last = listed.last().map(|object| object.key.clone());
        Ok(last.map(|last| (listed, Some(last))))
    })
}

/// The keys under `prefix` that `unnamed` gives back of those last modified before `before`, some pages of them empty:
/// with it a service says which objects no row of its own names.
pub fn strays<'a, F: Future<Output = sqlx::Result<Vec<String>>>>(
    client: &'a Client,
    bucket: &'a str,
    prefix: &'a str,
    before: DateTime<Utc>,
    unnamed: impl Fn(Vec<String>) -> F + Copy + 'a,
) -> impl Stream<Item = anyhow::Result<Vec<String>>> + 'a {
    list(client, bucket, prefix).and_then(move |page| async move {
        let old = page.into_iter().filter(|object| object.modified < before.timestamp());
        Ok(unnamed(old.map(|object| object.key).collect()).await?)
    })
}

/// How long an object may be due to be swept up before a doctor names it: sweeps are hourly.
pub const SWEEPS_BEHIND: TimeDelta = TimeDelta::hours(3);

/// A doctor's sentence for each of the first strays.
pub fn findings(strays: &[String]) -> Vec<String> {
    strays
        .iter()
        .take(20)
        .map(|key| format!("the bucket has {key}, which no row names, and no sweep deletes it"))
        .collect()
}

/// What a doctor found in a bucket; where the bucket can't be asked, that is its finding, and what else it found stands.
///
/// # Errors
/// The database, of which a doctor asks which objects are named.
pub fn or_unasked(findings: anyhow::Result<Vec<String>>) -> anyhow::Result<Vec<String>> {
    match findings {
        Err(error) if !error.is::<sqlx::Error>() => Ok(vec![format!("the bucket can't be asked: {error:#}")]),
        findings => findings,
    }
}

/// Deletes the objects that a stream names, as it comes. Gives how many.
///
/// # Errors
/// As [`delete`], and those of the stream.
pub async fn sweep(
    client: &Client,
    bucket: &str,
    keys: impl Stream<Item = anyhow::Result<Vec<String>>>,
) -> anyhow::Result<u64> {
    let mut pages = std::pin::pin!(keys);
    let mut deleted = 0;
    while let Some(keys) = pages.try_next().await? {
        delete(client, bucket, &keys).await?;
        deleted += keys.len() as u64;
    }
    Ok(deleted)
}

/// Deletes objects. One that is not there is deleted already.
///
/// # Errors
/// S3; some of them may be deleted then.
pub async fn delete(client: &Client, bucket: &str, keys: &[String]) -> anyhow::Result<()> {
    // So many S3 takes at once.
    for keys in keys.chunks(1_000) {
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let objects = objects.collect::<Result<Vec<_>, _>>().context("naming the objects")?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let answer = client.delete_objects().bucket(bucket).delete(delete).send().await;
        let answer = answer.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(error)))?;
        if let Some(error) = answer.errors().first() {
            anyhow::bail!("{:?} was not deleted: {:?}", error.key(), error.message());
        }
    }
    Ok(())
}
