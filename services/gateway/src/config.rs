//! The gateway's settings.

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr, time::Duration};

use chassis::{
    auth::Role,
    config::{DatabaseSettings, Env, HttpSettings, RedisSettings, Secret, broker_config},
};
use messaging::BrokerConfig;

use crate::{
    domain::network::Network,
    http::routes::{Backend, Files, under},
    identity::IdentitySettings,
};

/// The port, unless `HTTP_PORT` says otherwise.
const PORT: u16 = 8001;

/// All that a gateway reads from its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it serves.
    pub http: HttpSettings,
    /// Its schema.
    pub database: DatabaseSettings,
    /// The live stream.
    pub redis: RedisSettings,
    /// Events come by it.
    pub broker: BrokerConfig,
    /// Users, keys, tokens.
    pub identity: IdentitySettings,
    /// All that only a gateway has.
    pub settings: Settings,
}

impl Config {
    /// Reads all of it; what is wrong is in `env` afterwards.
    pub fn read(env: &mut Env) -> Self {
        let settings = Settings::read(env);
        Self {
            http: HttpSettings::read(env, PORT),
            database: DatabaseSettings::read(env),
            redis: RedisSettings::read(env),
            // Events come by RabbitMQ only.
            broker: BrokerConfig { sqs: None, ..broker_config("gateway", env) },
            identity: IdentitySettings::read(env, settings.trusted_proxies.clone()),
            settings,
        }
    }
}

/// How the gateway serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The base URLs of the services behind it. A service without one has no routes.
    pub backends: BTreeMap<Backend, Secret<String>>,
    /// Paths that work without a login, in the name of a role.
    pub legacy: Vec<LegacyRule>,
    /// The largest upload's body, in bytes, with some slack for its multipart framing.
    pub upload_limit: u64,
    /// The same of a file of contacts.
    pub contacts_limit: u64,
    /// The same of a file whose people are an audience.
    pub audiences_limit: u64,
    /// The largest other body that is passed on, in bytes.
    pub body_limit: u64,
    /// How long a connection to a backend may take.
    pub connect_timeout: Duration,
    /// How long a backend may be silent: before it answers, within its answer, and while it takes a body.
    pub backend_timeout: Duration,
    /// How long a client may be silent while it sends a body.
    pub client_timeout: Duration,
    /// How many bytes a second a client must send at least, over all the time that its body is waited for; the first
    /// [`Settings::client_timeout`] is for free.
    pub client_min_rate: u64,
    /// How long a client's body may be waited for altogether.
    pub client_deadline: Duration,
    /// Failures in a row after which a backend is left alone for a moment.
    pub breaker_threshold: u32,
    /// That moment.
    pub breaker_pause: Duration,
    /// Requests a caller may make.
    pub limits: Limits,
    /// Proxies before the gateway, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Browser origins that may call the API. Empty: none but its own.
    pub cors_origins: Vec<String>,
    /// Live streams that one caller may have open at one replica.
    pub stream_connections: usize,
    /// Files that one caller may be sending at one replica.
    pub upload_connections: usize,
    /// Requests that one caller may have passed on at one replica, each until the last byte of its answer is sent.
    pub caller_connections: usize,
}

/// What multipart framing may add to a file: boundaries, part headers, short fields.
const FRAMING: u64 = 64 * 1024;

/// The largest body with a list of phones that are not written to: sms-dispatch takes lists of 1 GiB.
const SUPPRESSIONS_LIMIT: u64 = (1 << 30) + FRAMING;

impl Settings {
    /// Reads all of it; what is wrong is in `env` afterwards.
    pub fn read(env: &mut Env) -> Self {
        let mut backends = BTreeMap::new();
        for &backend in Backend::ALL {
            let url = if backend == Backend::CatalogUpload {
                Some(env.url(backend.variable(), &["http", "https"]))
            } else {
                env.optional_url(backend.variable(), &["http", "https"])
            };
            backends.extend(url.map(|url| (backend, url)));
        }
        let upload_limit = env.default("UPLOAD_LIMIT", 100 * 1024 * 1024, "a number of bytes");
        // The names and defaults of sms-dispatch, whose limits they are.
        let contacts_limit = env.default("CONTACTS_MAX_MB", 16_384_u64, "a number of megabytes");
        let audiences_limit = env.default("SMS_AUDIENCE_MAX_MB", 1_024_u64, "a number of megabytes");
        Self {
            backends,
            legacy: list(env, "LEGACY_ANONYMOUS"),
            upload_limit: u64::saturating_add(upload_limit, FRAMING),
            contacts_limit: contacts_limit.saturating_mul(1 << 20).saturating_add(FRAMING),
            audiences_limit: audiences_limit.saturating_mul(1 << 20).saturating_add(FRAMING),
            body_limit: env.default("PROXY_BODY_LIMIT", 2 * 1024 * 1024, "a number of bytes"),
            connect_timeout: millis(env, "BACKEND_CONNECT_MILLIS", 500),
            backend_timeout: millis(env, "BACKEND_TIMEOUT_MILLIS", 30_000),
            client_timeout: millis(env, "CLIENT_TIMEOUT_MILLIS", 30_000),
            client_min_rate: env.default("CLIENT_MIN_BYTES_PER_SECOND", 1_024, "a number of bytes"),
            client_deadline: env.seconds("CLIENT_DEADLINE_SECONDS", Duration::from_secs(3_600)),
            breaker_threshold: env.default("BREAKER_THRESHOLD", 5, "a number of failures"),
            breaker_pause: millis(env, "BREAKER_PAUSE_MILLIS", 1_000),
            limits: Limits {
                refused: env.default("RATE_LIMIT_REFUSED", Rate::per_minute(600), Rate::EXPECTED),
                auth: env.default("RATE_LIMIT_AUTH", Rate::per_minute(60), Rate::EXPECTED),
                upload: env.default("RATE_LIMIT_UPLOAD", Rate::per_minute(60), Rate::EXPECTED),
                webhook: env.default("RATE_LIMIT_WEBHOOK", Rate::per_minute(60_000), Rate::EXPECTED),
                default: env.default("RATE_LIMIT_DEFAULT", Rate::per_minute(1200), Rate::EXPECTED),
            },
            trusted_proxies: list(env, "TRUSTED_PROXIES"),
            cors_origins: list::<Origin>(env, "CORS_ORIGINS").into_iter().map(|origin| origin.0).collect(),
            stream_connections: env.default("STREAM_CONNECTIONS", 8, "a number of connections"),
            upload_connections: env.default("UPLOAD_CONNECTIONS", 8, "a number of connections"),
            caller_connections: env.default("CALLER_CONNECTIONS", 256, "a number of connections"),
        }
    }

    /// The largest body with such a file, in bytes.
    pub const fn files_limit(&self, files: Files) -> u64 {
        match files {
            Files::Usual => self.upload_limit,
            Files::Contacts => self.contacts_limit,
            Files::Audiences => self.audiences_limit,
            Files::Suppressions => SUPPRESSIONS_LIMIT,
        }
    }

    /// The role in whose name `path` works without a login, if any.
    pub fn legacy_role(&self, path: &str) -> Option<Role> {
        self.legacy.iter().find(|rule| under(path, &rule.prefix)).map(|rule| rule.role)
    }
}

fn millis(env: &mut Env, name: &str, default: u64) -> Duration {
    Duration::from_millis(env.default(name, default, "a number of milliseconds"))
}

/// A comma-separated list; each wrong item is reported.
fn list<T: FromStr<Err = String>>(env: &mut Env, name: &str) -> Vec<T> {
    let text: String = env.default(name, String::new(), "a comma-separated list");
    let mut values = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match item.parse() {
            Ok(value) => values.push(value),
            Err(problem) => env.reject(name, problem),
        }
    }
    values
}

/// `<path prefix>=<role>`: those paths work without a login, as that role. For clients that were written
/// before there were logins.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyRule {
    /// The path, or what stands before the next `/` of longer ones.
    pub prefix: String,
    /// Viewer or operator.
    pub role: Role,
}

impl FromStr for LegacyRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = || format!("has {text:?}, expected <path>=<viewer or operator>");
        let (prefix, role) = text.split_once('=').ok_or_else(problem)?;
        let prefix = prefix.trim().trim_end_matches('/');
        let role = match role.trim() {
            "viewer" => Role::Viewer,
            "operator" => Role::Operator,
            // Nobody is an administrator without a login; and which supplier would it be?
            _ => return Err(problem()),
        };
        // Where services are, and not everything there is.
        if !["/api/", "/reporte", "/campania"].iter().any(|known| prefix.starts_with(known)) {
            return Err(problem());
        }
        Ok(Self { prefix: prefix.to_owned(), role })
    }
}

/// Rates by class of request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys and sessions that don't hold, by address, each counted once; past them none of that address that is not known to
    /// hold is looked up for a while.
    pub refused: Rate,
    /// Logins and refreshes, by address.
    pub auth: Rate,
    /// Uploads, by caller.
    pub upload: Rate,
    /// Vendors' webhooks, by address.
    pub webhook: Rate,
    /// All else, by caller.
    pub default: Rate,
}

/// `<requests>/<seconds>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many requests…
    pub requests: NonZeroU32,
    /// …in so many seconds, and as many at once.
    pub seconds: NonZeroU32,
}

impl Rate {
    const EXPECTED: &str = "<requests>/<seconds>, such as 60/60";

    pub(crate) const fn per_minute(requests: u32) -> Self {
        let requests = match NonZeroU32::new(requests) {
            Some(requests) => requests,
            None => NonZeroU32::MIN,
        };
        Self { requests, seconds: NonZeroU32::MIN.saturating_add(59) }
    }

    /// The time in which one more request is earned.
    pub fn period(self) -> Duration {
        (Duration::from_secs(u64::from(self.seconds.get())) / self.requests.get())
            .max(Duration::from_nanos(1))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(requests, seconds)| {
                Some(Self { requests: requests.trim().parse().ok()?, seconds: seconds.trim().parse().ok()? })
            })
            .ok_or_else(|| format!("{text:?} is no rate, expected {}", Self::EXPECTED))
    }
}

struct Origin(String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match url::Url::parse(text) {
            Ok(url)
                if matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!("has {text:?}, expected an origin such as https://console.example.com")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Settings, Result<(), chassis::config::ConfigError>) {
        let mut env = Env::from_map(variables.iter().copied());
        let settings = Settings::read(&mut env);
        (settings, env.finish())
    }

    #[test]
    fn without_configuration_nothing_is_anonymous_and_no_other_origin_is_allowed() {
        let (settings, read) = read(&[("CATALOG_UPLOAD_URL", "http://catalog:3001")]);
        assert_eq!(read, Ok(()));
        assert!(settings.legacy.is_empty() && settings.cors_origins.is_empty());
        assert!(settings.trusted_proxies.is_empty());
        assert_eq!(settings.files_limit(Files::Usual), 100 * 1024 * 1024 + FRAMING);
        assert_eq!(settings.files_limit(Files::Contacts), 16 * 1024 * 1024 * 1024 + FRAMING);
        assert_eq!(settings.files_limit(Files::Audiences), 1024 * 1024 * 1024 + FRAMING);
        assert_eq!(settings.backends.len(), 1);
    }

    #[test]
    fn legacy_paths_have_a_role_below_admin() {
        let (settings, read_well) = read(&[
            ("CATALOG_UPLOAD_URL", "http://catalog:3001"),
            ("LEGACY_ANONYMOUS", "/api/v1/catalog/items/bulk-upload=operator, /api/catalog/=viewer"),
        ]);
        assert_eq!(read_well, Ok(()));
        assert_eq!(settings.legacy_role("/api/v1/catalog/items/bulk-upload"), Some(Role::Operator));
        assert_eq!(settings.legacy_role("/api/catalog/bulk-upload/status/1"), Some(Role::Viewer));
        assert_eq!(settings.legacy_role("/api/v1/catalog/items/bulk-uploads"), None);
        for wrong in ["/api/v1/catalog=admin", "/api/v1/catalog=supplier", "/api/v1/catalog", "/=viewer"] {
            let (_, wrong) = read(&[("CATALOG_UPLOAD_URL", "http://c"), ("LEGACY_ANONYMOUS", wrong)]);
            assert!(wrong.expect_err("refused").to_string().contains("LEGACY_ANONYMOUS"));
        }
    }

    #[test]
    fn rates_and_origins_are_checked() {
        let rate: Rate = "10/60".parse().expect("a rate");
        assert_eq!(rate.period(), Duration::from_secs(6));
        assert!("0/60".parse::<Rate>().is_err() && "10".parse::<Rate>().is_err());
        assert!("https://a.example".parse::<Origin>().is_ok());
        for wrong in ["*", "https://a.example/", "https://a.example/x", "a.example", "null"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
