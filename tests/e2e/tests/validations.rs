//! Contacts' numbers are looked up at a provider: within the budget, at its pace, over its failures and our own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{Scene, figures};
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use simulators::telnyx::{Line, Telnyx, line};
use stack::platform::{Client, Options};
use stack::services::SMS_DISPATCH;

const VALIDATIONS: &str = "/api/v1/contacts/validations";
const LIMIT: Duration = Duration::from_secs(90);
const KEY: &str = "KEY-of-a-test";

struct World {
    scene: Scene,
    admin: Client,
    pool: PgPool,
    telnyx: Telnyx,
}

impl World {
    async fn new(label: &str, settings: impl FnOnce(Options) -> Options) -> Result<Self> {
        let telnyx = Telnyx::start(KEY)?;
        let url = telnyx.url().to_owned();
        let scene = Scene::start(label, |options: Options| {
            let options =
                options.workers(0).with(&SMS_DISPATCH, 1).env("TELNYX_URL", url).env("TELNYX_API_KEY", KEY);
            settings(
                options
                    .env("LOOKUPS_PER_SECOND", 1_000)
                    .env("LOOKUP_LEASE_SECONDS", 2)
                    .env("LOOKUP_PAUSE_MS", 50),
            )
        })
        .await?;
        let (admin, pool) = (scene.platform.admin().await?, scene.platform.contacts().await?);
        Ok(Self { scene, admin, pool, telnyx })
    }

    /// As many contacts of Baja California Sur, as an import would leave them.
    async fn contacts(&self, many: i32) -> Result<Vec<String>> {
        let phones: Vec<String> = sqlx::query_scalar(
            "insert into contacts (phone_e164, full_name, lada, state_code, is_valid, status, consent, import, source_id)
             select '+52612' || lpad((1000000 + number * 7)::text, 7, '0'), 'CATALINO', '612', 'BCS', number % 10 > 0,
                    case when number % 10 > 0 then 'ACTIVE' else 'INVALID' end, 'unknown', 1, number
             from generate_series(1, $1) number returning phone_e164",
        )
        .bind(many)
        .fetch_all(&self.pool)
        .await?;
        let mut import = sqlx::QueryBuilder::<sqlx::Postgres>::new(
            "insert into imports (id, source, kind, mode, imported_by, source_rows, created, updated, unchanged, merged, rejected)
             overriding system value select gen_random_uuid(), 'prueba', 'csv', 'merge', 'test', n, n, 0, 0, 0, 0 from (select ",
        );
        import.push_bind(i64::from(many)).push(" as n) given");
        import.build().execute(&self.pool).await?;
        Ok(phones)
    }

    async fn start(&self, request: &Value) -> Result<String> {
        let asked = self.admin.post(VALIDATIONS, request).await?;
        ensure!(asked.status == 202, "{asked}");
        Ok(asked.body["id"].as_str().context("an id")?.to_owned())
    }

    async fn when(&self, id: &str, right: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        loop {
            let validation = self.admin.get(&format!("{VALIDATIONS}/{id}")).await?.body;
            if right(&validation) {
                return Ok(validation);
            }
            ensure!(began.elapsed() < LIMIT, "not in time: {validation}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ended(&self, id: &str) -> Result<Value> {
        self.when(id, |view| ["completed", "failed", "cancelled"].iter().any(|end| view["status"] == *end))
            .await
    }

    /// Fails unless each contact is what the provider says of its phone, and was.
    async fn follow(&self, phones: &[String]) -> Result<()> {
        for phone in phones {
            let (operator, mobile, valid, status): (Option<String>, Option<bool>, bool, String) =
                sqlx::query_as(
                    "select operator, is_mobile, is_valid, status from contacts where phone_e164 = $1",
                )
                .bind(phone)
                .fetch_one(&self.pool)
                .await?;
            let said = format!("{phone}: {operator:?} {mobile:?} {valid} {status}");
            match line(phone) {
                Line::Known { operator: theirs, line_type } => {
                    ensure!(operator.as_deref() == Some(theirs) && valid && status == "ACTIVE", "{said}");
                    let right = match line_type {
                        "mobile" => Some(true),
                        "fixed line" => Some(false),
                        _ => None,
                    };
                    ensure!(mobile == right, "{said}");
                }
                Line::Invalid => ensure!(!valid && status == "INVALID" && operator.is_none(), "{said}"),
                Line::Refused => ensure!(operator.is_none() && mobile.is_none(), "{said}"),
            }
        }
        let findings = self.scene.platform.doctor().await?;
        ensure!(findings.is_empty(), "{findings:#?}");
        Ok(())
    }
}

fn refused(phones: &[String]) -> usize {
    phones.iter().filter(|phone| line(phone) == Line::Refused).count()
}

fn everybody(budget: i64) -> Value {
    json!({ "filter": { "states": ["BCS"], "status": ["ACTIVE", "INVALID"] }, "budget": budget })
}

#[tokio::test]
async fn contacts_become_what_the_provider_says_of_their_numbers() -> Result<()> {
    let world = World::new("lookups", |options| options).await?;
    let phones = world.contacts(180).await?;
    let id = world.start(&everybody(1_000)).await?;
    let done = world.ended(&id).await?;
    let refused = refused(&phones);
    ensure!(refused > 0, "some numbers are refused");
    ensure!(done["status"] == "completed" && done["total"] == 180 && done["spent"] == 180, "{done}");
    ensure!(
        done["answered"] == 180 - refused && done["refused"] == refused && done["percent"] == 100.0,
        "{done}"
    );
    world.follow(&phones).await?;
    let billed = world.telnyx.billed();
    ensure!(billed.len() == 180 - refused && billed.values().all(|times| *times == 1), "{billed:?}");
    let service = world.scene.platform.service(&SMS_DISPATCH);
    // They are counted when they have committed: a moment after the end may be seen.
    let series = [
        r#"sms_lookups_total{outcome="answered",provider="telnyx"}"#,
        r#"sms_lookups_total{outcome="refused",provider="telnyx"}"#,
        r#"sms_lookups_spent_total{provider="telnyx"}"#,
    ];
    let lookups = [180 - refused, refused, 180].map(|lookups| lookups as f64);
    figures::until_sums(service, series, |counted| counted == lookups).await?;

    // One contact tells where it is from; a viewer is not shown it.
    let known =
        phones.iter().find(|phone| matches!(line(phone), Line::Known { .. })).context("a known one")?;
    let contact: i64 = sqlx::query_scalar("select id from contacts where phone_e164 = $1")
        .bind(known)
        .fetch_one(&world.pool)
        .await?;
    let contact = format!("/api/v1/contacts/{contact}");
    let view = world.admin.get(&contact).await?;
    ensure!(view.body["lookup"]["provider"] == "telnyx" && view.body["lookup"]["is_valid"] == true, "{view}");
    let viewer = world.scene.platform.user("viewer", None).await?.get(&contact).await?;
    ensure!(viewer.status == 200 && viewer.body.get("lookup").is_none(), "{viewer}");

    // Nobody is asked about twice in the time for which an answer stands; and again, where it is over.
    let again = world.ended(&world.start(&everybody(1_000)).await?).await?;
    ensure!(again["status"] == "completed" && again["total"] == 0 && again["spent"] == 0, "{again}");
    let mut again = everybody(7);
    again["again_after_days"] = json!(0);
    let again = world.ended(&world.start(&again).await?).await?;
    ensure!(again["spent"] == 7 && again["processed"] == 7 && again["total"] == 7, "{again}");

    let list = world.admin.get(&format!("{VALIDATIONS}?limit=2")).await?;
    ensure!(list.body["items"].as_array().is_some_and(|items| items.len() == 2), "{list}");
    let cursor = list.body["next_cursor"].as_str().context("a second page")?;
    let rest = world.admin.get(&format!("{VALIDATIONS}?limit=2&cursor={cursor}")).await?;
    ensure!(rest.body["items"][0]["id"] == id && rest.body["next_cursor"].is_null(), "{rest}");
    Ok(())
}

#[tokio::test]
async fn a_look_up_outlives_the_next_import_and_the_numbering_plan() -> Result<()> {
    let world = World::new("lookupstands", |options| options).await?;
    let service = world.scene.platform.service(&SMS_DISPATCH).api.service();
    let run = async |args: &[&str]| {
        let (status, said) = service.with_args(args).run().await?;
        ensure!(status.success(), "{args:?}: {status}\n{said}");
        Ok(said)
    };
    std::fs::create_dir_all(&world.scene.dir)?;
    let path = |name: &str| world.scene.dir.join(name).display().to_string();
    // One of each kind, and one that nobody asks about.
    let plan = "ZONA,NUMERACION_INICIAL,NUMERACION_FINAL,OCUPACION,MODALIDAD,RAZON_SOCIAL,FECHA_ASIGNACION\n\
                1,6121000000,6121999999,10000,CPP,OPERADOR DEL PLAN,2019-01-01\n";
    std::fs::write(path("plan.csv"), plan)?;
    run(&["numbering-plan", "import", &path("plan.csv")]).await?;
    let numbers: Vec<String> = (1_000_000..1_000_040).map(|number| format!("612{number}")).collect();
    std::fs::write(path("contactos.csv"), format!("numero\n{}\n", numbers.join("\n")))?;
    run(&["import", &path("contactos.csv")]).await?;
    let of_plan = "select count(*) from contacts where operator = 'OPERADOR DEL PLAN' and is_mobile";
    ensure!(
        sqlx::query_scalar::<_, i64>(of_plan).fetch_one(&world.pool).await? == 40,
        "the plan says whose they are"
    );

    let done = world.ended(&world.start(&json!({ "budget": 39 })).await?).await?;
    ensure!(done["spent"] == 39 && done["status"] == "completed", "{done}");
    let picture = "select string_agg(concat_ws('|', phone_e164, operator, is_mobile, is_valid, status), ' ' order by phone_e164)
                   from contacts";
    let picture = async || sqlx::query_scalar::<_, String>(picture).fetch_one(&world.pool).await;
    let before = picture().await?;
    ensure!(before.contains("TELEFONOS DE MEXICO|f") && before.contains("OPERADOR DEL PLAN|t"), "{before}");

    // The same file again changes nothing; nor does the plan.
    let report = run(&["import", &path("contactos.csv")]).await?;
    let report: Value = serde_json::from_str(&report)?;
    ensure!(report["unchanged"] == 40 && report["updated"] == 0, "{report}");
    ensure!(picture().await? == before, "the second import");
    run(&["numbering-plan", "import", &path("plan.csv")]).await?;
    ensure!(picture().await? == before, "the plan, again");

    // Contacts that go and come back are what was paid for.
    sqlx::raw_sql("truncate contacts; update imports set rolled_back_at = now()")
        .execute(&world.pool)
        .await?;
    run(&["import", &path("contactos.csv")]).await?;
    ensure!(picture().await? == before, "{}\n{before}", picture().await?);
    let findings = world.scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "{findings:#?}");
    Ok(())
}

#[tokio::test]
async fn a_provider_that_throttles_and_fails_is_asked_again() -> Result<()> {
    let world = World::new("lookuppace", |options| options).await?;
    let phones = world.contacts(90).await?;
    world.telnyx.limit(40);
    // Of another 5xx nobody knows whether it was billed.
    world.telnyx.fail_next(&[503; 4]);
    let done = world.ended(&world.start(&everybody(90)).await?).await?;
    ensure!(done["status"] == "completed" && done["processed"] == 90, "{done}");
    world.follow(&phones).await?;
    ensure!(world.telnyx.requests() > 94, "some requests were turned away: {}", world.telnyx.requests());
    ensure!(world.telnyx.billed().values().all(|times| *times == 1));
    Ok(())
}

#[tokio::test]
async fn answers_that_are_lost_count_against_the_budget() -> Result<()> {
    let world = World::new("lookuplost", |options| options).await?;
    world.contacts(60).await?;
    world.telnyx.fail_next(&[200, 200, 200]);
    let done = world.ended(&world.start(&everybody(40)).await?).await?;
    ensure!(done["status"] == "completed" && done["spent"] == 40, "{done}");
    let billed: u32 = world.telnyx.billed().values().sum();
    ensure!(billed <= 40, "{billed} were billed of 40");
    ensure!(done["processed"] == 37, "three were paid for in vain: {done}");
    Ok(())
}

#[tokio::test]
async fn a_provider_that_never_answers_ends_the_validation() -> Result<()> {
    let world = World::new("lookupdown", |options| options.env("LOOKUP_MAX_ATTEMPTS", 2)).await?;
    world.contacts(3).await?;
    world.telnyx.fail_next(&[503; 1_000]);
    let done = world.ended(&world.start(&everybody(40)).await?).await?;
    ensure!(done["status"] == "failed" && done["spent"] == 0, "{done}");
    ensure!(done["error"].as_str().is_some_and(|error| error.contains("503")), "{done}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_goes_on_within_the_budget() -> Result<()> {
    let mut world = World::new("lookupkill", |options| options).await?;
    let phones = world.contacts(400).await?;
    world.telnyx.delay(Duration::from_millis(20));
    let budget = 1_000;
    let id = world.start(&everybody(budget)).await?;
    for round in 1..=3 {
        world.when(&id, |view| view["processed"].as_i64() >= Some(round * 80)).await?;
        let worker = &mut world.scene.platform.service_mut(&SMS_DISPATCH).workers[0];
        worker.kill().await?;
        worker.restart().await?;
    }
    let done = world.ended(&id).await?;
    ensure!(done["status"] == "completed" && done["processed"] == 400, "{done}");
    world.follow(&phones).await?;
    let billed: u32 = world.telnyx.billed().values().sum();
    let spent = done["spent"].as_i64().context("what was spent")?;
    ensure!(i64::from(billed) <= spent && spent <= budget, "{billed} billed, {spent} of {budget} counted");
    ensure!(i64::from(billed) <= 400 + 3 * 50, "a batch at most is paid for twice a death: {billed}");

    // A budget that deaths use up is not overdrawn.
    let poor = world
        .start(&json!({ "filter": everybody(1)["filter"], "budget": 120, "again_after_days": 0 }))
        .await?;
    world.when(&poor, |view| view["processed"].as_i64() >= Some(50)).await?;
    let before = world.telnyx.requests();
    let worker = &mut world.scene.platform.service_mut(&SMS_DISPATCH).workers[0];
    worker.kill().await?;
    worker.restart().await?;
    let done = world.ended(&poor).await?;
    ensure!(done["status"] == "completed" && done["spent"] == 120, "{done}");
    let after: u32 = world.telnyx.billed().values().sum();
    ensure!(after - billed <= 120, "{} were billed of 120; {before} requests before", after - billed);
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_fails_with_its_reason_and_a_retry_goes_on() -> Result<()> {
    let mut world = World::new("lookupkey", |options| options.env("TELNYX_API_KEY", "another")).await?;
    let phones = world.contacts(20).await?;
    let id = world.start(&everybody(100)).await?;
    let failed = world.ended(&id).await?;
    ensure!(failed["status"] == "failed" && failed["spent"] == 0, "{failed}");
    let error = failed["error"].as_str().context("an error")?;
    ensure!(error.contains("10009") && !error.contains("another"), "{error}");
    ensure!(world.telnyx.billed().is_empty());

    let worker = &mut world.scene.platform.service_mut(&SMS_DISPATCH).workers[0];
    worker.restart_with(|service| service.env("TELNYX_API_KEY", KEY)).await?;
    let retried = world.admin.post(&format!("{VALIDATIONS}/{id}/retry"), &Value::Null).await?;
    ensure!(retried.status == 202, "{retried}");
    let done = world.ended(&id).await?;
    ensure!(done["status"] == "completed" && done["processed"] == 20, "{done}");
    world.follow(&phones).await?;
    let finished = world.admin.post(&format!("{VALIDATIONS}/{id}/retry"), &Value::Null).await?;
    ensure!(finished.status == 409, "{finished}");
    Ok(())
}

#[tokio::test]
async fn a_validation_is_cancelled_and_nonsense_is_refused() -> Result<()> {
    let world = World::new("lookupcancel", |options| options.env("LOOKUPS_PER_SECOND", 20)).await?;
    world.contacts(300).await?;
    let id = world.start(&everybody(300)).await?;
    world.when(&id, |view| view["spent"].as_i64() > Some(0)).await?;
    let cancel = format!("{VALIDATIONS}/{id}/cancel");
    let asked = world.admin.post(&cancel, &Value::Null).await?;
    ensure!(asked.status == 202, "{asked}");
    let done = world.ended(&id).await?;
    ensure!(done["status"] == "cancelled" && done["processed"].as_i64() < Some(300), "{done}");
    ensure!(world.admin.post(&cancel, &Value::Null).await?.status == 409);

    for (request, code) in [
        (json!({ "budget": 0 }), "invalid_budget"),
        (json!({ "budget": 10, "again_after_days": 5_000 }), "invalid_days"),
        (json!({ "budget": 10, "filter": { "states": ["Texas"] } }), "invalid_segment"),
        (json!({ "budget": 10, "filter": { "sample": { "size": 5 } } }), "invalid_segment"),
    ] {
        let refused = world.admin.post(VALIDATIONS, &request).await?;
        ensure!(refused.status == 422 && refused.body["code"] == code, "{refused}");
    }
    let operator = world.scene.platform.user("operator", None).await?;
    ensure!(operator.post(VALIDATIONS, &everybody(1)).await?.status == 403);
    ensure!(operator.get(&format!("{VALIDATIONS}/{id}")).await?.status == 200);
    Ok(())
}
