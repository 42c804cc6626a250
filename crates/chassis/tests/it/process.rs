//! What belongs to a whole process (signals, the global subscriber): tested in one of its own, which is
//! this test binary again, running one test that the others leave out.

use std::{
    io::Write as _,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{HttpResponse, web};
use chassis::{http::Health, http_client};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::start;

/// Starts this binary with one of the tests marked `#[ignore]`.
pub fn run(test: &str, environment: &[(&str, &str)]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env_remove("RUST_LOG")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn spans_reach_the_collector_and_logs_are_json() -> anyhow::Result<()> {
    let exported = Arc::new(Mutex::new(Vec::<u8>::new()));
    let received = exported.clone();
    let collector = start(Health::new("collector"), move |config| {
        let received = received.clone();
        config.app_data(web::PayloadConfig::new(1 << 20)).route(
            "/v1/traces",
            web::post().to(move |body: web::Bytes| {
                received.lock().expect("no panic under this lock").extend_from_slice(&body);
                async { HttpResponse::Ok().finish() }
            }),
        );
    })?;
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("LOG_FORMAT", "json")];
    let child = run("process::a_traced_process", &environment)?;
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await??;
    let (logs, printed) = (String::from_utf8(output.stderr)?, String::from_utf8(output.stdout)?);
    assert!(output.status.success(), "{printed}\n{logs}");

    let line = logs.lines().find(|line| line.contains("\"request\"")).expect(&logs);
    let line: Value = serde_json::from_str(line)?;
    assert_eq!((line["message"].as_str(), line["status"].as_u64()), (Some("request"), Some(200)), "{line}");
    assert_eq!(line["path"], "/trace/7", "{line}");
    assert_eq!(line["span"]["request_id"], "request-of-the-test", "{line}");
    assert_eq!(line["trace_id"], TRACE, "{line}");
    let outside = logs.lines().find(|line| line.contains("\"listening\"")).expect(&logs);
    let outside: Value = serde_json::from_str(outside)?;
    assert_eq!(outside.get("trace_id"), None, "outside of a request there is no trace: {outside}");
    assert!(!logs.contains("secreto"), "a query string was logged: {logs}");

    // Protobuf keeps texts and ids as they are.
    let exported = exported.lock().expect("no panic under this lock").clone();
    let contains = |wanted: &[u8]| exported.windows(wanted.len()).any(|window| window == wanted);
    assert!(contains(b"GET /trace/{id}"), "the span's name");
    for told in ["traced-process", "service.version", chassis::VERSION, "service.instance.id", "lote.role"] {
        assert!(contains(told.as_bytes()), "what the process is: {told}");
    }
    let trace: Vec<u8> =
        (0..16).filter_map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).ok()).collect();
    assert!(contains(&trace), "the caller's trace goes on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn a_traced_process() -> anyhow::Result<()> {
    let _telemetry = chassis::telemetry::init("traced-process", "api")?;
    let server = start(Health::new("traced-process"), |config| {
        config.route(
            "/trace/{id}",
            web::get()
                .to(async || HttpResponse::Ok().body(messaging::trace::traceparent().unwrap_or_default())),
        );
    })?;
    let seen = http_client()
        .get(server.at("/trace/7?nombre=secreto"))
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("x-request-id", "request-of-the-test")
        .send()
        .await?
        .text()
        .await?;
    anyhow::ensure!(seen.starts_with(&format!("00-{TRACE}-")), "the handler's trace is {seen:?}");
    anyhow::ensure!(!seen.contains("00f067aa0ba902b7"), "the handler's span is the caller's");
    anyhow::ensure!(chassis::telemetry::init("again", "api").is_err());
    server.shutdown.cancel();
    server.task.await?
}

const PHONE: &str = "+52 612 100 4768";

#[tokio::test]
async fn whatever_rust_log_says_no_message_is_logged_whole() -> anyhow::Result<()> {
    for (rust_log, ours) in [
        ("", false),
        ("info", false),
        ("trace", true),
        ("debug,lapin=trace", true),
        ("info,lapin::returned_messages=trace", false),
        ("info,lapin::returned_messages[{message}]=trace", false),
        ("info,lapin::channels=trace", false),
    ] {
        let output =
            run("process::a_process_that_logs", &[("RUST_LOG", rust_log)])?.wait_with_output().await?;
        let logs = String::from_utf8(output.stderr)?;
        assert!(output.status.success(), "{logs}");
        assert!(!logs.contains(PHONE), "RUST_LOG={rust_log}: {logs}");
        assert!(logs.contains("the connection is lost"), "RUST_LOG={rust_log}: {logs}");
        assert_eq!(logs.contains("a detail of ours"), ours, "RUST_LOG={rust_log}: {logs}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn a_process_that_logs() -> anyhow::Result<()> {
    let _telemetry = chassis::telemetry::init("logging-process", "worker")?;
    // As lapin logs what comes back, and at trace each frame.
    tracing::warn!(target: "lapin::returned_messages", message = PHONE, "Server returned us a message");
    tracing::trace!(target: "lapin::channels", frame = PHONE, "will handle frame");
    tracing::trace!(target: "lapin::io_loop", next_msg = PHONE, "will write to buffer");
    tracing::error!(target: "lapin::channel", "the connection is lost");
    tracing::debug!("a detail of ours");
    Ok(())
}

#[tokio::test]
async fn sigterm_asks_to_leave_and_a_second_one_does_not_ask() -> anyhow::Result<()> {
    for (patient, code) in [("yes", Some(0)), ("no", Some(130))] {
        let mut child = run("process::a_process_that_can_be_stopped", &[("LEAVES_WHEN_ASKED", patient)])?;
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let id = child.id().expect("it runs").to_string();
        for word in ["ready", "asked"] {
            while !lines.next_line().await?.expect("it said no more").contains(word) {}
            if word == "ready" || patient == "no" {
                let sent = Command::new("kill").args(["-TERM", &id]).status().await?;
                assert!(sent.success());
            }
        }
        let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await??;
        assert_eq!(status.code(), code, "leaves when asked: {patient}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn a_process_that_can_be_stopped() -> anyhow::Result<()> {
    let shutdown = chassis::shutdown::token()?;
    let say = |word: &str| writeln!(std::io::stdout().lock(), "{word}");
    say("ready")?;
    shutdown.cancelled().await;
    say("asked")?;
    if std::env::var("LEAVES_WHEN_ASKED")? == "no" {
        std::future::pending::<()>().await;
    }
    Ok(())
}
