use anyhow::{Context, Result, ensure};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The path of an upload.
pub const UPLOAD: &str = "/api/v1/catalog/items/bulk-upload";

/// Somebody who calls an API, with or without a credential.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    authorization: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its `Content-Type`, or nothing.
    pub content_type: String,
    /// The body, if it is JSON; else as a string.
    pub body: Value,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

/// A file to upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The file; its name is what the service is told.
    pub file: PathBuf,
    /// Whose products these are.
    pub proveedor_id: String,
    /// `reemplazar_duplicados`.
    pub replace: bool,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// Other parameters of the query.
    pub query: Vec<(&'static str, String)>,
}

impl Upload {
    /// A file of a supplier.
    pub fn new(file: &Path, proveedor_id: &str) -> Self {
        let (file, proveedor_id) = (file.to_path_buf(), proveedor_id.to_owned());
        Self { file, proveedor_id, replace: false, key: None, query: Vec::new() }
    }

    /// With one more parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    /// Rows may update what is there.
    #[must_use]
    pub fn replacing(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// With an `Idempotency-Key`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

impl Client {
    /// Somebody without a credential, at `base` (`http://host:port`).
    pub fn nobody(base: &str) -> Self {
        Self { http: crate::http(), base: base.to_owned(), authorization: None }
    }

    /// Somebody with an access token.
    pub fn bearer(base: &str, token: &str) -> Self {
        Self { authorization: Some(format!("Bearer {token}")), ..Self::nobody(base) }
    }

    /// A machine with an API key.
    pub fn api_key(base: &str, key: &str) -> Self {
        Self { authorization: Some(format!("ApiKey {key}")), ..Self::nobody(base) }
    }

    /// Logs in at the gateway.
    ///
    /// # Errors
    /// Where it refuses.
    pub async fn login(base: &str, name: &str, password: &str) -> Result<Self> {
        let credentials = json!({ "username": name, "password": password });
        let answer = Self::nobody(base).post("/api/v1/auth/login", &credentials).await?;
        ensure!(answer.status == StatusCode::OK, "login of {name}: {answer}");
        let token = answer.body["access_token"].as_str().context("an access token")?;
        Ok(Self::bearer(base, token))
    }

    /// The same caller at another address.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// Its base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its access token, if that is what it has.
    pub fn token(&self) -> Option<&str> {
        self.authorization.as_deref()?.strip_prefix("Bearer ")
    }

    /// A request with the caller's credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::GET, path)).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Puts JSON.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Uploads a file.
    ///
    /// # Errors
    /// Where the file can't be read or no answer comes.
    pub async fn upload(&self, upload: &Upload) -> Result<Answer> {
        answer(self.upload_request(UPLOAD, upload).await?).await
    }

    /// The request of an upload, at another spelling of its path.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub async fn upload_request(&self, path: &str, upload: &Upload) -> Result<RequestBuilder> {
        let name = upload.file.file_name().and_then(|name| name.to_str()).context("a file name")?;
        let bytes = tokio::fs::read(&upload.file).await?;
        let form = Form::new().part("file", Part::bytes(bytes).file_name(name.to_owned()));
        let request = self
            .request(Method::POST, path)
            .query(&[("proveedor_id", upload.proveedor_id.as_str())])
            .query(&[("reemplazar_duplicados", upload.replace)])
            .query(&upload.query)
            .multipart(form);
        Ok(match &upload.key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        })
    }

    /// Uploads, and repeats with the same key, as a careful client does, until it is accepted. Returns the
    /// task's id.
    ///
    /// # Errors
    /// Where the upload has no key, is refused for good, or was not accepted within `limit`.
    pub async fn upload_until_accepted(&self, upload: &Upload, limit: Duration) -> Result<String> {
        ensure!(upload.key.is_some(), "only an upload with a key may be repeated");
        let end = Instant::now() + limit;
        loop {
            let attempt = self.upload(upload).await;
            let problem = match attempt {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => return task_id(&answer),
                Ok(answer) => {
                    let passing = answer.status.is_server_error()
                        || answer.status == StatusCode::TOO_MANY_REQUESTS
                        // What the gateway says where the client's connection to it was not the one that broke.
                        || answer.body["code"] == "upload_interrupted";
                    ensure!(passing, "refused: {answer}");
                    answer.to_string()
                }
                Err(error) => format!("{error:#}"),
            };
            ensure!(Instant::now() < end, "not accepted within {limit:?}: {problem}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What a person does with a task: `cancel`, `retry`, `apply`, `undo`.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn task(&self, task_id: &str, action: &str) -> Result<Answer> {
        let path = format!("/api/v1/catalog/bulk-upload/{task_id}/{action}");
        answer(self.request(Method::POST, &path)).await
    }

    /// A file, as bytes.
    ///
    /// # Errors
    /// Where the answer isn't 200.
    pub async fn download(&self, path: &str) -> Result<Vec<u8>> {
        let response = self.request(Method::GET, path).send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        ensure!(status == StatusCode::OK, "{path}: {status} {}", String::from_utf8_lossy(&bytes));
        Ok(bytes.to_vec())
    }

    /// A task's status.
    ///
    /// # Errors
    /// Where it isn't 200.
    pub async fn status(&self, task_id: &str) -> Result<Value> {
        let answer = self.get(&format!("/api/v1/catalog/bulk-upload/status/{task_id}")).await?;
        ensure!(answer.status == StatusCode::OK, "status of {task_id}: {answer}");
        Ok(answer.body)
    }

    /// Polls a task until it is `completed` or `failed`, through any outage. Returns its last status.
    ///
    /// # Errors
    /// Past `limit`, with the last answer.
    pub async fn finished(&self, task_id: &str, limit: Duration) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            let status = self.status(task_id).await;
            if let Ok(status) = &status
                && (status["status"] == "completed" || status["status"] == "failed")
            {
                return Ok(status.clone());
            }
            ensure!(Instant::now() < end, "task {task_id} is not final after {limit:?}: {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Sends a request and reads its answer.
///
/// # Errors
/// Where no answer comes.
pub async fn answer(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let status = response.status();
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let content_type = kind.to_owned();
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer { status, content_type, body })
}

/// The id in the answer to an upload.
///
/// # Errors
/// Where it was not accepted.
pub fn task_id(answer: &Answer) -> Result<String> {
    ensure!(answer.status == StatusCode::ACCEPTED, "upload: {answer}");
    Ok(answer.body["task_id"].as_str().context("a task_id")?.to_owned())
}
