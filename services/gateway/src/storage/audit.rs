//! `audit`: who did what to whom, for as long as the database lives.

use chassis::db::NoRelation as Relation;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use prometheus::{IntCounterVec, register_int_counter_vec};
use sea_orm::{ActiveValue::Set, Condition, QueryOrder as _, QuerySelect as _, entity::prelude::*};

static RECORDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "gateway_audited_total",
        "What was done with users, keys and sessions, logins that failed included, by action",
        &["action"]
    )
    .expect("registered once, with a valid name")
});

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub at: DateTime<Utc>,
    /// A name of [`Action`], or of another version of the gateway: what was done outlives the code that did it.
    pub action: String,
    pub actor_id: Option<Uuid>,
    /// The actor's user name at that time.
    pub actor: Option<String>,
    /// The id of what was acted on.
    pub target: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    pub details: Json,
}

impl ActiveModelBehavior for ActiveModel {}

/// What happened. The names are the table's `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    LoggedIn,
    LoginFailed,
    LoggedOut,
    TokenReused,
    PasswordChanged,
    UserCreated,
    UserUpdated,
    UserDisabled,
    UserEnabled,
    UserDeleted,
    ApiKeyCreated,
    ApiKeyRevoked,
    SigningKeyCreated,
    SigningKeyWithdrawn,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::LoggedIn => "login.succeeded",
            Self::LoginFailed => "login.failed",
            Self::LoggedOut => "logout",
            Self::TokenReused => "refresh_token.reused",
            Self::PasswordChanged => "password.changed",
            Self::UserCreated => "user.created",
            Self::UserUpdated => "user.updated",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserDeleted => "user.deleted",
            Self::ApiKeyCreated => "api_key.created",
            Self::ApiKeyRevoked => "api_key.revoked",
            Self::SigningKeyCreated => "signing_key.created",
            Self::SigningKeyWithdrawn => "signing_key.withdrawn",
        }
    }
}

/// Who acts, and from where.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// None for the process itself, and where nobody proved who they are.
    pub user: Option<(Uuid, String)>,
    /// The client's address.
    pub address: Option<String>,
}

/// Writes a row. Part of the caller's transaction: no change without it, and it without no change.
pub async fn record(
    connection: &impl ConnectionTrait,
    now: DateTime<Utc>,
    action: Action,
    actor: &Actor,
    target: Option<String>,
    details: Json,
) -> Result<(), DbErr> {
    let (actor_id, name) = actor.user.clone().unzip();
    let row = ActiveModel {
        id: Set(Uuid::now_v7()),
        at: Set(now),
        action: Set(action.name().to_owned()),
        actor_id: Set(actor_id),
        actor: Set(name),
        target: Set(target),
        address: Set(actor.address.clone()),
        details: Set(details),
    };
    Entity::insert(row).exec_without_returning(connection).await?;
    RECORDED.with_label_values(&[action.name()]).inc();
    Ok(())
}

/// Whether somebody deleted a user of this name.
pub async fn was_deleted(connection: &impl ConnectionTrait, username: &str) -> Result<bool, DbErr> {
    let named = Expr::cust_with_values("details ->> 'username' = $1", [username]);
    let rows = Entity::find().filter(Column::Action.eq(Action::UserDeleted.name())).filter(named);
    Ok(rows.count(connection).await? > 0)
}

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub actor_id: Option<Uuid>,
    pub target: Option<String>,
    pub action: Option<String>,
    /// Older than this row.
    pub before: Option<Uuid>,
}

/// A page, newest first. Ids are UUIDv7: their order is that of time.
pub async fn list(
    connection: &impl ConnectionTrait,
    filter: Filter,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    if filter.target.iter().chain(&filter.action).any(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    let wanted = Condition::all()
        .add_option(filter.actor_id.map(|id| Column::ActorId.eq(id)))
        .add_option(filter.target.map(|target| Column::Target.eq(target)))
        .add_option(filter.action.map(|action| Column::Action.eq(action)))
        .add_option(filter.before.map(|id| Column::Id.lt(id)));
    Entity::find().filter(wanted).order_by_desc(Column::Id).limit(limit).all(connection).await
}
