//! Requests byte for byte as they were found, which clients' libraries don't send: each is answered at once, and as its fault
//! is the sender's. `cases` holds them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use sea_orm::sqlx;
use serde_json::Value;
use stack::{platform::Client, services::SMS_DISPATCH};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// For all answers of a connection. The gateway gives an upload that stalls 30 s.
const AT_ONCE: Duration = Duration::from_secs(25);
const LIMIT: Duration = Duration::from_secs(60);

const WITHOUT_BOUNDARY: &str = include_str!("cases/ends-without-boundary.http");
const PART_LENGTH: &str = include_str!("cases/part-length-tiny.http");
const NUL: &str = include_str!("cases/nul-in-parameters.http");

/// Sends requests over one connection, and reads until the server closes it, as the last of them asks for.
async fn send(client: &Client, requests: &str) -> Result<String> {
    let host = client.base().trim_start_matches("http://");
    let requests =
        requests.replace("{{HOST}}", host).replace("{{TOKEN}}", client.token().context("a token")?);
    let mut connection = TcpStream::connect(host).await?;
    connection.write_all(requests.as_bytes()).await?;
    let mut answers = Vec::new();
    timeout(AT_ONCE, connection.read_to_end(&mut answers))
        .await
        .with_context(|| format!("after {:?}", String::from_utf8_lossy(&answers)))??;
    Ok(String::from_utf8_lossy(&answers).into_owned())
}

/// Of one request: the status, and the JSON that came with it.
async fn send_one(client: &Client, request: &str) -> Result<(u16, Value)> {
    let request = request.replacen("Host: ", "Connection: close\r\nHost: ", 1);
    let answer = send(client, &request).await?;
    let status = statuses(&answer).first().copied().with_context(|| answer.clone())?;
    let body = answer.find('{').zip(answer.rfind('}')).map(|(start, end)| &answer[start..=end]);
    Ok((status, serde_json::from_str(body.unwrap_or_default()).with_context(|| answer.clone())?))
}

/// The statuses of answers that came one after another.
fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

async fn imports(scene: &Scene) -> Result<i64> {
    let pool = scene.platform.catalog().await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM imports").fetch_one(&pool).await?)
}

async fn objects(scene: &Scene) -> Result<usize> {
    let place = &scene.platform.place;
    let url = format!("{}/{}?list-type=2", place.servers().aws_endpoint, place.bucket());
    let listed = stack::http().get(url).send().await?.error_for_status()?.text().await?;
    Ok(listed.matches("<Key>").count())
}

#[tokio::test]
async fn a_form_that_was_found_is_taken_whole_or_not_at_all() -> Result<()> {
    let scene = Scene::start("rawforms", |options| options).await?;
    let supplier = scene.platform.supplier("PROV001").await?;

    let (status, problem) = send_one(&supplier, WITHOUT_BOUNDARY).await?;
    let code = problem["code"].as_str().unwrap_or_default();
    ensure!(status == 400 && ["upload_interrupted", "invalid_multipart"].contains(&code), "{problem:#}");
    ensure!(imports(&scene).await? == 0 && objects(&scene).await? == 0, "something of it is left");

    let (status, accepted) = send_one(&supplier, PART_LENGTH).await?;
    ensure!(status == 202, "{status} {accepted:#}");
    let task = accepted["task_id"].as_str().context("a task_id")?;
    let done = supplier.finished(task, LIMIT).await?;
    let resumen = &done["result"]["resumen"];
    ensure!(resumen["productos_creados"] == 2 && resumen["total"] == 2, "{done:#}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_text_in_a_parameter_that_was_found_is_the_senders_fault() -> Result<()> {
    let scene = Scene::start("rawnul", |options| options.workers(0).with(&SMS_DISPATCH, 1)).await?;
    let admin = scene.platform.admin().await?;
    let answers = send(&admin, NUL).await?;
    let statuses = statuses(&answers);
    ensure!(statuses == [400_u16; 6], "{statuses:?}: {answers}");
    Ok(())
}
