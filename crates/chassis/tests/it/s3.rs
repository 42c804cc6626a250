use bytes::Bytes;
use chassis::{
    config::{S3Settings, Secret},
    s3::{self, DownloadError, UploadError, Uploaded},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sea_orm::sqlx;
use sha2::{Digest as _, Sha256};
use stack::{Namespace, proxy::Proxy};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const MIB: usize = 1 << 20;

async fn store(label: &str) -> anyhow::Result<(Namespace, aws_sdk_s3::Client)> {
    let namespace = Namespace::create(label).await?;
    let client = s3::client(&settings(&namespace, namespace.servers().aws_endpoint.clone())).await;
    Ok((namespace, client))
}

fn settings(namespace: &Namespace, endpoint: String) -> S3Settings {
    S3Settings {
        endpoint: Some(endpoint),
        region: "us-east-1".into(),
        credentials: Some(("test".into(), Secret::new("test".into()))),
        bucket: namespace.bucket.clone(),
    }
}

/// `bytes` of content that differs from part to part, in uneven chunks.
fn content(bytes: usize) -> Vec<Bytes> {
    let all: Vec<u8> = (0..bytes).map(|i| ((i >> 12) ^ i) as u8).collect();
    all.chunks(700_001).map(Bytes::copy_from_slice).collect()
}

fn sending(chunks: &[Bytes]) -> impl Stream<Item = Result<Bytes, String>> {
    stream::iter(chunks.to_vec()).map(Ok)
}

fn sha256(chunks: &[Bytes]) -> String {
    hex(chunks.iter().fold(Sha256::new(), |hash, chunk| hash.chain_update(chunk)).finalize().as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct File(PathBuf);

impl File {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("chassis-{}", uuid::Uuid::now_v7())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn what_is_stored_comes_back_whatever_its_size() -> anyhow::Result<()> {
    let (namespace, client) = store("chassis-s3-sizes").await?;
    // Empty, small, a part exactly, a byte more, several parts.
    for (bytes, multipart) in
        [(0, false), (5, false), (8 * MIB, false), (8 * MIB + 1, true), (20 * MIB + 3, true)]
    {
        let (key, chunks, file) = (format!("file-{bytes}"), content(bytes), File::new());
        let stored = s3::upload_stream(&client, &namespace.bucket, &key, sending(&chunks), u64::MAX).await?;
        assert_eq!(stored, Uploaded { bytes: bytes as u64, sha256: sha256(&chunks) });
        assert_eq!(s3::download(&client, &namespace.bucket, &key, &file.0).await?, bytes as u64);
        assert!(std::fs::read(&file.0)? == chunks.concat(), "{bytes} bytes came back changed");
        // S3 marks the tag of an object that was put together from parts.
        let head = client.head_object().bucket(&namespace.bucket).key(&key).send().await?;
        assert_eq!(head.e_tag.is_some_and(|tag| tag.contains('-')), multipart, "{bytes}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_an_upload_that_is_refused_or_breaks_off() -> anyhow::Result<()> {
    let (namespace, client) = store("chassis-s3-abort").await?;
    let bucket = &namespace.bucket;
    let chunks = content(18 * MIB);

    let limit = 17 * MIB as u64;
    let large = s3::upload_stream(&client, bucket, "large", sending(&chunks), limit).await;
    assert!(matches!(large, Err(UploadError::TooLarge { limit: l }) if l == limit), "{large:?}");

    let broken = sending(&chunks).chain(stream::iter([Err("connection reset".to_owned())]));
    let broken = s3::upload_stream(&client, bucket, "broken", broken, u64::MAX).await;
    assert!(matches!(&broken, Err(UploadError::Interrupted(why)) if why == "connection reset"), "{broken:?}");

    // The caller is dropped midway, as actix does with the handler of a client that left.
    let silent = sending(&chunks).chain(stream::pending());
    let dropped = s3::upload_stream(&client, bucket, "dropped", silent, u64::MAX);
    let begun = stack::wait::until("parts of it are stored", Duration::from_secs(20), async || {
        uploads(&client, bucket).await.is_ok_and(|keys| keys.contains(&"dropped".to_owned()))
    });
    tokio::select! {
        outcome = dropped => anyhow::bail!("a stream without an end ended: {outcome:?}"),
        begun = begun => begun?,
    }

    stack::wait::until("all parts are discarded", Duration::from_secs(20), async || {
        uploads(&client, bucket).await.is_ok_and(|keys| keys.is_empty())
    })
    .await?;
    assert_eq!(client.list_objects_v2().bucket(bucket).send().await?.key_count, Some(0));
    Ok(())
}

async fn uploads(client: &aws_sdk_s3::Client, bucket: &str) -> anyhow::Result<Vec<String>> {
    let listed = client.list_multipart_uploads().bucket(bucket).send().await?;
    Ok(listed.uploads.unwrap_or_default().into_iter().filter_map(|upload| upload.key).collect())
}

#[tokio::test]
async fn however_many_send_slowly_twelve_parts_are_in_memory() -> anyhow::Result<()> {
    const HALF: usize = MIB / 2;
    let (namespace, client) = store("chassis-s3-slow").await?;
    let polled = Arc::new(AtomicUsize::new(0));
    let mut uploads = JoinSet::new();
    for number in 0..40 {
        let (client, bucket, polled) = (client.clone(), namespace.bucket.clone(), polled.clone());
        uploads.spawn(async move {
            // Two megabytes of a file whose rest is long in coming.
            let chunks = stream::iter(0..4).map(move |_| {
                polled.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(Bytes::from_static(&[b'x'; HALF]))
            });
            let key = format!("slow-{number}");
            s3::upload_stream(&client, &bucket, &key, chunks.chain(stream::pending()), u64::MAX).await
        });
    }
    // Twelve have a place; of the others a megabyte is kept, and the chunk that did not fit.
    let held = 12 * 4 + 28 * 3;
    stack::wait::until("all are under way", Duration::from_secs(10), async || {
        polled.load(Ordering::SeqCst) >= held
    })
    .await?;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(polled.load(Ordering::SeqCst), held, "what nobody has room for is read");
    uploads.shutdown().await;

    // Their places are free again.
    let chunks = content(9 * MIB);
    let stored = s3::upload_stream(&client, &namespace.bucket, "next", sending(&chunks), u64::MAX).await?;
    assert_eq!(stored.bytes, 9 * MIB as u64);
    Ok(())
}

#[tokio::test]
async fn a_missing_object_is_told_from_an_outage() -> anyhow::Result<()> {
    let (namespace, client) = store("chassis-s3-missing").await?;
    let file = File::new();
    let missing = s3::download(&client, &namespace.bucket, "nothing", &file.0).await;
    assert!(matches!(&missing, Err(DownloadError::Missing { key, .. }) if key == "nothing"), "{missing:?}");
    assert!(!s3::exists(&client, &namespace.bucket, "nothing").await?);
    s3::upload_stream(&client, &namespace.bucket, "something", sending(&content(9)), 9).await?;
    assert!(s3::exists(&client, &namespace.bucket, "something").await?);

    let (proxy, url) = Proxy::before(&namespace.servers().aws_endpoint).await?;
    let client = s3::client(&settings(&namespace, url)).await;
    proxy.cut().await;
    let outage = s3::download(&client, &namespace.bucket, "nothing", &file.0).await;
    assert!(matches!(outage, Err(DownloadError::Store(_))), "{outage:?}");
    assert!(s3::exists(&client, &namespace.bucket, "nothing").await.is_err(), "nobody knows");
    let upload = s3::upload_stream(&client, &namespace.bucket, "new", sending(&content(9)), 9).await;
    assert!(matches!(upload, Err(UploadError::Store(_))), "{upload:?}");
    Ok(())
}

#[tokio::test]
async fn a_bucket_that_cannot_be_asked_is_a_finding_and_a_database_is_not() -> anyhow::Result<()> {
    let (_namespace, client) = store("chassis_s3_unasked").await?;
    let mut pages = std::pin::pin!(s3::list(&client, "lote-no-such-bucket", ""));
    let found = s3::or_unasked(pages.try_next().await.map(|_| Vec::new()))?;
    assert!(matches!(&*found, [one] if one.starts_with("the bucket can't be asked: ")), "{found:?}");
    assert!(s3::or_unasked(Err(sqlx::Error::PoolClosed.into())).is_err());
    assert_eq!(s3::or_unasked(Ok(vec!["a stray".to_owned()]))?, ["a stray"]);
    Ok(())
}
