//! Lote's services, as all that starts them here knows them: the demo, the tests, `bin/lote`. A service is a
//! row.

/// A service.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, as its directory has it. The binary is `lote-<name>`.
    pub name: &'static str,
    /// The roles that run all the time. The first one serves its API.
    pub roles: &'static [&'static str],
    /// The port of its API in a demo; its other roles serve health and metrics on the tens that follow.
    pub port: u16,
}

/// What the people reach.
pub const GATEWAY: Spec = Spec { name: "gateway", roles: &["api"], port: 26001 };
/// Workbooks of products.
pub const CATALOG_UPLOAD: Spec = Spec { name: "catalog-upload", roles: &["api", "worker"], port: 26301 };
/// Files of campaigns.
pub const REPORT: Spec = Spec { name: "report", roles: &["api", "worker"], port: 26302 };
/// Contacts and segments.
pub const SMS_DISPATCH: Spec = Spec { name: "sms-dispatch", roles: &["api", "worker"], port: 26303 };
/// Syncs of sales and collections.
pub const ETL: Spec = Spec { name: "etl", roles: &["api", "worker"], port: 26304 };

/// All, in the order of a request's way.
pub const ALL: [&Spec; 5] = [&GATEWAY, &CATALOG_UPLOAD, &REPORT, &SMS_DISPATCH, &ETL];

impl Spec {
    /// Its executable.
    pub fn binary(&self) -> String {
        format!("lote-{}", self.name)
    }

    /// Its role and schema in PostgreSQL.
    pub fn schema(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its name in variables: `<this>_URL` is its API, `<this>_DATABASE_URL` its database.
    pub fn variable(&self) -> String {
        self.schema().to_uppercase()
    }

    /// What the process of a role is called: the service's name alone where there is but one.
    pub fn process(&self, role: &str) -> String {
        match self.roles {
            [_] => self.name.to_owned(),
            _ => format!("{}-{role}", self.name),
        }
    }

    /// Each role that runs all the time, with its process's name and its port in a demo.
    pub fn processes(&self) -> impl Iterator<Item = (&'static str, String, u16)> + '_ {
        let ports = (self.port..).step_by(10);
        self.roles.iter().zip(ports).map(|(role, port)| (*role, self.process(role), port))
    }
}

/// The names of all processes.
pub fn process_names() -> impl Iterator<Item = String> {
    ALL.iter().flat_map(|service| service.processes().map(|(_, name, _)| name))
}

/// The service of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    ALL.into_iter().find(|service| service.name == name)
}
