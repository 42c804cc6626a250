//! Tokens of a service account (<https://developers.google.com/identity/protocols/oauth2/service-account>).

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use chassis::config::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

const SCOPE: &str = "https://www.googleapis.com/auth/bigquery.readonly";
/// How long an assertion is valid, the most that Google takes.
const VALID: i64 = 3_600;
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(120);

/// A service account's key.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceAccount {
    pub client_email: String,
    #[serde(default)]
    pub private_key_id: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub private_key: Secret<String>,
    pub token_uri: String,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

impl ServiceAccount {
    /// Reads a key's file.
    ///
    /// # Errors
    /// A file that is not there, or is not a service account's.
    pub fn read(path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        // The error may quote the key.
        let account: Self = serde_json::from_str(&text)
            .map_err(|_| anyhow::anyhow!("{path} is not a service account's JSON"))?;
        account.key()?;
        Ok(account)
    }

    fn key(&self) -> anyhow::Result<EncodingKey> {
        EncodingKey::from_rsa_pem(self.private_key.expose().as_bytes())
            .map_err(|_| anyhow::anyhow!("private_key is not an RSA key in PEM"))
    }

    /// What a token is asked for with.
    fn assertion(&self, now: i64) -> anyhow::Result<String> {
        let claims = json!({
            "iss": self.client_email, "scope": SCOPE, "aud": self.token_uri, "iat": now, "exp": now + VALID,
        });
        let header = Header { kid: self.private_key_id.clone(), ..Header::new(Algorithm::RS256) };
        encode(&header, &claims, &self.key()?).context("signing an assertion")
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

/// The token that requests carry. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Token {
    held: Arc<Mutex<Option<Held>>>,
}

/// A token, and until when it is used.
type Held = (Secret<String>, Instant);

impl Token {
    /// A token that is valid for a while yet. Who comes while one is asked for waits for that one.
    pub(super) async fn get(
        &self,
        http: &reqwest::Client,
        account: &ServiceAccount,
    ) -> Result<Secret<String>, super::BigQueryError> {
        let mut held = self.held.lock().await;
        if let Some((token, until)) = &*held
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let refused = |message: String| super::BigQueryError::Unauthorized(message);
        let assertion = account
            .assertion(chrono::Utc::now().timestamp())
            .map_err(|error| refused(format!("{error:#}")))?;
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let answer = http
            .post(account.token_uri.as_str())
            .form(&form)
            .timeout(Duration::from_secs(30))
            .send()
            .await
            .map_err(|error| super::BigQueryError::Unavailable(error.without_url().to_string()))?;
        let status = answer.status();
        if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(super::BigQueryError::Unavailable(format!("{status} instead of a token")));
        }
        if !status.is_success() {
            return Err(refused(format!("{status} instead of a token")));
        }
        let granted: Granted = answer
            .json()
            .await
            .map_err(|error| super::BigQueryError::Malformed(error.without_url().to_string()))?;
        let token = Secret::new(granted.access_token);
        let valid = Duration::from_secs(granted.expires_in).saturating_sub(MARGIN);
        *held = Some((token.clone(), Instant::now() + valid));
        Ok(token)
    }

    /// Forgets a token that was refused, unless there is a newer one already.
    pub(super) async fn forget(&self, refused: &Secret<String>) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|(token, _)| token == refused) {
            *held = None;
        }
    }
}
