//! A contact as clients see it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{Phone, State, segment::Status},
    storage::{contacts::Contact, lookups::Known, preview::Example},
};

/// Un contacto. A un viewer se le muestran las cuatro últimas cifras del teléfono, y ninguna dirección.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContactView {
    id: i64,
    phone_e164: String,
    /// Diez cifras.
    phone_national: String,
    /// Como lo escribió su fuente.
    phone_original: Option<String>,
    full_name: Option<String>,
    address: Option<String>,
    neighborhood: Option<String>,
    municipality: Option<String>,
    state_code: Option<String>,
    state_name: Option<&'static str>,
    lada: String,
    city: Option<String>,
    is_valid: bool,
    /// Nulo si ningún plan de numeración ni consulta lo dice.
    is_mobile: Option<bool>,
    operator: Option<String>,
    #[schema(value_type = Status)]
    status: String,
    /// Con qué fundamento se le puede escribir.
    consent: String,
    /// El archivo del que vino.
    source: Option<String>,
    last_sent_at: Option<DateTime<Utc>>,
    send_count: i32,
    /// Desde cuándo no se le debe escribir.
    opt_out_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Lo que dijo un proveedor del teléfono; solo de un contacto, y solo si se preguntó.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lookup: Option<LookupView>,
}

/// Lo que dijo un proveedor de un teléfono.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LookupView {
    provider: String,
    /// Con las palabras del proveedor: mobile, fixed line, voip.
    line_type: Option<String>,
    operator: Option<String>,
    is_valid: Option<bool>,
    /// Por qué no tuvo respuesta la última vez.
    refusal: Option<String>,
    looked_up_at: DateTime<Utc>,
}

impl From<Known> for LookupView {
    fn from(known: Known) -> Self {
        let Known { provider, line_type, operator, is_valid, refusal, looked_up_at, .. } = known;
        Self { provider, line_type, operator, is_valid, refusal, looked_up_at }
    }
}

/// A phone as the caller may see it.
pub(super) fn phone(e164: &str, masked: bool) -> String {
    // What the table holds is a number; what was not would be hidden whole.
    if masked { Phone::from_e164(e164).map_or_else(String::new, Phone::masked) } else { e164.to_owned() }
}

/// The name of a state, by its code.
pub(super) fn state_name(code: Option<&str>) -> Option<&'static str> {
    code.and_then(State::parse).map(State::name)
}

impl ContactView {
    pub(super) fn of(contact: Contact, masked: bool) -> Self {
        let phone = phone(&contact.phone_e164, masked);
        let clear = |value: Option<String>| value.filter(|_| !masked);
        Self {
            id: contact.id,
            phone_national: phone.trim_start_matches("+52").to_owned(),
            phone_e164: phone,
            phone_original: clear(contact.phone_original),
            full_name: contact.values.full_name,
            address: clear(contact.values.address),
            neighborhood: clear(contact.values.neighborhood),
            municipality: contact.values.municipality,
            state_name: state_name(contact.values.state_code.as_deref()),
            state_code: contact.values.state_code,
            lada: contact.lada,
            city: contact.values.city,
            is_valid: contact.is_valid,
            is_mobile: contact.is_mobile,
            operator: contact.operator,
            status: contact.values.status.name().to_owned(),
            consent: contact.values.consent,
            source: contact.source,
            last_sent_at: contact.last_sent_at,
            send_count: contact.send_count,
            opt_out_at: contact.opt_out_at,
            created_at: contact.created_at,
            updated_at: contact.updated_at,
            lookup: None,
        }
    }
}

/// Un contacto de un segmento.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExampleView {
    pub(super) id: i64,
    phone_e164: String,
    full_name: Option<String>,
    city: Option<String>,
    state_code: Option<String>,
    lada: String,
}

impl From<Example> for ExampleView {
    fn from(example: Example) -> Self {
        let Example { id, phone_e164, full_name, city, state_code, lada } = example;
        Self { id, phone_e164, full_name, city, state_code, lada }
    }
}
