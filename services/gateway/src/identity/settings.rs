use std::time::Duration;

use chassis::{
    Clock,
    config::{Env, Secret},
};

use super::{hasher::Cost, vault::MIN_SECRET};
use crate::domain::{network::Network, throttle::Policy};

/// How users are known. `IdentitySettings::read` fills it from the environment.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// The `iss` of tokens.
    pub issuer: String,
    /// The `aud` of tokens.
    pub audience: String,
    /// Seals the signing keys in the database, and ties CSRF tokens to sessions. All replicas have the same.
    pub encryption_secret: Secret<String>,
    /// Created where there is no user of that name. Never changed afterwards.
    pub first_admin: Option<FirstAdmin>,
    /// What one password hash costs.
    pub password_cost: Cost,
    /// Passwords hashed at the same time. Each takes a core and [`Cost::memory_kib`].
    pub hash_concurrency: usize,
    /// How long a login waits for its turn to be hashed.
    pub hash_patience: Duration,
    /// How long an access token is valid.
    pub access_lifetime: Duration,
    /// How long a refresh token may lie unused.
    pub refresh_idle: Duration,
    /// How long after a rotation the token before it still works once more.
    pub refresh_grace: Duration,
    /// How long a login lasts at most, however often it is refreshed. Cookie sessions, too.
    pub family_lifetime: Duration,
    /// How long a cookie session may lie unused.
    pub session_idle: Duration,
    /// How long an API key works that was made without saying.
    pub key_lifetime: Duration,
    /// How long an API key may work at most.
    pub key_longest: Duration,
    /// How long a signing key signs.
    pub key_rotation: Duration,
    /// How long a signing key is published before it signs: more than services cache the key set for.
    pub key_publish_ahead: Duration,
    /// Waits after failures for one account from one address.
    pub throttle_account: Policy,
    /// Waits after failures from one address.
    pub throttle_address: Policy,
    /// Cookies only over TLS. Off only for development without it.
    pub secure_cookies: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// The time.
    pub clock: Clock,
}

/// The first administrator.
#[derive(Clone, Debug)]
pub struct FirstAdmin {
    /// A user name, or an address whose local part becomes one.
    pub username: String,
    /// The password it starts with.
    pub password: Secret<String>,
}

impl IdentitySettings {
    /// The defaults, with that secret.
    pub fn new(encryption_secret: Secret<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            issuer: "lote-gateway".to_owned(),
            audience: "lote".to_owned(),
            encryption_secret,
            first_admin: None,
            password_cost: Cost::default(),
            hash_concurrency: cores.div_ceil(2),
            hash_patience: Duration::from_secs(5),
            access_lifetime: Duration::from_mins(15),
            refresh_idle: Duration::from_hours(14 * 24),
            refresh_grace: Duration::from_secs(30),
            family_lifetime: Duration::from_hours(30 * 24),
            session_idle: Duration::from_hours(12),
            key_lifetime: Duration::from_hours(90 * 24),
            key_longest: Duration::from_hours(365 * 24),
            key_rotation: Duration::from_hours(30 * 24),
            key_publish_ahead: Duration::from_hours(1),
            throttle_account: Policy::ACCOUNT,
            throttle_address: Policy::ADDRESS,
            secure_cookies: true,
            trusted_proxies: Vec::new(),
            clock: Clock::System,
        }
    }

    /// `KEY_ENCRYPTION_SECRET` (required), `TOKEN_ISSUER`, `TOKEN_AUDIENCE`, `ADMIN_USER` with `ADMIN_PASSWORD`,
    /// `ARGON2_MEMORY_KIB`, `ARGON2_ITERATIONS`, `ARGON2_PARALLELISM`, `HASH_CONCURRENCY`,
    /// `ACCESS_TOKEN_SECONDS`, `REFRESH_IDLE_SECONDS`, `REFRESH_GRACE_SECONDS`, `REFRESH_LIFETIME_SECONDS`,
    /// `SESSION_IDLE_SECONDS`, `API_KEY_SECONDS` (90 days), `API_KEY_LONGEST_SECONDS` (365 days), `SIGNING_KEY_SECONDS`, `SIGNING_KEY_AHEAD_SECONDS`, `SECURE_COOKIES` (true).
    /// `trusted_proxies` comes from the gateway's own settings.
    pub fn read(env: &mut Env, trusted_proxies: Vec<Network>) -> Self {
        let expected = "at least 32 characters, the same at every replica";
        let secret = env.secret("KEY_ENCRYPTION_SECRET", expected);
        let length = secret.expose().chars().count();
        if (1..MIN_SECRET).contains(&length) {
            env.reject("KEY_ENCRYPTION_SECRET", format!("has {length} characters, expected {expected}"));
        }
        let user = env.optional::<String>("ADMIN_USER", "a user name");
        let password = env.optional_secret("ADMIN_PASSWORD");
        if user.is_some() != password.is_some() {
            env.reject("ADMIN_USER", "and ADMIN_PASSWORD belong together, expected both or none");
        }
        let base = Self::new(secret);
        let cost = base.password_cost;
        Self {
            issuer: env.default("TOKEN_ISSUER", base.issuer, "an issuer"),
            audience: env.default("TOKEN_AUDIENCE", base.audience, "an audience"),
            first_admin: user.zip(password).map(|(username, password)| FirstAdmin { username, password }),
            password_cost: Cost {
                memory_kib: env.default("ARGON2_MEMORY_KIB", cost.memory_kib, "a number of KiB"),
                iterations: env.default("ARGON2_ITERATIONS", cost.iterations, "a number of passes"),
                parallelism: env.default("ARGON2_PARALLELISM", cost.parallelism, "a number of lanes"),
            },
            hash_concurrency: env.default("HASH_CONCURRENCY", base.hash_concurrency, "a number of hashes"),
            access_lifetime: env.seconds("ACCESS_TOKEN_SECONDS", base.access_lifetime),
            refresh_idle: env.seconds("REFRESH_IDLE_SECONDS", base.refresh_idle),
            refresh_grace: env.seconds("REFRESH_GRACE_SECONDS", base.refresh_grace),
            family_lifetime: env.seconds("REFRESH_LIFETIME_SECONDS", base.family_lifetime),
            session_idle: env.seconds("SESSION_IDLE_SECONDS", base.session_idle),
            key_lifetime: env.seconds("API_KEY_SECONDS", base.key_lifetime),
            key_longest: env.seconds("API_KEY_LONGEST_SECONDS", base.key_longest),
            key_rotation: env.seconds("SIGNING_KEY_SECONDS", base.key_rotation),
            key_publish_ahead: env.seconds("SIGNING_KEY_AHEAD_SECONDS", base.key_publish_ahead),
            secure_cookies: env.default("SECURE_COOKIES", base.secure_cookies, "true or false"),
            trusted_proxies,
            ..base
        }
    }
}
