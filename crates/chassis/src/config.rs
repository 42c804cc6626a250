//! Settings from the environment, typed. A process that lacks some says so once, naming all of them.

mod broker;
mod service;
mod settings;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    str::FromStr,
    time::Duration,
};

pub use broker::broker_config;
pub use service::{Role, ServiceSettings};
pub use settings::{AuthSettings, DatabaseSettings, HttpSettings, RedisSettings, S3Settings};

/// A value that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one who needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Everything that is wrong with the environment, one line a variable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is incomplete or wrong:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

/// Reads settings and remembers what is wrong with them. Where a variable is missing or wrong, a reader
/// returns the type's default as a stand-in: nobody may use it before [`Env::finish`] has agreed.
#[derive(Debug)]
pub struct Env {
    variables: HashMap<String, Secret<String>>,
    /// Names that a reader has asked for.
    asked: BTreeSet<String>,
    problems: Vec<String>,
}

/// What is in the environment of a process and no setting of ours: the system's, what libraries read with an effect on
/// us, and what an Amazon cluster puts into each of its pods.
const OTHERS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_ENDPOINT_URL",
    "AWS_EXECUTION_ENV",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "FAILPOINTS",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LOGNAME",
    "LOG_FORMAT",
    "OLDPWD",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_CONCURRENT_EXPORTS",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "PATH",
    "PWD",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "SHELL",
    "SHLVL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "_",
];

/// How the names of such begin, where nobody could list them.
const OTHERS_BEGIN: &[&str] = &["KUBERNETES_", "LC_"];

impl Env {
    /// The environment of this process. Variables that are not UTF-8 count as absent.
    pub fn from_process() -> Self {
        Self::from_map(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// An environment for tests.
    pub fn from_map(variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let variables =
            variables.into_iter().map(|(name, value)| (name.into(), Secret::new(value.into()))).collect();
        Self { variables, asked: BTreeSet::new(), problems: Vec::new() }
    }

    /// The trimmed value; a variable that is set but empty counts as absent.
    fn get(&mut self, name: &str) -> Option<&str> {
        if !self.asked.contains(name) {
            self.asked.insert(name.to_owned());
        }
        self.variables.get(name).map(|value| value.expose().trim()).filter(|value| !value.is_empty())
    }

    fn parsed<T: FromStr>(&mut self, name: &str, expected: &str, secret: bool) -> Option<T> {
        let text = self.get(name)?;
        if let Ok(value) = text.parse() {
            return Some(value);
        }
        let problem = if secret {
            format!("{name} has a value that is not {expected}")
        } else {
            format!("{name} is {text:?}, expected {expected}")
        };
        self.problems.push(problem);
        None
    }

    fn missing(&mut self, name: &str, expected: &str) {
        // A wrong value is reported already; it is not missing on top.
        if self.get(name).is_none() {
            self.problems.push(format!("{name} is missing, expected {expected}"));
        }
    }

    /// A value that must be there. `expected` completes "expected …": say what is wanted, with the unit.
    pub fn required<T: FromStr + Default>(&mut self, name: &str, expected: &str) -> T {
        self.parsed(name, expected, false).unwrap_or_else(|| {
            self.missing(name, expected);
            T::default()
        })
    }

    /// A value that may be absent.
    pub fn optional<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        self.parsed(name, expected, false)
    }

    /// A value with a default.
    pub fn default<T: FromStr>(&mut self, name: &str, default: T, expected: &str) -> T {
        self.parsed(name, expected, false).unwrap_or(default)
    }

    /// A secret that must be there. No message shows its value.
    pub fn secret(&mut self, name: &str, expected: &str) -> Secret<String> {
        self.optional_secret(name).unwrap_or_else(|| {
            self.missing(name, expected);
            Secret::default()
        })
    }

    /// A secret that may be absent.
    pub fn optional_secret(&mut self, name: &str) -> Option<Secret<String>> {
        self.get(name).map(|value| Secret::new(value.to_owned()))
    }

    /// The URL of a server, which must be there and have one of `schemes`. Secret, as it may hold a
    /// password.
    pub fn url(&mut self, name: &str, schemes: &[&str]) -> Secret<String> {
        let expected = format!("a URL that begins with {}", alternatives(schemes));
        match self.optional_url(name, schemes) {
            Some(url) => url,
            None => {
                self.missing(name, &expected);
                Secret::default()
            }
        }
    }

    /// The URL of a server, which may be absent.
    pub fn optional_url(&mut self, name: &str, schemes: &[&str]) -> Option<Secret<String>> {
        let url: url::Url = self.parsed(name, "a URL", true)?;
        if schemes.contains(&url.scheme()) {
            return self.optional_secret(name);
        }
        self.problems.push(format!(
            "{name} has the scheme {:?}, expected a URL that begins with {}",
            url.scheme(),
            alternatives(schemes)
        ));
        None
    }

    /// Yes or no: `true`, `1`, `yes`, `false`, `0`, `no`, in any case.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        self.parsed::<Flag>(name, "true or false", false).map_or(default, |flag| flag.0)
    }

    /// A duration, written in whole seconds.
    pub fn seconds(&mut self, name: &str, default: Duration) -> Duration {
        self.parsed(name, "a whole number of seconds", false).map_or(default, Duration::from_secs)
    }

    /// Says that a value is wrong for a reason that only its reader knows.
    pub fn reject(&mut self, name: &str, problem: impl fmt::Display) {
        self.problems.push(format!("{name} {problem}"));
    }

    /// The names of variables that no reader has asked for, and that are no others' either: a misspelt setting takes
    /// its default without a word.
    fn unknown(&self) -> Vec<&str> {
        let mut unknown: Vec<_> = self
            .variables
            .keys()
            .map(String::as_str)
            .filter(|name| !self.asked.contains(*name) && !OTHERS.contains(name))
            .filter(|name| !OTHERS_BEGIN.iter().any(|begin| name.starts_with(begin)))
            .collect();
        unknown.sort_unstable();
        unknown
    }

    /// Agrees to use what was read.
    ///
    /// # Errors
    /// Everything that was missing or wrong, in the order of reading.
    pub fn finish(self) -> Result<(), ConfigError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigError(self.problems)) }
    }
}

/// Reads settings from the environment of this process.
///
/// # Errors
/// Every variable that is missing or wrong, at once.
pub fn from_process<T>(read: impl FnOnce(&mut Env) -> T) -> Result<T, ConfigError> {
    let mut env = Env::from_process();
    let settings = read(&mut env);
    env.finish()?;
    Ok(settings)
}

/// What is wrong with an environment for those who `read` it. If `strict`, so is a variable that nobody reads.
/// Connects to nothing.
///
/// # Errors
/// Every variable that is missing, wrong or unknown, at once.
pub fn check<T>(mut env: Env, strict: bool, read: impl FnOnce(&mut Env) -> T) -> Result<(), ConfigError> {
    read(&mut env);
    if strict {
        let unknown: Vec<_> =
            env.unknown().into_iter().map(|name| format!("{name} is no setting of this process")).collect();
        env.problems.extend(unknown);
    }
    env.finish()
}

fn alternatives(schemes: &[&str]) -> String {
    schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ")
}

struct Flag(bool);

impl FromStr for Flag {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(Self(true)),
            "false" | "0" | "no" => Ok(Self(false)),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_and_wrong_variable_is_named_at_once() {
        let mut env = Env::from_map([
            ("PORT", "many"),
            ("DATABASE_URL", "mysql://root:hunter2@db/x"),
            ("CREATE", "perhaps"),
            ("EMPTY", "  "),
        ]);
        let _: u16 = env.required("PORT", "a port number");
        let _: String = env.required("NAME", "the service's name");
        let _: String = env.required("EMPTY", "something");
        env.url("DATABASE_URL", &["postgres", "postgresql"]);
        env.url("AMQP_URL", &["amqp", "amqps"]);
        env.flag("CREATE", false);
        env.secret("PASSWORD", "the administrator's password");
        let ConfigError(problems) = env.finish().expect_err("seven problems");
        assert_eq!(
            problems,
            [
                r#"PORT is "many", expected a port number"#,
                "NAME is missing, expected the service's name",
                "EMPTY is missing, expected something",
                r#"DATABASE_URL has the scheme "mysql", expected a URL that begins with postgres:// or postgresql://"#,
                "AMQP_URL is missing, expected a URL that begins with amqp:// or amqps://",
                r#"CREATE is "perhaps", expected true or false"#,
                "PASSWORD is missing, expected the administrator's password",
            ]
        );
    }

    #[test]
    fn a_secret_shows_in_no_message_and_no_debug_output() {
        let mut env = Env::from_map([("AMQP_URL", "hunter2 not a url"), ("KEY", "hunter2")]);
        env.url("AMQP_URL", &["amqp"]);
        let key = env.secret("KEY", "a key");
        assert_eq!(key.expose(), "hunter2");
        let shown = format!("{env:?} {key:?}");
        let shown = format!("{shown} {}", env.finish().expect_err("no URL"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_variable_that_nobody_reads_is_named_where_that_matters() {
        let env =
            || Env::from_map([("PORT", "80"), ("HTPP_PORT", "81"), ("PATH", "/bin"), ("AWS_REGION", "x")]);
        let read = |env: &mut Env| (env.default("PORT", 1, "a number"), env.flag("CREATE", false));
        assert_eq!(check(env(), false, read), Ok(()));
        let told = ConfigError(vec!["HTPP_PORT is no setting of this process".to_owned()]);
        assert_eq!(check(env(), true, read), Err(told));
        let told = ConfigError(vec!["HTPP_PORT is no setting of this process".to_owned()]);
        assert_eq!(check(env(), true, |env| env.optional::<u8>("PORT", "a number")), Err(told));
    }

    #[test]
    fn a_misspelt_name_of_a_librarys_setting_is_found_too() {
        let wrong = ["AWS_ENDPOINT_ULR", "AWS_REGOIN", "OTEL_EXPORTER_OTLP_ENDPONT", "OTEL_SERVICE_NAME"];
        let right = [
            "AWS_DEFAULT_REGION",
            "AWS_ROLE_ARN",
            "AWS_STS_REGIONAL_ENDPOINTS",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_RESOURCE_ATTRIBUTES",
        ];
        let env = Env::from_map(wrong.iter().chain(&right).map(|name| (*name, "x")));
        let told = wrong.map(|name| format!("{name} is no setting of this process"));
        assert_eq!(check(env, true, |_| ()), Err(ConfigError(told.to_vec())));
    }

    #[test]
    fn what_is_absent_takes_its_default_and_what_is_there_wins() {
        let mut env = Env::from_map([("A", "7"), ("F", "Yes"), ("S", "90")]);
        assert_eq!(env.default("A", 1, "a number"), 7);
        assert_eq!(env.default("B", 1, "a number"), 1);
        assert_eq!(env.optional::<u8>("B", "a number"), None);
        assert!(env.flag("F", false) && !env.flag("G", false));
        assert_eq!(env.seconds("S", Duration::ZERO), Duration::from_secs(90));
        assert_eq!(env.finish(), Ok(()));
    }
}
