use std::time::Duration;

use super::{Env, Secret};

/// Where a process serves HTTP.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The address to listen on.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// Threads that serve; each handles many requests at once.
    pub workers: usize,
    /// The largest JSON or form body, in bytes. Uploads are streamed and have limits of their own.
    pub body_limit: usize,
    /// How long such a body may take to arrive, beside a second for each KiB that has: a client that trickles would hold a
    /// connection.
    pub body_timeout: Duration,
    /// How long requests are still taken at shutdown, by a process that says it is not ready: so long may a load
    /// balancer take to notice.
    pub lame_duck: Duration,
    /// How long requests under way may take to finish after that.
    pub drain: Duration,
    /// The port of `/metrics` and of health for those who operate it; 0 lets the system choose. Without one,
    /// `/metrics` is on the port of all else.
    pub metrics_port: Option<u16>,
}

impl HttpSettings {
    /// `HTTP_HOST` (127.0.0.1), `HTTP_PORT` (the given one), `HTTP_WORKERS` (one a core, at most 8),
    /// `HTTP_BODY_LIMIT` (1 MiB), `HTTP_BODY_SECONDS` (30), `HTTP_LAME_DUCK_SECONDS` (0), `HTTP_DRAIN_SECONDS` (20),
    /// `METRICS_PORT` (none).
    pub fn read(env: &mut Env, port: u16) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        Self {
            host: env.default("HTTP_HOST", "127.0.0.1".to_owned(), "an address"),
            port: env.default("HTTP_PORT", port, "a port number"),
            workers: env.default("HTTP_WORKERS", cores, "a number of threads"),
            body_limit: env.default("HTTP_BODY_LIMIT", 1 << 20, "a number of bytes"),
            body_timeout: env.seconds("HTTP_BODY_SECONDS", Duration::from_secs(30)),
            lame_duck: env.seconds("HTTP_LAME_DUCK_SECONDS", Duration::ZERO),
            drain: env.seconds("HTTP_DRAIN_SECONDS", Duration::from_secs(20)),
            metrics_port: env.optional("METRICS_PORT", "a port number"),
        }
    }
}

/// How a process uses its database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `postgres://role:password@host:port/database`; the role's search path is its schema.
    pub url: Secret<String>,
    /// Connections at most.
    pub max_connections: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run; zero for ever.
    pub statement_timeout: Duration,
}

impl DatabaseSettings {
    /// `DATABASE_URL` (required), `DATABASE_MAX_CONNECTIONS` (16), `DATABASE_ACQUIRE_SECONDS` (3),
    /// `DATABASE_STATEMENT_SECONDS` (60).
    pub fn read(env: &mut Env) -> Self {
        Self {
            url: env.url("DATABASE_URL", &["postgres", "postgresql"]),
            max_connections: env.default("DATABASE_MAX_CONNECTIONS", 16, "a number of connections"),
            acquire_timeout: env.seconds("DATABASE_ACQUIRE_SECONDS", Duration::from_secs(3)),
            statement_timeout: env.seconds("DATABASE_STATEMENT_SECONDS", Duration::from_secs(60)),
        }
    }

    /// Those of this process, which needs no others.
    ///
    /// # Errors
    /// Every variable that is missing or wrong, at once.
    pub fn from_process() -> anyhow::Result<Self> {
        let mut env = Env::from_process();
        let settings = Self::read(&mut env);
        env.finish()?;
        Ok(settings)
    }

    /// The defaults, on this database.
    pub fn at(url: impl Into<String>) -> Self {
        Self::read(&mut Env::from_map([("DATABASE_URL", url)]))
    }
}

/// How a process uses Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://host:port`.
    pub url: Secret<String>,
    /// What each key begins with.
    pub prefix: String,
}

impl RedisSettings {
    /// `REDIS_URL` (required), `REDIS_PREFIX` (`lote:`).
    pub fn read(env: &mut Env) -> Self {
        Self {
            url: env.url("REDIS_URL", &["redis", "rediss", "redis+unix", "unix"]),
            prefix: env.default("REDIS_PREFIX", "lote:".to_owned(), "a prefix"),
        }
    }
}

/// `AWS_DEFAULT_REGION`; or `AWS_REGION`, which AWS's own tools know it by; or us-east-1.
pub(super) fn aws_region(env: &mut Env) -> String {
    let region = env.default("AWS_REGION", "us-east-1".to_owned(), "an AWS region");
    env.default("AWS_DEFAULT_REGION", region, "an AWS region")
}

/// Where uploads are kept.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The server; absent for AWS's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Access key and secret; absent where AWS's own chain (a role) provides them.
    pub credentials: Option<(String, Secret<String>)>,
    /// The bucket.
    pub bucket: String,
}

impl S3Settings {
    /// `AWS_ENDPOINT_URL`, `AWS_DEFAULT_REGION` or `AWS_REGION` (us-east-1), `AWS_ACCESS_KEY_ID` with
    /// `AWS_SECRET_ACCESS_KEY`, `S3_BUCKET_NAME` (medisupply-bulk-uploads).
    pub fn read(env: &mut Env) -> Self {
        let endpoint = env.optional_url("AWS_ENDPOINT_URL", &["http", "https"]);
        let key = env.optional::<String>("AWS_ACCESS_KEY_ID", "an access key");
        let secret = env.optional_secret("AWS_SECRET_ACCESS_KEY");
        if key.is_some() != secret.is_some() {
            env.reject(
                "AWS_ACCESS_KEY_ID",
                "and AWS_SECRET_ACCESS_KEY belong together, expected both or none",
            );
        }
        // A session token belongs to temporary credentials, which AWS's own chain reads whole.
        let temporary = env.optional_secret("AWS_SESSION_TOKEN").is_some();
        Self {
            endpoint: endpoint.map(|url| url.expose().clone()),
            region: aws_region(env),
            credentials: key.zip(secret).filter(|_| !temporary),
            bucket: env.default("S3_BUCKET_NAME", "medisupply-bulk-uploads".to_owned(), "a bucket's name"),
        }
    }
}

/// Whose tokens a process accepts.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Where the gateway publishes its public keys (RFC 7517).
    pub jwks_url: String,
    /// The `iss` a token must have.
    pub issuer: String,
    /// The `aud` a token must have.
    pub audience: String,
}

impl AuthSettings {
    /// `JWKS_URL` (required), `TOKEN_ISSUER` (lote-gateway), `TOKEN_AUDIENCE` (lote).
    pub fn read(env: &mut Env) -> Self {
        Self {
            jwks_url: env.url("JWKS_URL", &["http", "https"]).expose().clone(),
            issuer: env.default("TOKEN_ISSUER", "lote-gateway".to_owned(), "an issuer"),
            audience: env.default("TOKEN_AUDIENCE", "lote".to_owned(), "an audience"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_of_aws_keys_is_refused() {
        let mut env = Env::from_map([("AWS_ACCESS_KEY_ID", "test")]);
        S3Settings::read(&mut env);
        assert!(env.finish().expect_err("no secret").to_string().contains("both or none"));
    }

    #[test]
    fn a_region_by_either_name_is_taken() {
        let region =
            |names: &[(&str, &str)]| S3Settings::read(&mut Env::from_map(names.iter().copied())).region;
        let (sdk, cli) = (("AWS_REGION", "sa-east-1"), ("AWS_DEFAULT_REGION", "eu-west-1"));
        assert_eq!(region(&[]), "us-east-1");
        assert_eq!(region(&[sdk]), "sa-east-1");
        assert_eq!(region(&[sdk, cli]), "eu-west-1");
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let mut env = Env::from_map([("REDIS_URL", "redis://r"), ("JWKS_URL", "http://g/jwks")]);
        let (http, s3) = (HttpSettings::read(&mut env, 3001), S3Settings::read(&mut env));
        let (redis, auth) = (RedisSettings::read(&mut env), AuthSettings::read(&mut env));
        assert_eq!((http.host.as_str(), http.port), ("127.0.0.1", 3001));
        assert_eq!(
            (s3.bucket.as_str(), s3.endpoint, s3.region.as_str()),
            ("medisupply-bulk-uploads", None, "us-east-1")
        );
        assert_eq!(redis.prefix, "lote:");
        assert_eq!((auth.issuer.as_str(), auth.audience.as_str()), ("lote-gateway", "lote"));
        assert_eq!(env.finish(), Ok(()));
    }
}
