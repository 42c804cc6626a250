//! A name and a password become tokens, or a session.

use std::time::Duration;

use chassis::config::Secret;
use sea_orm::TransactionTrait as _;
use serde_json::json;
use uuid::Uuid;

use super::{Error, Identity, Opaque, span};
use crate::{
    http::limits::address_key,
    storage::{
        Digest,
        audit::{self, Action, Actor},
        families,
        login_throttle::{self, Charge},
        refresh_tokens, users,
    },
};

/// What someone claims to be.
#[derive(Debug)]
pub struct Credentials {
    /// User name or address.
    pub login: String,
    /// The password.
    pub password: Secret<String>,
    /// Where the request comes from.
    pub address: std::net::IpAddr,
}

/// What a login gives.
#[derive(Debug)]
pub struct Login {
    /// Who it is.
    pub user: users::Model,
    /// What the client is given to come back with.
    pub tokens: Tokens,
}

/// Proof of a login.
#[derive(Debug)]
pub enum Tokens {
    /// For programs and apps.
    Bearer {
        /// A signed access token.
        access: Secret<String>,
        /// How long it is valid.
        expires_in: Duration,
        /// An opaque token to get the next one with.
        refresh: Secret<String>,
    },
    /// For a browser.
    Session {
        /// The cookie.
        cookie: Secret<String>,
        /// What unsafe requests must repeat in a header.
        csrf: String,
        /// How long the cookie is worth keeping.
        lifetime: Duration,
    },
}

/// The throttle's key of an account at an address. The name is hashed: people type passwords into that field.
fn account_key(login: &str, address: std::net::IpAddr) -> String {
    let digest = super::vault::digest(login);
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("account:{name}:{}", address_key(address))
}

impl Identity {
    /// Logs someone in.
    ///
    /// # Errors
    /// [`Error::Credentials`] for an unknown user, a wrong password and a disabled account alike, after the
    /// same time; [`Error::Throttled`], [`Error::Busy`], the database.
    pub async fn login(&self, credentials: Credentials, as_session: bool) -> Result<Login, Error> {
        let Credentials { login, password, address } = credentials;
        let login = login.trim().to_lowercase();
        let actor = Actor { user: None, address: Some(address.to_string()) };
        let known = users::find_by_login(self.orm(), &login).await?;
        // By the user's name, however it was spelled: address and name are one account.
        let account = known.as_ref().map_or(login, |user| user.username.clone());
        let fits = self.check_password(&account, address, password.clone(), known.as_ref()).await?;
        let user = match known {
            Some(user) if fits && user.disabled_at.is_none() => user,
            known => {
                let target = known.as_ref().map(|user| user.id.to_string());
                let reason = match &known {
                    None => "unknown_user",
                    Some(_) if fits => "disabled",
                    Some(_) => "wrong_password",
                };
                let details = json!({ "reason": reason });
                audit::record(self.orm(), self.now(), Action::LoginFailed, &actor, target, details).await?;
                return Err(Error::Credentials);
            }
        };
        let rehashed = if self.hasher().outdated(&user.password_hash.0) {
            Some(self.hasher().hash(password).await?)
        } else {
            None
        };
        self.admit(user, rehashed, as_session, actor).await
    }

    /// Whether the password is the user's; without one it takes as long and says no. Wrong ones are counted, and
    /// too many make the caller wait.
    pub(crate) async fn check_password(
        &self,
        login: &str,
        address: std::net::IpAddr,
        password: Secret<String>,
        user: Option<&users::Model>,
    ) -> Result<bool, Error> {
        let (by_address, by_account) = (address_key(address), account_key(login, address));
        self.charge(&by_address, &by_account).await?;
        let verified = self.hasher().verify(password, user.map(|user| user.password_hash.0.clone())).await;
        // A right password for a disabled account says nothing about guessing either.
        if !matches!(verified, Ok(false)) {
            let transaction = self.orm().begin().await?;
            login_throttle::refund(&transaction, &by_address, self.now()).await?;
            match verified {
                Ok(_) => login_throttle::clear(&transaction, &by_account).await?,
                // Turned away before the password was looked at.
                Err(_) => login_throttle::refund(&transaction, &by_account, self.now()).await?,
            }
            transaction.commit().await?;
        }
        verified
    }

    async fn charge(&self, by_address: &str, by_account: &str) -> Result<(), Error> {
        let (now, settings) = (self.now(), self.settings());
        let transaction = self.orm().begin().await?;
        // Always the address first: the order in which two logins lock.
        for (key, policy) in
            [(by_address, settings.throttle_address), (by_account, settings.throttle_account)]
        {
            if let Charge::Blocked(wait) = login_throttle::charge(&transaction, key, policy, now).await? {
                transaction.rollback().await?;
                return Err(Error::Throttled(wait));
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Opens a family for someone whose password was right.
    async fn admit(
        &self,
        user: users::Model,
        rehashed: Option<String>,
        as_session: bool,
        mut actor: Actor,
    ) -> Result<Login, Error> {
        let now = self.now();
        let transaction = self.orm().begin().await?;
        // Who is disabled, or given another password, while we hashed must not get in: those changes end all
        // families, and this one would come after.
        let current = users::get_for_share(&transaction, user.id).await?;
        let user = current
            .filter(|current| current.disabled_at.is_none() && current.password_hash == user.password_hash)
            .ok_or(Error::Credentials)?;
        let session = if as_session { Some(Opaque::generate("")?) } else { None };
        let family = families::Model {
            id: Uuid::now_v7(),
            user_id: user.id,
            session_digest: session.as_ref().map(|session| Digest(session.digest.clone())),
            generation: 1,
            advanced_at: now,
            last_used_at: now,
            created_at: now,
            expires_at: now + span(self.settings().family_lifetime),
            revoked_at: None,
            revoked_for: None,
        };
        families::insert(&transaction, family.clone()).await?;
        let tokens = match session {
            Some(session) => Tokens::Session {
                cookie: session.text,
                csrf: self.vault().csrf_token(family.id),
                lifetime: self.settings().family_lifetime,
            },
            None => self.bearer(&transaction, &user, &family, family.generation).await?,
        };
        actor.user = Some((user.id, user.username.clone()));
        let details = json!({ "family": family.id, "session": as_session });
        audit::record(&transaction, now, Action::LoggedIn, &actor, Some(user.id.to_string()), details)
            .await?;
        transaction.commit().await?;
        // After the commit: updating the row above, under a shared lock, would let two logins wait for each other.
        users::logged_in(self.orm(), user.id, now, rehashed.map(|hash| (user.password_hash.0.clone(), hash)))
            .await?;
        Ok(Login { user, tokens })
    }

    /// An access token, and a refresh token of that generation, stored.
    pub(super) async fn bearer(
        &self,
        transaction: &sea_orm::DatabaseTransaction,
        user: &users::Model,
        family: &families::Model,
        generation: i32,
    ) -> Result<Tokens, Error> {
        let now = self.now();
        let claims = self.user_claims(user, family)?;
        let expires_in = Duration::from_secs(u64::try_from(claims.exp - claims.iat).unwrap_or(0));
        let refresh = Opaque::generate("rt_")?;
        let end = now + span(self.settings().refresh_idle);
        refresh_tokens::insert(transaction, family, generation, refresh.digest, now, end).await?;
        let access = Secret::new(self.keys().sign(claims)?);
        Ok(Tokens::Bearer { access, expires_in, refresh: refresh.text })
    }
}
