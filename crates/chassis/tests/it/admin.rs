use actix_web::web;
use chassis::{
    admin::{self, Admin},
    auth::{
        Claims, Role,
        testing::{Keys, claims},
    },
    config::DatabaseSettings,
    db::{self, Database},
    http::Health,
    http_client,
};
use contracts::{Queue, queues};
use messaging::{Broker, Envelope};
use reqwest::{Method, StatusCode};
use sea_orm::sqlx;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use serde_json::{Value, json};
use stack::Namespace;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Running, start};

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = outbox::migrations();
        all.extend(jobs::migrations());
        all.extend(chassis::migrations());
        all
    }
}

const QUEUES: &[&Queue] = &[&queues::CATALOG_IMPORTS];

struct Service {
    running: Running,
    database: Database,
    keys: Keys,
    _namespace: Namespace,
}

impl Service {
    async fn start(label: &str) -> anyhow::Result<Self> {
        let namespace = Namespace::create(label).await?;
        let settings = DatabaseSettings::at(&namespace.database_url);
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&settings, "chassis-test", &shutdown).await?;
        let database = db::connect(&settings, "chassis-test", &shutdown).await?;
        let keys = Keys::generate();
        let admin = Admin::new(&database, &Broker::memory(), QUEUES);
        let verifier = keys.verifier();
        let running = start(Health::new("catalog-upload"), move |config| {
            config.app_data(web::Data::new(verifier.clone()));
            admin.configure(config);
            chassis::admin::routes("catalog-upload").configure(config);
        })?;
        Ok(Self { running, database, keys, _namespace: namespace })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        claims: &Claims,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let url = self.running.at(&format!("/api/v1/admin/catalog-upload{path}"));
        let mut request = http_client().request(method, url).bearer_auth(self.keys.token(claims));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.json().await?))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.ask(Method::GET, path, &claims(Role::Operator), None).await?;
        anyhow::ensure!(status == StatusCode::OK, "{path}: {status} {body}");
        Ok(body)
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<(StatusCode, Value)> {
        self.ask(Method::POST, path, &claims(Role::Operator), Some(body)).await
    }

    /// A letter in the archive; `age` seconds old.
    async fn letter(&self, reason: &str, age: i32) -> anyhow::Result<Uuid> {
        let (id, message_id) = (Uuid::now_v7(), Uuid::now_v7());
        let body = serde_json::to_string(&Envelope {
            id: message_id,
            ..Envelope::new("catalog-upload", &contracts::catalog::v1::ProcessImport::default())?
        })?;
        sqlx::query(
            "INSERT INTO dead_letters (id, queue, message_id, fingerprint, kind, body, decodable, reason, error,
                    attempts, failed_at, origin)
             VALUES ($1, 'catalog.imports', $2, $2::text, 'lote.catalog.v1.ProcessImport', $3, true, $4,
                    'the error', 8, now() - make_interval(secs => $5), 'catalog.imports')",
        )
        .bind(id)
        .bind(message_id)
        .bind(body)
        .bind(reason)
        .bind(f64::from(age))
        .execute(&self.database.pool)
        .await?;
        Ok(id)
    }
}

#[tokio::test]
async fn only_admins_and_operators_get_in_and_only_admins_see_what_a_letter_says() -> anyhow::Result<()> {
    let service = Service::start("chassis_admin_roles").await?;
    let id = service.letter("rejected", 0).await?;
    let one = format!("/dead-letters/{id}");
    let decision = json!({ "filter": {}, "dry_run": true });
    let endpoints = [
        (Method::GET, "/dead-letters", None),
        (Method::GET, one.as_str(), None),
        (Method::GET, "/dead-letters/audit", None),
        (Method::POST, "/dead-letters/replay", Some(decision.clone())),
        (Method::POST, "/dead-letters/discard", Some(decision)),
        (Method::GET, "/queues", None),
        (Method::GET, "/jobs", None),
        (Method::GET, "/workers", None),
    ];
    for (method, path, body) in endpoints {
        for &role in Role::ALL {
            let (status, answer) = service.ask(method.clone(), path, &claims(role), body.clone()).await?;
            let expected = match role {
                Role::Admin | Role::Operator => StatusCode::OK,
                Role::Supplier | Role::Viewer => StatusCode::FORBIDDEN,
            };
            assert_eq!(status, expected, "{role} {method} {path}: {answer}");
        }
        let anonymous = http_client()
            .request(method.clone(), service.running.at(&format!("/api/v1/admin/catalog-upload{path}")));
        assert_eq!(anonymous.send().await?.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
        let reader = Claims { scopes: vec!["admin:read".into()], ..claims(Role::Operator) };
        let (status, _) = service.ask(method.clone(), path, &reader, body.clone()).await?;
        assert_eq!(status == StatusCode::OK, method == Method::GET, "a reader's {method} {path}");
    }

    let (_, to_admin) = service.ask(Method::GET, &one, &claims(Role::Admin), None).await?;
    assert!(to_admin["body"].as_str().is_some_and(|body| body.contains("specversion")), "{to_admin}");
    let to_operator = service.get(&one).await?;
    assert_eq!(to_operator["body"], Value::Null);
    assert_eq!(to_operator["body_bytes"], to_admin["body_bytes"]);
    assert!(to_operator["body_bytes"].as_u64() > Some(100));
    let missing = format!("/dead-letters/{}", Uuid::now_v7());
    let (status, _) = service.ask(Method::GET, &missing, &claims(Role::Admin), None).await?;
    assert_eq!(status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn letters_are_listed_replayed_and_discarded_with_a_record_of_who_did_it() -> anyhow::Result<()> {
    let service = Service::start("chassis_admin_letters").await?;
    let old = service.letter("rejected", 60).await?;
    let new = service.letter("attempts exhausted", 0).await?;

    let page = service.get("/dead-letters?size=1").await?;
    assert_eq!(page["items"][0]["id"], new.to_string());
    assert_eq!(page["items"][0]["body"], Value::Null);
    let next = page["next"].as_str().expect("there is a second page").to_owned();
    let page = service.get(&format!("/dead-letters?size=1&after={next}")).await?;
    assert_eq!((&page["items"][0]["id"], &page["next"]), (&json!(old.to_string()), &Value::Null));
    assert_eq!(
        service.get("/dead-letters?reason=REJECTED").await?["items"].as_array().map(Vec::len),
        Some(1)
    );

    let (_, dry) = service.post("/dead-letters/replay", json!({ "filter": {}, "dry_run": true })).await?;
    assert_eq!((&dry["matched"], &dry["changed"]), (&json!(2), &json!(0)));
    assert_eq!(dry["reasons"].as_array().map(Vec::len), Some(2));
    let (_, replayed) =
        service.post("/dead-letters/replay", json!({ "ids": [old], "dry_run": false })).await?;
    assert_eq!((&replayed["matched"], &replayed["changed"]), (&json!(1), &json!(1)));
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE destination = 'queue:catalog.imports'")
            .fetch_one(&service.database.pool)
            .await?;
    assert_eq!(waiting, 1);
    // Who does not say that it is meant only learns what would happen.
    let (_, asked) = service.post("/dead-letters/discard", json!({ "filter": {} })).await?;
    assert_eq!((&asked["dry_run"], &asked["changed"]), (&json!(true), &json!(0)));
    let everything = json!({ "filter": {}, "dry_run": false });
    let (_, discarded) = service.post("/dead-letters/discard", everything).await?;
    assert_eq!((&discarded["matched"], &discarded["changed"]), (&json!(1), &json!(1)));
    assert_eq!(service.get("/dead-letters?state=open").await?["items"], json!([]));
    let replayed = service.get(&format!("/dead-letters/{old}")).await?;
    assert_eq!((&replayed["state"], &replayed["resolved_by"]), (&json!("replayed"), &json!("operator-1")));

    let audit = service.get("/dead-letters/audit").await?;
    let lines: Vec<_> = audit
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| (line["action"].clone(), line["dry_run"].clone(), line["changed"].clone()))
        .collect();
    let line = |action: &str, dry_run: bool, changed: i64| (json!(action), json!(dry_run), json!(changed));
    let expected = [("discard", false, 1), ("discard", true, 0), ("replay", false, 1), ("replay", true, 0)];
    assert_eq!(lines, expected.map(|(action, dry_run, changed)| line(action, dry_run, changed)));

    for bad in [
        json!({}),
        json!({ "ids": [] }),
        json!({ "ids": [old], "filter": {} }),
        json!({ "filter": { "state": "discarded" } }),
        // A misspelt filter must not become an empty one.
        json!({ "filter": { "queues": "x" } }),
    ] {
        let (status, answer) = service.post("/dead-letters/discard", bad.clone()).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn queues_jobs_and_workers_are_shown() -> anyhow::Result<()> {
    let service = Service::start("chassis_admin_work").await?;
    let id = Uuid::now_v7();
    let job = jobs::NewJob {
        id,
        kind: "catalog.imports",
        params: json!({ "filename": "secreto.xlsx" }),
        user: Some("supplier-1".into()),
        idempotency_key: None,
        request_hash: None,
        max_attempts: 5,
    };
    jobs::create(&mut *service.database.pool.acquire().await?, job).await?;
    let listed = service.get("/jobs?state=pending&user=supplier-1").await?;
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["processed"]),
        (&json!(id.to_string()), &json!(0))
    );
    assert!(!listed.to_string().contains("secreto"), "{listed}");
    assert_eq!(service.get("/jobs?state=failed").await?["items"], json!([]));
    let (status, _) = service.ask(Method::GET, "/jobs?state=asleep", &claims(Role::Admin), None).await?;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let stop = CancellationToken::new();
    let announcer = jobs::workers::Announcer::new(
        service.database.pool.clone(),
        "catalog-upload",
        "9.9.9",
        QUEUES,
        jobs::Activities::default(),
    );
    let announcing = tokio::spawn(announcer.run(stop.clone()));
    stack::wait::until("the worker is listed", std::time::Duration::from_secs(10), async || {
        service.get("/workers").await.is_ok_and(|workers| workers[0]["version"] == "9.9.9")
    })
    .await?;
    stop.cancel();
    announcing.await?;
    assert_eq!(service.get("/workers").await?, json!([]));

    service.letter("failed", 0).await?;
    let closed = service.letter("failed", 0).await?;
    service.post("/dead-letters/discard", json!({ "ids": [closed], "dry_run": false })).await?;
    let depths = service.get("/queues").await?;
    assert_eq!(depths[0]["open_letters"], 1, "{depths}");
    assert_eq!((&depths[0]["queue"], &depths[0]["ready"]), (&json!("catalog.imports"), &json!(0)));
    Ok(())
}

#[tokio::test]
async fn queues_are_shown_where_the_database_does_not_answer() -> anyhow::Result<()> {
    let service = Service::start("chassis_admin_queues").await?;
    service.database.pool.close().await;
    let depths = service.get("/queues").await?;
    assert_eq!(depths[0]["open_letters"], Value::Null, "{depths}");
    assert_eq!((&depths[0]["available"], &depths[0]["ready"]), (&json!(true), &json!(0)), "{depths}");
    Ok(())
}

#[test]
fn the_document_names_each_endpoint_under_its_service() -> anyhow::Result<()> {
    let document = serde_json::from_slice::<Value>(
        admin::routes("catalog-upload").document("catalog-upload", "", "").bytes(),
    )?;
    let mut endpoints: Vec<_> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, operation)| {
                format!("{method} {path} {}", operation["operationId"].as_str().unwrap_or("none"))
            })
        })
        .collect();
    endpoints.sort();
    assert_eq!(
        endpoints,
        [
            "get /api/v1/admin/catalog-upload/dead-letters catalog_upload_dead_letters_list",
            "get /api/v1/admin/catalog-upload/dead-letters/audit catalog_upload_dead_letters_audit",
            "get /api/v1/admin/catalog-upload/dead-letters/{id} catalog_upload_dead_letters_get",
            "get /api/v1/admin/catalog-upload/jobs catalog_upload_jobs_list",
            "get /api/v1/admin/catalog-upload/queues catalog_upload_queues_list",
            "get /api/v1/admin/catalog-upload/workers catalog_upload_workers_list",
            "post /api/v1/admin/catalog-upload/dead-letters/discard catalog_upload_dead_letters_discard",
            "post /api/v1/admin/catalog-upload/dead-letters/replay catalog_upload_dead_letters_replay",
        ]
    );
    Ok(())
}
