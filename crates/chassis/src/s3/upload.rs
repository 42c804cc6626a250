//! A stream becomes an object, part by part.

use std::{fmt::Display, io};

use aws_sdk_s3::{
    Client,
    error::DisplayErrorContext,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};

use super::part::{Gather, PART, Part};
use crate::idempotency::hex;

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// Why a file was not stored. Nothing of it is left in the bucket.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It is larger than allowed.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// What was allowed.
        limit: u64,
    },
    /// The one who sends it broke off.
    #[error("the upload broke off: {0}")]
    Interrupted(String),
    /// Other uploads have all files on disk, or all the memory, that there may be.
    #[error("other uploads take all the room that there is")]
    Busy,
    /// The one who sends it is slow, and others wait for the room that it takes.
    #[error("the client is slow, and other uploads wait for its room")]
    GaveWay,
    /// The disk takes no part of it, or doesn't give it back.
    #[error("a part could not be gathered on disk")]
    Disk(#[source] io::Error),
    /// S3 can't be reached or refuses.
    #[error("S3 did not take the file: {0}")]
    Store(String),
}

/// Stores a stream under `key`: in one request if it fits into a part, else in parts, each sent when it
/// is full. If the stream fails, is too large, or the caller is dropped, the parts are discarded. A stream that is gathered on
/// disk is read no further while other uploads take all the room that there is; where one of those is slow, it gives way.
///
/// # Errors
/// As [`UploadError`] says.
pub async fn upload_stream<S, E>(
    client: &Client,
    bucket: &str,
    key: &str,
    stream: S,
    limit: u64,
    gather: Gather<'_>,
) -> Result<Uploaded, UploadError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    let mut stream = std::pin::pin!(stream);
    let mut hash = Sha256::new();
    let mut total = 0u64;
    let mut part = Part::new(gather);
    let mut multipart: Option<Multipart> = None;

    while let Some(chunk) = part.next(stream.next()).await? {
        let mut chunk = chunk.map_err(|error| UploadError::Interrupted(error.to_string()))?;
        total += chunk.len() as u64;
        if total > limit {
            return Err(UploadError::TooLarge { limit });
        }
        hash.update(&chunk);
        // Only when more comes than a part holds is it sent: a file of exactly one part needs no parts.
        while part.len() + chunk.len() > PART {
            part.push(&chunk.split_to(PART - part.len())).await?;
            let upload = match &mut multipart {
                Some(upload) => upload,
                none => none.insert(begin(client, bucket, key).await?),
            };
            // Others have their turns between two parts.
            let (body, _place) = part.take().await?;
            upload.send(body).await?;
        }
        part.push(&chunk).await?;
    }
    let (rest, place) = part.take().await?;
    match multipart {
        Some(mut upload) => {
            upload.send(rest).await?;
            drop(place);
            upload.complete().await?;
        }
        None => {
            client.put_object().bucket(bucket).key(key).body(rest.into()).send().await.map_err(store)?;
        }
    }
    Ok(Uploaded { bytes: total, sha256: hex(&hash.finalize()) })
}

fn store<E: std::error::Error>(error: E) -> UploadError {
    UploadError::Store(DisplayErrorContext(error).to_string())
}

/// Begins a multipart upload in a task of its own: if the caller is dropped meanwhile, the task still
/// learns the upload's id, and aborts it.
async fn begin(client: &Client, bucket: &str, key: &str) -> Result<Multipart, UploadError> {
    let (client, bucket, key) = (client.clone(), bucket.to_owned(), key.to_owned());
    tokio::spawn(async move { Multipart::begin(&client, &bucket, &key).await })
        .await
        .map_err(|panic| UploadError::Store(panic.to_string()))?
}

/// A multipart upload that is aborted unless it was completed.
struct Multipart {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
    open: bool,
}

impl Multipart {
    async fn begin(client: &Client, bucket: &str, key: &str) -> Result<Self, UploadError> {
        let created = client
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            // What the SDK sends with each part; S3 checks the whole only if it is told beforehand.
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .send()
            .await
            .map_err(store)?;
        let id = created.upload_id.ok_or_else(|| UploadError::Store("no upload id in the answer".into()))?;
        Ok(Self {
            client: client.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            id,
            parts: Vec::new(),
            open: true,
        })
    }

    async fn send(&mut self, body: Bytes) -> Result<(), UploadError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .body(body.into())
            .send()
            .await
            .map_err(store)?;
        self.parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag)
                .set_checksum_crc32(sent.checksum_crc32)
                .build(),
        );
        Ok(())
    }

    async fn complete(mut self) -> Result<(), UploadError> {
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.parts))).build();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .send()
            .await
            .map_err(store)?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.open, tokio::runtime::Handle::try_current()) else { return };
        let abort =
            self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        let key = self.key.clone();
        runtime.spawn(async move {
            if let Err(error) = abort.send().await {
                // What is left is invisible; a bucket should have a lifecycle rule that removes it.
                tracing::warn!(key, error = %DisplayErrorContext(&error), "could not discard the parts of an upload");
            }
        });
    }
}
