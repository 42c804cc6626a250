//! Tokens for tests: a key pair of one's own, and whatever one wants signed with it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::JwkSet};
use serde::Serialize;

use super::{Claims, Role, Verifier};
use crate::Clock;

/// The issuer of [`claims`].
pub const ISSUER: &str = "lote-gateway";
/// The audience of [`claims`].
pub const AUDIENCE: &str = "lote";

/// A key pair.
pub struct Keys {
    id: String,
    key: SigningKey,
}

impl Keys {
    /// A new pair, with an id of its own.
    pub fn generate() -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        Self { id: uuid::Uuid::now_v7().to_string(), key }
    }

    /// The key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key's 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// What the gateway would publish at its JWKS URL.
    pub fn jwks(&self) -> JwkSet {
        let set = serde_json::json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": self.id, "x": URL_SAFE_NO_PAD.encode(self.public()),
        }] });
        serde_json::from_value(set).expect("a literal JWKS")
    }

    /// A verifier that believes this key alone.
    pub fn verifier(&self) -> Verifier {
        Verifier::fixed(ISSUER, AUDIENCE, &self.jwks()).expect("the set has its key")
    }

    /// Signs claims.
    pub fn token(&self, claims: &Claims) -> String {
        self.sign(Some(&self.id), claims)
    }

    /// A token of this role, valid for five minutes. A supplier's is for `PROV001`.
    pub fn token_for(&self, role: Role) -> String {
        self.token(&claims(role))
    }

    /// Signs anything, under any key id.
    pub fn sign(&self, id: Option<&str>, claims: &impl Serialize) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        let der = self.key.to_pkcs8_der().expect("an Ed25519 key has a PKCS #8 form");
        encode(&header, claims, &EncodingKey::from_ed_der(der.as_bytes())).expect("claims have a JSON form")
    }
}

/// Claims that are believed: of this role, valid for five minutes. A supplier's are for `PROV001`.
pub fn claims(role: Role) -> Claims {
    let now = Clock::System.now().timestamp();
    Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        sub: format!("{role}-1"),
        exp: now + 300,
        iat: now,
        jti: uuid::Uuid::now_v7().to_string(),
        sid: None,
        role,
        proveedor_id: (role == Role::Supplier).then(|| "PROV001".into()),
        scopes: Vec::new(),
        owner: None,
        name: None,
    }
}
