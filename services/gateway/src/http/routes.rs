//! What is behind the gateway, as data: a new service is a new row here and a URL in the configuration.

use actix_web::http::Method;
use chassis::auth::Role;

/// The services that can stand behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// Supplier catalogs and their imports; inventory reads.
    CatalogUpload,
    /// Campaign reports.
    Report,
    /// Contacts, segments of them, SMS campaigns.
    SmsDispatch,
    /// Sales and collections dashboards.
    Etl,
}

impl Backend {
    /// Every one. One without a URL in the configuration has no routes.
    pub const ALL: &[Self] = &[Self::CatalogUpload, Self::Report, Self::SmsDispatch, Self::Etl];

    /// The service's name, as in health, logs and `/api/v1/admin/<name>`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CatalogUpload => "catalog-upload",
            Self::Report => "report",
            Self::SmsDispatch => "sms-dispatch",
            Self::Etl => "etl",
        }
    }

    /// The variable that holds its URL.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::CatalogUpload => "CATALOG_UPLOAD_URL",
            Self::Report => "REPORT_URL",
            Self::SmsDispatch => "SMS_DISPATCH_URL",
            Self::Etl => "ETL_URL",
        }
    }
}

/// How large the files may be that a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// As `UPLOAD_LIMIT` says.
    Usual,
    /// Of contacts: as `CONTACTS_MAX_MB` says, here as in the service.
    Contacts,
    /// Whose people are an audience: as `SMS_AUDIENCE_MAX_MB` says, here as in the service.
    Audiences,
    /// Lists of phones that are not written to: 1 GiB, as the service takes them.
    Suppressions,
}

/// One row: paths under `prefix` go to `backend`.
#[derive(Debug)]
pub struct Route {
    /// The path, or what stands before the next `/` of longer ones.
    pub prefix: &'static str,
    /// What the backend sees in place of `prefix`.
    pub target: &'static str,
    /// Who serves it.
    pub backend: Backend,
    /// Who may read (GET, HEAD, OPTIONS). The backend decides the rest, object by object.
    pub read: &'static [Role],
    /// Who may use all other methods.
    pub write: &'static [Role],
    /// Served without a token: health only, GET only, and only this very path.
    pub anonymous: bool,
    /// Taken without a token, as the caller has none: a vendor's webhook, whose secret is in its path, or which is signed.
    /// POST only.
    pub webhook: bool,
    /// Served without a token to whoever has the path, which is secret: a page for people, that GET shows and a POST without a
    /// body acts by.
    pub page: bool,
    /// How large its files may be.
    pub files: Files,
}

impl Route {
    /// The methods of a route that needs no token and has no others than these.
    pub fn only_methods(&self) -> Option<&'static str> {
        match (self.webhook, self.page) {
            (true, _) => Some("POST"),
            (_, true) => Some("GET, HEAD, POST"),
            _ => None,
        }
    }

    /// Whether it is served without a token.
    pub fn is_public(&self) -> bool {
        self.anonymous || self.webhook || self.page
    }

    /// The roles that may use `method` here.
    pub fn roles(&self, method: &Method) -> &'static [Role] {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) { self.read } else { self.write }
    }

    /// The path that the backend sees for `path`, which this row matched.
    pub fn rewrite(&self, path: &str) -> String {
        format!("{}{}", self.target, &path[self.prefix.len()..])
    }
}

const EVERYONE: &[Role] = &[Role::Admin, Role::Operator, Role::Supplier, Role::Viewer];
const WRITERS: &[Role] = &[Role::Admin, Role::Operator, Role::Supplier];
const OPERATORS: &[Role] = &[Role::Admin, Role::Operator];

const fn row(prefix: &'static str, backend: Backend, write: &'static [Role]) -> Route {
    Route {
        prefix,
        target: prefix,
        backend,
        read: EVERYONE,
        write,
        anonymous: false,
        webhook: false,
        page: false,
        files: Files::Usual,
    }
}

/// Paths that only ask: a POST there is a question too long for a query.
const fn questions(prefix: &'static str, backend: Backend) -> Route {
    Route {
        prefix,
        target: prefix,
        backend,
        read: EVERYONE,
        write: EVERYONE,
        anonymous: false,
        webhook: false,
        page: false,
        files: Files::Usual,
    }
}

const fn health(prefix: &'static str, backend: Backend) -> Route {
    Route {
        prefix,
        target: "/health",
        backend,
        read: &[],
        write: &[],
        anonymous: true,
        webhook: false,
        page: false,
        files: Files::Usual,
    }
}

const fn admin(prefix: &'static str, backend: Backend) -> Route {
    Route {
        prefix,
        target: prefix,
        backend,
        read: OPERATORS,
        write: OPERATORS,
        anonymous: false,
        webhook: false,
        page: false,
        files: Files::Usual,
    }
}

const fn webhook(prefix: &'static str, backend: Backend) -> Route {
    Route {
        prefix,
        target: prefix,
        backend,
        read: &[],
        write: &[],
        anonymous: false,
        webhook: true,
        page: false,
        files: Files::Usual,
    }
}

const fn page(prefix: &'static str, backend: Backend) -> Route {
    Route {
        prefix,
        target: prefix,
        backend,
        read: &[],
        write: &[],
        anonymous: false,
        webhook: false,
        page: true,
        files: Files::Usual,
    }
}

/// All rows. The first that matches wins, so special cases stand before what they are an exception to.
pub const ROUTES: &[Route] = &[
    health("/api/v1/catalog/health", Backend::CatalogUpload),
    health("/api/v1/inventory/health", Backend::CatalogUpload),
    row("/api/v1/catalog", Backend::CatalogUpload, WRITERS),
    // The spelling in the `status_url` of an upload's answer: the same resource.
    Route {
        prefix: "/api/catalog",
        target: "/api/v1/catalog",
        backend: Backend::CatalogUpload,
        read: EVERYONE,
        write: WRITERS,
        anonymous: false,
        webhook: false,
        page: false,
        files: Files::Usual,
    },
    row("/api/v1/inventory", Backend::CatalogUpload, WRITERS),
    admin("/api/v1/admin/catalog-upload", Backend::CatalogUpload),
    health("/api/v1/reports/health", Backend::Report),
    row("/api/v1/reports", Backend::Report, OPERATORS),
    // Paths that clients of the reports have known for long.
    row("/reporte", Backend::Report, OPERATORS),
    row("/campania", Backend::Report, OPERATORS),
    admin("/api/v1/admin/report", Backend::Report),
    health("/api/v1/contacts/health", Backend::SmsDispatch),
    Route { files: Files::Contacts, ..row("/api/v1/contacts/imports", Backend::SmsDispatch, OPERATORS) },
    row("/api/v1/contacts", Backend::SmsDispatch, OPERATORS),
    Route {
        files: Files::Suppressions,
        ..row("/api/v1/suppressions/imports", Backend::SmsDispatch, OPERATORS)
    },
    row("/api/v1/suppressions", Backend::SmsDispatch, OPERATORS),
    row("/api/v1/segments", Backend::SmsDispatch, OPERATORS),
    row("/api/v1/sms", Backend::SmsDispatch, OPERATORS),
    Route { files: Files::Audiences, ..row("/api/v1/audiences", Backend::SmsDispatch, OPERATORS) },
    row("/api/v1/campaigns", Backend::SmsDispatch, OPERATORS),
    row("/api/v1/messages", Backend::SmsDispatch, OPERATORS),
    webhook("/webhooks/telnyx", Backend::SmsDispatch),
    webhook("/webhooks/twilio", Backend::SmsDispatch),
    // The links of messages: short, for each letter costs.
    page("/b", Backend::SmsDispatch),
    admin("/api/v1/admin/sms-dispatch", Backend::SmsDispatch),
    health("/api/v1/etl/health", Backend::Etl),
    row("/api/v1/etl", Backend::Etl, OPERATORS),
    questions("/api/v1/dashboard", Backend::Etl),
    questions("/api/v1/evolution", Backend::Etl),
    questions("/api/v1/assignment", Backend::Etl),
    questions("/api/v1/operation", Backend::Etl),
    questions("/api/v1/productivity", Backend::Etl),
    questions("/api/v1/filters", Backend::Etl),
    row("/api/v1/scheduler", Backend::Etl, OPERATORS),
    // The path that the users' cloud scheduler has known for long.
    row("/etl", Backend::Etl, OPERATORS),
    webhook("/webhooks/bsale", Backend::Etl),
    admin("/api/v1/admin/etl", Backend::Etl),
];

/// The row for a request, if there is one.
pub fn find(method: &Method, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| {
        if route.anonymous {
            path == route.prefix && *method == Method::GET
        } else if route.webhook {
            *method == Method::POST && under(path, route.prefix)
        } else if route.page {
            matches!(*method, Method::GET | Method::HEAD | Method::POST) && under(path, route.prefix)
        } else {
            under(path, route.prefix)
        }
    })
}

/// Whether `path` is `prefix` or below it.
pub fn under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path has a segment that URL parsers take for "here" or "up" (`.`, `..`, also percent-encoded):
/// the backend could then see another path than the one that was authorised here.
pub fn climbs(path: &str) -> bool {
    path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    }) || path.to_ascii_lowercase().contains("%5c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_reach_the_catalog() {
        let route = find(&Method::GET, "/api/catalog/bulk-upload/status/7").expect("a row");
        assert_eq!(route.backend, Backend::CatalogUpload);
        assert_eq!(
            route.rewrite("/api/catalog/bulk-upload/status/7"),
            "/api/v1/catalog/bulk-upload/status/7"
        );
        assert!(find(&Method::GET, "/api/v1/catalog").is_some());
        assert!(find(&Method::GET, "/api/v1/catalogue").is_none(), "a prefix ends at a slash");
    }

    #[test]
    fn only_reading_the_health_itself_is_anonymous() {
        assert!(find(&Method::GET, "/api/v1/catalog/health").expect("a row").anonymous);
        assert!(!find(&Method::POST, "/api/v1/catalog/health").expect("a row").anonymous);
        assert!(!find(&Method::GET, "/api/v1/catalog/health/x").expect("a row").anonymous);
        assert_eq!(ROUTES.iter().filter(|route| route.anonymous).count(), 5);
    }

    #[test]
    fn files_may_be_as_large_as_their_service_takes_them() {
        let files = |path: &str| find(&Method::POST, path).expect("a row").files;
        assert_eq!(files("/api/v1/contacts/imports"), Files::Contacts);
        assert_eq!(files("/api/v1/suppressions/imports"), Files::Suppressions);
        assert_eq!(files("/api/v1/audiences"), Files::Audiences);
        for path in ["/api/v1/contacts/importsx", "/api/v1/suppressions", "/api/v1/catalog/items/bulk-upload"]
        {
            assert_eq!(files(path), Files::Usual, "{path}");
        }
        assert_eq!(ROUTES.iter().filter(|route| route.files != Files::Usual).count(), 3);
    }

    /// Where a POST writes nothing.
    const ASKED: [&str; 6] = [
        "/api/v1/dashboard",
        "/api/v1/evolution",
        "/api/v1/assignment",
        "/api/v1/operation",
        "/api/v1/productivity",
        "/api/v1/filters",
    ];

    #[test]
    fn webhooks_come_without_a_token_and_only_as_posts() {
        assert!(find(&Method::POST, "/webhooks/bsale/secret").expect("a row").webhook);
        assert!(find(&Method::GET, "/webhooks/bsale/secret").is_none());
        assert!(find(&Method::POST, "/webhooks/other/secret").is_none());
        assert!(find(&Method::POST, "/webhooks/telnyx").expect("a row").webhook);
        assert!(find(&Method::GET, "/webhooks/twilio").is_none());
        assert_eq!(ROUTES.iter().filter(|route| route.webhook).count(), 3);
    }

    #[test]
    fn pages_come_without_a_token_and_only_show_or_act() {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            assert!(find(&method, "/b/token").expect("a row").page);
        }
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            assert!(find(&method, "/b/token").is_none(), "{method}");
        }
        assert!(find(&Method::GET, "/bodega").is_none(), "a prefix ends at a slash");
        assert_eq!(ROUTES.iter().filter(|route| route.page).count(), 1);
    }

    #[test]
    fn a_viewer_writes_nowhere() {
        let asks = |route: &Route| ASKED.contains(&route.prefix);
        assert_eq!(ROUTES.iter().filter(|route| asks(route)).count(), ASKED.len());
        for route in ROUTES.iter().filter(|route| !asks(route)) {
            assert!(!route.roles(&Method::POST).contains(&Role::Viewer), "{}", route.prefix);
            assert!(!route.roles(&Method::DELETE).contains(&Role::Viewer), "{}", route.prefix);
        }
    }

    #[test]
    fn climbing_paths_are_seen() {
        for path in [
            "/api/v1/catalog/../admin",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a/./b",
            "/a\\..\\b",
            "/a/%5C../b",
            "/a/..",
        ] {
            assert!(climbs(path), "{path}");
        }
        for path in ["/api/v1/catalog/items/a.b", "/a/...", "/a/..b", "/a/%2eb"] {
            assert!(!climbs(path), "{path}");
        }
    }
}
