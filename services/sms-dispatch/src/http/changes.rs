//! What people change of a contact. Each change is in the audit, in its own transaction.

use actix_web::web::{Data, Path};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, OptionalJson, Versioned},
};
use sea_orm::sqlx::PgConnection;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    Resources,
    contacts::{no_contact, shown},
    may_write,
};
use crate::{
    domain::{State, segment::Status, suppression::Cause},
    import::clean::MAX_TEXT_BYTES,
    opt_outs,
    storage::{
        audit,
        contacts::{self, Contact, Values},
        suppressions::{self, New},
    },
};

/// Otros valores. Lo que falta queda como está; lo que es nulo se vacía.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    full_name: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    address: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    neighborhood: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    municipality: Option<Option<String>>,
    /// Un código o un nombre: `BCS`, `Baja California Sur`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    state_code: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    city: Option<Option<String>>,
    status: Option<Status>,
    /// Con qué fundamento se le puede escribir; `unknown` si nadie lo sabe.
    consent: Option<String>,
}

/// Tells null from absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Change {
    fn apply(self, values: &Values) -> Result<Values, Problem> {
        let state_code = match self.state_code {
            Some(Some(text)) => {
                let wrong = || refused("state_code", "se espera un estado de México, como BCS");
                Some(Some(State::parse(&text).ok_or_else(wrong)?.code().to_owned()))
            }
            other => other,
        };
        let new = |name, change: Option<Option<String>>, old: &Option<String>| match change {
            None => Ok(old.clone()),
            Some(value) => text(name, value),
        };
        let consent = match self.consent {
            None => values.consent.clone(),
            Some(consent) => {
                let empty = || refused("consent", "no puede estar vacío; use unknown");
                text("consent", Some(consent))?.ok_or_else(empty)?
            }
        };
        Ok(Values {
            full_name: new("full_name", self.full_name, &values.full_name)?,
            address: new("address", self.address, &values.address)?,
            neighborhood: new("neighborhood", self.neighborhood, &values.neighborhood)?,
            municipality: new("municipality", self.municipality, &values.municipality)?,
            state_code: new("state_code", state_code, &values.state_code)?,
            city: new("city", self.city, &values.city)?,
            status: self.status.unwrap_or(values.status),
            consent,
        })
    }
}

fn refused(field: &'static str, expected: &str) -> Problem {
    Problem::unprocessable("invalid_value", format!("{field}: {expected}"))
        .with_details(json!({ "field": field }))
}

/// As an import would store it.
fn text(field: &'static str, value: Option<String>) -> Result<Option<String>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let value = value.trim();
    if value.len() > MAX_TEXT_BYTES {
        return Err(refused(field, &format!("se esperan {MAX_TEXT_BYTES} bytes como máximo")));
    }
    if value.chars().any(char::is_control) {
        return Err(refused(field, "no se esperan caracteres de control"));
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// What differs: before and after.
fn differences(old: &Values, new: &Values) -> Map<String, Value> {
    let pairs = [
        ("full_name", json!(old.full_name), json!(new.full_name)),
        ("address", json!(old.address), json!(new.address)),
        ("neighborhood", json!(old.neighborhood), json!(new.neighborhood)),
        ("municipality", json!(old.municipality), json!(new.municipality)),
        ("state_code", json!(old.state_code), json!(new.state_code)),
        ("city", json!(old.city), json!(new.city)),
        ("status", json!(old.status), json!(new.status)),
        ("consent", json!(old.consent), json!(new.consent)),
    ];
    let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
    changed.map(|(name, old, new)| (name.to_owned(), json!({ "before": old, "after": new }))).collect()
}

async fn locked(conn: &mut PgConnection, id: &str) -> Result<Contact, Problem> {
    let number = id.parse().map_err(|_| no_contact(id))?;
    contacts::lock(conn, number).await?.ok_or_else(|| no_contact(id))
}

/// The contact as it now is.
async fn written(conn: &mut PgConnection, id: &str, number: i64) -> Result<Contact, Problem> {
    contacts::get(conn, number).await?.ok_or_else(|| no_contact(id))
}

/// Other values for a contact; its phone stays, and what follows from it.
#[utoipa::path(
    operation_id = "contacts_update", summary = "Cambiar un contacto",
    description = "El teléfono no cambia, ni lo que se deduce de él. Lo que falta queda como está; un `null` lo vacía.",
    patch, path = "/api/v1/contacts/{id}", tag = "contacts",
    params(Versioned),
    request_body = Change,
    responses(
        (status = 200, body = super::view::ContactView), (status = 412, description = "El contacto cambió"),
        (status = 422, description = "Un valor no cumple las reglas"),
    )
)]
pub(super) async fn patch(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: Json<Change>,
) -> ApiResult {
    may_write(&caller)?;
    let Versioned { id, expected } = target;
    let mut transaction = api.database.pool.begin().await?;
    let contact = locked(&mut transaction, &id).await?;
    let read_again = || format!("El contacto {id} cambió desde que lo leyó; léalo de nuevo");
    expected.check(contact.version, "contact_changed", read_again)?;
    let values = body.into_inner().apply(&contact.values)?;
    let changed = differences(&contact.values, &values);
    if changed.is_empty() {
        // It is shown nonetheless.
        let details = json!({ "masked": false });
        audit::record(&mut transaction, caller.id(), "contact_read", Some(&id), &details).await?;
        transaction.commit().await?;
        return Ok(shown(contact, false));
    }
    contacts::update(&mut transaction, &contact, &values, caller.id()).await?;
    audit::record(&mut transaction, caller.id(), "contact_changed", Some(&id), &changed.into()).await?;
    let contact = written(&mut transaction, &id, contact.id).await?;
    transaction.commit().await?;
    Ok(shown(contact, false))
}

/// Cómo nos lo hizo saber.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsentChange {
    /// De dónde: una llamada, una carta, un formulario.
    source: Option<String>,
}

impl ConsentChange {
    fn source(self) -> Result<String, Problem> {
        Ok(text("source", self.source)?.unwrap_or_else(|| "api".to_owned()))
    }
}

/// From now on nobody writes to this contact, whatever is imported or restored later.
#[utoipa::path(
    operation_id = "contacts_opt_out", summary = "Dar de baja un contacto",
    description = "Desde ahora nadie le escribe, se importe o restaure lo que sea después.",
    post, path = "/api/v1/contacts/{id}/opt-out", tag = "contacts",
    params(("id" = String, Path)), request_body = Option<ConsentChange>,
    responses((status = 200, body = super::view::ContactView))
)]
pub(super) async fn opt_out(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    body: OptionalJson<ConsentChange>,
) -> ApiResult {
    may_write(&caller)?;
    let source = body.0.unwrap_or_default().source()?;
    let mut transaction = api.database.pool.begin().await?;
    suppressions::turn(&mut transaction).await?;
    let contact = locked(&mut transaction, &id).await?;
    let effective_at = suppressions::now(&mut transaction).await?;
    let phone = contact.phone_e164;
    let new = New { phone: phone.clone(), cause: Cause::OptOut, effective_at };
    let added = suppressions::add(&mut transaction, &[new], &source, caller.id()).await?;
    if added.added > 0 {
        opt_outs::tell(&mut transaction, &[phone], &source).await?;
    }
    let details = json!({ "source": source });
    audit::record(&mut transaction, caller.id(), "contact_opted_out", Some(&id), &details).await?;
    let contact = written(&mut transaction, &id, contact.id).await?;
    transaction.commit().await?;
    Ok(shown(contact, false))
}

/// The contact wants to be written to again: it is opted out no more. That takes no register's entry away (while one is in
/// effect, 409), nor what we decided ourselves: with a suppression for the reason `manual` its `opt_out_at` stays, until that
/// suppression is deleted.
#[utoipa::path(
    operation_id = "contacts_opt_in", summary = "Dar de alta otra vez un contacto",
    description = "Quita su baja. No quita la entrada de un registro (con una vigente, 409) ni una supresión por el motivo `manual`.",
    post, path = "/api/v1/contacts/{id}/opt-in", tag = "contacts",
    params(("id" = String, Path)), request_body = Option<ConsentChange>,
    responses(
        (status = 200, body = super::view::ContactView),
        (status = 409, description = "El número está en el REPEP (in_repep) o en el REUS (in_reus)"),
    )
)]
pub(super) async fn opt_in(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    body: OptionalJson<ConsentChange>,
) -> ApiResult {
    may_write(&caller)?;
    let source = body.0.unwrap_or_default().source()?;
    let mut transaction = api.database.pool.begin().await?;
    suppressions::turn(&mut transaction).await?;
    let contact = locked(&mut transaction, &id).await?;
    let now = suppressions::now(&mut transaction).await?;
    let known = suppressions::of_phone(&mut transaction, &contact.phone_e164).await?;
    for (register, name, code) in [(Cause::Repep, "REPEP", "in_repep"), (Cause::Reus, "REUS", "in_reus")] {
        if known.iter().any(|one| one.cause == register && one.effective_at <= now) {
            let detail = format!("El número del contacto {id} está en el {name}: no se le puede escribir");
            return Err(Problem::conflict(code, detail));
        }
    }
    suppressions::remove(&mut transaction, &contact.phone_e164, &[Cause::OptOut]).await?;
    let details = json!({ "source": source });
    audit::record(&mut transaction, caller.id(), "contact_opted_in", Some(&id), &details).await?;
    let contact = written(&mut transaction, &id, contact.id).await?;
    transaction.commit().await?;
    Ok(shown(contact, false))
}
