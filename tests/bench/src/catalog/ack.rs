use super::{Arena, SUPPLIER};
use crate::figure::{Figure, percentile};
use anyhow::{Context, Result, ensure};
use stack::platform::UPLOAD;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SAMPLES: usize = 40;
const BYTES: usize = 6_000_000;

/// `ack_6mb`: from the last byte of a workbook handed to the socket until the 202, through the gateway, while the
/// worker imports the uploads before.
pub async fn measure(arena: &Arena) -> Result<()> {
    // A larger workbook takes a little less a row: until it is large enough.
    let mut rows = 5_000;
    let workbook = loop {
        let (file, _) = arena.workbook("ACK", rows)?;
        let workbook = tokio::fs::read(&file).await?;
        if workbook.len() >= BYTES {
            break workbook;
        }
        rows = (rows as f64 * 1.005 * BYTES as f64 / workbook.len() as f64) as usize;
    };
    let client = arena.platform.admin().await?;
    let token = client.token().context("an access token")?;
    let mut milliseconds = Vec::with_capacity(SAMPLES);
    // The first opens connections and caches.
    for sample in 0..=SAMPLES {
        let took = upload(&arena.platform.gateway_url(), token, &workbook).await?;
        if sample > 0 {
            milliseconds.push(took);
        }
    }
    Figure::new("catalog", "ack_6mb", percentile(milliseconds.clone(), 95.0), "ms p95")
        .n(SAMPLES)
        .with("bytes", workbook.len().into())
        .with("rows", rows.into())
        .number("p50", percentile(milliseconds, 50.0))
        .print();
    Ok(())
}

/// An HTTP client of a few lines: a real one doesn't tell when it has written the last byte.
async fn upload(gateway: &str, token: &str, workbook: &[u8]) -> Result<f64> {
    let address = gateway.strip_prefix("http://").context("an HTTP address")?;
    let part = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"ack.xlsx\"\r\n\
                Content-Type: application/octet-stream\r\n\r\n";
    let end = "\r\n--b--\r\n";
    let length = part.len() + workbook.len() + end.len();
    let head = format!(
        "POST {UPLOAD}?proveedor_id={SUPPLIER} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await?;
    for piece in [head.as_bytes(), part.as_bytes(), workbook, end.as_bytes()] {
        stream.write_all(piece).await?;
    }
    stream.flush().await?;
    let sent = Instant::now();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    let took = sent.elapsed();
    ensure!(&answer == b"HTTP/1.1 202", "answered {}", String::from_utf8_lossy(&answer));
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(took.as_secs_f64() * 1_000.0)
}
