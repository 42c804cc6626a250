//! Forms as no browser sends them, through the gateway and the API: each is answered at once, and none with a
//! part of its file.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use stack::{
    Namespace,
    platform::{Answer, Client, Options, Place, Platform, UPLOAD, answer, task_id},
};
use tokio::time::timeout;

use crate::made::*;

/// For an answer. The gateway gives an upload that stalls 30 s.
const AT_ONCE: Duration = Duration::from_secs(25);

async fn send(client: &Client, body: String) -> Result<Answer> {
    let request = client.request(Method::POST, UPLOAD).query(&[("proveedor_id", "PROV001")]);
    let request = request.header("content-type", "multipart/form-data; boundary=lote-b").body(body.clone());
    timeout(AT_ONCE, answer(request)).await.with_context(|| format!("no answer to {body:?}"))?
}

fn part(headers: &str, content: &str) -> String {
    format!(
        "--lote-b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"lista.csv\"\r\n{headers}\r\n{content}"
    )
}

#[tokio::test]
async fn forms_are_whole_or_refused_at_once() -> Result<()> {
    let namespace = Namespace::create("forms").await?;
    let place = Place::of(&namespace).await?;
    let options = Options::new(stack::servers::shared_dir().join("logs").join(&namespace.name));
    let platform = Platform::start(place, &options).await?;
    let supplier = platform.supplier("PROV001").await?;

    let list =
        |tag: &str| csv_header(",") + &csv_row(",", &format!("{tag}-1")) + &csv_row(",", &format!("{tag}-2"));
    let end = "\r\n--lote-b--\r\n";
    for (index, length) in
        ["Content-Length: 300\r\n", "content-length:0\r\n", "Content-Length: 99999\r\n"].iter().enumerate()
    {
        let answered = send(&supplier, part(length, &list(&format!("FORM{index}"))) + end).await?;
        let status = supplier.finished(&task_id(&answered)?, Duration::from_secs(60)).await?;
        ensure!(status["result"]["resumen"]["productos_creados"] == 2, "{length}: {status:#}");
    }

    let whole = part("", &list("CUT")) + end;
    let cut = |kept: &str| whole[..whole.find(kept).unwrap_or(whole.len()) + kept.len()].to_owned();
    for body in [
        part("", &list("CUT")),
        part("", &list("CUT")) + "\r\n--",
        part("", &list("CUT")) + "\r\n--lote-",
        part("", &list("CUT")) + "\r\n--lote-bX\r\n\r\n",
        part("", &(list("CUT") + "\r\n--lote-bX\r\nmás")) + end,
        cut("filename"),
        cut("CUT-1"),
        "--\r\n--".to_owned(),
        "\r\n--".to_owned(),
        String::new(),
        part("Content-Transfer-Encoding: base64\r\n", "aWQ=") + end,
    ] {
        let answered = send(&supplier, body.clone()).await?;
        ensure!(answered.status.as_u16() == 400, "{body:?}: {answered}");
    }
    // Nothing of them was taken, and nobody waits for them.
    let answered = send(&supplier, whole).await?;
    let status = supplier.finished(&task_id(&answered)?, Duration::from_secs(60)).await?;
    ensure!(status["result"]["resumen"]["productos_creados"] == 2, "{status:#}");
    Ok(())
}
