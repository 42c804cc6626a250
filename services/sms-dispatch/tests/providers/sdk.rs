//! The vendors' own Python clients, against the simulators.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use simulators::messages::{Faults, Messages};

use crate::receiver::{ACCOUNT, KEY, Received, Receiver, SENDER, TOKEN};

/// Runs a script of this folder in the tests' Python environment; what it prints is JSON.
async fn python(script: &str, input: &Value) -> Result<Value> {
    let python = stack::home().join("api/bin/python");
    ensure!(python.exists(), "{} is missing: deploy/native/install.sh tests", python.display());
    let output =
        tokio::process::Command::new(python).args(["-c", script]).arg(input.to_string()).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("no JSON")
}

fn webhook(receiver: &Receiver, received: &Received) -> Result<Value> {
    Ok(json!({
        "url": format!("{}{}", receiver.url, received.path), "signature": received.signature,
        "timestamp": received.timestamp, "body": String::from_utf8(received.body.clone())?,
    }))
}

/// Sent, fetched, listed, refused, and its webhooks verified, all by the client that the vendor ships.
#[tokio::test]
async fn telnyxs_own_client_accepts_the_simulator() -> Result<()> {
    let (simulator, receiver) = (Messages::telnyx(KEY, 0)?, Receiver::start(0)?);
    let url = format!("{}/webhooks/telnyx", receiver.url);
    let input =
        json!({ "base": simulator.url(), "key": KEY, "from": SENDER, "to": "+526121004768", "url": url });
    let said = python(include_str!("telnyx_client.py"), &input).await?;
    let truth = simulator.accepted();
    ensure!(truth.len() == 1 && said["sent"]["id"] == json!(truth[0].id), "{said}");
    ensure!(said["sent"]["status"] == "queued" && said["sent"]["parts"] == 1, "{said}");
    ensure!(said["fetched"]["status"] == "delivered" && said["fetched"]["text"] == "¡Hola, señor!", "{said}");
    ensure!(said["records"] == json!([[truth[0].id, "delivered", url]]), "{said}");
    ensure!(said["balance"] == "1000.00" && said["refused"] == json!([401, "10009"]), "{said}");
    simulator.write("+526121004768", SENDER, "STOP", &url, uuid::Uuid::new_v4());
    let received = receiver.wait_for(3).await?;
    let webhooks: Result<Vec<_>> = received.iter().map(|one| webhook(&receiver, one)).collect();
    let input = json!({ "base": simulator.url(), "key": KEY, "public_key": simulator.public_key(), "webhooks": webhooks? });
    let said = python(include_str!("telnyx_webhooks.py"), &input).await?;
    ensure!(said["kinds"] == json!(["message.sent", "message.finalized", "message.received"]), "{said}");
    ensure!(said["forged"] == false && said["opt_outs"] == json!(["+526121004768"]), "{said}");
    Ok(())
}

#[tokio::test]
async fn twilios_own_client_accepts_the_simulator() -> Result<()> {
    let (simulator, receiver) = (Messages::twilio(ACCOUNT, TOKEN, 0)?, Receiver::start(0)?);
    simulator.set_faults(Faults { final_ms: 30, ..Faults::default() });
    let url = format!("{}/webhooks/twilio?message=1", receiver.url);
    let input = json!({
        "base": simulator.origin(), "account": ACCOUNT, "token": TOKEN, "from": SENDER, "to": "+526121004768", "url": url,
    });
    let said = python(include_str!("twilio_client.py"), &input).await?;
    let truth = simulator.accepted();
    let sids: Vec<String> = truth.iter().map(|message| format!("SM{}", message.id.simple())).collect();
    ensure!(truth.len() == 3 && said["sent"]["sid"] == json!(sids[0]), "{said}");
    ensure!(said["sent"]["status"] == "queued" && said["sent"]["segments"] == "1", "{said}");
    ensure!(said["fetched"]["status"] == "delivered" && said["fetched"]["price"] == "-0.00510", "{said}");
    // Newest first, over several pages.
    ensure!(said["listed"] == json!(sids.iter().rev().collect::<Vec<_>>()), "{said}");
    ensure!(said["sent_today"] == json!(3) && said["balance"] == "1000.00", "{said}");
    ensure!(said["refused"] == json!([[401, 20003], [400, 21211]]), "{said}");
    simulator.write("+526121004768", SENDER, "¿Cuánto debo?", &url, uuid::Uuid::new_v4());
    let received = receiver.wait_for(3).await?;
    let webhooks: Result<Vec<_>> = received.iter().map(|one| webhook(&receiver, one)).collect();
    let said =
        python(include_str!("twilio_webhooks.py"), &json!({ "token": TOKEN, "webhooks": webhooks? })).await?;
    ensure!(said["valid"] == json!([true, true, true]) && said["forged"] == false, "{said}");
    Ok(())
}
