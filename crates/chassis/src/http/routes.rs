//! A table of operations: each is written down once, and that is where it is served and what the OpenAPI document says of it.

use std::collections::BTreeMap;

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route,
    guard::{Guard, GuardContext, fn_guard},
    http::{Method, StatusCode, header},
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use utoipa::{
    __dev::SchemaReferences,
    openapi::{
        Deprecated, OpenApi, RefOr, Schema,
        path::{HttpMethod, Operation, ParameterIn},
    },
};

use super::{Document, Problem, input::refuse_a_query};

/// A table of the operations named: `routes![items::list, items::get]`, each a handler with `#[utoipa::path(…)]`, which says
/// method, path and `operation_id`.
#[macro_export]
macro_rules! routes {
    ($($($part:ident)::+),* $(,)?) => {{
        let mut routes = $crate::http::Routes::default();
        $($crate::add_route!(routes, [] $($part)::+);)*
        routes
    }};
}

/// A part of [`routes!`]: what `#[utoipa::path]` says of a handler `x` is in a type `__path_x` beside it.
#[doc(hidden)]
#[macro_export]
macro_rules! add_route {
    ($routes:ident, [$($module:ident)*] $name:ident) => {
        $crate::pastey::paste! {
            $routes.add::<$($module::)* [<__path_ $name>], _, _>($($module::)* $name);
        }
    };
    ($routes:ident, [$($module:ident)*] $head:ident :: $($rest:ident)::+) => {
        $crate::add_route!($routes, [$($module)* $head] $($rest)::+)
    };
}

/// Operations, each with its handler.
#[derive(Default)]
pub struct Routes {
    entries: Vec<Entry>,
}

struct Entry {
    method: HttpMethod,
    path: String,
    operation: Operation,
    schemas: Vec<(String, RefOr<Schema>)>,
    /// Under which paths it is served besides its own: spellings that clients have known for long.
    aliases: Vec<String>,
    /// Whether it is served with a slash at its end too.
    with_slash: bool,
    routes: Vec<Box<dyn Fn() -> Route>>,
}

impl Routes {
    /// Adds what `P` describes. See [`routes!`].
    pub fn add<P, F, Args>(&mut self, handler: F)
    where
        P: utoipa::Path + SchemaReferences,
        F: Handler<Args> + Clone,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let mut schemas = Vec::new();
        P::schemas(&mut schemas);
        for method in P::methods() {
            let (operation, served) = (P::operation(), handler.clone());
            self.entries.push(Entry {
                path: P::path(),
                schemas: schemas.clone(),
                aliases: Vec::new(),
                with_slash: false,
                routes: vec![serving(&method, &operation, served)],
                operation,
                method,
            });
        }
    }

    /// Adds all of another table.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.entries.extend(more.entries);
        self
    }

    /// The same below a path.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        for entry in &mut self.entries {
            entry.path.insert_str(0, prefix);
        }
        self
    }

    /// Serves everything below `prefix` below `alias` too. The document has these paths as deprecated.
    #[must_use]
    pub fn also_under(mut self, prefix: &str, alias: &str) -> Self {
        for entry in &mut self.entries {
            if let Some(rest) = entry.path.strip_prefix(prefix) {
                entry.aliases.push(format!("{alias}{rest}"));
            }
        }
        self
    }

    /// Serves everything below `prefix` with a slash at its end too, as clients have written it for long.
    #[must_use]
    pub fn also_with_slash(mut self, prefix: &str) -> Self {
        for entry in self.entries.iter_mut().filter(|entry| entry.path.starts_with(prefix)) {
            entry.with_slash = true;
        }
        self
    }

    /// Has the requests of a type of content to a documented POST served by another handler: what an operation takes in two
    /// forms is one operation.
    ///
    /// # Panics
    /// There is no such operation.
    #[must_use]
    pub fn taking<F, Args>(mut self, path: &str, content_type: &'static str, handler: F) -> Self
    where
        F: Handler<Args> + Clone,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let entry =
            self.entries.iter_mut().find(|entry| entry.path == path && entry.method == HttpMethod::Post);
        let entry = entry.expect("the operation is in the table");
        let serve = serving(&entry.method, &entry.operation, handler);
        let route = move || serve().guard(fn_guard(move |context| has_type(context, content_type)));
        // Before the one that takes everything.
        entry.routes.insert(0, Box::new(route));
        self
    }

    /// The document of `service`: the operations of the table, under ids that begin with the service's name.
    pub fn document(&self, service: &str, title: &str, description: &str) -> Document {
        let mut document = OpenApi::default();
        document.info.title = title.to_owned();
        document.info.description = Some(description.to_owned());
        document.info.version = env!("CARGO_PKG_VERSION").to_owned();
        let components = document.components.get_or_insert_default();
        for entry in &self.entries {
            for (name, schema) in &entry.schemas {
                let known = components.schemas.entry(name.clone()).or_insert_with(|| schema.clone());
                debug_assert!(known == schema, "two types of this service have the name {name}");
            }
            let id = entry.operation.operation_id.as_deref().unwrap_or_default();
            let mut operation = entry.operation.clone();
            operation.operation_id = Some(format!("{}_{id}", service.replace('-', "_")));
            for (number, alias) in entry.aliases.iter().enumerate() {
                let mut operation = operation.clone();
                let suffix = if number == 0 { String::new() } else { format!("_{}", number + 1) };
                operation.operation_id = operation.operation_id.map(|id| format!("{id}_alias{suffix}"));
                operation.deprecated = Some(Deprecated::True);
                document.paths.add_path_operation(alias, vec![entry.method.clone()], operation);
            }
            document.paths.add_path_operation(&entry.path, vec![entry.method.clone()], operation);
        }
        Document::complete(document)
    }

    /// Serves the table: a path's HEAD as its GET, and other methods than it has with 405 and `Allow`.
    pub fn configure(&self, config: &mut ServiceConfig) {
        let mut resources: BTreeMap<Precedence, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            let slashed = entry.with_slash.then(|| format!("{}/", entry.path));
            for path in entry.aliases.iter().chain([&entry.path]).chain(&slashed) {
                resources.entry(Precedence::of(path)).or_default().push(entry);
            }
        }
        for (Precedence { path, .. }, entries) in resources {
            let mut resource = web::resource(path);
            let mut methods = Vec::new();
            for entry in entries {
                methods.push(actix_method(&entry.method));
                for route in &entry.routes {
                    resource = resource.route(route());
                }
            }
            config.service(resource.default_service(other_methods(methods)));
        }
    }
}

/// The route of an operation: of a GET, its HEAD too. Where the document knows no parameter in the query, none is taken.
fn serving<F, Args>(method: &HttpMethod, operation: &Operation, handler: F) -> Box<dyn Fn() -> Route>
where
    F: Handler<Args> + Clone,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let method = actix_method(method);
    let takes_a_query = operation.parameters.iter().flatten().any(
        |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query),
    );
    Box::new(move || {
        let route = web::route().guard(Methods::of(&method)).to(handler.clone());
        if takes_a_query { route } else { route.wrap(from_fn(refuse_a_query)) }
    })
}

/// A path's GET by its handler; HEAD as well, all else 405: for what stands in no document.
pub fn get_only<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let get = web::route().guard(Methods::of(&Method::GET)).to(handler);
    web::resource(path.to_owned()).route(get).default_service(other_methods(vec![Method::GET]))
}

/// What is answered to methods that a path does not have.
fn other_methods(methods: Vec<Method>) -> Route {
    let mut allowed: Vec<_> = methods.iter().map(Method::as_str).collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    allowed.sort_unstable();
    allowed.dedup();
    let allowed = allowed.join(", ");
    web::to(move |request: HttpRequest| {
        let response = method_not_allowed(request.method(), &allowed);
        async move { response }
    })
}

/// The answer to a method that a path does not have: 405, with those that it has.
pub fn method_not_allowed(method: &Method, allowed: &str) -> HttpResponse {
    let detail = format!("{method} no existe en esta ruta; se admite {allowed}");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut response = HttpResponse::from_error(problem);
    if let Ok(allowed) = header::HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// Lets a method through; with GET, HEAD.
struct Methods {
    method: Method,
}

impl Methods {
    fn of(method: &Method) -> Self {
        Self { method: method.clone() }
    }
}

impl Guard for Methods {
    fn check(&self, context: &GuardContext<'_>) -> bool {
        let asked = &context.head().method;
        *asked == self.method || (self.method == Method::GET && *asked == Method::HEAD)
    }
}

fn has_type(context: &GuardContext<'_>, expected: &str) -> bool {
    let kind = context.head().headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(expected)
}

fn actix_method(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Post => Method::POST,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}

/// Orders paths so that a name comes before a parameter in its place: `/items/new` before `/items/{id}`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Precedence {
    segments: Vec<(bool, String)>,
    path: String,
}

impl Precedence {
    fn of(path: &str) -> Self {
        let segments = path.split('/').map(|segment| (segment.starts_with('{'), segment.to_owned()));
        Self { segments: segments.collect(), path: path.to_owned() }
    }
}
