use super::{Callers, page};
use crate::figure::{Figure, percentile};
use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use stack::platform::{Client, UPLOAD};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

const SAMPLES: usize = 2_000;
/// 200 forms a second.
const PAUSE: Duration = Duration::from_millis(5);

/// What is wrong with them: a part whose header is none, a form that ends without its boundary, no part at all.
const FORMS: [&str; 3] = [
    "--b\r\nContent-Disposition form-data\r\n\r\nx\r\n--b--\r\n",
    "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nid;name\r\n--",
    "--b--\r\n",
];

/// `malformed_forms`: p99 of one user's reads while another sends 200 malformed forms a second; floor: the same
/// reads before.
pub async fn measure(callers: &Callers, other: &Client) -> Result<()> {
    let before = reads(&callers.through).await?;
    let (stop, stopped) = mpsc::channel(1);
    let attack = tokio::spawn(send(other.clone(), stopped));
    let during = reads(&callers.through).await?;
    drop(stop);
    let sent = attack.await??;
    ensure!(sent >= 200, "only {sent} forms were sent");
    Figure::new("gateway", "malformed_forms", percentile(during, 99.0), "ms p99")
        .floor_of_time(percentile(before, 99.0))
        .n(SAMPLES)
        .with("forms", sent.into())
        .print();
    Ok(())
}

async fn reads(client: &Client) -> Result<Vec<f64>> {
    let mut milliseconds = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        milliseconds.push(page(client).await?);
    }
    Ok(milliseconds)
}

/// Sends forms until it is told to stop; each must be refused as the caller's own fault. Says how many.
async fn send(client: Client, mut stopped: mpsc::Receiver<()>) -> Result<usize> {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answers = tokio::task::JoinSet::new();
    for form in FORMS.iter().cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.recv() => break,
        }
        let request = client
            .request(Method::POST, &format!("{UPLOAD}?proveedor_id=PROV-OTHER"))
            .header("Content-Type", "multipart/form-data; boundary=b")
            .body(*form);
        answers.spawn(async move { request.send().await.map(|answer| answer.status()) });
    }
    let sent = answers.len();
    for answer in answers.join_all().await {
        let status = answer?;
        ensure!(status == StatusCode::BAD_REQUEST || status == StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    }
    Ok(sent)
}
