use crate::aws::CREDENTIALS;
use crate::namespace::{Namespace, create_role, role_url};
use crate::servers::Servers;
use crate::services::{ALL, Spec};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

/// Where a platform lives on its servers: databases, names and prefixes.
#[derive(Clone, Debug)]
pub struct Place {
    servers: Servers,
    /// The servers as the processes reach them: through fault proxies, if any.
    seen: Servers,
    /// Each service's, by its name.
    databases: BTreeMap<&'static str, String>,
    queue_prefix: String,
    redis_prefix: String,
    bucket: String,
    imports_queue: String,
    creates_queues: bool,
}

impl Place {
    /// In a namespace, with a schema of its own for each service.
    ///
    /// # Errors
    /// Where PostgreSQL refuses the roles.
    pub async fn of(namespace: &Namespace) -> Result<Self> {
        let mut databases = BTreeMap::new();
        for service in ALL {
            databases.insert(service.name, namespace.database_for(&service.schema()).await?);
        }
        Ok(Self {
            servers: namespace.servers().clone(),
            seen: namespace.servers().clone(),
            databases,
            queue_prefix: namespace.queue_prefix.clone(),
            redis_prefix: namespace.redis_prefix.clone(),
            bucket: namespace.bucket.clone(),
            imports_queue: format!("{}imports", namespace.sqs_prefix),
            creates_queues: true,
        })
    }

    /// All of a private set of servers, under the names of production. Bucket and queues are those of
    /// `localstack/init`.
    ///
    /// # Errors
    /// Where PostgreSQL refuses the roles.
    pub async fn whole(servers: &Servers) -> Result<Self> {
        let password = crate::random_hex(12);
        let mut databases = BTreeMap::new();
        for service in ALL {
            let role = service.schema();
            create_role(&servers.postgres_url, &role, &password).await?;
            databases.insert(service.name, role_url(&servers.postgres_url, &role, &password)?);
        }
        Ok(Self {
            servers: servers.clone(),
            seen: servers.clone(),
            databases,
            queue_prefix: String::new(),
            redis_prefix: "lote:".to_owned(),
            bucket: "medisupply-bulk-uploads".to_owned(),
            imports_queue: "medisupply-bulk-upload-queue".to_owned(),
            creates_queues: false,
        })
    }

    /// The same, with the processes reaching the servers by other URLs: those of fault proxies.
    #[must_use]
    pub fn through(mut self, seen: Servers) -> Self {
        self.seen = seen;
        self
    }

    /// The servers themselves.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// A service's database, not through a proxy.
    pub fn database(&self, service: &Spec) -> &str {
        self.databases.get(service.name).map_or("", String::as_str)
    }

    /// The name of the exchange of events here.
    pub fn events_exchange(&self) -> String {
        format!("{}lote.events", self.queue_prefix)
    }

    /// A RabbitMQ queue's name here, by its logical one.
    pub fn queue(&self, logical: &str) -> String {
        format!("{}{logical}", self.queue_prefix)
    }

    /// The SQS queue of imports.
    pub fn imports_queue(&self) -> &str {
        &self.imports_queue
    }

    /// The bucket of uploads and reports.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What a service's processes are told of the servers.
    pub(super) fn environment(&self, service: &Spec) -> Result<Vec<(String, String)>> {
        let variables = [
            ("DATABASE_URL", with_port_of(self.database(service), &self.seen.postgres_url)?),
            ("AMQP_URL", self.seen.amqp_url.clone()),
            ("REDIS_URL", self.seen.redis_url.clone()),
            ("AWS_ENDPOINT_URL", self.seen.aws_endpoint.clone()),
            ("REDIS_PREFIX", self.redis_prefix.clone()),
            ("QUEUE_PREFIX", self.queue_prefix.clone()),
            ("S3_BUCKET_NAME", self.bucket.clone()),
            ("SQS_QUEUE_NAME", self.imports_queue.clone()),
            ("SQS_CREATE_QUEUES", self.creates_queues.to_string()),
        ];
        let credentials = CREDENTIALS.map(|(name, value)| (name, value.to_owned()));
        Ok(variables.into_iter().chain(credentials).map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

fn with_port_of(url: &str, other: &str) -> Result<String> {
    let (mut url, other) = (reqwest::Url::parse(url)?, reqwest::Url::parse(other)?);
    ensure!(url.set_port(other.port()).is_ok(), "a database URL takes a port");
    Ok(url.into())
}
