//! Password hashing that can't starve the process: argon2id, off the event loop, few at a time.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordVerifier as _, Version,
    password_hash::PasswordHasher as _,
};
use chassis::config::Secret;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::Error;

/// What one hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

impl Default for Cost {
    /// OWASP's minimum for argon2id (Password Storage Cheat Sheet).
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1 }
    }
}

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Hasher {
    argon2: Argon2<'static>,
    params: Params,
    permits: Arc<Semaphore>,
    patience: Duration,
    /// Verified against where there is no user, so that both answers take as long.
    decoy: Arc<str>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("params", &self.params).finish_non_exhaustive()
    }
}

impl Hasher {
    /// At most `concurrency` hashes at once; who waits longer than `patience` is turned away.
    ///
    /// # Errors
    /// A cost that argon2 does not accept.
    pub fn new(cost: Cost, concurrency: usize, patience: Duration) -> anyhow::Result<Self> {
        let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, None)
            .map_err(|error| anyhow!("argon2 does not accept {cost:?}: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let decoy = hash_now(&argon2, "nobody's password")?.into();
        Ok(Self { argon2, params, permits: Arc::new(Semaphore::new(concurrency.max(1))), patience, decoy })
    }

    /// The hash of a password, as a PHC string.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn hash(&self, password: Secret<String>) -> Result<String, Error> {
        let argon2 = self.argon2.clone();
        self.off_loop(move || hash_now(&argon2, password.expose())).await?.map_err(Error::Internal)
    }

    /// Whether the password is the one. Without a stored hash it takes as long and says no.
    ///
    /// # Errors
    /// [`Error::Busy`], or a stored hash that is none.
    pub async fn verify(&self, password: Secret<String>, stored: Option<String>) -> Result<bool, Error> {
        let (argon2, decoy) = (self.argon2.clone(), self.decoy.clone());
        let verified = self.off_loop(move || {
            let hash = PasswordHash::new(stored.as_deref().unwrap_or(&decoy))
                .map_err(|error| anyhow!("a stored password hash can't be read: {error}"))?;
            let fits = argon2.verify_password(password.expose().as_bytes(), &hash).is_ok();
            Ok::<_, anyhow::Error>(fits && stored.is_some())
        });
        verified.await?.map_err(Error::Internal)
    }

    /// Whether a stored hash was made at another cost than today's.
    pub fn outdated(&self, stored: &str) -> bool {
        PasswordHash::new(stored).ok().and_then(|hash| Params::try_from(&hash).ok()).is_none_or(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                != (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
        })
    }

    async fn off_loop<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let permit = timeout(self.patience, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| Error::Busy)?
            .context("the semaphore is never closed")?;
        // The permit goes with the work: a client that hangs up does not free it early.
        let done = spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        Ok(done.await.context("hashing panicked")?)
    }
}

fn hash_now(argon2: &Argon2<'_>, password: &str) -> anyhow::Result<String> {
    let hash = argon2
        .hash_password(password.as_bytes())
        .map_err(|error| anyhow!("hashing a password failed: {error}"))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, iterations: 1, parallelism: 1 };

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn verifies_what_it_hashed_and_nothing_else() -> anyhow::Result<()> {
        let hasher = Hasher::new(CHEAP, 1, Duration::from_secs(5))?;
        let hash = hasher.hash(secret("correct horse")).await?;
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_ne!(hash, hasher.hash(secret("correct horse")).await?, "salted");
        assert!(hasher.verify(secret("correct horse"), Some(hash.clone())).await?);
        assert!(!hasher.verify(secret("wrong horse"), Some(hash)).await?);
        assert!(!hasher.verify(secret("nobody's password"), None).await?, "the decoy opens nothing");
        Ok(())
    }

    #[tokio::test]
    async fn hashes_of_another_cost_verify_and_are_outdated() -> anyhow::Result<()> {
        let old = Hasher::new(CHEAP, 1, Duration::from_secs(5))?;
        let new = Hasher::new(Cost { iterations: 2, ..CHEAP }, 1, Duration::from_secs(5))?;
        let hash = old.hash(secret("correct horse")).await?;
        assert!(new.verify(secret("correct horse"), Some(hash.clone())).await?);
        assert!(new.outdated(&hash) && !old.outdated(&hash));
        Ok(())
    }

    #[tokio::test]
    async fn turns_away_when_all_hands_are_busy() -> anyhow::Result<()> {
        let hasher = Hasher::new(CHEAP, 1, Duration::from_millis(20))?;
        let _taken = hasher.permits.clone().acquire_owned().await?;
        let refused = hasher.verify(secret("x"), None).await;
        assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        Ok(())
    }
}
