//! The merged OpenAPI document as others use it: it is valid, a TypeScript client made of it compiles, and the platform does
//! what it says of queries, HEAD and text.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Map, Value};
use stack::platform::Client;

use crate::{platform, root, run, tools};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
const SERVICES: [&str; 5] = ["gateway", "catalog_upload", "report", "sms_dispatch", "etl"];

/// Each operation: method, path, what the document says.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            METHODS.iter().filter_map(move |method| Some((*method, path.as_str(), item.get(*method)?)))
        })
        .collect()
}

/// Words of English that Spanish has not. What is code, in backticks, has no language.
const ENGLISH: [&str; 14] = [
    "the", "of", "and", "which", "whether", "where", "with", "without", "only", "unless", "page", "all",
    "not", "what",
];

/// The first word of English in a text.
fn english(text: &str) -> Option<&str> {
    let prose = text.split('`').step_by(2);
    let mut words =
        prose.flat_map(|prose| prose.split(|letter: char| !letter.is_alphanumeric() && letter != '_'));
    words.find(|word| ENGLISH.contains(&word.to_lowercase().as_str()))
}

/// Every description and title below a value, with where it stands.
fn descriptions<'a>(value: &'a Value, path: &str, found: &mut BTreeMap<String, &'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}/{name}");
                match member {
                    // A property of that name is an object.
                    Value::String(text) if ["description", "summary"].contains(&name.as_str()) => {
                        found.insert(path, text);
                    }
                    member => descriptions(member, &path, found),
                }
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| descriptions(item, &format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

/// Every `$ref` below a value.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => {
                        found.insert(reference);
                    }
                    member => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// What a response is, wherever it stands.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

#[tokio::test]
async fn the_document_is_one_that_programs_can_use() -> Result<()> {
    let scene = platform("api_document").await?;
    let admin = scene.platform.admin().await?;
    let document = admin.get("/api-docs/openapi.json").await?.body;

    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let dangling: Vec<_> = found
        .iter()
        .filter(|reference| document.pointer(reference.trim_start_matches('#')).is_none())
        .collect();
    ensure!(dangling.is_empty(), "references to nothing: {dangling:?}");

    let (mut wrong, mut ids) = (Vec::new(), BTreeSet::new());
    let mut told = BTreeMap::new();
    descriptions(&document, "", &mut told);
    ensure!(told.len() > 400, "{} descriptions", told.len());
    for (path, text) in told {
        if let Some(word) = english(text) {
            wrong.push(format!("{path}: {word:?} in {text:?}"));
        }
    }
    let operations = operations(&document);
    ensure!(operations.len() > 90, "{} operations", operations.len());
    for (method, path, operation) in &operations {
        let mut say = |what: String| wrong.push(format!("{method} {path}: {what}"));
        let id = operation["operationId"].as_str().unwrap_or_default();
        let service = SERVICES.iter().find(|service| id.starts_with(&format!("{service}_")));
        if service.is_none() || !ids.insert(id) {
            say(format!("its id is {id:?}"));
        }
        let summary = operation["summary"].as_str().unwrap_or_default();
        if summary.is_empty() {
            say("it has no summary".into());
        }
        if operation["security"].as_array().is_none_or(Vec::is_empty) {
            say("it does not say who may call".into());
        }
        let none = Map::new();
        for (status, response) in operation["responses"].as_object().unwrap_or(&none) {
            let content = &resolved(&document, response)["content"];
            let schema = content["application/problem+json"]["schema"]["$ref"].as_str();
            // A page for people says what is wrong itself.
            let is_page = content.get("text/html").is_some();
            if status.starts_with(['4', '5'])
                && !is_page
                && schema != Some("#/components/schemas/ProblemBody")
            {
                say(format!("{status} has no problem: {content}"));
            }
        }
        for expected in ["400", "429", "503"] {
            if operation["responses"][expected].is_null() {
                say(format!("it does not say {expected}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));

    let first = admin.request(Method::GET, "/api-docs/openapi.json").send().await?;
    let tag = first.headers().get("etag").context("an ETag")?.clone();
    let again =
        admin.request(Method::GET, "/api-docs/openapi.json").header("if-none-match", &tag).send().await?;
    ensure!(again.status() == 304, "{}", again.status());

    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("api");
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("openapi.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&document)?)?;
    let (root, tools) = (root()?, tools()?);
    run(Command::new(tools.join("bin/openapi-spec-validator")).arg(&file))?;
    let node = tools.join("node_modules/.bin");
    run(Command::new(node.join("openapi-typescript")).arg(&file).arg("-o").arg(dir.join("schema.d.ts")))?;
    std::fs::copy(root.join("tests/e2e/api/client.ts"), dir.join("client.ts"))?;
    run(Command::new(node.join("tsc"))
        .args(["--noEmit", "--strict", "--target", "es2022"])
        .arg(dir.join("client.ts")))?;
    Ok(())
}

/// The status and code of an answer to a request for a path.
async fn asked(admin: &Client, method: Method, path: &str) -> Result<(u16, String)> {
    let answer = admin.request(method, path).send().await?;
    let status = answer.status().as_u16();
    // An endless one is not waited for.
    if answer
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.contains("event-stream")))
    {
        return Ok((status, String::new()));
    }
    let body: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
    Ok((status, body["code"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn every_operation_refuses_unknown_parameters_and_what_is_no_text_and_answers_head() -> Result<()> {
    let scene = platform("api_inputs").await?;
    let admin = scene.platform.admin().await?;
    let document = admin.get("/api-docs/openapi.json").await?.body;
    let mut wrong = Vec::new();
    for (method, path, _) in operations(&document) {
        let method = Method::from_bytes(method.to_uppercase().as_bytes())?;
        let target = path.replace(['{', '}'], "");
        let no_text = ["?x=%00ana", "?x=%FF%FE"].map(|query| format!("{target}{query}"));
        for target in
            no_text.into_iter().chain(path.contains('{').then(|| path.replace('{', "a%00").replace('}', "")))
        {
            let answered = asked(&admin, method.clone(), &target).await?;
            if answered != (400, "invalid_text".to_owned()) {
                wrong.push(format!("{method} {target}: {answered:?}"));
            }
        }
        if method != Method::GET || path.contains('{') || path == "/api/v1/stream" {
            continue;
        }
        let answered = asked(&admin, Method::GET, &format!("{target}?no_such_thing=1")).await?;
        if answered != (400, "unknown_parameter".to_owned()) {
            wrong.push(format!("GET {target} with an unknown parameter: {answered:?}"));
        }
        let (get, head) =
            (asked(&admin, Method::GET, &target).await?.0, asked(&admin, Method::HEAD, &target).await?.0);
        if get != head {
            wrong.push(format!("HEAD {target}: {head}, where GET gives {get}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
