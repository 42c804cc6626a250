//! The page of the frontend guide, in Chromium.

use std::process::Command;

use anyhow::{Result, ensure};
use e2e::Scene;
use serde_json::{Value, json};
use stack::platform::ADMIN;

use crate::{root, run, tools};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_uploads_a_file_and_sees_what_became_of_its_rows() -> Result<()> {
    let scene = Scene::start("api_page", |options| options.workers(1)).await?;
    let file = scene.dir.join("lista.csv");
    let head = "id,nombre,codigo,categoria,precio_unitario,certificado_sanitario,condiciones_almacenamiento,tiempo_entrega_dias";
    let rows = "PAG-1,Guantes,G-1,Insumos,12.50,INVIMA-1,Ambiente,3\nPAG-2,Gasas,G-2,Insumos,doce,INVIMA-1,Ambiente,3\n";
    std::fs::write(&file, format!("{head}\n{rows}"))?;
    let (gateway, password) = (scene.platform.gateway_url(), scene.platform.admin_password().to_owned());
    let shown = tokio::task::spawn_blocking(move || {
        let script = tools()?.join("upload_page.mjs");
        // Node finds packages beside the script.
        std::fs::copy(root()?.join("tests/e2e/api/upload_page.mjs"), &script)?;
        let page = root()?.join("docs/examples/upload.html");
        run(Command::new("node").arg(&script).arg(page).args([&gateway, ADMIN, &password]).arg(&file))
    });
    let shown: Value = serde_json::from_str(&shown.await??)?;
    ensure!(shown["message"] == "2 filas: 1 creados, 0 actualizados, 1 rechazados", "{shown}");
    let errors = shown["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(errors.len() == 1 && errors[0][0] == "3", "{shown}");
    ensure!(shown["failed"] == json!([]), "{shown}");
    Ok(())
}
