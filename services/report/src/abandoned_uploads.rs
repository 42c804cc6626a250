//! What dead workers leave in the bucket, where every claim of a file's job has a folder of its own:
//! `campaign-reports/{run}/{campaign}/{epoch}-{token}/{name}`. So a worker that lost its file without knowing
//! overwrites nothing, and the clean-up knows what is older than its own.

use aws_sdk_s3::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata as _},
};
use jobs::Lease;
use uuid::Uuid;

/// What the service keeps in the bucket, which it may share.
pub const FOLDER: &str = "campaign-reports/";

/// Where the holder of a file's job puts it.
pub fn object_key(run: Uuid, campaign: i64, lease: &Lease, name: &str) -> String {
    format!("{}{}-{}/{name}", folder(run, campaign), lease.epoch, lease.token.simple())
}

/// The epoch of the claim that put a key there; none where the key is no file's. Before claims had tokens the
/// folder was the epoch alone.
pub fn epoch(key: &str) -> Option<i64> {
    let claim = key.strip_prefix(FOLDER)?.split('/').nth(2)?;
    claim.split('-').next()?.parse().ok()
}

/// The run of the file that a key is of; none where the key is no file's.
pub fn run(key: &str) -> Option<Uuid> {
    Uuid::parse_str(key.strip_prefix(FOLDER)?.split('/').next()?).ok()
}

/// Where all attempts at a file are.
pub fn folder(run: Uuid, campaign: i64) -> String {
    format!("{FOLDER}{run}/{campaign}/")
}

/// A multipart upload that was begun and not ended.
#[derive(Clone, Debug)]
pub struct Unfinished {
    pub key: String,
    pub id: String,
}

/// The uploads under `prefix` that were begun and not ended.
///
/// # Errors
/// S3.
pub async fn unfinished(s3: &Client, bucket: &str, prefix: &str) -> anyhow::Result<Vec<Unfinished>> {
    let (mut found, mut after) = (Vec::new(), None::<(String, String)>);
    loop {
        let mut ask = s3.list_multipart_uploads().bucket(bucket).prefix(prefix);
        if let Some((key, id)) = &after {
            ask = ask.key_marker(key).upload_id_marker(id);
        }
        let page = ask.send().await.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(error)))?;
        found.extend(page.uploads().iter().filter_map(|upload| {
            Some(Unfinished { key: upload.key()?.to_owned(), id: upload.upload_id()?.to_owned() })
        }));
        after =
            page.next_key_marker().zip(page.next_upload_id_marker()).map(|(key, id)| (key.into(), id.into()));
        if page.is_truncated() != Some(true) || after.is_none() {
            return Ok(found);
        }
    }
}

/// Discards uploads and their parts.
///
/// # Errors
/// S3.
pub async fn discard(s3: &Client, bucket: &str, uploads: &[Unfinished]) -> anyhow::Result<()> {
    for upload in uploads {
        let abort = s3.abort_multipart_upload().bucket(bucket).key(&upload.key).upload_id(&upload.id);
        if let Err(error) = abort.send().await {
            // Somebody else was faster.
            if error.code() != Some("NoSuchUpload") {
                anyhow::bail!("{}", DisplayErrorContext(error));
            }
        }
    }
    Ok(())
}
