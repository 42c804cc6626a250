//! Whose products and imports a caller may see and change.

use chassis::{
    Problem,
    auth::{Caller, Role},
};
use uuid::Uuid;

use super::Resources;
use crate::{
    storage::imports::{self, Import},
    tasks::{not_found, unpurged},
};

pub(super) const READ: &str = "catalog:read";
pub(super) const WRITE: &str = "catalog:write";

/// The supplier whose products are meant.
pub(super) fn supplier(proveedor_id: Option<&str>) -> Result<&str, Problem> {
    match proveedor_id.map(str::trim) {
        None | Some("") => Err(Problem::bad_request("proveedor_id_required", "proveedor_id es requerido")),
        Some(id) if id.chars().count() > 64 || id.chars().any(char::is_control) => Err(Problem::bad_request(
            "proveedor_id_invalid",
            "proveedor_id inválido: se esperan hasta 64 caracteres, sin caracteres de control",
        )),
        Some(id) => Ok(id),
    }
}

/// Whether the caller may write products and imports at all.
pub(super) fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator, Role::Supplier])?;
    caller.require_scope(WRITE)
}

/// Of which supplier alone a caller's list is: their own, or the `wanted` one. None: of all. `what` is listed.
pub(super) fn of_supplier<'a>(
    caller: &'a Caller,
    wanted: Option<&'a str>,
    what: &str,
) -> Result<Option<&'a str>, Problem> {
    match (caller.sees_only()?, wanted) {
        (Some(own), Some(wanted)) if own != wanted => {
            Err(Problem::forbidden(format!("No puede ver {what} del proveedor {wanted}")))
        }
        (own, wanted) => Ok(own.or(wanted)),
    }
}

/// The import that the caller names and may see.
pub(super) async fn seen(api: &Resources, caller: &Caller, task_id: &str) -> Result<Import, Problem> {
    caller.require_scope(READ)?;
    let id = Uuid::parse_str(task_id).map_err(|_| not_found(task_id))?;
    let import = imports::get(&api.database.orm, id).await?.ok_or_else(|| not_found(task_id))?;
    if caller.may_see(&import.source.proveedor_id) { Ok(import) } else { Err(not_found(task_id)) }
}

/// The import that the caller names and may change.
pub(super) async fn owned(api: &Resources, caller: &Caller, task_id: &str) -> Result<Import, Problem> {
    may_write(caller)?;
    let import = seen(api, caller, task_id).await?;
    let proveedor_id = &import.source.proveedor_id;
    if caller.may_act_for(proveedor_id) {
        Ok(import)
    } else {
        Err(Problem::forbidden(format!("No puede cambiar las cargas del proveedor {proveedor_id}")))
    }
}

/// The import that the caller names and may see, with its file and ledger.
pub(super) async fn kept(api: &Resources, caller: &Caller, task_id: &str) -> Result<Import, Problem> {
    let import = seen(api, caller, task_id).await?;
    unpurged(&import)?;
    Ok(import)
}
