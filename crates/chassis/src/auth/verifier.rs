use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind, jwk::JwkSet,
};
use sea_orm::sqlx::PgPool;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Claims, jwks};
use crate::{Problem, config::AuthSettings, db::Database};

/// How often the keys are fetched again: how long a withdrawn key may still be believed.
const REFRESH: Duration = Duration::from_secs(300);
/// How often they are tried while the gateway does not answer and there are none yet.
const RETRY: Duration = Duration::from_secs(2);
/// A token with an unknown key makes us ask, but not more often than this: tokens are free to invent.
const ASK_AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// Where there are no keys at all, each request asks, but not more often than this: the gateway may have come up
/// a moment ago.
const ASK_FOR_FIRST_EVERY: Duration = Duration::from_millis(250);
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 15;
/// Longer is no token of ours.
const LONGEST: usize = 8 << 10;

/// Checks tokens. Cloning shares the keys.
#[derive(Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    issuer: String,
    validation: Validation,
    keys: RwLock<HashMap<String, DecodingKey>>,
    source: Option<Source>,
}

struct Source {
    http: reqwest::Client,
    url: String,
    pool: Option<PgPool>,
    /// When the gateway was asked last. Held while asking, so that one asks for all.
    asked: Mutex<Option<Instant>>,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Not signed by a key we know, not for us, or no token at all.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
    /// We know no keys at all: the gateway was never reached.
    #[error("no key to check tokens with was ever fetched")]
    NoKeys,
}

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Expired => Self::invalid_token("El token de acceso expiró").because(rejected),
            Rejected::Invalid(_) => Self::invalid_token("Token de acceso inválido").because(rejected),
            Rejected::NoKeys => Self::unavailable("keys_unavailable", rejected),
        }
    }
}

impl Verifier {
    fn new(issuer: &str, audience: &str, source: Option<Source>) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        Self {
            shared: Arc::new(Shared {
                issuer: issuer.to_owned(),
                validation,
                keys: RwLock::default(),
                source,
            }),
        }
    }

    /// Believes these keys, and no others until [`Verifier::set_keys`]: for the gateway, which signs, and
    /// for tests.
    ///
    /// # Errors
    /// A set without a usable key.
    pub fn fixed(issuer: &str, audience: &str, set: &JwkSet) -> anyhow::Result<Self> {
        let verifier = Self::new(issuer, audience, None);
        verifier.set_keys(set)?;
        Ok(verifier)
    }

    /// Believes the keys that the gateway publishes. Takes those kept in the database at once, and fetches
    /// them in the background until `shutdown`: no start waits for the gateway.
    pub async fn start(
        settings: &AuthSettings,
        http: reqwest::Client,
        database: Option<&Database>,
        shutdown: CancellationToken,
    ) -> Self {
        let pool = database.map(|database| database.pool.clone());
        let source =
            Source { http, url: settings.jwks_url.clone(), pool: pool.clone(), asked: Mutex::new(None) };
        let verifier = Self::new(&settings.issuer, &settings.audience, Some(source));
        if let Some(pool) = pool {
            match jwks::load(&pool, &settings.issuer).await {
                Ok(Some(set)) => {
                    if let Err(error) = verifier.set_keys(&set) {
                        tracing::warn!(%error, "the keys kept in the database are of no use");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "could not read the keys kept in the database"),
            }
        }
        let background = verifier.clone();
        tokio::spawn(async move {
            loop {
                let fetched = background.refresh(Duration::ZERO).await;
                let pause = if fetched || background.has_keys() { REFRESH } else { RETRY };
                // Not all processes at the same moment.
                let jitter = rand::random_range(0.8..1.0);
                tokio::select! {
                    () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        });
        verifier
    }

    /// Believes these keys instead.
    ///
    /// # Errors
    /// A set without a usable key: the present keys stay.
    pub fn set_keys(&self, set: &JwkSet) -> anyhow::Result<()> {
        let keys = jwks::usable(set)?.into_iter().collect();
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn has_keys(&self) -> bool {
        !self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn key(&self, id: &str) -> Option<DecodingKey> {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Fetches the keys, unless someone asked less than `spacing` ago. `true` if new ones came.
    async fn refresh(&self, spacing: Duration) -> bool {
        let Some(source) = &self.shared.source else { return false };
        let mut asked = source.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < spacing) {
            return false;
        }
        *asked = Some(Instant::now());
        let set = match jwks::fetch(&source.http, &source.url).await.and_then(|set| {
            self.set_keys(&set)?;
            Ok(set)
        }) {
            Ok(set) => set,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "could not fetch the keys of the gateway");
                return false;
            }
        };
        if let Some(pool) = &source.pool
            && let Err(error) = jwks::store(pool, &self.shared.issuer, &set).await
        {
            tracing::warn!(%error, "could not keep the keys of the gateway");
        }
        true
    }

    /// Whether there are keys to check tokens with. Where there are none yet, asks the gateway.
    ///
    /// # Errors
    /// [`Rejected::NoKeys`].
    pub async fn ready(&self) -> Result<(), Rejected> {
        if !self.has_keys() {
            self.refresh(ASK_FOR_FIRST_EVERY).await;
        }
        if self.has_keys() { Ok(()) } else { Err(Rejected::NoKeys) }
    }

    /// What a token says, if it is to be believed: EdDSA by a key we know, our issuer, our audience, its
    /// time not over (give or take 15 s).
    ///
    /// # Errors
    /// As [`Rejected`] says.
    pub async fn verify(&self, token: &str) -> Result<Claims, Rejected> {
        if token.len() > LONGEST {
            return Err(Rejected::Invalid("too long"));
        }
        let header = decode_header(token).map_err(|_| Rejected::Invalid("no JWT"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(Rejected::Invalid("not signed with EdDSA"));
        }
        let id = header.kid.ok_or(Rejected::Invalid("no key id"))?;
        let key = match self.key(&id) {
            Some(key) => key,
            None => {
                let spacing = if self.has_keys() { ASK_AT_MOST_EVERY } else { ASK_FOR_FIRST_EVERY };
                self.refresh(spacing).await;
                if !self.has_keys() {
                    return Err(Rejected::NoKeys);
                }
                self.key(&id).ok_or(Rejected::Invalid("unknown key"))?
            }
        };
        decode::<Claims>(token, &key, &self.shared.validation).map(|token| token.claims).map_err(|error| {
            match error.kind() {
                ErrorKind::ExpiredSignature => Rejected::Expired,
                ErrorKind::InvalidIssuer => Rejected::Invalid("another issuer"),
                ErrorKind::InvalidAudience => Rejected::Invalid("another audience"),
                ErrorKind::InvalidSignature => Rejected::Invalid("the signature does not match"),
                _ => Rejected::Invalid("its claims are not ours"),
            }
        })
    }
}
