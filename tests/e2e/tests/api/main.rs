//! The API as others use it: its OpenAPI document, programs made of that, and the platform against it.

mod check;
mod document;
mod swagger;
mod upload_page;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use e2e::Scene;
use stack::services::{ETL, REPORT, SMS_DISPATCH};

/// A platform with every service, and nobody who processes catalogs.
async fn platform(name: &str) -> Result<Scene> {
    Scene::start(name, |options| {
        // Without a source: who asks for a sync is told that there is none.
        options.workers(0).with(&REPORT, 1).with(&SMS_DISPATCH, 1).with(&ETL, 1).env("ETL_BSALE", "false")
    })
    .await
}

/// What `make install` brings to check the API with.
fn tools() -> Result<PathBuf> {
    Ok(root()?.join(".stack/api"))
}

/// The repository.
fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?)
}

/// Runs a tool; gives what it says.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?}; `deploy/native/install.sh tests` brings it"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    Ok(out.into_owned())
}
