//! The keys that sign access tokens. Kept in the database, sealed; all replicas sign with the same one.

use std::{
    fmt,
    sync::{PoisonError, RwLock},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::{
    Clock,
    auth::{Claims, Rejected, Verifier},
    db::Database,
};
use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::JwkSet};
use sea_orm::{ActiveValue::Set, EntityTrait as _, TransactionTrait as _};
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    IdentitySettings,
    vault::{Vault, random},
};
use crate::{
    domain::signing::{self, Lifetimes},
    storage::{
        Digest,
        audit::{self, Action, Actor},
        signing_keys,
    },
};

/// What verifiers may grant beyond a token's end (their leeway, and ours to spare).
const LEEWAY: TimeDelta = TimeDelta::seconds(60);
/// A token with a key unknown here makes us look, but not more often than this: key ids are free to invent.
const LOOK_AT_MOST_EVERY: TimeDelta = TimeDelta::seconds(5);

/// Signs and verifies access tokens.
pub struct Keyring {
    database: Database,
    clock: Clock,
    lifetimes: Lifetimes,
    issuer: String,
    audience: String,
    verifier: Verifier,
    keys: RwLock<Vec<Key>>,
    looked_at: Mutex<DateTime<Utc>>,
}

struct Key {
    facts: signing::Key,
    public: [u8; 32],
    private: EncodingKey,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Loads the keys; makes the first where there is none.
    ///
    /// # Errors
    /// The database, or keys sealed with another secret.
    pub async fn open(
        database: &Database,
        vault: &Vault,
        settings: &IdentitySettings,
    ) -> anyhow::Result<Self> {
        let token = TimeDelta::from_std(settings.access_lifetime)? + LEEWAY;
        let lifetimes = Lifetimes {
            rotate_every: TimeDelta::from_std(settings.key_rotation)?,
            publish_ahead: TimeDelta::from_std(settings.key_publish_ahead)?,
            token,
        };
        anyhow::ensure!(
            lifetimes.rotate_every > lifetimes.publish_ahead + token,
            "a signing key must sign for longer than it is published ahead and its tokens live"
        );
        let now = settings.clock.now();
        rotate(database, vault, lifetimes, now).await?;
        let keys = load(database, vault).await?;
        let verifier = Verifier::fixed(&settings.issuer, &settings.audience, &set(&keys)?)?;
        Ok(Self {
            database: database.clone(),
            clock: settings.clock.clone(),
            lifetimes,
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            verifier,
            keys: RwLock::new(keys),
            looked_at: Mutex::new(now),
        })
    }

    /// Makes and withdraws what is due, and takes over what other replicas did. To be called every minute.
    ///
    /// # Errors
    /// The database; the present keys stay in use.
    pub async fn maintain(&self, vault: &Vault) -> anyhow::Result<()> {
        rotate(&self.database, vault, self.lifetimes, self.clock.now()).await?;
        self.reload(vault).await
    }

    async fn reload(&self, vault: &Vault) -> anyhow::Result<()> {
        let keys = load(&self.database, vault).await?;
        self.verifier.set_keys(&set(&keys)?)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Signs claims. `iss` and `aud` are set here.
    ///
    /// # Errors
    /// No key signs now, or claims without a JSON form.
    pub fn sign(&self, mut claims: Claims) -> anyhow::Result<String> {
        claims.iss.clone_from(&self.issuer);
        claims.aud.clone_from(&self.audience);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let facts: Vec<_> = keys.iter().map(|key| key.facts.clone()).collect();
        let signer = signing::signer(&facts, self.clock.now()).context("no signing key is in force")?;
        let key =
            keys.iter().find(|key| key.facts == *signer).context("the signing key is among the keys")?;
        let header = Header { kid: Some(key.facts.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &key.private).context("signing an access token")
    }

    /// What a token says, if it is one of ours and its time is not over.
    ///
    /// # Errors
    /// As [`Rejected`] says.
    pub async fn verify(&self, vault: &Vault, token: &str) -> Result<Claims, Rejected> {
        self.look_for_key_of(vault, token).await;
        self.verifier.verify(token).await
    }

    /// Another replica may have made a key since we looked. It signs only an hour later, so this is for
    /// replicas that could not reach the database for that long.
    async fn look_for_key_of(&self, vault: &Vault, token: &str) {
        let Some(kid) = jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid) else { return };
        let known = |kid: &str| {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.iter().any(|key| key.facts.kid == kid)
        };
        if known(&kid) {
            return;
        }
        let mut looked_at = self.looked_at.lock().await;
        let now = self.clock.now();
        if now - *looked_at < LOOK_AT_MOST_EVERY || known(&kid) {
            return;
        }
        *looked_at = now;
        if let Err(error) = self.reload(vault).await {
            tracing::warn!(error = format!("{error:#}"), "could not look for a signing key");
        }
    }

    /// The public keys (RFC 7517): those that sign, did until recently, or soon will.
    ///
    /// # Errors
    /// A defect only.
    pub fn jwks(&self) -> anyhow::Result<JwkSet> {
        set(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn set(keys: &[Key]) -> anyhow::Result<JwkSet> {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": key.facts.kid, "x": URL_SAFE_NO_PAD.encode(key.public),
            })
        })
        .collect();
    serde_json::from_value(json!({ "keys": keys })).context("a literal JWKS")
}

async fn load(database: &Database, vault: &Vault) -> anyhow::Result<Vec<Key>> {
    let rows = signing_keys::all(&database.orm).await?;
    rows.into_iter()
        .map(|row| {
            let seed = vault.open(&row.kid, &row.sealed_seed.0)?;
            let seed: [u8; 32] = seed.as_slice().try_into().context("an Ed25519 seed has 32 bytes")?;
            let pair = SigningKey::from_bytes(&seed);
            let der = pair.to_pkcs8_der().context("an Ed25519 key has a PKCS #8 form")?;
            Ok(Key {
                facts: signing::Key { kid: row.kid, activates_at: row.activates_at },
                public: pair.verifying_key().to_bytes(),
                private: EncodingKey::from_ed_der(der.as_bytes()),
            })
        })
        .collect()
}

async fn rotate(
    database: &Database,
    vault: &Vault,
    lifetimes: Lifetimes,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    // Without the lock first: in most minutes there is nothing to do.
    if plan(signing_keys::all(&database.orm).await?, lifetimes, now) == signing::Plan::default() {
        return Ok(());
    }
    let transaction = database.orm.begin().await?;
    let plan = plan(signing_keys::all_in_turn(&transaction).await?, lifetimes, now);
    let nobody = Actor::default();
    if let Some(activates_at) = plan.create {
        let seed: [u8; 32] = random()?;
        let kid = Uuid::now_v7().to_string();
        let row = signing_keys::ActiveModel {
            kid: Set(kid.clone()),
            public_key: Set(SigningKey::from_bytes(&seed).verifying_key().to_bytes().to_vec()),
            sealed_seed: Set(Digest(vault.seal(&kid, &seed)?)),
            activates_at: Set(activates_at),
            created_at: Set(now),
        };
        signing_keys::Entity::insert(row).exec_without_returning(&transaction).await?;
        let details = json!({ "activates_at": activates_at });
        audit::record(&transaction, now, Action::SigningKeyCreated, &nobody, Some(kid.clone()), details)
            .await?;
        tracing::info!(kid, %activates_at, "made a signing key");
    }
    if !plan.withdraw.is_empty() {
        signing_keys::delete(&transaction, &plan.withdraw).await?;
        for kid in plan.withdraw {
            tracing::info!(kid, "withdrew a signing key");
            audit::record(&transaction, now, Action::SigningKeyWithdrawn, &nobody, Some(kid), json!({}))
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

fn plan(rows: Vec<signing_keys::Model>, lifetimes: Lifetimes, now: DateTime<Utc>) -> signing::Plan {
    let facts: Vec<_> =
        rows.into_iter().map(|row| signing::Key { kid: row.kid, activates_at: row.activates_at }).collect();
    signing::plan(&facts, now, lifetimes)
}
