//! A gateway's identity routes, served, on a schema of their own.

use std::time::Duration;

use anyhow::Context as _;
use chassis::{
    Clock,
    auth::Role,
    config::{DatabaseSettings, Env, HttpSettings, Secret},
    db::{self, Database},
    http::{Health, Server},
};
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use gateway::{
    identity::{Cost, FirstAdmin, Identity, IdentitySettings},
    storage::Migrator,
};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use sea_orm::sqlx;
use serde_json::{Value, json};
use stack::Namespace;
use tokio_util::sync::{CancellationToken, DropGuard};

pub const ADMIN: &str = "root.admin";
pub const PASSWORD: &str = "correct-horse-battery";

/// One replica. The namespace is gone with the last of them.
pub struct Door {
    pub identity: Identity,
    pub clock: Clock,
    pub database: Database,
    pub settings: IdentitySettings,
    namespace: std::sync::Arc<Namespace>,
    base: String,
    http: reqwest::Client,
    _server: DropGuard,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }

    /// Fails unless the status is this one.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        anyhow::ensure!(self.status == status, "expected {status}, got {}: {}", self.status, self.body);
        Ok(self)
    }

    /// The value of a cookie that was set, with its attributes.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let start = format!("{name}=");
        self.headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(|cookie| cookie.strip_prefix(start.as_str()).map(str::to_owned))
    }
}

/// What a test of one replica starts with: cheap hashes, addresses as `X-Forwarded-For` says.
pub fn settings(clock: &Clock) -> IdentitySettings {
    IdentitySettings {
        first_admin: Some(FirstAdmin {
            username: ADMIN.to_owned(),
            password: Secret::new(PASSWORD.to_owned()),
        }),
        password_cost: Cost { memory_kib: 64, iterations: 1, parallelism: 1 },
        hash_patience: Duration::from_secs(30),
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a range")],
        clock: clock.clone(),
        ..IdentitySettings::new(Secret::new("an encryption secret, only for tests".to_owned()))
    }
}

/// To the microsecond, as PostgreSQL keeps it.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

impl Door {
    pub async fn open(label: &str) -> anyhow::Result<Self> {
        Self::with(label, now(), |_| {}).await
    }

    /// With changed settings, at a time that stands still.
    pub async fn with(
        label: &str,
        start: DateTime<Utc>,
        change: impl FnOnce(&mut IdentitySettings),
    ) -> anyhow::Result<Self> {
        let namespace = Namespace::create(label).await?;
        let clock = Clock::fixed(start);
        let mut settings = settings(&clock);
        change(&mut settings);
        let database = DatabaseSettings::at(&namespace.database_url);
        db::migrate::<Migrator>(&database, "gateway", &CancellationToken::new()).await?;
        Self::serve(namespace.into(), settings).await
    }

    /// One more replica on the same schema, with the same clock.
    pub async fn replica(&self, change: impl FnOnce(&mut IdentitySettings)) -> anyhow::Result<Self> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        Self::serve(self.namespace.clone(), settings).await
    }

    async fn serve(namespace: std::sync::Arc<Namespace>, settings: IdentitySettings) -> anyhow::Result<Self> {
        let limits = DatabaseSettings { max_connections: 6, ..DatabaseSettings::at(&namespace.database_url) };
        let shutdown = CancellationToken::new();
        let database = db::connect(&limits, "gateway", &shutdown).await?;
        let identity = Identity::open(&database, settings.clone()).await?;
        let http = HttpSettings::read(&mut Env::from_map([("HTTP_PORT", "0"), ("HTTP_WORKERS", "1")]), 0);
        let mounted = identity.clone();
        let server = Server::bind(&http, Health::new("gateway"), move |config| {
            mounted.configure(config);
            gateway::http::identity::routes().configure(config);
        })?;
        let base = format!("http://{}", server.address());
        tokio::spawn(server.run(shutdown.clone()));
        Ok(Self {
            identity,
            clock: settings.clock.clone(),
            database,
            settings,
            namespace,
            base,
            http: chassis::http_client(),
            _server: shutdown.drop_guard(),
        })
    }

    pub fn advance(&self, by: TimeDelta) {
        self.clock.advance(by);
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method's name");
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request("POST", path).json(body)
    }

    /// Logs in, as the client at `address`.
    pub async fn log_in_from(&self, address: &str, username: &str, password: &str) -> anyhow::Result<Answer> {
        let body = json!({ "username": username, "password": password });
        send(self.post("/api/v1/auth/login", &body).header("x-forwarded-for", address)).await
    }

    pub async fn log_in(&self, username: &str, password: &str) -> anyhow::Result<Answer> {
        self.log_in_from("203.0.113.1", username, password).await
    }

    /// An access token of the first administrator.
    pub async fn admin(&self) -> anyhow::Result<String> {
        Ok(self.log_in(ADMIN, PASSWORD).await?.expect(200)?.text("access_token"))
    }

    pub async fn refresh(&self, token: &str) -> anyhow::Result<Answer> {
        send(self.post("/api/v1/auth/refresh", &json!({ "refresh_token": token }))).await
    }

    /// Creates a user with [`PASSWORD`]; a supplier is `PROV001`.
    pub async fn user(&self, admin: &str, username: &str, role: Role) -> anyhow::Result<Value> {
        let proveedor_id = (role == Role::Supplier).then_some("PROV001");
        let body = json!({
            "username": username, "password": PASSWORD, "role": role, "proveedor_id": proveedor_id,
        });
        Ok(send(self.post("/api/v1/users", &body).bearer_auth(admin)).await?.expect(201)?.body)
    }

    /// Changes a user.
    pub async fn change(&self, admin: &str, user: &Value, change: &Value) -> anyhow::Result<Answer> {
        let id = user["id"].as_str().context("a user has an id")?;
        send(self.request("PATCH", &format!("/api/v1/users/{id}")).json(change).bearer_auth(admin)).await
    }

    /// A session cookie and its CSRF token.
    pub async fn session(&self, username: &str) -> anyhow::Result<(String, String)> {
        let body = json!({ "username": username, "password": PASSWORD, "session": true });
        let answer = send(self.post("/api/v1/auth/login", &body)).await?.expect(200)?;
        let cookie = answer.cookie("lote_session").context("a session cookie")?;
        let value = cookie.split(';').next().unwrap_or_default();
        Ok((format!("lote_session={value}"), answer.text("csrf_token")))
    }

    /// How often something was audited.
    pub async fn audited(&self, action: &str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM audit WHERE action = $1")
            .bind(action)
            .fetch_one(&self.database.pool)
            .await?)
    }
}

pub async fn send(request: RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
    Ok(Answer { status, headers, body })
}
