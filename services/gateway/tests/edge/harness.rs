use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use chassis::{config::Env, db};
use gateway::{Gateway, config::Config, storage::Migrator};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use stack::Namespace;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ADMIN: &str = "root";
const PASSWORD: &str = "violeta-y-nube-77";

/// What a gateway starts with, ready to be changed.
pub struct Setup {
    variables: BTreeMap<String, String>,
}

impl Setup {
    /// A gateway in `namespace`, in front of `upstream`.
    pub fn new(namespace: &Namespace, upstream: &str) -> Self {
        let servers = namespace.servers();
        let variables = [
            ("HTTP_PORT", "0"),
            ("HTTP_WORKERS", "2"),
            ("HTTP_DRAIN_SECONDS", "1"),
            ("DATABASE_URL", &namespace.database_url),
            ("DATABASE_MAX_CONNECTIONS", "4"),
            ("REDIS_URL", &servers.redis_url),
            ("REDIS_PREFIX", &namespace.redis_prefix),
            // Nobody there: only tests of events need a broker, and each gateway declares eight quorum queues.
            ("AMQP_URL", "amqp://127.0.0.1:1"),
            ("QUEUE_PREFIX", &namespace.queue_prefix),
            ("CATALOG_UPLOAD_URL", upstream),
            ("KEY_ENCRYPTION_SECRET", "a secret of tests, and of nothing else"),
            ("ADMIN_USER", ADMIN),
            ("ADMIN_PASSWORD", PASSWORD),
            ("ARGON2_MEMORY_KIB", "64"),
            ("ARGON2_ITERATIONS", "1"),
        ];
        Self { variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into() }
    }

    /// With a broker. Such a gateway must be stopped before its namespace goes: RabbitMQ 3.10 does not survive
    /// the deletion of queues that are being declared (its `rabbit_fifo_dlx_sup` ends for good).
    pub fn with_broker(self, namespace: &Namespace) -> Self {
        self.with("AMQP_URL", &namespace.servers().amqp_url)
    }

    /// With this variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Migrates, starts, and waits until it lives.
    pub async fn start(self) -> anyhow::Result<Running> {
        let mut env = Env::from_map(self.variables);
        let config = Config::read(&mut env);
        env.finish()?;
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&config.database, "gateway", &shutdown).await?;
        let gateway = Gateway::open(config, &shutdown).await?;
        let url = format!("http://{}", gateway.address());
        let task = tokio::spawn(gateway.run(shutdown.clone()));
        Ok(Running { url, client: client()?, shutdown, task: Some(task) })
    }
}

/// A client as a browser or a script would be one: no idle connections over restarts of servers.
pub fn client() -> anyhow::Result<Client> {
    chassis::tls::install();
    Ok(Client::builder().pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none()).build()?)
}

/// A gateway at work.
pub struct Running {
    pub url: String,
    pub client: Client,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    /// The address, for clients that speak TCP.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The administrator's access token.
    pub async fn admin(&self) -> anyhow::Result<String> {
        self.login(ADMIN, PASSWORD).await
    }

    /// The access token of a new user of this role.
    pub async fn user(&self, role: &str, proveedor_id: Option<&str>) -> anyhow::Result<String> {
        let admin = self.admin().await?;
        let username = format!("u{}", stack::random_hex(6));
        let password = "una-clave-muy-larga-9";
        let mut body = json!({ "username": username, "name": "Prueba", "password": password, "role": role });
        if let Some(proveedor_id) = proveedor_id {
            body["proveedor_id"] = json!(proveedor_id);
        }
        let response = self.post("/api/v1/users").bearer_auth(admin).json(&body).send().await?;
        let status = response.status();
        anyhow::ensure!(status.is_success(), "{status}: {}", response.text().await?);
        self.login(&username, password).await
    }

    /// A new API key of the token's user.
    pub async fn api_key(&self, token: &str) -> anyhow::Result<String> {
        let request = self.post("/api/v1/api-keys").bearer_auth(token).json(&json!({ "name": "Prueba" }));
        let body: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(body["key"].as_str().context("a key")?.to_owned())
    }

    /// Gives the token's user, who came from [`Running::user`], another password.
    pub async fn change_password(&self, token: &str) -> anyhow::Result<()> {
        let body =
            json!({ "current_password": "una-clave-muy-larga-9", "new_password": "otra-clave-muy-larga-9" });
        self.post("/api/v1/auth/password").bearer_auth(token).json(&body).send().await?.error_for_status()?;
        Ok(())
    }

    async fn login(&self, username: &str, password: &str) -> anyhow::Result<String> {
        let body = json!({ "username": username, "password": password });
        let response = self.post("/api/v1/auth/login").json(&body).send().await?.error_for_status()?;
        let body: Value = response.json().await?;
        Ok(body["access_token"].as_str().context("an access token")?.to_owned())
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let task = self.task.take().context("stopped once")?;
        tokio::time::timeout(Duration::from_secs(20), task).await.context("the gateway does not stop")??
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The problem in a response, after checking that it is one.
pub async fn problem(response: reqwest::Response) -> anyhow::Result<Value> {
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    anyhow::ensure!(kind == "application/problem+json", "{}: {kind:?}", response.status());
    let status = response.status().as_u16();
    let body: Value = response.json().await?;
    anyhow::ensure!(body["status"] == status, "{body}");
    anyhow::ensure!(body["error"].is_string() && body["code"].is_string(), "{body}");
    Ok(body)
}
