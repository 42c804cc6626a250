use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

/// How an upload ended, as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    Running,
    Complete(u64),
    Broken,
}

/// What the upstream saw, and what it waits for.
pub struct Seen {
    pub requests: AtomicUsize,
    pub received: AtomicU64,
    /// How often its document was asked for.
    pub documents: AtomicUsize,
    pub upload: watch::Sender<Upload>,
    /// Whether it has no room for a file.
    pub busy: AtomicBool,
    /// Lets handlers that wait go on.
    pub go: Notify,
}

/// A service behind the gateway, as HTTP sees it. It stops when dropped.
pub struct Upstream {
    pub url: String,
    pub seen: Arc<Seen>,
    handle: actix_web::dev::ServerHandle,
}

impl Upstream {
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(0)
    }

    pub fn start_on(port: u16) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen {
            requests: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            documents: AtomicUsize::new(0),
            upload: watch::Sender::new(Upload::Running),
            busy: AtomicBool::new(false),
            go: Notify::new(),
        });
        let shared = web::Data::from(seen.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/health", web::get().to(health))
                .route("/health/live", web::get().to(health))
                .route("/api-docs/openapi.json", web::get().to(openapi))
                .route("/api/v1/admin/catalog-upload/workers", web::get().to(workers))
                .route("/api/v1/catalog/echo", web::to(echo))
                .route("/webhooks/telnyx", web::to(echo))
                .route("/api/v1/catalog/upload", web::post().to(upload))
                .route("/api/v1/contacts/imports", web::post().to(upload))
                .route("/api/v1/suppressions/imports", web::post().to(upload))
                .route("/api/v1/catalog/never-reads", web::post().to(never_reads))
                .route("/api/v1/catalog/refuses", web::post().to(refuses))
                .route("/api/v1/catalog/never-answers", web::get().to(never_answers))
                .route("/api/v1/catalog/drip", web::get().to(drip))
                .route("/api/v1/catalog/fails", web::get().to(fails))
                .default_service(web::to(unknown))
        })
        .workers(1)
        .shutdown_timeout(0)
        .disable_signals()
        .bind(("127.0.0.1", port))?;
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { url, seen, handle })
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub fn received(&self) -> u64 {
        self.seen.received.load(Ordering::SeqCst)
    }

    /// Waits until an upload has ended.
    pub async fn upload_ended(&self) -> anyhow::Result<Upload> {
        let mut upload = self.seen.upload.subscribe();
        let ended = upload.wait_for(|upload| *upload != Upload::Running);
        Ok(tokio::time::timeout(Duration::from_secs(20), ended).await??.clone())
    }

    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The command is on its way once the future was made and polled; nobody waits for its end.
        let stop = self.handle.stop(false);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(stop);
        }
    }
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "healthy", "service": "catalog-upload" }))
}

async fn openapi(seen: web::Data<Seen>) -> HttpResponse {
    seen.documents.fetch_add(1, Ordering::SeqCst);
    HttpResponse::Ok().json(json!({
        "openapi": "3.1.0",
        "info": { "title": "catalog-upload", "version": "1" },
        "paths": { "/api/v1/catalog/items": { "get": {} }, "/metrics": { "get": {} } },
        "components": { "schemas": { "Item": { "type": "object" } } },
    }))
}

async fn workers(seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    HttpResponse::Ok().json(json!([{ "host": "a", "queues": ["catalog.imports"] }]))
}

/// What arrived, as JSON; and headers that are nobody's business beyond this hop.
async fn echo(request: HttpRequest, body: Bytes, seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    HttpResponse::Ok()
        .insert_header(("set-cookie", "own=1"))
        .insert_header(("keep-alive", "timeout=9"))
        .insert_header(("etag", "\"7\""))
        .json(json!({
            "method": request.method().as_str(),
            "path": request.uri().to_string(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        }))
}

async fn upload(mut body: web::Payload, seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if seen.busy.load(Ordering::SeqCst) {
        let problem = json!({ "code": "uploads_busy" });
        return HttpResponse::ServiceUnavailable().insert_header(("retry-after", "2")).json(problem);
    }
    let mut total = 0;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(bytes) => {
                total += bytes.len() as u64;
                seen.received.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            }
            Err(_) => {
                seen.upload.send_replace(Upload::Broken);
                return HttpResponse::BadRequest().finish();
            }
        }
    }
    seen.upload.send_replace(Upload::Complete(total));
    HttpResponse::Accepted().json(json!({ "received": total }))
}

async fn never_reads(body: web::Payload, seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    seen.go.notified().await;
    drop(body);
    HttpResponse::Ok().finish()
}

/// Answers before it has read anything.
async fn refuses(seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    HttpResponse::UnprocessableEntity().json(json!({ "error": "no" }))
}

async fn fails(seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    HttpResponse::InternalServerError().json(json!({ "code": "internal" }))
}

async fn never_answers(seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    seen.go.notified().await;
    HttpResponse::Ok().finish()
}

/// One piece now, one when told.
async fn drip(seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let rest = futures::stream::once(async move {
        seen.go.notified().await;
        Ok::<_, std::io::Error>(Bytes::from_static(b"second"))
    });
    let first = futures::stream::iter([Ok(Bytes::from_static(b"first "))]);
    HttpResponse::Ok().content_type("text/plain").streaming(Box::pin(first.chain(rest)))
}

async fn unknown(request: HttpRequest, seen: web::Data<Seen>) -> HttpResponse {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    HttpResponse::Ok().json(json!({ "path": request.uri().to_string(), "method": request.method().as_str() }))
}
