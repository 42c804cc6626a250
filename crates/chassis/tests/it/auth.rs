use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::{
    auth::{
        Claims, Rejected, Role, Verifier,
        testing::{AUDIENCE, ISSUER, Keys, claims},
    },
    config::{AuthSettings, DatabaseSettings},
    db::{self, Database},
    http::Health,
    http_client,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::JwkSet};
use serde_json::{Value, json};
use stack::Namespace;
use tokio_util::sync::CancellationToken;

use crate::{
    database::Migrator,
    support::{Running, start},
};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims of an administrator with one of them changed; `null` removes it.
fn changed(name: &str, value: Value) -> anyhow::Result<Value> {
    let mut all = serde_json::to_value(claims(Role::Admin))?;
    if value.is_null() {
        all.as_object_mut().expect("claims are an object").remove(name);
    } else {
        all[name] = value;
    }
    Ok(all)
}

#[tokio::test]
async fn only_a_token_of_ours_for_us_in_time_is_believed() -> anyhow::Result<()> {
    let keys = Keys::generate();
    let verifier = keys.verifier();
    let good = claims(Role::Supplier);
    assert_eq!(verifier.verify(&keys.token(&good)).await, Ok(good.clone()));

    let now = good.iat;
    let body = b64(serde_json::to_vec(&claims(Role::Admin))?);
    let header = |alg: &str| b64(json!({ "alg": alg, "typ": "JWT", "kid": keys.id() }).to_string());
    let (head, _, signature) = split(&keys.token_for(Role::Viewer));
    // The classic: the public key as the secret of a symmetric signature.
    let hmac = Header { kid: Some(keys.id().into()), ..Header::new(Algorithm::HS256) };
    let confused = encode(&hmac, &claims(Role::Admin), &EncodingKey::from_secret(&keys.public()))?;
    let sign = |claims: &Value| keys.sign(Some(keys.id()), claims);

    let cases: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("no JWT", "abc".into()),
        ("alg none without a signature", format!("{}.{body}.", header("none"))),
        ("alg none with a signature", format!("{}.{body}.{signature}", header("none"))),
        ("HS256 with the public key", confused),
        ("RS256 in the header", format!("{}.{body}.{signature}", header("RS256"))),
        ("another body under a good signature", format!("{head}.{body}.{signature}")),
        ("no signature", format!("{head}.{body}.")),
        ("another key under our id", Keys::generate().sign(Some(keys.id()), &claims(Role::Admin))),
        ("an unknown key", Keys::generate().token_for(Role::Admin)),
        ("no key id", keys.sign(None, &claims(Role::Admin))),
        ("another issuer", sign(&changed("iss", json!("lote-gateway-2"))?)),
        ("no issuer", sign(&changed("iss", Value::Null)?)),
        ("another audience", sign(&changed("aud", json!("lote-staging"))?)),
        ("no audience", sign(&changed("aud", Value::Null)?)),
        ("no end", sign(&changed("exp", Value::Null)?)),
        ("an end that is no number", sign(&changed("exp", json!("never"))?)),
        ("not valid yet", sign(&changed("nbf", json!(now + 120))?)),
        ("no subject", sign(&changed("sub", Value::Null)?)),
        ("an unknown role", sign(&changed("role", json!("root"))?)),
        ("no role", sign(&changed("role", Value::Null)?)),
        ("too long", sign(&changed("name", json!("x".repeat(9000)))?)),
    ];
    for (name, token) in cases {
        let verdict = verifier.verify(&token).await;
        assert!(matches!(verdict, Err(Rejected::Invalid(_))), "{name}: {verdict:?}");
    }
    let expired = sign(&changed("exp", json!(now - 60))?);
    assert_eq!(verifier.verify(&expired).await, Err(Rejected::Expired));
    // Clocks differ a little.
    assert!(verifier.verify(&sign(&changed("exp", json!(now - 5))?)).await.is_ok());
    Ok(())
}

fn split(token: &str) -> (String, String, String) {
    let mut parts = token.split('.').map(str::to_owned);
    let mut next = || parts.next().expect("three parts");
    (next(), next(), next())
}

/// What stands in for the gateway: serves whatever key set it is given, or fails.
struct Gateway {
    running: Running,
    set: Arc<Mutex<Option<JwkSet>>>,
    asked: Arc<AtomicUsize>,
}

impl Gateway {
    fn start(keys: &Keys) -> anyhow::Result<Self> {
        let set = Arc::new(Mutex::new(Some(keys.jwks())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (served, count) = (set.clone(), asked.clone());
        let running = start(Health::new("gateway"), move |config| {
            let (served, count) = (served.clone(), count.clone());
            config.route(
                "/jwks",
                web::get().to(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    let set = served.lock().expect("no panic under this lock").clone();
                    async move {
                        match set {
                            Some(set) => HttpResponse::Ok().json(set),
                            None => HttpResponse::InternalServerError().finish(),
                        }
                    }
                }),
            );
        })?;
        Ok(Self { running, set, asked })
    }

    fn publish(&self, keys: Option<&Keys>) {
        *self.set.lock().expect("no panic under this lock") = keys.map(Keys::jwks);
    }

    fn settings(&self) -> AuthSettings {
        AuthSettings { jwks_url: self.running.at("/jwks"), issuer: ISSUER.into(), audience: AUDIENCE.into() }
    }

    async fn verifier(&self, database: Option<&Database>) -> (Verifier, tokio_util::sync::DropGuard) {
        let shutdown = CancellationToken::new();
        let verifier = Verifier::start(&self.settings(), http_client(), database, shutdown.clone()).await;
        (verifier, shutdown.drop_guard())
    }
}

async fn believes(verifier: &Verifier, keys: &Keys) -> Result<Claims, Rejected> {
    verifier.verify(&keys.token_for(Role::Operator)).await
}

#[tokio::test]
async fn a_restarted_service_believes_its_callers_while_the_gateway_is_down() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_jwks").await?;
    let settings = DatabaseSettings::at(&namespace.database_url);
    let shutdown = CancellationToken::new();
    db::migrate::<Migrator>(&settings, "chassis-test", &shutdown).await?;
    let database = db::connect(&settings, "chassis-test", &shutdown).await?;

    let keys = Keys::generate();
    let gateway = Gateway::start(&keys)?;
    let (first, guard) = gateway.verifier(Some(&database)).await;
    assert!(believes(&first, &keys).await.is_ok());
    stack::wait::until("the keys are kept", Duration::from_secs(10), async || {
        sea_orm::sqlx::query_scalar::<_, i64>("SELECT count(*) FROM jwks_cache")
            .fetch_one(&database.pool)
            .await
            .is_ok_and(|rows| rows == 1)
    })
    .await?;
    drop((first, guard));

    gateway.publish(None);
    let (restarted, _guard) = gateway.verifier(Some(&database)).await;
    assert!(believes(&restarted, &keys).await.is_ok(), "from the database");
    assert!(matches!(believes(&restarted, &Keys::generate()).await, Err(Rejected::Invalid(_))));
    // One without the table knows nobody, and says that this is not the caller's fault.
    let (ignorant, _guard) = gateway.verifier(None).await;
    assert_eq!(believes(&ignorant, &keys).await, Err(Rejected::NoKeys));
    assert_eq!(chassis::Problem::from(Rejected::NoKeys).status().as_u16(), 503);
    Ok(())
}

#[tokio::test]
async fn a_service_without_keys_is_not_ready_until_the_gateway_gives_them() -> anyhow::Result<()> {
    let keys = Keys::generate();
    let gateway = Gateway::start(&keys)?;
    gateway.publish(None);
    let (verifier, _guard) = gateway.verifier(None).await;
    let service = start(Health::new("test").keys(&verifier), |_| {})?;
    let ready = async || -> anyhow::Result<(u16, Value)> {
        let answer = http_client().get(service.at("/health/ready")).send().await?;
        Ok((answer.status().as_u16(), answer.json::<Value>().await?["checks"].clone()))
    };
    assert_eq!(ready().await?, (503, json!({ "keys": "down" })));

    gateway.publish(Some(&keys));
    stack::wait::until("ready", Duration::from_secs(10), async || {
        ready().await.is_ok_and(|(status, _)| status == 200)
    })
    .await?;
    // Who is told that it is ready is served at once, and stays so without the gateway.
    gateway.publish(None);
    assert!(believes(&verifier, &keys).await.is_ok());
    assert_eq!(ready().await?, (200, json!({ "keys": "up" })));
    Ok(())
}

#[tokio::test]
async fn a_new_key_is_believed_at_once_and_invented_ones_do_not_bother_the_gateway() -> anyhow::Result<()> {
    let (old, new) = (Keys::generate(), Keys::generate());
    let gateway = Gateway::start(&old)?;
    let (verifier, _guard) = gateway.verifier(None).await;
    assert!(believes(&verifier, &old).await.is_ok());
    let before = gateway.asked.load(Ordering::SeqCst);
    let started = Instant::now();
    for _ in 0..200 {
        assert!(believes(&verifier, &Keys::generate()).await.is_err());
    }
    // One question at most each ten seconds.
    let most = 1 + usize::try_from(started.elapsed().as_secs() / 10)?;
    assert!(gateway.asked.load(Ordering::SeqCst) - before <= most);

    let gateway = Gateway::start(&old)?;
    let settings = gateway.settings();
    let verifier = Verifier::start(&settings, http_client(), None, CancellationToken::new()).await;
    stack::wait::until("the first keys are there", Duration::from_secs(5), async || {
        gateway.asked.load(Ordering::SeqCst) > 0 && believes(&verifier, &old).await.is_ok()
    })
    .await?;
    gateway.publish(Some(&new));
    stack::wait::until("the new key is believed", Duration::from_secs(30), async || {
        believes(&verifier, &new).await.is_ok()
    })
    .await?;
    assert!(believes(&verifier, &old).await.is_err(), "a withdrawn key is not");
    Ok(())
}

#[tokio::test]
async fn a_key_set_without_a_usable_key_locks_nobody_out() -> anyhow::Result<()> {
    let keys = Keys::generate();
    let verifier = keys.verifier();
    let useless: JwkSet = serde_json::from_value(json!({ "keys": [
        { "kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256" },
        { "kty": "OKP", "crv": "Ed25519", "x": b64(keys.public()) },
    ] }))?;
    assert!(verifier.set_keys(&useless).is_err());
    assert!(believes(&verifier, &keys).await.is_ok());
    Ok(())
}
