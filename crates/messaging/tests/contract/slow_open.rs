//! A consumer that can't be opened, beside others on the same connection.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use contracts::{Queue, Transport};
use messaging::Broker;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::*;

static OTHER: Queue = Queue { name: "test.other", transport: Transport::Amqp, events: &[] };

/// Class and method of `queue.declare-ok`.
const DECLARE_OK: [u8; 4] = [0, 50, 0, 11];
const METHOD: u8 = 1;

/// Stands before RabbitMQ and forwards all frames, but, while it is told to, no answer to a declaration of [`OTHER`].
struct Deaf {
    address: String,
    deaf: Arc<AtomicBool>,
    seen: Arc<Seen>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    dropped: AtomicUsize,
}

impl Deaf {
    async fn before(upstream: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (deaf, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let accepting = tokio::spawn({
            let (deaf, seen) = (deaf.clone(), seen.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    let (upstream, deaf, seen) = (upstream.clone(), deaf.clone(), seen.clone());
                    tokio::spawn(async move {
                        let server = TcpStream::connect(&upstream).await?;
                        let (mut from_client, to_client) = client.into_split();
                        let (from_server, mut to_server) = server.into_split();
                        tokio::select! {
                            copied = tokio::io::copy(&mut from_client, &mut to_server) => copied.map(drop),
                            answered = answers(from_server, to_client, &deaf, &seen.dropped) => answered,
                        }
                    });
                }
            }
        });
        Ok(Self { address, deaf, seen, _accepting: AbortOnDropHandle::new(accepting) })
    }
}

/// Forwards a server's frames: type, channel (2 bytes), size (4), payload, end (1).
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    deaf: &AtomicBool,
    dropped: &AtomicUsize,
) -> io::Result<()> {
    loop {
        let mut frame = vec![0; 7];
        from.read_exact(&mut frame).await?;
        let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
        frame.resize(7 + size + 1, 0);
        from.read_exact(&mut frame[7..]).await?;
        let declared = frame[0] == METHOD && frame[7..].starts_with(&DECLARE_OK);
        let other = frame.windows(OTHER.name.len()).any(|window| window == OTHER.name.as_bytes());
        if declared && other && deaf.load(Ordering::SeqCst) {
            dropped.fetch_add(1, Ordering::SeqCst);
        } else {
            to.write_all(&frame).await?;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_cannot_be_opened_disturbs_no_other() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let url = rig.config.amqp_url.clone().context("an address")?;
    let (before, rest) = url.split_once('@').context("a user in the address")?;
    let (upstream, path) = rest.split_once('/').unwrap_or((rest, ""));
    let proxy = Deaf::before(upstream.to_owned()).await?;
    let mut config = rig.config.clone();
    config.amqp_url = Some(format!("{before}@{}/{path}", proxy.address));
    let broker = Broker::new(config)?;
    broker.declare(&[&WORK, &OTHER]).await?;

    let (tell, mut reports) = reports();
    let first = consume(&broker, quick(), {
        let tell = tell.clone();
        move |task, context| {
            let _ = tell.send(("first", task, context.attempt));
            async { Ok(()) }
        }
    });
    rig.send("before").await?;
    assert_eq!(reports.next().await?, ("first", "before".into(), 1));
    let connections = proxy.seen.connections.load(Ordering::SeqCst);

    proxy.deaf.store(true, Ordering::SeqCst);
    let second = consume_from(&broker, &OTHER, quick(), move |task, context| {
        let _ = tell.send(("second", task, context.attempt));
        async { Ok(()) }
    });
    // It has given up twice, and asks again: whoever looks how deep the queue is asks, too. Meanwhile the other goes on.
    let mut sent = 0;
    until("the consumer is opened again", async || {
        sent += 1;
        let task = sent.to_string();
        rig.send(&task).await?;
        assert_eq!(reports.next().await?, ("first", task, 1));
        Ok(proxy.seen.dropped.load(Ordering::SeqCst) > 4)
    })
    .await?;
    assert_eq!(proxy.seen.connections.load(Ordering::SeqCst), connections, "on the same connection");

    proxy.deaf.store(false, Ordering::SeqCst);
    let mut message = command("other")?;
    message.destination = messaging::Destination::Queue(OTHER.name.into());
    insist(&broker, &message).await?;
    assert_eq!(reports.next().await?, ("second", "other".into(), 1));
    first.stop().await?;
    second.stop().await?;
    assert!(reports.rest().is_empty(), "and nothing came twice");
    Ok(())
}
