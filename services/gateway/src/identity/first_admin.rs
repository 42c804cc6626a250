use sea_orm::TransactionTrait as _;
use serde_json::json;
use uuid::Uuid;

use super::Identity;
use crate::{
    domain::users as rules,
    storage::{
        PasswordHash,
        audit::{self, Action, Actor},
        users,
    },
};

impl Identity {
    /// Creates the configured administrator unless a user of that name exists, or did until somebody deleted it: what a
    /// person changed since, the configuration does not change back.
    pub(super) async fn create_first_admin(&self) -> anyhow::Result<()> {
        let Some(first) = self.settings().first_admin.clone() else { return Ok(()) };
        let email = rules::email(&first.username);
        let local = first.username.split('@').next().unwrap_or_default();
        let username = rules::username(local).ok_or_else(|| {
            anyhow::anyhow!(
                "ADMIN_USER is {:?}, expected 3 to 64 of a-z, 0-9, dot, hyphen and underscore, or an address",
                first.username
            )
        })?;
        if users::find_by_login(self.orm(), &username).await?.is_some() {
            return Ok(());
        }
        if audit::was_deleted(self.orm(), &username).await? {
            tracing::warn!(
                username,
                "ADMIN_USER was deleted by a person, and is not made again: choose another name"
            );
            return Ok(());
        }
        if let Err(weakness) = crate::domain::password::check(first.password.expose(), &username, None) {
            tracing::warn!(reason = %weakness, "ADMIN_PASSWORD is weak: change it after the first login");
        }
        let hash = self.hasher().hash(first.password).await?;
        let (id, now) = (Uuid::now_v7(), self.now());
        let user = users::Model {
            id,
            username: username.clone(),
            email,
            name: "Administrador".to_owned(),
            password_hash: PasswordHash(hash),
            role: chassis::auth::Role::Admin,
            proveedor_id: None,
            disabled_at: None,
            last_login_at: None,
            created_at: now,
            updated_at: now,
        };
        let transaction = self.orm().begin().await?;
        match users::insert(&transaction, user).await {
            Ok(()) => {}
            // Another replica was faster, or the address is somebody's already.
            Err(error) if users::taken(&error).is_some() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let details = json!({ "username": username, "role": "admin", "by": "configuration" });
        audit::record(
            &transaction,
            now,
            Action::UserCreated,
            &Actor::default(),
            Some(id.to_string()),
            details,
        )
        .await?;
        transaction.commit().await?;
        tracing::info!(username, "created the first administrator");
        Ok(())
    }
}
