//! Contacts: searched, looked at. Whoever sees them unmasked leaves a row in the audit.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{CrossSite, Query, etag, in_range, page::cut},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    Resources, may_read, phone_searches, sees_masked, uncached,
    view::{ContactView, LookupView},
};
use crate::{
    domain::{
        Lada, Reason, State,
        search::{self, PhoneQuery},
        segment::Status,
    },
    storage::{
        audit,
        contacts::{self, Contact},
        lookups,
        search::{Filter, page},
    },
};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Palabras del nombre, sin distinguir mayúsculas, acentos ni orden; la última puede estar solo
    /// empezada.
    nombre: Option<String>,
    /// Escrito de cualquier manera, o sus primeras tres a nueve cifras.
    telefono: Option<String>,
    /// Palabras de la dirección, como las del nombre.
    direccion: Option<String>,
    /// Un código o un nombre: `BCS`, `Baja California Sur`.
    estado: Option<String>,
    lada: Option<String>,
    /// Como la tienen los contactos.
    ciudad: Option<String>,
    /// Como lo tienen los contactos.
    municipio: Option<String>,
    /// ACTIVE, INACTIVE, UNKNOWN o INVALID.
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// Contactos por página, de 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    cursor: Option<String>,
}

/// Una página de contactos, por id; por teléfono si se busca el comienzo de uno.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContactPage {
    items: Vec<ContactView>,
    /// Se envía como `cursor` para pedir la página siguiente; nulo en la última.
    next_cursor: Option<String>,
}

/// Contacts that match, by id, without a total: counting what a common name finds would take longer than showing it.
#[utoipa::path(
    operation_id = "contacts_list", summary = "Buscar contactos",
    description = "Por id y sin total: contar lo que encuentra un nombre común tardaría más que mostrarlo. Un viewer busca teléfonos completos, y solo unos pocos por hora; con una sesión de cookie necesita para eso X-CSRF-Token, aunque sea un GET.",
    get, path = "/api/v1/contacts", tag = "contacts", params(ListQuery),
    responses(
        (status = 200, body = ContactPage),
        (status = 403, description = "El rol o el alcance no lo permite, o un viewer busca un teléfono con una cookie y sin X-CSRF-Token"),
        (status = 429),
    ),
    extensions(("x-csrf" = json!(true)))
)]
pub(super) async fn list(
    api: Data<Resources>,
    caller: Caller,
    query: Query<ListQuery>,
    site: CrossSite,
) -> ApiResult {
    may_read(&caller)?;
    let query = query.into_inner();
    let limit = in_range("limit", query.limit.unwrap_or(50), 1, 200)?;
    let after = query.cursor.as_deref().map_or(Ok(0), |cursor| {
        let detail = format!("cursor {cursor:?} inválido; use el valor de «next_cursor»");
        cursor.parse().map_err(|_| Problem::bad_request("invalid_cursor", detail))
    })?;
    let asked = query.asked();
    let filter = query.filter(sees_masked(&caller))?;
    if let Some(PhoneQuery::Whole(phone)) = filter.phone {
        if sees_masked(&caller) {
            site.refuse()?;
        }
        phone_searches::note(&api, &caller, phone).await?;
    }
    let mut conn = api.database.pool.acquire().await?;
    let mut found = page(&mut conn, &filter, after, limit + 1).await?;
    let next_cursor = cut(&mut found, limit, |last| last.id.to_string());
    if !sees_masked(&caller) {
        let ids: Vec<i64> = found.iter().map(|contact| contact.id).collect();
        let details = json!({ "asked": asked, "ids": ids });
        audit::record(&mut conn, caller.id(), "contacts_listed", None, &details).await?;
    }
    let items = found.into_iter().map(|contact| ContactView::of(contact, sees_masked(&caller))).collect();
    Ok(uncached().json(ContactPage { items, next_cursor }))
}

impl ListQuery {
    /// What was asked for, for the audit; who was found is there by id.
    fn asked(&self) -> Vec<&'static str> {
        let given = [
            ("nombre", &self.nombre),
            ("telefono", &self.telefono),
            ("direccion", &self.direccion),
            ("estado", &self.estado),
            ("lada", &self.lada),
            ("ciudad", &self.ciudad),
            ("municipio", &self.municipio),
            ("status", &self.status),
        ];
        given.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
    }

    fn filter(self, masked: bool) -> Result<Filter, Problem> {
        if masked && self.direccion.is_some() {
            return Err(Problem::forbidden("Su rol no ve direcciones, y no puede buscar por ellas"));
        }
        let phone = self.telefono.as_deref().map(phone).transpose()?;
        // Digit by digit, whoever may try beginnings would find out what is masked.
        if masked && matches!(phone, Some(PhoneQuery::Begins(_))) {
            return Err(Problem::forbidden("Su rol solo puede buscar un teléfono completo"));
        }
        let state = self.estado.map(|text| match State::parse(&text) {
            Some(state) => Ok(state.code().to_owned()),
            None => {
                Err(invalid(format!("estado {text:?} inválido; se espera un estado de México, como BCS")))
            }
        });
        let lada = self.lada.map(|text| match Lada::parse(&text) {
            Some(lada) => Ok(lada.to_string()),
            None => {
                Err(invalid(format!("lada {text:?} inválida; se esperan dos o tres dígitos, como 55 o 612")))
            }
        });
        Ok(Filter {
            name: words("nombre", self.nombre)?,
            address: words("direccion", self.direccion)?,
            phone,
            state_code: state.transpose()?,
            lada: lada.transpose()?,
            city: storable("ciudad", self.ciudad)?,
            municipality: storable("municipio", self.municipio)?,
            status: self.status.as_deref().map(status).transpose()?.map(|status| status.name().to_owned()),
        })
    }
}

fn invalid(detail: String) -> Problem {
    Problem::bad_request("invalid_filter", detail)
}

fn words(name: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    text.map(|text| {
        search::words(&text).ok_or_else(|| invalid(format!("{name} {text:?} no tiene palabras que buscar")))
    })
    .transpose()
}

fn phone(text: &str) -> Result<PhoneQuery, Problem> {
    search::phone(text).map_err(|reason| {
        let detail = match reason {
            Reason::TooShort => {
                format!("telefono {text:?} es muy corto: bastan sus tres primeras cifras, como 551")
            }
            other => other.message().to_owned(),
        };
        Problem::bad_request("invalid_phone", detail)
    })
}

/// No text of the table has a NUL, and PostgreSQL takes none.
fn storable(name: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.contains('\0') => Err(invalid(format!("{name} contiene un byte nulo"))),
        text => Ok(text),
    }
}

pub(super) fn status(text: &str) -> Result<Status, Problem> {
    let found = Status::ALL.into_iter().find(|status| status.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        invalid(format!("status {text:?} inválido; se espera ACTIVE, INACTIVE, UNKNOWN o INVALID"))
    })
}

pub(super) fn no_contact(id: &str) -> Problem {
    Problem::not_found(format!("Contacto {id} no encontrado"))
}

/// The contact, with its version as `ETag`.
pub(super) fn shown(contact: Contact, masked: bool) -> HttpResponse {
    uncached().insert_header(etag(contact.version)).json(ContactView::of(contact, masked))
}

/// One contact.
#[utoipa::path(
    operation_id = "contacts_get", summary = "Ver un contacto",
    description = "El ETag es su versión.",
    get, path = "/api/v1/contacts/{id}", tag = "contacts", params(("id" = String, Path)),
    responses((status = 200, body = ContactView))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let number = id.parse().map_err(|_| no_contact(&id))?;
    let mut conn = api.database.pool.acquire().await?;
    let contact = contacts::get(&mut conn, number).await?.ok_or_else(|| no_contact(&id))?;
    let details = json!({ "masked": sees_masked(&caller) });
    audit::record(&mut conn, caller.id(), "contact_read", Some(&id), &details).await?;
    let lookup = lookups::of_phone(&mut conn, &contact.phone_e164).await?;
    let (version, mut view) = (etag(contact.version), ContactView::of(contact, sees_masked(&caller)));
    // A refusal's text may name the phone.
    view.lookup = lookup.filter(|_| !sees_masked(&caller)).map(LookupView::from);
    Ok(uncached().insert_header(version).json(view))
}
