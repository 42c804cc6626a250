//! What processes tell of themselves at `/metrics`.

use anyhow::{Context as _, Result, ensure};
use stack::platform::Processes;
use stack::process::Running;
use std::time::{Duration, Instant};

/// The value of one series of a process, such as `report_files_total{outcome="completed"}` with its labels in the order of
/// their names; none where it has no such series.
///
/// # Errors
/// Where the process doesn't answer.
pub async fn of(process: &Running, series: &str) -> Result<Option<f64>> {
    let url = process.url().context("a process that is ready at a URL")?;
    let answer = stack::http().get(format!("{url}/metrics")).send().await?;
    ensure!(answer.status().is_success(), "{} at {url}/metrics", answer.status());
    let text = answer.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(value.map(str::parse::<f64>).transpose()?)
}

/// The sum of a counter over all processes of a service.
///
/// # Errors
/// Where none of them has it.
pub async fn sum(service: &Processes, series: &str) -> Result<f64> {
    let mut sum = None;
    for process in service.all() {
        if let Some(value) = of(process, series).await? {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    sum.with_context(|| format!("no process has {series}"))
}

/// Waits until the sums of some counters over all processes of a service are right together.
///
/// # Errors
/// After a minute, or where no process has one of them.
pub async fn until_sums<const N: usize>(
    service: &Processes,
    series: [&str; N],
    right: impl Fn([f64; N]) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut sums = [0.0; N];
        for (sum_of, series) in sums.iter_mut().zip(series) {
            *sum_of = sum(service, series).await?;
        }
        if right(sums) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "{series:?} are {sums:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a series of a process is right.
///
/// # Errors
/// After a minute.
pub async fn until(process: &Running, series: &str, right: impl Fn(Option<f64>) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let value = of(process, series).await?;
        if right(value) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "{series} is {value:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
