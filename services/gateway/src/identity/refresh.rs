//! Logins prolonged and ended.

use chassis::config::Secret;
use sea_orm::TransactionTrait as _;
use serde_json::json;
use uuid::Uuid;

use super::{Error, Identity, Login, span, vault::digest};
use crate::{
    domain::refresh::{Decision, decide},
    storage::{
        audit::{self, Action, Actor},
        families::{self, EndReason},
        refresh_tokens, users,
    },
};

impl Identity {
    /// Exchanges a refresh token for a new pair.
    ///
    /// # Errors
    /// [`Error::InvalidRefresh`], for all that can be wrong with it; the database.
    pub async fn refresh(&self, token: &Secret<String>, address: std::net::IpAddr) -> Result<Login, Error> {
        let now = self.now();
        let token = refresh_tokens::find(self.orm(), digest(token.expose())).await?;
        let token = token.ok_or(Error::InvalidRefresh)?;
        let transaction = self.orm().begin().await?;
        // Exchanges within a family take turns: the second sees what the first did.
        let family = families::get_for_update(&transaction, token.family_id).await?;
        let family = family.ok_or(Error::InvalidRefresh)?;
        let user = users::get(&transaction, family.user_id).await?.ok_or(Error::InvalidRefresh)?;
        let generation = match decide(token.facts(), family.facts(), now, span(self.settings().refresh_grace))
        {
            _ if user.disabled_at.is_some() => return Err(Error::InvalidRefresh),
            Decision::Expired | Decision::Revoked => return Err(Error::InvalidRefresh),
            Decision::Rotate => {
                families::advance(&transaction, &family, now).await?;
                family.generation + 1
            }
            Decision::Sibling => family.generation,
            Decision::Reused => {
                families::revoke(&transaction, family.id, self.ending(EndReason::Reuse, now)).await?;
                let actor = Actor { user: None, address: Some(address.to_string()) };
                let details = json!({ "family": family.id, "generation": token.generation });
                let target = Some(user.id.to_string());
                audit::record(&transaction, now, Action::TokenReused, &actor, target, details).await?;
                transaction.commit().await?;
                self.apply_ended_sessions().await;
                tracing::warn!(user = %user.id, family = %family.id, "a refresh token was reused, its login is ended");
                return Err(Error::InvalidRefresh);
            }
        };
        let tokens = self.bearer(&transaction, &user, &family, generation).await?;
        transaction.commit().await?;
        Ok(Login { user, tokens })
    }

    /// Ends the login that a refresh token belongs to. One that is unknown or ended is ended already
    /// (RFC 7009 §2.2).
    ///
    /// # Errors
    /// The database.
    pub async fn logout(&self, token: &Secret<String>, address: std::net::IpAddr) -> Result<(), Error> {
        match refresh_tokens::find(self.orm(), digest(token.expose())).await? {
            Some(token) => self.end(token.family_id, address).await,
            None => Ok(()),
        }
    }

    /// Ends a session or any other family.
    ///
    /// # Errors
    /// The database.
    pub async fn end(&self, family: Uuid, address: std::net::IpAddr) -> Result<(), Error> {
        let now = self.now();
        let transaction = self.orm().begin().await?;
        let Some(family) = families::get_for_update(&transaction, family).await? else { return Ok(()) };
        if family.revoked_at.is_some() {
            return Ok(());
        }
        families::revoke(&transaction, family.id, self.ending(EndReason::Logout, now)).await?;
        let name = users::get(&transaction, family.user_id).await?.map(|user| user.username);
        let actor =
            Actor { user: name.map(|name| (family.user_id, name)), address: Some(address.to_string()) };
        let details = json!({ "family": family.id });
        let target = Some(family.user_id.to_string());
        audit::record(&transaction, now, Action::LoggedOut, &actor, target, details).await?;
        transaction.commit().await?;
        self.apply_ended_sessions().await;
        Ok(())
    }
}
