//! The table: who gets in where.

/// Kinds of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Nobody,
    Garbage,
    /// The claims of one token under the signature of another.
    Forged,
    Expired,
    OtherAudience,
    RevokedKey,
    Admin,
    Operator,
    Owner,
    Stranger,
    Viewer,
    /// A viewer who is bound to the other supplier.
    StrangersViewer,
    /// The owner's API keys: with all scopes, with `catalog:read`, and with none that matters here.
    Key,
    ReadKey,
    OtherKey,
}

use Who::*;

pub const ALL: [Who; 15] = [
    Nobody,
    Garbage,
    Forged,
    Expired,
    OtherAudience,
    RevokedKey,
    Admin,
    Operator,
    Owner,
    Stranger,
    Viewer,
    StrangersViewer,
    Key,
    ReadKey,
    OtherKey,
];

impl Who {
    pub fn is_known(self) -> bool {
        !matches!(self, Nobody | Garbage | Forged | Expired | OtherAudience | RevokedKey)
    }

    pub fn is_key(self) -> bool {
        matches!(self, RevokedKey | Key | ReadKey | OtherKey)
    }
}

/// Who gets in; the number is the answer to those who do.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Whoever asks, with whatever credential.
    Open(u16),
    /// Whoever is known.
    Known(u16),
    /// Whoever is known and may read the catalog.
    Scoped(u16),
    /// Whoever is known and limited to no scopes.
    Unlimited(u16),
    /// Users, not their keys.
    People(u16),
    Admins(u16),
    Operators(u16),
    /// One thing of the owner's, which for strangers does not exist.
    Reads(u16),
    /// The list of the owner's things.
    Lists(u16),
    /// Something new in the owner's name.
    Writes(u16),
    /// One thing of the owner's that changes, which for strangers does not exist.
    Changes(u16),
    /// A key of the owner's.
    OwnKey(u16),
    /// Contacts, which are nobody's in particular: not for who is bound to one supplier, nor for keys of one.
    Contacts(u16),
    /// Reports, which are about everybody's campaigns: not for who is bound to one supplier.
    Reports(u16),
}

impl Rule {
    pub fn expected(self, who: Who) -> u16 {
        let allow = |allowed: bool, yes: u16, no: u16| if allowed { yes } else { no };
        if let Self::Open(ok) = self {
            return ok;
        }
        if !who.is_known() {
            return 401;
        }
        match self {
            Self::Open(ok) | Self::Known(ok) => ok,
            Self::Scoped(ok) => allow(who != OtherKey, ok, 403),
            Self::Unlimited(ok) => allow(!matches!(who, ReadKey | OtherKey), ok, 403),
            Self::People(ok) => allow(!who.is_key(), ok, 403),
            Self::Admins(ok) => allow(who == Admin, ok, 403),
            Self::Operators(ok) => allow(matches!(who, Admin | Operator), ok, 403),
            Self::Reads(ok) => match who {
                OtherKey => 403,
                Stranger | StrangersViewer => 404,
                _ => ok,
            },
            Self::Lists(ok) => allow(!matches!(who, OtherKey | Stranger | StrangersViewer), ok, 403),
            Self::Writes(ok) => allow(matches!(who, Admin | Operator | Owner | Key), ok, 403),
            Self::Changes(ok) => match who {
                Admin | Operator | Owner | Key => ok,
                Stranger => 404,
                _ => 403,
            },
            Self::Contacts(ok) | Self::Reports(ok) => {
                allow(matches!(who, Admin | Operator | Viewer), ok, 403)
            }
            Self::OwnKey(ok) => match who {
                Key | ReadKey | OtherKey => 403,
                Admin | Owner => ok,
                _ => 404,
            },
        }
    }
}

/// The one table.
pub const RULES: &[(&str, &str, Rule)] = &[
    ("post", "/api/v1/auth/login", Rule::Open(200)),
    ("post", "/api/v1/auth/refresh", Rule::Open(200)),
    ("post", "/api/v1/auth/logout", Rule::Open(204)),
    ("get", "/.well-known/jwks.json", Rule::Open(200)),
    ("get", "/api/v1/auth/me", Rule::Known(200)),
    // The new password is too short: who gets as far as 422 got in.
    ("post", "/api/v1/auth/password", Rule::People(422)),
    ("get", "/api/v1/stream", Rule::Unlimited(200)),
    ("get", "/api/v1/users", Rule::Admins(200)),
    ("post", "/api/v1/users", Rule::Admins(201)),
    ("get", "/api/v1/users/{id}", Rule::Admins(200)),
    ("patch", "/api/v1/users/{id}", Rule::Admins(200)),
    ("delete", "/api/v1/users/{id}", Rule::Admins(204)),
    ("post", "/api/v1/users/{id}/disable", Rule::Admins(200)),
    ("post", "/api/v1/users/{id}/enable", Rule::Admins(200)),
    ("get", "/api/v1/audit", Rule::Admins(200)),
    ("get", "/api/v1/api-keys", Rule::People(200)),
    ("post", "/api/v1/api-keys", Rule::People(201)),
    ("delete", "/api/v1/api-keys/{id}", Rule::OwnKey(204)),
    ("post", "/api/v1/catalog/items/bulk-upload", Rule::Writes(202)),
    ("get", "/api/v1/catalog/bulk-upload/status/{task_id}", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload", Rule::Lists(200)),
    // The task is completed, and no dry run: who learns that got in.
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/cancel", Rule::Changes(409)),
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/retry", Rule::Changes(409)),
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/apply", Rule::Changes(409)),
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/undo", Rule::Changes(202)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/original", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/errors.csv", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/changes.csv", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/annotated.xlsx", Rule::Reads(200)),
    ("get", "/api/v1/catalog/templates/{name}.xlsx", Rule::Scoped(200)),
    ("get", "/api/v1/catalog/items", Rule::Lists(200)),
    ("post", "/api/v1/catalog/items", Rule::Writes(201)),
    ("get", "/api/v1/catalog/items/{id}", Rule::Reads(200)),
    ("put", "/api/v1/catalog/items/{id}", Rule::Changes(200)),
    ("delete", "/api/v1/catalog/items/{id}", Rule::Changes(204)),
    ("get", "/api/v1/catalog/items/{id}/inventario", Rule::Reads(200)),
    ("get", "/api/v1/inventory/bodega/{bodega_id}/productos", Rule::Scoped(200)),
    ("get", "/api/v1/admin/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/dead-letters/audit", Rule::Operators(200)),
    // There is none of that id: who learns that got in.
    ("get", "/api/v1/admin/catalog-upload/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/catalog-upload/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/catalog-upload/dead-letters/discard", Rule::Operators(200)),
    ("get", "/reporte", Rule::Operators(200)),
    ("get", "/reporte/status/{id_campana}", Rule::Reports(200)),
    ("get", "/campania/list", Rule::Reports(200)),
    ("get", "/campania/fechas", Rule::Reports(200)),
    ("post", "/api/v1/reports", Rule::Operators(202)),
    ("get", "/api/v1/reports", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}/files", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}/manifest", Rule::Reports(200)),
    // The run is completed: who learns that got in.
    ("post", "/api/v1/reports/{id}/cancel", Rule::Operators(409)),
    ("post", "/api/v1/reports/{id}/retry", Rule::Operators(409)),
    // Of a detailed one, with whole phones: not for viewers.
    ("get", "/api/v1/reports/{id}/download", Rule::Operators(200)),
    ("get", "/api/v1/reports/{id}/files/{id_campana}/download", Rule::Operators(200)),
    ("get", "/api/v1/reports/schedules", Rule::Reports(200)),
    ("post", "/api/v1/reports/schedules", Rule::Operators(201)),
    ("get", "/api/v1/reports/schedules/{id}", Rule::Reports(200)),
    ("put", "/api/v1/reports/schedules/{id}", Rule::Operators(200)),
    ("delete", "/api/v1/reports/schedules/{id}", Rule::Operators(204)),
    ("get", "/api/v1/admin/report/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/report/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/report/dead-letters/discard", Rule::Operators(200)),
    ("get", "/api/v1/contacts", Rule::Contacts(200)),
    ("get", "/api/v1/contacts/stats", Rule::Contacts(200)),
    // An object that is none of theirs, an import that does not exist: who learns that got in.
    ("post", "/api/v1/contacts/imports", Rule::Admins(400)),
    ("get", "/api/v1/contacts/imports", Rule::Operators(200)),
    ("get", "/api/v1/contacts/imports/{id}", Rule::Operators(404)),
    ("get", "/api/v1/contacts/imports/{id}/report", Rule::Operators(404)),
    ("get", "/api/v1/contacts/imports/{id}/rejected.csv", Rule::Contacts(404)),
    ("post", "/api/v1/contacts/imports/{id}/cancel", Rule::Admins(404)),
    ("post", "/api/v1/contacts/imports/{id}/rollback", Rule::Admins(404)),
    // Nobody has an account at a provider, a validation that does not exist: who learns that got in.
    ("post", "/api/v1/contacts/validations", Rule::Admins(409)),
    ("get", "/api/v1/contacts/validations", Rule::Operators(200)),
    ("get", "/api/v1/contacts/validations/{id}", Rule::Operators(404)),
    ("post", "/api/v1/contacts/validations/{id}/cancel", Rule::Admins(404)),
    ("post", "/api/v1/contacts/validations/{id}/retry", Rule::Admins(404)),
    ("get", "/api/v1/contacts/{id}", Rule::Contacts(200)),
    ("patch", "/api/v1/contacts/{id}", Rule::Operators(200)),
    ("post", "/api/v1/contacts/{id}/opt-out", Rule::Operators(200)),
    ("post", "/api/v1/contacts/{id}/opt-in", Rule::Operators(200)),
    // A form without a file: who learns that got in.
    ("post", "/api/v1/suppressions/imports", Rule::Operators(400)),
    // Nothing is known of that phone: who learns that got in.
    ("get", "/api/v1/suppressions/{phone}", Rule::Contacts(404)),
    ("delete", "/api/v1/suppressions/{phone}", Rule::Operators(404)),
    ("post", "/api/v1/segments/preview", Rule::Operators(200)),
    ("post", "/api/v1/segments", Rule::Operators(201)),
    ("get", "/api/v1/segments", Rule::Contacts(200)),
    ("get", "/api/v1/segments/{id}", Rule::Contacts(200)),
    ("put", "/api/v1/segments/{id}", Rule::Operators(200)),
    ("delete", "/api/v1/segments/{id}", Rule::Operators(204)),
    // Texts that are missing, a campaign that does not exist: who learns that got in.
    ("post", "/api/v1/audiences", Rule::Operators(400)),
    ("get", "/api/v1/audiences", Rule::Contacts(200)),
    ("get", "/api/v1/audiences/{id}", Rule::Contacts(404)),
    ("get", "/api/v1/audiences/{id}/rejected.csv", Rule::Contacts(404)),
    ("post", "/api/v1/audiences/{id}/cancel", Rule::Operators(404)),
    ("delete", "/api/v1/audiences/{id}", Rule::Operators(404)),
    ("post", "/api/v1/campaigns", Rule::Operators(422)),
    ("get", "/api/v1/campaigns", Rule::Contacts(200)),
    ("get", "/api/v1/campaigns/{id}", Rule::Contacts(404)),
    ("put", "/api/v1/campaigns/{id}", Rule::Operators(422)),
    ("delete", "/api/v1/campaigns/{id}", Rule::Operators(404)),
    ("get", "/api/v1/campaigns/{id}/preview", Rule::Contacts(404)),
    ("get", "/api/v1/campaigns/{id}/progress", Rule::Contacts(404)),
    ("get", "/api/v1/campaigns/{id}/messages", Rule::Contacts(404)),
    ("get", "/api/v1/campaigns/{id}/replies", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/start", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/schedule", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/approve", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/pause", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/resume", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/cancel", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/test", Rule::Operators(404)),
    ("post", "/api/v1/campaigns/{id}/resolve", Rule::Operators(404)),
    // A phone that is none, a message that does not exist: who learns that got in.
    ("post", "/api/v1/messages", Rule::Operators(422)),
    ("get", "/api/v1/messages", Rule::Contacts(200)),
    ("get", "/api/v1/messages/{id}", Rule::Contacts(404)),
    ("post", "/api/v1/campaigns/{id}/retry-failed", Rule::Operators(404)),
    ("get", "/api/v1/sms/senders", Rule::Contacts(200)),
    ("put", "/api/v1/sms/senders/{address}", Rule::Admins(409)),
    ("get", "/api/v1/sms/prices", Rule::Contacts(200)),
    // A currency that is none, a price that does not exist: who learns that got in.
    ("post", "/api/v1/sms/prices", Rule::Admins(422)),
    ("delete", "/api/v1/sms/prices/{id}", Rule::Admins(404)),
    ("get", "/api/v1/sms/providers", Rule::Contacts(200)),
    ("post", "/api/v1/sms/providers/{name}/open", Rule::Admins(404)),
    // A link that nobody made.
    ("get", "/b/{token}", Rule::Open(404)),
    ("post", "/b/{token}", Rule::Open(404)),
    // No account anywhere: nobody learns more.
    ("post", "/webhooks/telnyx", Rule::Open(404)),
    ("post", "/webhooks/twilio", Rule::Open(404)),
    ("get", "/api/v1/admin/sms-dispatch/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/sms-dispatch/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/sms-dispatch/dead-letters/discard", Rule::Operators(200)),
    // There is no source here: who learns that got in.
    ("post", "/etl/run-full-sync", Rule::Operators(404)),
    ("post", "/etl/run-daily-sync", Rule::Operators(404)),
    ("post", "/etl/sync/{entity}", Rule::Operators(404)),
    ("post", "/api/v1/etl/sync/{entity}", Rule::Operators(404)),
    ("post", "/api/v1/etl/clean-and-reload", Rule::Operators(404)),
    ("post", "/api/v1/scheduler/etl/daily", Rule::Operators(404)),
    ("post", "/api/v1/scheduler/etl/incremental", Rule::Operators(404)),
    ("get", "/api/v1/scheduler/etl/test", Rule::Reports(404)),
    ("get", "/api/v1/scheduler/health", Rule::Reports(200)),
    // A secret that is none: nobody learns whether there is one.
    ("post", "/webhooks/bsale/{secret}", Rule::Open(404)),
    ("get", "/api/v1/etl/runs", Rule::Reports(200)),
    ("get", "/api/v1/etl/runs/{id}", Rule::Reports(404)),
    ("post", "/api/v1/etl/runs/{id}/resume", Rule::Operators(404)),
    ("get", "/api/v1/etl/quarantine", Rule::Reports(200)),
    ("post", "/api/v1/etl/quarantine/redrive", Rule::Operators(200)),
    ("get", "/api/v1/etl/status", Rule::Reports(200)),
    ("get", "/api/v1/etl/status/table/{table}", Rule::Reports(200)),
    ("get", "/api/v1/etl/config/tables", Rule::Reports(200)),
    ("post", "/api/v1/etl/refresh/dashboard", Rule::Operators(202)),
    ("post", "/api/v1/etl/refresh/table/{table}", Rule::Operators(202)),
    ("post", "/api/v1/etl/cancel", Rule::Operators(202)),
    ("post", "/api/v1/etl/cancel/table/{table}", Rule::Operators(202)),
    ("post", "/api/v1/etl/backfill", Rule::Operators(202)),
    ("post", "/api/v1/etl/reset", Rule::Operators(404)),
    ("get", "/api/v1/etl/schedules", Rule::Reports(200)),
    ("post", "/api/v1/etl/schedules", Rule::Operators(201)),
    ("get", "/api/v1/etl/schedules/{id}", Rule::Reports(200)),
    ("put", "/api/v1/etl/schedules/{id}", Rule::Operators(200)),
    ("delete", "/api/v1/etl/schedules/{id}", Rule::Operators(204)),
    ("get", "/api/v1/dashboard", Rule::Reports(200)),
    ("post", "/api/v1/dashboard", Rule::Reports(200)),
    ("get", "/api/v1/evolution", Rule::Reports(200)),
    ("post", "/api/v1/evolution", Rule::Reports(200)),
    ("get", "/api/v1/evolution/carteras", Rule::Reports(200)),
    ("get", "/api/v1/evolution/metrics", Rule::Reports(200)),
    ("get", "/api/v1/assignment", Rule::Reports(200)),
    ("get", "/api/v1/operation", Rule::Reports(200)),
    ("get", "/api/v1/productivity", Rule::Reports(200)),
    ("get", "/api/v1/filters", Rule::Reports(200)),
    ("get", "/api/v1/admin/etl/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/etl/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/etl/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/etl/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/etl/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/etl/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/etl/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/etl/dead-letters/discard", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/gateway/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/gateway/dead-letters/discard", Rule::Operators(200)),
];
