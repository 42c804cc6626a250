use bytes::Bytes;
use chassis::{
    config::{S3Settings, Secret},
    s3::{self, DownloadError, Gather, UploadError, Uploaded},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sea_orm::sqlx;
use sha2::{Digest as _, Sha256};
use stack::{Namespace, proxy::Proxy};
use std::{
    path::{Path, PathBuf},
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
    let folder = tempfile::tempdir()?;
    let gathers = [Gather::InMemory, Gather::OnDisk(folder.path())];
    let sizes = [(0, false), (5, false), (8 * MIB, false), (8 * MIB + 1, true), (20 * MIB + 3, true)];
    for (gather, (bytes, multipart)) in
        gathers.into_iter().flat_map(|gather| sizes.map(|size| (gather, size)))
    {
        let (key, chunks, file) = (format!("file-{bytes}-{gather:?}"), content(bytes), File::new());
        let key = key.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let stored =
            s3::upload_stream(&client, &namespace.bucket, &key, sending(&chunks), u64::MAX, gather).await?;
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
    let folder = tempfile::tempdir()?;
    let gather = Gather::OnDisk(folder.path());
    let chunks = content(18 * MIB);

    let limit = 17 * MIB as u64;
    let large = s3::upload_stream(&client, bucket, "large", sending(&chunks), limit, gather).await;
    assert!(matches!(large, Err(UploadError::TooLarge { limit: l }) if l == limit), "{large:?}");

    let broken = sending(&chunks).chain(stream::iter([Err("connection reset".to_owned())]));
    let broken = s3::upload_stream(&client, bucket, "broken", broken, u64::MAX, gather).await;
    assert!(matches!(&broken, Err(UploadError::Interrupted(why)) if why == "connection reset"), "{broken:?}");

    // The caller is dropped midway, as actix does with the handler of a client that left.
    let silent = sending(&chunks).chain(stream::pending());
    let dropped = s3::upload_stream(&client, bucket, "dropped", silent, u64::MAX, gather);
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
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

async fn uploads(client: &aws_sdk_s3::Client, bucket: &str) -> anyhow::Result<Vec<String>> {
    let listed = client.list_multipart_uploads().bucket(bucket).send().await?;
    Ok(listed.uploads.unwrap_or_default().into_iter().filter_map(|upload| upload.key).collect())
}

/// Starts uploads, each of which sends some pieces and then nothing. Gives them, and how many pieces were read of all.
fn slow(
    (client, bucket): (&aws_sdk_s3::Client, &str),
    folder: &Path,
    (uploads, pieces): (usize, usize),
    piece: &'static [u8],
) -> (JoinSet<Result<Uploaded, UploadError>>, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let mut under_way = JoinSet::new();
    for number in 0..uploads {
        let (client, bucket, folder, read) =
            (client.clone(), bucket.to_owned(), folder.to_owned(), read.clone());
        under_way.spawn(async move {
            let sent = stream::iter(0..pieces).map(move |_| {
                read.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(Bytes::from_static(piece))
            });
            let (key, sent) = (format!("slow-{number}"), sent.chain(stream::pending()));
            s3::upload_stream(&client, &bucket, &key, sent, u64::MAX, Gather::OnDisk(&folder)).await
        });
    }
    (under_way, read)
}

#[tokio::test]
async fn slow_uploads_keep_nobody_out() -> anyhow::Result<()> {
    let (namespace, client) = store("chassis-s3-slow").await?;
    let (bucket, folder) = (namespace.bucket.as_str(), tempfile::tempdir()?);
    // Most of a part each, and far more of them than parts may be in memory.
    let (mut uploads, read) = slow((&client, bucket), folder.path(), (40, 7), &[b'x'; MIB]);
    stack::wait::until("all that they send is read", Duration::from_secs(20), async || {
        read.load(Ordering::SeqCst) == 40 * 7
    })
    .await?;

    let chunks = content(3 * MIB);
    let quick = s3::upload_stream(
        &client,
        bucket,
        "quick",
        sending(&chunks),
        u64::MAX,
        Gather::OnDisk(folder.path()),
    );
    let stored = tokio::time::timeout(Duration::from_secs(10), quick).await??;
    assert_eq!(stored, Uploaded { bytes: 3 * MIB as u64, sha256: sha256(&chunks) });
    assert!(uploads.try_join_next().is_none(), "the slow ones are still under way");

    uploads.shutdown().await;
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "nothing is left of what broke off");
    Ok(())
}

#[tokio::test]
async fn a_bounded_number_of_slow_uploads_is_on_disk_and_gives_way_to_others() -> anyhow::Result<()> {
    const BUFFER: usize = 256 << 10;
    let (namespace, client) = store("chassis-s3-many").await?;
    let (bucket, folder) = (namespace.bucket.as_str(), tempfile::tempdir()?);
    let (mut uploads, read) = slow((&client, bucket), folder.path(), (300, 3), &[b'x'; BUFFER]);
    // 256 have a file. One that says nothing any more gives way to each of the others, which wait.
    for _ in 0..300 - 256 {
        let ended = tokio::time::timeout(Duration::from_secs(60), uploads.join_next()).await?;
        assert!(matches!(ended, Some(Ok(Err(UploadError::GaveWay)))), "{ended:?}");
    }
    stack::wait::until("all that they send is read", Duration::from_secs(20), async || {
        read.load(Ordering::SeqCst) == 300 * 3
    })
    .await?;
    assert!(uploads.try_join_next().is_none(), "nobody waits for those that are left");
    uploads.shutdown().await;

    // Their places are free again.
    let (chunks, gather) = (content(9 * MIB), Gather::OnDisk(folder.path()));
    let stored = s3::upload_stream(&client, bucket, "next", sending(&chunks), u64::MAX, gather).await?;
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
    s3::upload_stream(&client, &namespace.bucket, "something", sending(&content(9)), 9, Gather::InMemory)
        .await?;
    assert!(s3::exists(&client, &namespace.bucket, "something").await?);

    let (proxy, url) = Proxy::before(&namespace.servers().aws_endpoint).await?;
    let client = s3::client(&settings(&namespace, url)).await;
    proxy.cut().await;
    let outage = s3::download(&client, &namespace.bucket, "nothing", &file.0).await;
    assert!(matches!(outage, Err(DownloadError::Store(_))), "{outage:?}");
    assert!(s3::exists(&client, &namespace.bucket, "nothing").await.is_err(), "nobody knows");
    let upload =
        s3::upload_stream(&client, &namespace.bucket, "new", sending(&content(9)), 9, Gather::InMemory).await;
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
