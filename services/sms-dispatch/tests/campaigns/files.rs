//! Campaigns to the people of a file.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::Client;
use chassis::{
    config::{Env, S3Settings, Secret},
    s3,
};
use chrono::{NaiveDate, TimeDelta, Utc};
use jobs::{NewJob, Runner};
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{
    campaign_preview::{preview, worst_costs},
    campaigns::{self as acts, Refused},
    config::{ImportSettings, Keep},
    domain::{
        audience_file::Consent,
        campaign::{Kind, Plan, State},
        source::Mapping,
    },
    import::files::Spool,
    jobs::load_audience::{self, LoadAudiences},
    retention,
    start_campaign::start_campaign,
    storage::{
        audience_files::{self, AudienceFile, NewFile},
        campaigns::Campaign,
    },
    texts::Texts,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::World;

const KEEP: Keep =
    Keep { ledger_days: 730, inbound_days: 730, reports_days: 90, jobs_days: 30, audiences_days: 30 };

/// A world with a bucket, and a place for copies.
struct Lists {
    world: World,
    client: Client,
    folder: TempDir,
}

impl Lists {
    async fn new(label: &str) -> Result<Self> {
        let world = World::new(label).await?;
        let settings = S3Settings {
            endpoint: Some(world.namespace.servers().aws_endpoint.clone()),
            region: "us-east-1".into(),
            credentials: Some(("test".into(), Secret::new("test".into()))),
            bucket: world.namespace.bucket.clone(),
        };
        let client = s3::client(&settings).await;
        Ok(Self { world, client, folder: TempDir::new()? })
    }

    /// Uploads a file, and loads it. `most` rows may be in it.
    async fn loaded(&self, text: &str, consent: Option<Consent>, most: i64) -> Result<AudienceFile> {
        let (id, bucket) = (Uuid::now_v7(), self.world.namespace.bucket.clone());
        let object_key = format!("audiences/{id}");
        let object = self.client.put_object().bucket(&bucket).key(&object_key);
        object.body(text.as_bytes().to_vec().into()).send().await?;
        let kind =
            load_audience::kind(&ImportSettings::read(&mut Env::from_map([("CONTACTS_LEASE_SECONDS", "5")])));
        let mut transaction = self.world.pool.begin().await?;
        let job = NewJob { id, ..kind.job("ana") };
        kind.create(&mut transaction, job, None).await?;
        let new = NewFile {
            id,
            filename: "clientes.csv",
            object_key: &object_key,
            mapping: &Mapping::default(),
            consent: consent.as_ref(),
            created_by: "ana",
        };
        audience_files::insert(&mut transaction, &new).await?;
        transaction.commit().await?;
        let spool = Spool { client: self.client.clone(), bucket, dir: self.folder.path().to_owned() };
        let work = LoadAudiences { pool: self.world.pool.clone(), spool, most_rows: most };
        let ran = Runner::new(self.world.pool.clone()).run(id, &CancellationToken::new(), &work).await;
        ran.map_err(|error| anyhow::anyhow!("{error}"))?;
        audience_files::get(&self.world.pool, id).await?.context("the file")
    }

    async fn objects(&self) -> Result<usize> {
        let page = self.client.list_objects_v2().bucket(&self.world.namespace.bucket).send().await?;
        Ok(page.contents().len())
    }
}

fn consent() -> Option<Consent> {
    let at = NaiveDate::from_ymd_opt(2026, 1, 31)?;
    Some(Consent { basis: "contrato".to_owned(), at, source: "CRM".to_owned() })
}

/// As the phones of [`World::contacts`].
fn phone(number: u32) -> String {
    format!("612{:07}", 1_000_000 + number * 7)
}

fn plan(file: &AudienceFile, text: &str) -> Plan {
    World::plan(|plan| {
        plan["texts"] = json!([{ "text": text }]);
        plan["audience"] = json!({ "file_id": file.id });
    })
}

/// Why people of a campaign fell out.
async fn exclusions(world: &World, campaign: &Campaign) -> Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select reason, contacts from campaign_exclusions where campaign = $1")
            .bind(campaign.number)
            .fetch_all(&world.pool)
            .await?;
    Ok(rows.into_iter().collect())
}

/// A file of a hundred people and ten rows of some of them again. The rules of phones are those of imports: five rows are nobody.
fn people() -> String {
    let mut text = String::from("\u{feff}Celular;NOMBRE;Estado;es_valido;Saldo Total\n");
    for number in 1..=100 {
        let valid = if (31..=40).contains(&number) { "no" } else { "1" };
        let saldo = if (71..=80).contains(&number) { " " } else { "1,250" };
        text.push_str(&format!("044 {};ANA PÉREZ;Sonora;{valid};{saldo}\n", phone(number)));
    }
    // Phones that stand twice: the first row counts, whatever the second says.
    for number in 36..=45 {
        text.push_str(&format!("{};OTRA;;1;9\n", phone(number)));
    }
    text.push_str("123;X;;;\nabc;X;;;\n;X;;;\n+1 212 555 0100;X;;;\n6121000007;X;;;;sobra\n");
    text
}

/// What is known against writing to some of [`people`], several things at once.
async fn speak_against_some(world: &World) -> Result<()> {
    let of = |numbers: std::ops::RangeInclusive<u32>| -> String {
        let phones: Vec<String> = numbers.map(|number| format!("('+52{}')", phone(number))).collect();
        phones.join(", ")
    };
    let suppress = |cause: &str, numbers| {
        format!(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select p, '{cause}', now(), 'test' from (values {}) v (p);",
            of(numbers)
        )
    };
    world.execute(&suppress("opt_out", 1..=10)).await?;
    world.execute(&suppress("reus", 6..=30)).await?;
    world.execute(&suppress("repep", 6..=20)).await?;
    world
        .execute(&format!(
            "insert into phone_lookups (phone_e164, provider, is_mobile, is_valid, validation)
                 select p, 'telnyx', false, true, gen_random_uuid() from (values {}) v (p);
             insert into consent_withdrawals (phone_e164, withdrawn_by) select p, 'ana' from (values {}) v (p);
             insert into phone_sends (phone_e164, marketing_campaign, marketing_at)
                 select p, 0, now() from (values {}) v (p)",
            of(46..=50),
            of(51..=60),
            of(61..=75)
        ))
        .await
}

#[tokio::test]
async fn who_of_a_file_falls_out_counts_once_in_the_same_order_as_contacts() -> Result<()> {
    let lists = Lists::new("files").await?;
    let world = &lists.world;
    let file = lists.loaded(&people(), consent(), 1_000).await?;
    ensure!((file.rows, file.accepted, file.rejected) == (Some(115), Some(110), Some(5)), "{file:?}");
    let rejects = audience_files::rejects(&world.pool, file.number, 0, 10).await?;
    ensure!(rejects.len() == 5 && rejects[0].source_id == 111, "{rejects:?}");
    ensure!(lists.objects().await? == 0, "the file has left the bucket");

    speak_against_some(world).await?;
    let expected = [
        ("opt_out", 10),
        ("repep", 10),
        ("reus", 10),
        // Ten rows say so; what is twice is judged by both rows, the second of which is good.
        ("invalid", 10),
        ("repeated", 10),
        ("landline", 5),
        ("no_consent", 10),
        ("cap", 15),
        ("no_value", 5),
    ];
    let expected: BTreeMap<String, i64> = expected.map(|(reason, many)| (reason.to_owned(), many)).into();
    let plan = plan(&file, "Hola {primer_nombre}, debe {saldo total} en {ciudad|su ciudad}");
    let draft = world.draft(Kind::Marketing, plan.clone()).await?;
    let told = preview(&world.pool, &world.settings, &draft).await?;
    let excluded: BTreeMap<String, i64> = told.audience.excluded.iter().cloned().collect();
    ensure!(excluded == expected, "{excluded:?}");
    ensure!(told.audience.exact && told.audience.matched == 110, "{told:?}");

    let campaign = world.started(Kind::Marketing, plan).await?;
    ensure!(campaign.state == State::Running, "{campaign:?}");
    ensure!(exclusions(world, &campaign).await? == expected, "{campaign:?}");
    ensure!((campaign.matched, campaign.recipients, campaign.excluded) == (110, 25, 85), "{campaign:?}");
    ensure!(told.audience.recipients() == 25);
    let sonora =
        "select count(*) from messages where state_code = 'SON' and lada = '612' and contact_id is null";
    ensure!(world.count(sonora).await? == 25, "what the file says of the state comes before the LADA");
    world.finish(campaign.id).await?;
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 25, "{}", accepted.len());
    let texts: Vec<&str> = accepted.values().flatten().map(|message| message.text.as_str()).collect();
    ensure!(texts.iter().all(|text| text.starts_with("Hola Ana, debe 1,250 en ")), "{texts:?}");
    world.is_sound().await?;

    // Collections: no register, no consent, no cap.
    let plan = World::plan(|plan| {
        plan["texts"] = json!([{ "text": "Debe {saldo_total|su saldo}" }]);
        plan["audience"] = json!({ "file_id": file.id });
    });
    let campaign = world.started(Kind::Cobranza, plan).await?;
    let excluded = exclusions(world, &campaign).await?;
    let expected = [("invalid", 10), ("landline", 5), ("opt_out", 10), ("repeated", 10)];
    ensure!(
        excluded == BTreeMap::from(expected.map(|(reason, many)| (reason.to_owned(), many))),
        "{excluded:?}"
    );
    world.is_sound().await
}

#[tokio::test]
async fn a_phone_of_an_earlier_window_is_repeated_in_a_later_one() -> Result<()> {
    let lists = Lists::new("filewindows").await?;
    let mut text = String::from("telefono,folio\n");
    // 15,873 makes a phone of ones, which is none.
    for number in (1..=20_051).filter(|number| *number != 15_873) {
        text.push_str(&format!("{},F{number}\n", phone(number)));
    }
    for number in [1, 20_000, 20_051] {
        text.push_str(&format!("{},otro\n", phone(number)));
    }
    let file = lists.loaded(&text, None, 100_000).await?;
    let world = &lists.world;
    let campaign = world.started(Kind::Cobranza, plan(&file, "{folio}")).await?;
    ensure!(
        (campaign.matched, campaign.recipients, campaign.excluded) == (20_053, 20_050, 3),
        "{campaign:?}"
    );
    ensure!(world.count("select count(*) from messages where vars[1] = 'otro'").await? == 0);
    let mixed = "select count(*) from slices where last_position - first_position >= 500";
    ensure!(world.count(mixed).await? == 0);
    world.is_sound().await
}

#[tokio::test]
async fn a_file_without_a_consent_is_not_for_advertising_and_one_that_is_not_there_for_nobody() -> Result<()>
{
    let lists = Lists::new("fileconsent").await?;
    let world = &lists.world;
    let text = format!("celular\n{}\n", phone(1));
    let file = lists.loaded(&text, None, 10).await?;
    let start = async |kind: Kind, plan: Plan| {
        let draft = world.draft(kind, plan).await?;
        let mut transaction = world.pool.begin().await?;
        let started = start_campaign(&mut transaction, &draft, "ana", None, "https://lote.mx").await;
        transaction.rollback().await?;
        anyhow::Ok(
            started.map(|campaign| campaign.frozen.and_then(|frozen| frozen.file).map(|file| file.number)),
        )
    };
    ensure!(matches!(start(Kind::Marketing, plan(&file, "Hola")).await?, Err(Refused::NoConsent(_))));
    // The start freezes which file it is, and how it looks.
    ensure!(start(Kind::Cobranza, plan(&file, "Hola")).await?.ok() == Some(Some(file.number)));
    let nothing = AudienceFile { id: Uuid::now_v7(), ..file.clone() };
    ensure!(matches!(start(Kind::Cobranza, plan(&nothing, "Hola")).await?, Err(Refused::NoFile(_))));

    // Of one that has too many rows, which the second batch shows, nothing is used.
    let many: String = (1..=5_002).map(|number| format!("{}\n", phone(number))).collect();
    let long = lists.loaded(&format!("celular\n{many}"), None, 5_001).await?;
    ensure!(long.loaded_at.is_none() && long.purged_at.is_some(), "{long:?}");
    ensure!(matches!(start(Kind::Cobranza, plan(&long, "Hola")).await?, Err(Refused::NoFile(_))));
    let rows = format!("select count(*) from audience_rows where file = {}", long.number);
    ensure!(world.count(&rows).await? == 5_000);
    retention::audiences(&world.pool, &KEEP, Utc::now()).await?;
    ensure!(world.count(&rows).await? == 0, "nothing of it stays");
    Ok(())
}

#[tokio::test]
async fn texts_name_a_files_columns_and_nothing_else() -> Result<()> {
    let lists = Lists::new("filecolumns").await?;
    let file = lists.loaded(&format!("celular,Fecha Límite,baja\n{},mayo,x\n", phone(1)), None, 10).await?;
    let audience = file.audience().context("a file that is loaded")?;
    let read = |text: &str| Texts::of(&plan(&file, text), Some(&audience)).map_err(|error| error.to_string());
    ensure!(read("{Fecha límite} {celular} {baja} {ciudad}").is_ok());
    let refused = read("{fecha_limte}").err().context("no such column")?;
    ensure!(refused.contains("¿quiso decir {fecha_limite}?"), "{refused}");
    // There is no column of names: everybody would fall out.
    let refused = read("Hola {nombre}").err().context("no names")?;
    ensure!(refused.contains("no existe el campo {nombre}"), "{refused}");
    ensure!(Texts::of(&World::plan(|p| p["texts"] = json!([{ "text": "{celular}" }])), None).is_err());
    // What a message can cost at the worst: the longest value of each column.
    let long = "n".repeat(400);
    let file = lists.loaded(&format!("celular,nota\n{},{long}\n", phone(1)), None, 10).await?;
    let draft = lists.world.draft(Kind::Cobranza, plan(&file, "{nota}")).await?;
    let mut conn = lists.world.pool.acquire().await?;
    let frozen = acts::freeze(&mut conn, &draft, Utc::now(), "https://lote.mx").await?;
    let worst = worst_costs(&draft, &frozen)?;
    ensure!(worst.get("USD").is_some_and(|micros| *micros >= 3 * 5_100), "{worst:?}");
    Ok(())
}

#[tokio::test]
async fn a_file_is_less_segments_and_campaigns() -> Result<()> {
    let lists = Lists::new("fileless").await?;
    let world = &lists.world;
    world.contacts(9).await?;
    let mut text = String::from("celular\n");
    for number in 1..=20 {
        text.push_str(&format!("{}\n", phone(number)));
    }
    let file = lists.loaded(&text, None, 100).await?;
    let sonora = World::plan(|plan| {
        plan["texts"] = json!([{ "text": "Hola" }]);
        plan["audience"]["filter"] = json!({ "states": ["SON"] });
    });
    let first = world.started(Kind::Cobranza, sonora).await?;
    ensure!(first.recipients == 3, "{first:?}");
    let segment: Uuid = sqlx::query_scalar(
        "insert into segments (id, name, filter, created_by) values (gen_random_uuid(), 'BCS', $1, 'ana') returning id",
    )
    .bind(json!({ "states": ["BCS"] }))
    .fetch_one(&world.pool)
    .await?;
    let rest = World::plan(|plan| {
        plan["texts"] = json!([{ "text": "Hola" }]);
        plan["audience"] =
            json!({ "file_id": file.id, "less_campaigns": [first.id], "less_segments": [segment] });
    });
    let rest = world.started(Kind::Cobranza, rest).await?;
    ensure!((rest.matched, rest.recipients) == (14, 14), "{rest:?}");
    world.is_sound().await
}

#[tokio::test]
async fn people_of_files_go_when_their_time_is_over_unless_a_campaign_is_about_to_read_them() -> Result<()> {
    let lists = Lists::new("filekeep").await?;
    let world = &lists.world;
    let text = format!("celular\n{}\n123\n", phone(1));
    let (used, kept, fresh) = (
        lists.loaded(&text, None, 10).await?,
        lists.loaded(&text, None, 10).await?,
        lists.loaded(&text, None, 10).await?,
    );
    let campaign = world.started(Kind::Cobranza, plan(&used, "Hola")).await?;
    let scheduled = world.draft(Kind::Cobranza, plan(&kept, "Hola")).await?;
    world
        .execute(&format!(
            "update campaigns set state = 'scheduled', start_at = now() + interval '1 day' where id = '{}';
             update audience_files set created_at = now() - interval '31 days' where id in ('{}', '{}')",
            scheduled.id, used.id, kept.id
        ))
        .await?;
    ensure!(retention::audiences(&world.pool, &KEEP, Utc::now()).await? == 2, "a row, and a reject");
    let left: Vec<i32> = sqlx::query_scalar(
        "select file from audience_rows union all select file from audience_rejects order by 1",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(left == [kept.number, kept.number, fresh.number, fresh.number], "{left:?}");
    // Who was written to by it is known to its ledger.
    ensure!(world.finish(campaign.id).await?.recipients == 1);
    ensure!(
        retention::audiences(&world.pool, &KEEP, Utc::now() + TimeDelta::days(31)).await? == 2,
        "the fresh one's"
    );
    world.is_sound().await
}
