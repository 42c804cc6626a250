//! A workbook through the gateway, watched until it is done.

use super::state::Demo;
use super::tools;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response};
use serde::Deserialize;
use stack::workbook::Summary;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many errors are printed.
const SHOWN: usize = 6;

#[derive(clap::Args)]
pub struct Arguments {
    /// The workbook: .xlsx or .csv
    file: PathBuf,
    /// Whose products these are
    #[arg(long, default_value = "PROV001")]
    proveedor: String,
    /// Update products that are there already, rather than reject their rows
    #[arg(long)]
    replace: bool,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Wait until it is done, with a progress bar
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    user: User,
}

/// Who asks: the stack's administrator, unless told.
#[derive(clap::Args)]
pub struct User {
    /// Who asks; without it, the administrator
    #[arg(long)]
    user: Option<String>,
    /// Its password
    #[arg(long, env = "LOTE_PASSWORD", hide_env_values = true, requires = "user")]
    password: Option<String>,
}

#[derive(Deserialize)]
struct Login {
    access_token: String,
}

/// The answer to an upload.
#[derive(Deserialize)]
pub struct Accepted {
    pub task_id: String,
    pub status_url: String,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    progress: Progress,
    result: Option<Outcome>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Progress {
    total: Option<u64>,
    processed: u64,
}

/// What became of an import.
#[derive(Deserialize)]
pub struct Outcome {
    pub resumen: Summary,
    errores: Vec<RowError>,
}

#[derive(Deserialize)]
struct RowError {
    fila: u32,
    error: String,
}

/// Uploads a file as the user asks, and says what became of it.
pub async fn upload(arguments: &Arguments) -> Result<()> {
    let demo = tools::demo()?;
    let (client, token) = (stack::http(), token(&demo, &arguments.user).await?);
    let begin = Instant::now();
    let options = [
        ("proveedor_id", arguments.proveedor.clone()),
        ("reemplazar_duplicados", arguments.replace.to_string()),
        ("dry_run", arguments.dry_run.to_string()),
    ];
    let accepted = send(&client, &demo, &token, &arguments.file, &options).await?;
    println!("accepted as {} after {} ms", accepted.task_id, begin.elapsed().as_millis());
    if arguments.watch {
        let outcome = follow(&client, &demo, &token, &accepted, None).await?;
        print(&outcome, begin.elapsed());
    }
    Ok(())
}

/// Prints an access token.
pub async fn login(user: &User) -> Result<()> {
    println!("{}", token(&tools::demo()?, user).await?);
    Ok(())
}

/// An access token of the user.
async fn token(demo: &Demo, user: &User) -> Result<String> {
    match (&user.user, &user.password) {
        (None, _) => admin_token(demo).await,
        (Some(name), Some(password)) => log_in(demo, name, password).await,
        (Some(name), None) => bail!("the password of {name} is missing: --password, or LOTE_PASSWORD"),
    }
}

/// An access token of the stack's administrator.
pub async fn admin_token(demo: &Demo) -> Result<String> {
    log_in(demo, &demo.wiring.admin_user, &demo.wiring.admin_password).await
}

async fn log_in(demo: &Demo, name: &str, password: &str) -> Result<String> {
    let credentials = serde_json::json!({ "username": name, "password": password });
    let url = format!("{}/api/v1/auth/login", demo.wiring.gateway_url());
    let answer = stack::http().post(url).json(&credentials).send().await.context("log in: make up?")?;
    Ok(body::<Login>(answer, "log in").await?.access_token)
}

/// Uploads a workbook with these options of the endpoint's.
pub async fn send(
    client: &Client,
    demo: &Demo,
    token: &str,
    file: &Path,
    options: &[(&str, String)],
) -> Result<Accepted> {
    let bytes = tokio::fs::read(file).await.with_context(|| format!("read {}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let request = client
        .post(format!("{}/api/v1/catalog/items/bulk-upload", demo.wiring.gateway_url()))
        .query(options)
        .bearer_auth(token)
        .multipart(Form::new().part("file", Part::bytes(bytes).file_name(name)));
    body(request.send().await?, "upload").await
}

/// The answer's document.
///
/// # Errors
/// Where it is no success, with what the gateway said.
pub async fn body<T: serde::de::DeserializeOwned>(answer: Response, what: &str) -> Result<T> {
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{what}: the gateway answered {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("{what}: unexpected answer {text}"))
}

/// Polls the status until the import is over, with a progress bar. Gives up where it stands still for two minutes.
pub async fn follow(
    client: &Client,
    demo: &Demo,
    token: &str,
    accepted: &Accepted,
    rows: Option<u64>,
) -> Result<Outcome> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let url = format!("{}{}", demo.wiring.gateway_url(), accepted.status_url);
    let bar = ProgressBar::new(rows.unwrap_or_default());
    bar.set_style(ProgressStyle::with_template("  {bar:40.green} {pos}/{len} rows  {msg}")?);
    let mut moved = (0, Instant::now());
    loop {
        let status: Status = body(client.get(&url).bearer_auth(token).send().await?, "status").await?;
        // The service counts the rows first.
        if let Some(total) = status.progress.total.filter(|total| *total > 0).or(rows) {
            bar.set_length(total);
        }
        if status.progress.processed != moved.0 {
            moved = (status.progress.processed, Instant::now());
        }
        bar.set_position(status.progress.processed);
        bar.set_message(status.status.clone());
        match (status.status.as_str(), status.result) {
            ("completed", Some(result)) => {
                bar.finish();
                return Ok(result);
            }
            ("failed", _) => {
                bar.abandon();
                bail!("the import failed: {}", status.error.unwrap_or_default());
            }
            (state, _) if moved.1.elapsed() > PATIENCE => {
                bar.abandon();
                bail!("the import is {state} and stands still; see make logs SERVICE=catalog-upload-worker");
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Prints the sums, and the first errors.
pub fn print(outcome: &Outcome, took: Duration) {
    let Summary { total, created, updated, rejected, duplicates, .. } = &outcome.resumen;
    println!("  completed after {:.1} s\n", took.as_secs_f64());
    println!("  {:>8} {:>8} {:>8} {:>9} {:>11}", "ROWS", "CREATED", "UPDATED", "REJECTED", "DUPLICATES");
    println!("  {total:>8} {created:>8} {updated:>8} {rejected:>9} {duplicates:>11}\n");
    if outcome.errores.is_empty() {
        return;
    }
    println!("  {:>8} ERROR", "ROW");
    for error in outcome.errores.iter().take(SHOWN) {
        println!("  {:>8} {}", error.fila, error.error.chars().take(90).collect::<String>());
    }
    if outcome.errores.len() > SHOWN {
        println!("  {:>8} and {} more", "…", outcome.errores.len() - SHOWN);
    }
}
