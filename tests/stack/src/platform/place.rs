use crate::aws::CREDENTIALS;
use crate::namespace::{Namespace, create_role, role_url};
use crate::servers::Servers;
use anyhow::{Context, Result, ensure};

/// Where a platform lives on its servers: databases, names and prefixes.
#[derive(Clone, Debug)]
pub struct Place {
    servers: Servers,
    /// The servers as the processes reach them: through fault proxies, if any.
    seen: Servers,
    gateway_database: String,
    catalog_database: String,
    report_database: String,
    sms_database: String,
    etl_database: String,
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
        Ok(Self {
            servers: namespace.servers().clone(),
            seen: namespace.servers().clone(),
            gateway_database: namespace.database_for("gateway").await?,
            catalog_database: namespace.database_for("catalog_upload").await?,
            report_database: namespace.database_for("report").await?,
            sms_database: namespace.database_for("sms_dispatch").await?,
            etl_database: namespace.database_for("etl").await?,
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
        let mut urls = Vec::new();
        for role in ["gateway", "catalog_upload", "report", "sms_dispatch", "etl"] {
            create_role(&servers.postgres_url, role, &password).await?;
            urls.push(role_url(&servers.postgres_url, role, &password)?);
        }
        let etl_database = urls.pop().context("five roles")?;
        let sms_database = urls.pop().context("five roles")?;
        let report_database = urls.pop().context("five roles")?;
        let catalog_database = urls.pop().context("five roles")?;
        let gateway_database = urls.pop().context("five roles")?;
        Ok(Self {
            servers: servers.clone(),
            seen: servers.clone(),
            gateway_database,
            catalog_database,
            report_database,
            sms_database,
            etl_database,
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

    /// The gateway's database, not through a proxy.
    pub fn gateway_database(&self) -> &str {
        &self.gateway_database
    }

    /// catalog-upload's database, not through a proxy.
    pub fn catalog_database(&self) -> &str {
        &self.catalog_database
    }

    /// report's database, not through a proxy.
    pub fn report_database(&self) -> &str {
        &self.report_database
    }

    /// sms-dispatch's database, not through a proxy.
    pub fn sms_database(&self) -> &str {
        &self.sms_database
    }

    /// etl's database, not through a proxy.
    pub fn etl_database(&self) -> &str {
        &self.etl_database
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

    pub(super) fn gateway_environment(&self) -> Result<Vec<(String, String)>> {
        self.environment(&self.gateway_database)
    }

    pub(super) fn catalog_environment(&self) -> Result<Vec<(String, String)>> {
        let mut variables = self.environment(&self.catalog_database)?;
        variables.push(("S3_BUCKET_NAME".to_owned(), self.bucket.clone()));
        Ok(variables)
    }

    pub(super) fn report_environment(&self) -> Result<Vec<(String, String)>> {
        let mut variables = self.environment(&self.report_database)?;
        variables.push(("S3_BUCKET_NAME".to_owned(), self.bucket.clone()));
        Ok(variables)
    }

    pub(super) fn sms_environment(&self) -> Result<Vec<(String, String)>> {
        let mut variables = self.environment(&self.sms_database)?;
        variables.push(("S3_BUCKET_NAME".to_owned(), self.bucket.clone()));
        Ok(variables)
    }

    pub(super) fn etl_environment(&self) -> Result<Vec<(String, String)>> {
        self.environment(&self.etl_database)
    }

    fn environment(&self, database: &str) -> Result<Vec<(String, String)>> {
        let variables = [
            ("DATABASE_URL", with_port_of(database, &self.seen.postgres_url)?),
            ("AMQP_URL", self.seen.amqp_url.clone()),
            ("REDIS_URL", self.seen.redis_url.clone()),
            ("AWS_ENDPOINT_URL", self.seen.aws_endpoint.clone()),
            ("REDIS_PREFIX", self.redis_prefix.clone()),
            ("QUEUE_PREFIX", self.queue_prefix.clone()),
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
