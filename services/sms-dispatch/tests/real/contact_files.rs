//! Files of contacts go once their import is done with them, and none goes before.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use aws_sdk_s3::Client;
use chassis::{config::Env, lock, s3};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sqlx::{self, PgConnection};
use sms_dispatch::{
    contact_files::{self, USES},
    domain::source::Kind,
    storage::imports::{self, NewImport, Options},
};
use uuid::Uuid;

use crate::world::World;

const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// A world, and its bucket with these objects.
struct Bucket {
    world: World,
    client: Client,
    name: String,
}

impl Bucket {
    async fn with(label: &str, keys: &[&str]) -> Result<Self> {
        let world = World::new(label).await?;
        let settings = world.bucket();
        let client = s3::client(&settings).await;
        for key in keys {
            let object = client.put_object().bucket(&settings.bucket).key(*key);
            object.body(b"telefono".to_vec().into()).send().await?;
        }
        Ok(Self { world, client, name: settings.bucket })
    }

    async fn sweep(&self, now: DateTime<Utc>) -> Result<u64> {
        contact_files::sweep(&self.world.pool, &self.client, &self.name, KEEP, now).await
    }

    async fn keys(&self) -> Result<BTreeSet<String>> {
        let page = self.client.list_objects_v2().bucket(&self.name).send().await?;
        Ok(page.contents().iter().filter_map(|object| Some(object.key()?.to_owned())).collect())
    }
}

/// An import of this object, as one that ended `age` ago without a job.
async fn import(conn: &mut PgConnection, object_key: &str, age: TimeDelta) -> Result<()> {
    let id = Uuid::now_v7();
    let import = NewImport {
        id,
        source: "numeros.csv",
        kind: Kind::detect(b"telefono"),
        object_key: Some(object_key),
        path: None,
        fingerprint: None,
        consent: "unknown",
        options: &Options::default(),
        imported_by: "test",
    };
    imports::insert(&mut *conn, &import).await?;
    let aged = sqlx::query("update imports set created_at = $2 where id = $1");
    aged.bind(id).bind(Utc::now() - age).execute(conn).await?;
    Ok(())
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[tokio::test]
async fn a_file_goes_once_it_is_old_and_no_import_needs_it() -> Result<()> {
    let all = ["contacts/nobodys", "contacts/used", "uploads/not-contacts"];
    let bucket = Bucket::with("contactfiles", &all).await?;
    let mut conn = bucket.world.pool.acquire().await?;
    // Fresh objects, one of them under a key that an older import used.
    import(&mut conn, "contacts/used", TimeDelta::hours(25)).await?;
    ensure!(bucket.sweep(Utc::now()).await? == 0 && bucket.keys().await? == set(&all), "nothing is old");

    let tomorrow = Utc::now() + TimeDelta::hours(25);
    import(&mut conn, "contacts/used", TimeDelta::hours(-2)).await?;
    ensure!(bucket.sweep(tomorrow).await? == 1, "{:?}", bucket.keys().await?);
    ensure!(bucket.keys().await? == set(&["contacts/used", "uploads/not-contacts"]), "one is needed");
    ensure!(bucket.sweep(tomorrow + TimeDelta::hours(3)).await? == 1, "{:?}", bucket.keys().await?);
    ensure!(bucket.keys().await? == set(&["uploads/not-contacts"]), "what is not of contacts stays");
    Ok(())
}

#[tokio::test]
async fn a_file_that_an_import_is_being_accepted_for_stays() -> Result<()> {
    let bucket = Bucket::with("contactaccept", &["contacts/nobodys", "contacts/wanted"]).await?;
    let mut accepting = bucket.world.pool.begin().await?;
    lock::hold_shared(&mut accepting, USES).await?;
    let accept = async {
        let key = lock::KEY.replace("$1", &format!("'{USES}'"));
        let waits = format!(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted
             and (classid::bigint << 32) | objid::bigint = {key}"
        );
        stack::wait::until("the sweep waits", Duration::from_secs(5), async || {
            bucket.world.count(&waits).await.is_ok_and(|waiting| waiting == 1)
        })
        .await?;
        import(&mut accepting, "contacts/wanted", TimeDelta::hours(-2)).await?;
        accepting.commit().await?;
        anyhow::Ok(())
    };
    let (deleted, accepted) = tokio::join!(bucket.sweep(Utc::now() + TimeDelta::hours(25)), accept);
    accepted?;
    ensure!(deleted? == 1 && bucket.keys().await? == set(&["contacts/wanted"]), "{:?}", bucket.keys().await?);
    Ok(())
}

#[tokio::test]
async fn a_bucket_that_cannot_be_asked_is_what_the_doctor_finds() -> Result<()> {
    let world = World::new("contactdoctor").await?;
    let endpoint = world.bucket().endpoint.unwrap_or_default();
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("S3_BUCKET_NAME", "lote-no-such-bucket"),
    ];
    let settings = sms_dispatch::doctor::Settings::read(&mut Env::from_map(variables));
    let found = sms_dispatch::doctor::doctor(&world.pool, &settings).await?;
    ensure!(found.iter().any(|one| one.starts_with("the bucket can't be asked: ")), "{found:?}");
    Ok(())
}
