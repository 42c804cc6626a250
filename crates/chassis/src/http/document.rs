//! An OpenAPI document as it is served, and what all operations of one share, added in one place: who may call, and the
//! problems that any of them can answer.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, ServiceConfig},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{
        Components, ContentBuilder, KnownFormat, ObjectBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema,
        SchemaFormat, Type,
        path::{Operation, ParameterIn, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{ProblemBody, in_pieces, routes::get_only};

/// A document as it is served: made once, with the ETag that says which one it is.
#[derive(Clone)]
pub struct Document {
    body: Bytes,
    etag: String,
}

impl Document {
    /// Of its JSON.
    pub fn new(body: Vec<u8>) -> Self {
        let digest = Sha256::digest(&body);
        let etag = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { etag: format!("\"{etag}\""), body: body.into() }
    }

    /// With all that its operations share.
    pub(super) fn complete(mut document: OpenApi) -> Self {
        complete(&mut document);
        Self::new(serde_json::to_vec(&document).expect("a document has a JSON form"))
    }

    /// Its JSON.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Serves it at `/api-docs/openapi.json`.
    pub(crate) fn configure(&self, config: &mut ServiceConfig) {
        config.app_data(Data::new(self.clone())).service(get_only(
            "/api-docs/openapi.json",
            async |request: HttpRequest, document: Data<Self>| document.respond(&request),
        ));
    }

    /// The document, or 304 where the client has it (RFC 9110, 13.1.2).
    pub fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let known = request.headers().get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        let is_known = known.is_some_and(|known| {
            known.split(',').any(|tag| {
                matches!(tag.trim().trim_start_matches("W/"), "*")
                    || tag.trim().trim_start_matches("W/") == self.etag
            })
        });
        let mut response =
            HttpResponse::build(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
        response
            .insert_header((header::ETAG, self.etag.clone()))
            // It may be kept, and is asked for again each time: an upgrade changes it.
            .insert_header((header::CACHE_CONTROL, "no-cache"));
        if is_known {
            response.finish()
        } else {
            response.content_type("application/json").body(in_pieces(self.body.clone()))
        }
    }
}

/// When an operation answers a problem.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Where credentials are needed.
    Secured,
    /// Where the path has a parameter.
    Named,
    /// Where there is a body.
    Body,
    /// Where its annotation says so.
    Said,
}

/// The problems that operations share: status, name in `components/responses`, what it says.
const SHARED: &[(&str, When, &str, &str)] = &[
    ("400", When::Always, "PeticionInvalida", "Un parámetro o el cuerpo no es válido, o no se conoce"),
    ("401", When::Secured, "SinCredenciales", "Faltan las credenciales, o ya no valen"),
    ("403", When::Secured, "SinPermiso", "El rol o el alcance de las credenciales no lo permite"),
    ("404", When::Named, "NoEncontrado", "No existe, o no está a la vista de quien pregunta"),
    ("409", When::Said, "Conflicto", "No es posible en el estado en que está"),
    ("412", When::Said, "YaCambio", "Cambió desde que se leyó: If-Match no coincide"),
    ("413", When::Body, "DemasiadoGrande", "El cuerpo supera el máximo"),
    ("415", When::Body, "TipoNoSoportado", "El Content-Type no es uno de los que se esperan"),
    ("422", When::Said, "ValorInvalido", "Un valor no cumple las reglas"),
    ("429", When::Said, "DemasiadasPeticiones", "Demasiadas peticiones; Retry-After dice cuándo volver"),
    ("503", When::Always, "NoDisponible", "Algo que hace falta no responde; Retry-After dice cuándo volver"),
];

/// The scheme of access tokens.
const BEARER: &str = "bearer";

/// Adds to every operation of the document what its annotation leaves out.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            complete_operation(operation);
        }
    }
    let components = document.components.get_or_insert_default();
    add_problems(components);
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let scheme = scheme.description(Some("El access_token de POST /api/v1/auth/login")).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
}

fn add_problems(components: &mut Components) {
    components.schemas.insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    for (_, _, name, description) in SHARED {
        let response = ResponseBuilder::new().description(*description).content(PROBLEM, problem()).build();
        components.responses.insert((*name).to_owned(), response.into());
    }
}

const PROBLEM: &str = "application/problem+json";

fn problem() -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

fn complete_operation(operation: &mut Operation) {
    // Of an operation that everybody may call the annotation says so: `security(())`.
    let security = operation.security.get_or_insert_with(|| vec![SecurityRequirement::new(BEARER, [""; 0])]);
    let is_open = security.iter().any(|requirement| *requirement == SecurityRequirement::default());
    let has_path = operation.parameters.iter().flatten().any(
        |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path),
    );
    let has_body = operation.request_body.is_some();
    let responses = &mut operation.responses.responses;
    for (status, when, name, _) in SHARED {
        let happens = match when {
            When::Always => true,
            When::Secured => !is_open,
            When::Named => has_path,
            When::Body => has_body,
            When::Said => false,
        };
        match responses.get_mut(*status) {
            // What is said without a word of its own is the shared one.
            Some(RefOr::T(response)) if !response.description.is_empty() => {}
            Some(_) => {
                responses.insert((*status).to_owned(), RefOr::Ref(Ref::from_response_name(*name)));
            }
            None if happens => {
                responses.insert((*status).to_owned(), RefOr::Ref(Ref::from_response_name(*name)));
            }
            None => {}
        }
    }
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else { continue };
        // A page for people says there what is wrong.
        let is_page = response.content.contains_key("text/html");
        if status.starts_with(['4', '5']) && !is_page {
            response.content.clear();
            response.content.insert(PROBLEM.to_owned(), problem().into());
        }
        if response.description.is_empty() {
            response.description = usual(status).to_owned();
        }
        for (kind, content) in &mut response.content {
            if let RefOr::T(content) = content
                && content.schema.is_none()
            {
                content.schema = Some(download(kind));
            }
        }
    }
}

/// What a success says that has no words of its own: a description is required.
fn usual(status: &str) -> &'static str {
    match status {
        "201" => "Creado",
        "202" => "Aceptado: se procesa después",
        "204" => "Hecho",
        _ => "Correcto",
    }
}

/// The schema of what is not JSON: text, or the bytes of a file.
fn download(kind: &str) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let is_text = kind.starts_with("text/");
    let format = (!is_text).then_some(SchemaFormat::KnownFormat(KnownFormat::Binary));
    Schema::Object(text.format(format).build()).into()
}
