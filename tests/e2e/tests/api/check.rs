//! Requests made of the document, good ones and bad ones: nothing that it does not say comes back.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{platform, run, tools};

/// What the checks are: no 5xx, no status and no type of content that the document does not name.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance";
/// Operations that are left alone: the stream does not end, and who is logged out has no business any more.
const LEFT_ALONE: [&str; 2] = ["gateway_events_stream", "gateway_auth_logout"];

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_answers_as_its_document_says() -> Result<()> {
    let scene = platform("api_check").await?;
    let admin = scene.platform.admin().await?;
    let url = scene.platform.gateway_url();
    let mut check = Command::new(tools()?.join("bin/schemathesis"));
    check
        .args(["run", &format!("{url}/api-docs/openapi.json"), "--checks", CHECKS])
        .args(["--header", &format!("Authorization: Bearer {}", admin.token().context("a token")?)])
        // The same requests each time. What Schemathesis remembers of one run is not for the next.
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "1"])
        .args(["--generation-database", "none", "--no-shrink", "--workers", "1", "--continue-on-failure"])
        .args(["--request-timeout", "20", "--suppress-health-check", "all", "--warnings", "off"])
        .current_dir(&scene.dir);
    for operation in LEFT_ALONE {
        check.args(["--exclude-operation-id", operation]);
    }
    let said = tokio::task::spawn_blocking(move || run(&mut check)).await??;
    println!("{said}");
    Ok(())
}
