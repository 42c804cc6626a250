//! Secrets: made, hashed, sealed, compared. Every key comes from the one configured secret, by HKDF (RFC 5869)
//! with a label a purpose.

use std::fmt;

use anyhow::{Context as _, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::config::Secret;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hkdf, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use uuid::Uuid;

/// Fewest characters of the configured secret.
pub const MIN_SECRET: usize = 32;

/// Random bytes from the system.
///
/// # Errors
/// The system has none to give.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(bytes)
}

/// SHA-256 of a token. Enough for what is 256 random bits: there is nothing to guess, so nothing to slow down.
pub fn digest(token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec()
}

/// A token of 256 random bits, shown once and kept as its hash.
pub struct Opaque {
    /// What the client gets.
    pub text: Secret<String>,
    /// What the database gets.
    pub digest: Vec<u8>,
}

impl Opaque {
    /// A new one. `prefix` says what it is, to people and to scanners for leaked secrets.
    ///
    /// # Errors
    /// As [`random`].
    pub fn generate(prefix: &str) -> anyhow::Result<Self> {
        let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
        Ok(Self { digest: digest(&text), text: Secret::new(text) })
    }
}

/// Whether a text has the form of what [`Opaque::generate`] makes with this prefix. One that has not need not be looked up.
pub fn is_opaque(text: &str, prefix: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.strip_prefix(prefix).is_some_and(|random| random.len() == 43 && random.bytes().all(is_letter))
}

/// Seals what the database must keep but not be able to read, and ties CSRF tokens to sessions.
pub struct Vault {
    sealing: LessSafeKey,
    csrf: hmac::Key,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Derives the keys from the configured secret.
    ///
    /// # Errors
    /// The secret is shorter than [`MIN_SECRET`] characters.
    pub fn new(secret: &Secret<String>) -> anyhow::Result<Self> {
        let secret = secret.expose();
        anyhow::ensure!(
            secret.chars().count() >= MIN_SECRET,
            "KEY_ENCRYPTION_SECRET must have at least {MIN_SECRET} characters"
        );
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lote-gateway").extract(secret.as_bytes());
        let sealing = derive(&root, b"signing keys v1")?;
        let csrf = derive(&root, b"csrf tokens v1")?;
        let sealing =
            UnboundKey::new(&CHACHA20_POLY1305, &sealing).map_err(|_| anyhow!("a key of 32 bytes"))?;
        Ok(Self { sealing: LessSafeKey::new(sealing), csrf: hmac::Key::new(hmac::HMAC_SHA256, &csrf) })
    }

    /// Encrypts and authenticates. `name` must be given again to open: a sealed value moved to another row
    /// does not open there.
    ///
    /// # Errors
    /// As [`random`].
    pub fn seal(&self, name: &str, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        // Random nonces of 96 bits: safe for the few dozen values this key will ever seal.
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = plain.to_vec();
        self.sealing
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| anyhow!("sealing {name} failed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The inverse of [`Vault::seal`].
    ///
    /// # Errors
    /// Sealed with another secret or under another name, or altered since.
    pub fn open(&self, name: &str, sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (nonce, body) =
            sealed.split_at_checked(NONCE_LEN).context("a sealed value begins with its nonce")?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| anyhow!("a nonce of 12 bytes"))?;
        let mut body = body.to_vec();
        let plain =
            self.sealing.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body).map_err(|_| {
                anyhow!("{name} does not open: is KEY_ENCRYPTION_SECRET the one it was sealed with?")
            })?;
        Ok(plain.to_vec())
    }

    /// The CSRF token of a session: an HMAC of its id, so that one planted in a cookie fits no session
    /// (OWASP's signed double-submit cookie).
    pub fn csrf_token(&self, session: Uuid) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.csrf, session.as_bytes()))
    }

    /// Whether `presented` is that session's CSRF token. In constant time.
    pub fn csrf_fits(&self, session: Uuid, presented: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(presented)
            .is_ok_and(|tag| hmac::verify(&self.csrf, session.as_bytes(), &tag).is_ok())
    }
}

fn derive(root: &hkdf::Prk, label: &[u8]) -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    root.expand(&[label], hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut key))
        .map_err(|_| anyhow!("HKDF gives 32 bytes"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(secret: &str) -> Vault {
        Vault::new(&Secret::new(secret.repeat(8))).expect("long enough")
    }

    #[test]
    fn sealed_values_open_only_where_they_belong() -> anyhow::Result<()> {
        let sealed = vault("abcd").seal("key 1", b"seed")?;
        assert!(!sealed.windows(4).any(|window| window == b"seed"));
        assert_eq!(vault("abcd").open("key 1", &sealed)?, b"seed");
        assert!(vault("abcd").open("key 2", &sealed).is_err());
        assert!(vault("abce").open("key 1", &sealed).is_err());
        assert!(vault("abcd").open("key 1", &sealed[..10]).is_err());
        Ok(())
    }

    #[test]
    fn csrf_tokens_fit_one_session() {
        let (mine, yours) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let token = vault("abcd").csrf_token(mine);
        assert!(vault("abcd").csrf_fits(mine, &token));
        assert!(!vault("abcd").csrf_fits(yours, &token));
        assert!(!vault("abce").csrf_fits(mine, &token));
        assert!(!vault("abcd").csrf_fits(mine, ""));
    }

    #[test]
    fn what_is_made_has_the_form_and_what_is_made_up_has_not() -> anyhow::Result<()> {
        let made = Opaque::generate("lote_")?;
        let text = made.text.expose().as_str();
        assert!(is_opaque(text, "lote_"));
        for made_up in
            ["", "lote_", &text[..47], &format!("{text}x"), &text[5..], &text.replace("lote_", "lota_")]
        {
            assert!(!is_opaque(made_up, "lote_"), "{made_up}");
        }
        assert!(!is_opaque(&format!("lote_{}", "á".repeat(43)), "lote_"));
        Ok(())
    }

    #[test]
    fn short_secrets_are_refused() {
        assert!(Vault::new(&Secret::new("x".repeat(31))).is_err());
    }

    #[test]
    fn nothing_prints_a_token() -> anyhow::Result<()> {
        let token = Opaque::generate("rt_")?;
        assert!(!format!("{:?}", token.text).contains(token.text.expose().as_str()));
        assert_eq!(token.digest, digest(token.text.expose()));
        Ok(())
    }
}
