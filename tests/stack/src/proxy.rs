//! A TCP proxy that misbehaves on demand: put it between a client and its server.

use crate::ports;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the proxy does to its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Forwards.
    Heal,
    /// Resets every connection and refuses new ones.
    Cut,
    /// Accepts, keeps what is open, forwards nothing.
    Stall,
    /// Forwards this many bytes a second, a direction of a connection.
    Slow(u64),
    /// Forwards what clients send, and answers until so many bytes of them went by in all.
    AnswerUntil(u64),
}

type Command = (Mode, oneshot::Sender<()>);

/// A proxy on 127.0.0.1. Each change of mode has taken effect once its call returns. Dropping it closes
/// everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    commands: mpsc::Sender<Command>,
    counts: Arc<Counts>,
    _closed: tokio_util::sync::DropGuard,
}

/// What goes by, over all connections.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Bytes from servers that were forwarded.
    answered: AtomicU64,
    /// Bytes from servers that have arrived here and are held back.
    withheld: AtomicU64,
}

impl Counts {
    /// Of `read` bytes from a server, how many may be forwarded.
    fn grant(&self, read: usize, mode: Mode) -> usize {
        let grant = |answered: u64| match mode {
            Mode::AnswerUntil(end) => (read as u64).min(end.saturating_sub(answered)),
            _ => read as u64,
        };
        let before = self
            .answered
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |answered| Some(answered + grant(answered)));
        grant(before.unwrap_or_else(|answered| answered)) as usize
    }
}

impl Proxy {
    /// Starts a proxy before `upstream`, `host:port`.
    ///
    /// # Errors
    /// Where it can't listen.
    pub async fn start(upstream: &str) -> Result<Self> {
        let port = ports::free()?;
        let listener = listen(port).await?;
        let (commands, inbox) = mpsc::channel(1);
        let counts = Arc::new(Counts::default());
        let closed = CancellationToken::new();
        let control = Control {
            port,
            upstream: upstream.to_owned(),
            mode: watch::Sender::new(Mode::Heal),
            counts: counts.clone(),
            connections: JoinSet::new(),
            cut: CancellationToken::new(),
        };
        tokio::spawn(closed.clone().run_until_cancelled_owned(control.run(listener, inbox)));
        Ok(Self { port, commands, counts, _closed: closed.drop_guard() })
    }

    /// Starts a proxy before the server of `url`, and returns it with the URL that leads through it.
    ///
    /// # Errors
    /// Where the URL names no host and port, or the proxy can't listen.
    pub async fn before(url: &str) -> Result<(Self, String)> {
        let mut through = reqwest::Url::parse(url)?;
        let host = through.host_str().context("a URL with a host")?;
        let port = through.port().context("a URL with a port")?;
        let proxy = Self::start(&format!("{host}:{port}")).await?;
        anyhow::ensure!(through.set_port(Some(proxy.port)).is_ok(), "{url} takes no port");
        let mut text = String::from(through);
        // An endpoint given without a final slash should come back without.
        if !url.ends_with('/') && text.ends_with('/') {
            text.pop();
        }
        Ok((proxy, text))
    }

    /// Where it listens, `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open, to the client or to the server.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// How many bytes it has forwarded from servers to clients so far.
    pub fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::SeqCst)
    }

    /// How many bytes from servers it holds back now, under [`Proxy::limit_answers`]. What the server sends beyond
    /// a buffer's worth it does not even read.
    pub fn withheld(&self) -> u64 {
        self.counts.withheld.load(Ordering::SeqCst)
    }

    /// Resets every connection and refuses new ones, as a server that died does.
    pub async fn cut(&self) {
        self.set(Mode::Cut).await;
    }

    /// Accepts connections and keeps those that are open, but forwards nothing, as a network that drops
    /// packets does.
    pub async fn stall(&self) {
        self.set(Mode::Stall).await;
    }

    /// Forwards `bytes_per_second` each way of each connection.
    pub async fn slow(&self, bytes_per_second: u64) {
        self.set(Mode::Slow(bytes_per_second.max(1))).await;
    }

    /// Forwards what clients send, and `bytes` more of what servers answer, over all connections together; the rest
    /// is held back. Then [`Proxy::cut`] makes a client that does not know what its server has done, and
    /// [`Proxy::heal`] tells it late.
    pub async fn limit_answers(&self, bytes: u64) {
        self.set(Mode::AnswerUntil(self.answered().saturating_add(bytes))).await;
    }

    /// Forwards as if nothing had happened; stalled connections go on.
    pub async fn heal(&self) {
        self.set(Mode::Heal).await;
    }

    async fn set(&self, mode: Mode) {
        let (done, wait) = oneshot::channel();
        if self.commands.send((mode, done)).await.is_ok() {
            // An error would mean that the proxy's runtime is shutting down: nothing is left to change.
            let _ = wait.await;
        }
    }
}

async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| format!("listen on port {port}"))
}

struct Control {
    port: u16,
    upstream: String,
    mode: watch::Sender<Mode>,
    counts: Arc<Counts>,
    connections: JoinSet<()>,
    cut: CancellationToken,
}

impl Control {
    async fn run(mut self, listener: TcpListener, mut commands: mpsc::Receiver<Command>) {
        let mut listener = Some(listener);
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some((mode, done)) = command else { return };
                    if mode == Mode::Cut {
                        listener = None;
                        self.cut_all().await;
                    } else if listener.is_none() {
                        listener = self.listen_again().await;
                    }
                    self.mode.send_replace(mode);
                    // Whoever asked may have given up waiting.
                    let _ = done.send(());
                }
                accepted = accept(listener.as_ref()) => {
                    if let Ok((client, _)) = accepted {
                        self.counts.accepted.fetch_add(1, Ordering::SeqCst);
                        self.counts.open.fetch_add(1, Ordering::SeqCst);
                        let (upstream, mode, cut) = (self.upstream.clone(), self.mode.subscribe(), self.cut.clone());
                        let counts = self.counts.clone();
                        self.connections.spawn(async move {
                            forward(client, upstream, mode, cut, &counts).await;
                            counts.open.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    async fn cut_all(&mut self) {
        self.cut.cancel();
        while self.connections.join_next().await.is_some() {}
        // What was held back went with its connection.
        self.counts.withheld.store(0, Ordering::SeqCst);
        self.cut = CancellationToken::new();
    }

    async fn listen_again(&self) -> Option<TcpListener> {
        for _ in 0..100 {
            if let Ok(listener) = listen(self.port).await {
                return Some(listener);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("proxy: port {} was taken while cut", self.port);
        None
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn forward(
    client: TcpStream,
    upstream: String,
    mut mode: watch::Receiver<Mode>,
    cut: CancellationToken,
    counts: &Counts,
) {
    let connect = async {
        flowing(&mut mode).await;
        TcpStream::connect(&upstream).await
    };
    let server = tokio::select! {
        server = connect => server,
        () = cut.cancelled() => {
            reset(&client);
            return;
        }
    };
    // A server that refuses looks to the client like a connection that closes.
    let Ok(server) = server else { return };
    for socket in [&client, &server] {
        // Only latency is at stake.
        let _ = socket.set_nodelay(true);
    }
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let both = async {
        tokio::join!(
            pump(&mut client_in, &mut server_out, mode.clone(), None),
            pump(&mut server_in, &mut client_out, mode.clone(), Some(counts))
        )
    };
    let cut_short = tokio::select! {
        _ = both => false,
        () = cut.cancelled() => true,
    };
    if cut_short {
        reset(client_out.as_ref());
        reset(server_out.as_ref());
        // Dropped, they would first say an orderly goodbye.
        client_out.forget();
        server_out.forget();
    }
}

/// Makes the coming close a reset, as after a crash, instead of an orderly end.
fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

/// Waits while the proxy is stalled.
async fn flowing(mode: &mut watch::Receiver<Mode>) {
    // It fails where the proxy goes, and this task with it.
    let _ = mode.wait_for(|mode| *mode != Mode::Stall).await;
}

/// Copies one direction until its end, then passes the end on. `answers` counts what servers send.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    answers: Option<&Counts>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let most = match *mode.borrow() {
            // Twenty small steps a second look like a slow line, not like bursts.
            Mode::Slow(rate) => usize::try_from(rate / 20).unwrap_or(usize::MAX).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        // A broken connection ends here like a closed one: the other side is told either way.
        let read = from.read(&mut buffer[..most]).await.unwrap_or(0);
        // What arrived while stalled stays here until it is healed.
        flowing(&mut mode).await;
        let written = match answers {
            Some(counts) => answer(to, &buffer[..read], &mut mode, counts).await,
            None => to.write_all(&buffer[..read]).await,
        };
        if read == 0 || written.is_err() {
            let _ = to.shutdown().await;
            return;
        }
        let now = *mode.borrow_and_update();
        if let Mode::Slow(rate) = now {
            let pause = Duration::from_secs_f64(read as f64 / rate as f64);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = mode.changed() => {}
            }
        }
    }
}

/// Forwards what a server sent, as far as answers may go; holds the rest back until the mode changes.
async fn answer(
    to: &mut OwnedWriteHalf,
    mut bytes: &[u8],
    mode: &mut watch::Receiver<Mode>,
    counts: &Counts,
) -> std::io::Result<()> {
    loop {
        let now = *mode.borrow_and_update();
        let (granted, rest) = bytes.split_at(counts.grant(bytes.len(), now));
        to.write_all(granted).await?;
        bytes = rest;
        if bytes.is_empty() {
            return Ok(());
        }
        counts.withheld.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        // It fails where the proxy goes, and this task with it.
        let _ = mode.changed().await;
        flowing(mode).await;
        counts.withheld.fetch_sub(bytes.len() as u64, Ordering::SeqCst);
    }
}
