//! The fault proxy does what it says.

use anyhow::{Context, Result, ensure};
use stack::proxy::Proxy;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A server that sends back what it gets; returns its address.
async fn echo() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(address)
}

async fn round_trip(socket: &mut TcpStream, text: &[u8]) -> Result<()> {
    socket.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await.context("no echo")??;
    ensure!(answer == text, "the echo differs");
    Ok(())
}

#[tokio::test]
async fn forwards_and_passes_the_end_on() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut socket = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut socket, &vec![7; 1_000_000]).await?;
    socket.shutdown().await?;
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), socket.read_to_end(&mut rest)).await??;
    ensure!(rest.is_empty() && proxy.accepted() == 1);
    Ok(())
}

#[tokio::test]
async fn cut_resets_what_is_open_and_refuses_until_healed() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut open = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut open, b"before").await?;

    proxy.cut().await;
    let error = open.read_u8().await.err().context("the open connection should break")?;
    ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    let error = TcpStream::connect(proxy.address()).await.err().context("it should refuse")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");

    proxy.heal().await;
    round_trip(&mut TcpStream::connect(proxy.address()).await?, b"after").await
}

#[tokio::test]
async fn stall_keeps_connections_and_delivers_after_healing() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut open = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut open, b"before").await?;

    proxy.stall().await;
    open.write_all(b"held").await?;
    let mut fresh = TcpStream::connect(proxy.address()).await?;
    fresh.write_all(b"held").await?;
    let mut answer = [0; 4];
    for socket in [&mut open, &mut fresh] {
        let silence = timeout(Duration::from_millis(300), socket.read_exact(&mut answer)).await;
        ensure!(silence.is_err(), "a stalled proxy forwarded something");
    }

    proxy.heal().await;
    for socket in [&mut open, &mut fresh] {
        timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await??;
        ensure!(&answer == b"held");
    }
    Ok(())
}

#[tokio::test]
async fn slow_keeps_to_its_rate_until_healed() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut socket = TcpStream::connect(proxy.address()).await?;
    proxy.slow(20_000).await;
    let start = Instant::now();
    round_trip(&mut socket, &[1; 10_000]).await?;
    ensure!(start.elapsed() > Duration::from_millis(400), "half a second's bytes took {:?}", start.elapsed());
    proxy.heal().await;
    let start = Instant::now();
    round_trip(&mut socket, &[1; 1_000_000]).await?;
    ensure!(start.elapsed() < Duration::from_secs(10), "a healed proxy is still slow");
    Ok(())
}

#[tokio::test]
async fn limited_answers_end_in_their_midst_and_go_on_after_healing() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut socket = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut socket, b"before").await?;
    ensure!(proxy.answered() == 6 && proxy.withheld() == 0);

    proxy.limit_answers(4).await;
    socket.write_all(b"answered").await?;
    let mut answer = [0; 4];
    timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await??;
    ensure!(&answer == b"answ");
    // The server has it all: what it says to that has come as far as the proxy.
    until_withheld(&proxy, 4).await?;
    let silence = timeout(Duration::from_millis(300), socket.read_exact(&mut answer)).await;
    ensure!(silence.is_err(), "an answer beyond the limit was forwarded");

    proxy.heal().await;
    timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await??;
    ensure!(&answer == b"ered" && proxy.withheld() == 0 && proxy.answered() == 14);
    round_trip(&mut socket, b"after").await
}

#[tokio::test]
async fn a_cut_takes_answers_that_were_held_back_with_it() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut socket = TcpStream::connect(proxy.address()).await?;
    proxy.limit_answers(4).await;
    socket.write_all(b"answered").await?;
    until_withheld(&proxy, 4).await?;

    proxy.cut().await;
    let mut known = Vec::new();
    let error = socket.read_to_end(&mut known).await.err().context("the connection should break")?;
    ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    ensure!(known == b"answ", "the client should know of half, and knows {known:?}");
    ensure!(proxy.withheld() == 0);

    proxy.heal().await;
    round_trip(&mut TcpStream::connect(proxy.address()).await?, b"after").await
}

async fn until_withheld(proxy: &Proxy, bytes: u64) -> Result<()> {
    stack::wait::until("answers are held back", Duration::from_secs(10), async || proxy.withheld() == bytes)
        .await
}

#[tokio::test]
async fn knows_how_many_connections_are_open() -> Result<()> {
    let proxy = Proxy::start(&echo().await?).await?;
    let mut first = TcpStream::connect(proxy.address()).await?;
    let mut second = TcpStream::connect(proxy.address()).await?;
    round_trip(&mut first, b"one").await?;
    round_trip(&mut second, b"two").await?;
    ensure!(proxy.open() == 2);
    drop(first);
    let limit = Duration::from_secs(10);
    stack::wait::until("one is closed", limit, async || proxy.open() == 1).await?;
    proxy.cut().await;
    ensure!(proxy.open() == 0 && proxy.accepted() == 2);
    Ok(())
}

#[tokio::test]
async fn leads_a_url_through_itself() -> Result<()> {
    let (proxy, url) = Proxy::before("redis://:secret@127.0.0.1:6379").await?;
    ensure!(url == format!("redis://:secret@127.0.0.1:{}", proxy.port()), "{url}");
    let (proxy, url) = Proxy::before("amqp://u:p@127.0.0.1:5672/%2f").await?;
    ensure!(url == format!("amqp://u:p@{}/%2f", proxy.address()), "{url}");
    Ok(())
}
