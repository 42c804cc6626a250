//! Who calls: passwords, sessions, tokens and API keys.
//!
//! [`Identity::open`] once a process, [`Identity::caller_of`] once a request, [`Identity::maintain`] in the
//! background.

mod caller;
mod ended;
mod error;
mod first_admin;
mod hasher;
mod keyring;
mod login;
mod refresh;
mod settings;
mod vault;

use std::{sync::Arc, time::Duration};

use chassis::{
    Problem,
    auth::{Claims, Role},
    db::Database,
};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::JwkSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use caller::{
    Authenticated, CSRF_COOKIE, CSRF_HEADER, Credential, KEY_PREFIX, Person, SESSION_COOKIE, WithoutCsrf,
    looked_up, session_looked_up,
};
pub use error::Error;
pub use hasher::{Cost, Hasher};
pub use keyring::Keyring;
pub use login::{Credentials, Login, Tokens};
pub use settings::{FirstAdmin, IdentitySettings};
pub use vault::{Opaque, Vault};

use self::ended::EndedSessions;
use crate::{
    domain::roles::Standing,
    storage::{ended_sessions, families, login_throttle, users},
};

/// Everything that knows who is who. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Identity {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    settings: IdentitySettings,
    vault: Vault,
    keys: Keyring,
    hasher: Hasher,
    ended: EndedSessions,
}

impl Identity {
    /// Loads or makes the signing keys, and creates the first administrator where it is missing. The schema
    /// must be migrated.
    ///
    /// # Errors
    /// The database, a secret that is too short or not the one the keys are sealed with.
    pub async fn open(database: &Database, settings: IdentitySettings) -> anyhow::Result<Self> {
        let vault = Vault::new(&settings.encryption_secret)?;
        let keys = Keyring::open(database, &vault, &settings).await?;
        let hasher = Hasher::new(settings.password_cost, settings.hash_concurrency, settings.hash_patience)?;
        let (database, ended) = (database.clone(), EndedSessions::default());
        let identity = Self { shared: Arc::new(Shared { database, settings, vault, keys, hasher, ended }) };
        identity.create_first_admin().await?;
        // Before the first request: a restart must not bring ended logins back.
        identity.read_ended_sessions().await?;
        Ok(identity)
    }

    /// Rotates keys and deletes what is long over, every minute until `shutdown`.
    pub async fn maintain(&self, shutdown: CancellationToken) {
        let mut minute = tokio::time::interval(Duration::from_mins(1));
        minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(minute.tick()).await.is_some() {
            if let Err(error) = self.maintain_once().await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "upkeep of keys and sessions failed, next try in 60 s"
                );
            }
        }
    }

    /// One round of [`Identity::maintain`].
    ///
    /// # Errors
    /// The database.
    pub async fn maintain_once(&self) -> anyhow::Result<()> {
        self.keys().maintain(self.vault()).await?;
        let now = self.now();
        let forget = self.settings().throttle_account.forget.max(self.settings().throttle_address.forget);
        families::prune(self.orm(), now).await?;
        ended_sessions::prune(self.orm(), now).await?;
        login_throttle::prune(self.orm(), now - TimeDelta::from_std(forget)? - TimeDelta::hours(1)).await?;
        Ok(())
    }

    /// The public signing keys.
    ///
    /// # Errors
    /// A defect only.
    pub fn jwks(&self) -> anyhow::Result<JwkSet> {
        self.keys().jwks()
    }

    /// A token for someone who did not log in, in the name of a role: for paths that configuration opens.
    /// `subject` must be no user's or key's id.
    ///
    /// # Errors
    /// As [`Keyring::sign`].
    pub fn token_for_role(&self, subject: &str, role: Role) -> Result<Authenticated, Problem> {
        let standing = Standing { role, proveedor_id: None };
        let claims = self.claims(subject, standing, Vec::new(), None, None);
        Ok(self.authenticated(claims, Credential::Anonymous, None)?)
    }

    /// Claims that are valid from now for the access token's lifetime, or until `end` if that is sooner.
    fn claims(
        &self,
        subject: impl ToString,
        standing: Standing,
        scopes: Vec<String>,
        name: Option<String>,
        end: Option<DateTime<Utc>>,
    ) -> Claims {
        let now = self.now();
        let lifetime = TimeDelta::from_std(self.settings().access_lifetime).unwrap_or(TimeDelta::minutes(15));
        let until = end.map_or(now + lifetime, |end| end.min(now + lifetime));
        Claims {
            iss: self.settings().issuer.clone(),
            aud: self.settings().audience.clone(),
            sub: subject.to_string(),
            exp: until.timestamp(),
            iat: now.timestamp(),
            jti: Uuid::now_v7().to_string(),
            sid: None,
            role: standing.role,
            proveedor_id: standing.proveedor_id,
            scopes,
            owner: None,
            name,
        }
    }

    /// Claims of a user for one of its logins.
    fn user_claims(&self, user: &users::Model, login: &families::Model) -> Result<Claims, Error> {
        let (name, end) = (Some(user.name.clone()), Some(login.expires_at));
        let claims = self.claims(user.id, user.standing()?, Vec::new(), name, end);
        Ok(Claims { sid: Some(login.id), ..claims })
    }

    /// What ends logins now, for a reason.
    pub(crate) fn ending(&self, reason: families::EndReason, now: DateTime<Utc>) -> families::Ending {
        // To spare: the verifiers' leeway, and uses that are noted to the minute.
        let tokens_live = span(self.settings().access_lifetime) + TimeDelta::minutes(2);
        families::Ending { reason, now, tokens_live }
    }

    fn ended(&self) -> &EndedSessions {
        &self.shared.ended
    }

    pub(crate) fn orm(&self) -> &sea_orm::DatabaseConnection {
        &self.shared.database.orm
    }

    pub(crate) fn settings(&self) -> &IdentitySettings {
        &self.shared.settings
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.shared.vault
    }

    pub(crate) fn keys(&self) -> &Keyring {
        &self.shared.keys
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.shared.hasher
    }

    /// The present moment.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.settings.clock.now()
    }
}

/// A configured duration as chrono counts; absurdly long ones as the longest.
pub(crate) fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(36_500))
}
