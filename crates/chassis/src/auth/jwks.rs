//! The gateway's public keys: fetched, and kept in the service's own schema, so that a service that
//! restarts while the gateway is down still knows whom to believe.

use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, JwkSet},
};
use sea_orm::sqlx::{self, PgPool, types::Json};

/// A set of keys is a few hundred bytes a key.
const LARGEST: usize = 64 << 10;

/// The set's usable keys, by id: Ed25519 with an id and, where they say so, for signatures in EdDSA.
/// Anything else in it is ignored (RFC 7517, 5).
///
/// # Errors
/// None is usable: such a set would lock everyone out.
pub(super) fn usable(set: &JwkSet) -> anyhow::Result<Vec<(String, DecodingKey)>> {
    let keys: Vec<_> = set
        .keys
        .iter()
        .filter_map(|jwk| {
            let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm else { return None };
            if pair.curve != EllipticCurve::Ed25519
                || jwk
                    .common
                    .key_algorithm
                    .is_some_and(|named| Algorithm::try_from(named) != Ok(Algorithm::EdDSA))
            {
                return None;
            }
            Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(jwk).ok()?))
        })
        .collect();
    anyhow::ensure!(!keys.is_empty(), "the key set has no Ed25519 key with an id");
    Ok(keys)
}

/// Asks the gateway, within two seconds.
pub(super) async fn fetch(http: &reqwest::Client, url: &str) -> anyhow::Result<JwkSet> {
    let answer =
        http.get(url).timeout(Duration::from_secs(2)).send().await?.error_for_status().context("JWKS")?;
    let mut body = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        body.extend_from_slice(&chunk?);
        anyhow::ensure!(body.len() <= LARGEST, "the key set is larger than {LARGEST} bytes");
    }
    serde_json::from_slice(&body).context("the key set is not a valid JWKS (RFC 7517)")
}

/// The set kept last.
pub(super) async fn load(pool: &PgPool, issuer: &str) -> sqlx::Result<Option<JwkSet>> {
    let row: Option<(Json<JwkSet>,)> = sqlx::query_as("SELECT jwks FROM jwks_cache WHERE issuer = $1")
        .bind(issuer)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|(Json(set),)| set))
}

/// Keeps a set for the next start.
pub(super) async fn store(pool: &PgPool, issuer: &str, set: &JwkSet) -> sqlx::Result<()> {
    // Every process of a service does this every few minutes: write only what is new.
    sqlx::query(
        "INSERT INTO jwks_cache (issuer, jwks) VALUES ($1, $2)
         ON CONFLICT (issuer) DO UPDATE SET jwks = excluded.jwks, fetched_at = now()
         WHERE jwks_cache.jwks IS DISTINCT FROM excluded.jwks",
    )
    .bind(issuer)
    .bind(Json(set))
    .execute(pool)
    .await?;
    Ok(())
}
