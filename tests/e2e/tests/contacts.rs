//! Contacts as their users see them: searched, changed, opted out, and counted in segments.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use sea_orm::sqlx;
use serde_json::{Value, json};
use stack::platform::{Answer, Client, answer};
use stack::services::SMS_DISPATCH;
use std::time::Duration;

const CONTACTS: &str = "/api/v1/contacts";

/// A platform with sms-dispatch, and these contacts imported.
async fn scene(label: &str) -> Result<Scene> {
    let scene = Scene::start(label, |options| {
        options
            .workers(0)
            .with(&SMS_DISPATCH, 1)
            .env("CONTACTS_REFRESH_SECONDS", 1)
            .env("CONTACTS_PHONE_SEARCHES_PER_HOUR", 3)
    })
    .await?;
    let file = scene.dir.join("contactos.csv");
    let rows = "numero,nombre,direccion,colonia,municipio_cof,estado_cof,ciudad_por_lada
6121004768,CATALINO RODRIGUEZ ALVARADO,ENCINAS Y EMILIANO ZAPATA #2695,LOS OLIVOS,LA PAZ,BCS,La Paz
+52 1 612 100 4769,JOSÉ MARÍA RODRÍGUEZ PEÑA,5 DE MAYO 12,CENTRO,LA PAZ,BCS,La Paz
3312345670,MARIA JOSE LOPEZ,AV. JUAREZ 100,CENTRO,ZAPOPAN,JAL,Guadalajara
5512345670,ANA MARIA DE LA CRUZ,REFORMA 222,JUAREZ,CUAUHTEMOC,CDMX,Ciudad de México
";
    std::fs::write(&file, rows)?;
    let sms = scene.platform.service(&SMS_DISPATCH);
    let (status, said) = sms
        .api
        .service()
        .with_args(&["import", file.to_str().context("a path")?, "--consent-basis", "contrato"])
        .run()
        .await?;
    ensure!(status.success(), "import: {status}\n{said}");
    Ok(scene)
}

fn ids(answer: &Answer) -> Vec<i64> {
    let items = answer.body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["id"].as_i64()).collect()
}

/// What a search finds, by the ten digits.
async fn found(client: &Client, query: &[(&str, &str)]) -> Result<Vec<String>> {
    let answer = answer(client.request(Method::GET, CONTACTS).query(query)).await?;
    ensure!(answer.status == 200, "{query:?}: {answer}");
    let items = answer.body["items"].as_array().context("items")?;
    let phones = items.iter().filter_map(|item| item["phone_national"].as_str());
    Ok(phones.map(str::to_owned).collect())
}

async fn audited(scene: &Scene, action: &str) -> Result<i64> {
    let pool = scene.platform.contacts().await?;
    let count = sqlx::query_scalar("select count(*) from contact_audit where action = $1").bind(action);
    let count = count.fetch_one(&pool).await?;
    pool.close().await;
    Ok(count)
}

#[tokio::test]
async fn a_contact_is_found_by_what_one_knows_of_it() -> Result<()> {
    let scene = scene("contactsearch").await?;
    let operator = scene.platform.user("operator", None).await?;
    let [catalino, jose, maria, ana] = ["6121004768", "6121004769", "3312345670", "5512345670"];
    for (query, expected) in [
        (vec![("nombre", "rodríguez catalino")], vec![catalino]),
        (vec![("nombre", "maria jose")], vec![jose, maria]),
        (vec![("nombre", "rod PENA")], vec![]),
        (vec![("nombre", "pena rodr")], vec![jose]),
        (vec![("nombre", "maria"), ("estado", "Ciudad de México")], vec![ana]),
        (vec![("telefono", "+52 (612) 100-4768")], vec![catalino]),
        (vec![("telefono", "044 612 100 4769")], vec![jose]),
        (vec![("telefono", "612100")], vec![catalino, jose]),
        (vec![("direccion", "zapata 2695")], vec![catalino]),
        (vec![("lada", "33")], vec![maria]),
        (vec![("ciudad", "La Paz"), ("municipio", "LA PAZ"), ("status", "active")], vec![catalino, jose]),
        (vec![("status", "INACTIVE")], vec![]),
    ] {
        let mut phones = found(&operator, &query).await?;
        phones.sort();
        let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        ensure!(phones == expected, "{query:?} finds {phones:?}");
    }
    for wrong in [
        "telefono=12",
        "telefono=abc",
        "estado=Texas",
        "lada=1",
        "nombre=%20",
        "status=x",
        "limit=201",
        "cursor=x",
    ] {
        let refused = operator.get(&format!("{CONTACTS}?{wrong}")).await?;
        ensure!(refused.status == 400 && refused.body["error"].is_string(), "{wrong}: {refused}");
    }
    let short = operator.get(&format!("{CONTACTS}?telefono=55")).await?;
    let told = short.body["message"].as_str().unwrap_or_default();
    ensure!(short.status == 400 && told.contains("bastan sus tres primeras cifras"), "{short}");
    ensure!(found(&operator, &[("telefono", "551")]).await? == [ana], "three are enough");
    // A page after another, each contact once.
    let first = operator.get(&format!("{CONTACTS}?limit=3")).await?;
    let cursor = first.body["next_cursor"].as_str().context("a second page")?;
    let second = operator.get(&format!("{CONTACTS}?limit=3&cursor={cursor}")).await?;
    ensure!(second.body["next_cursor"].is_null(), "{second}");
    let mut all = ids(&first);
    all.extend(ids(&second));
    ensure!(all.len() == 4 && all.is_sorted_by(|a, b| a < b), "{all:?}");
    // One row for each request that was answered.
    ensure!(audited(&scene, "contacts_listed").await? == 15, "every list is in the audit");
    Ok(())
}

#[tokio::test]
async fn a_viewer_sees_whom_it_is_but_not_how_to_reach_them() -> Result<()> {
    let scene = scene("contactmask").await?;
    let (viewer, operator) =
        (scene.platform.user("viewer", None).await?, scene.platform.user("operator", None).await?);
    let page = viewer.get(&format!("{CONTACTS}?nombre=catalino")).await?;
    let contact = &page.body["items"][0];
    ensure!(contact["full_name"] == "CATALINO RODRIGUEZ ALVARADO", "{page}");
    ensure!(contact["phone_e164"] == "+52******4768" && contact["phone_national"] == "******4768", "{page}");
    ensure!(contact["address"].is_null() && contact["phone_original"].is_null(), "{page}");
    ensure!(!page.body.to_string().contains("612100"), "{page}");
    // A whole phone is one that the viewer knows; trying beginnings, or words of addresses, would find out.
    ensure!(found(&viewer, &[("telefono", "6121004768")]).await? == ["******4768"]);
    for guess in ["telefono=612100476", "direccion=zapata"] {
        let refused = viewer.get(&format!("{CONTACTS}?{guess}")).await?;
        ensure!(refused.status == 403, "{guess}: {refused}");
    }
    let id = contact["id"].as_i64().context("an id")?;
    // Nor would trying all that the last digits leave: so many an hour, by user, whatever the credential, and audited.
    let key = viewer.post("/api/v1/api-keys", &json!({ "name": "guesses" })).await?;
    let key = Client::api_key(viewer.base(), key.body["key"].as_str().context("a key")?);
    for (client, status) in [(&key, 200), (&viewer, 200), (&viewer, 429), (&key, 429)] {
        let searched = client.get(&format!("{CONTACTS}?telefono=6121004768")).await?;
        ensure!(searched.status == status, "{searched}");
    }
    let by_path = viewer.get("/api/v1/suppressions/6121004768").await?;
    ensure!(by_path.status == 429, "{by_path}");
    // Whoever turns a page of a phone that they have searched searches no other; of another phone they do. (The cursor names
    // no message: that comes after.)
    let cursor = "00000000-0000-4000-8000-000000000000";
    let page = viewer.get(&format!("/api/v1/messages?phone=6121004768&cursor={cursor}")).await?;
    ensure!(page.status == 400 && page.body["code"] == "invalid_cursor", "{page}");
    let page = viewer.get(&format!("/api/v1/messages?phone=6121000155&cursor={cursor}")).await?;
    ensure!(page.status == 429, "{page}");
    ensure!(operator.get(&format!("{CONTACTS}?telefono=6121004768")).await?.status == 200);
    ensure!(audited(&scene, "phone_searched").await? == 3, "each is in the audit");
    let one = viewer.get(&format!("{CONTACTS}/{id}")).await?;
    ensure!(one.body["phone_e164"] == "+52******4768" && one.body["address"].is_null(), "{one}");
    let one = operator.get(&format!("{CONTACTS}/{id}")).await?;
    ensure!(one.body["phone_e164"] == "+526121004768" && one.body["lada"] == "612", "{one}");
    ensure!(
        one.body["state_name"] == "Baja California Sur" && one.body["source"] == "contactos.csv",
        "{one}"
    );
    ensure!(one.body["consent"] == "contrato" && one.body["neighborhood"] == "LOS OLIVOS", "{one}");
    ensure!(audited(&scene, "contact_read").await? == 2, "each read by id is in the audit");
    ensure!(audited(&scene, "contacts_listed").await? == 1, "of lists, what was not masked");
    Ok(())
}

#[tokio::test]
async fn a_change_holds_only_for_what_was_read_and_leaves_a_trace() -> Result<()> {
    let scene = scene("contactpatch").await?;
    let operator = scene.platform.user("operator", None).await?;
    let id = ids(&operator.get(&format!("{CONTACTS}?nombre=catalino")).await?)[0];
    let path = format!("{CONTACTS}/{id}");
    let read = operator.request(Method::GET, &path).send().await?;
    let etag = read.headers()["etag"].to_str()?.to_owned();
    let patch = async |etag: &str, change: Value| {
        answer(operator.request(Method::PATCH, &path).header("If-Match", etag).json(&change)).await
    };
    let change = json!({ "full_name": "CATALINA RODRÍGUEZ", "address": null, "state_code": "Jalisco", "status": "INACTIVE" });
    let changed = patch(&etag, change).await?;
    ensure!(changed.status == 200 && changed.body["full_name"] == "CATALINA RODRÍGUEZ", "{changed}");
    ensure!(changed.body["address"].is_null() && changed.body["state_code"] == "JAL", "{changed}");
    ensure!(
        changed.body["city"] == "La Paz" && changed.body["status"] == "INACTIVE",
        "what is absent stays: {changed}"
    );
    let stale = patch(&etag, json!({ "city": "Tijuana" })).await?;
    ensure!(stale.status == 412 && stale.body["code"] == "contact_changed", "{stale}");
    let fresh = stale.body["details"]["etag"].as_str().context("the new version")?.to_owned();
    ensure!(
        patch(&fresh, json!({ "city": "Tijuana" })).await?.status == 200,
        "the version told is the one to use"
    );
    for wrong in
        [json!({ "state_code": "Texas" }), json!({ "full_name": "x".repeat(501) }), json!({ "consent": " " })]
    {
        ensure!(patch("*", wrong.clone()).await?.status == 422, "{wrong}");
    }
    let no_text = patch("*", json!({ "city": "a\u{0}b" })).await?;
    ensure!(no_text.status == 400 && no_text.body["code"] == "invalid_text", "{no_text}");
    ensure!(
        patch("*", json!({ "phone_e164": "+526121004760" })).await?.status == 400,
        "a phone never changes"
    );
    ensure!(found(&operator, &[("nombre", "catalina")]).await? == ["6121004768"], "the new name is found");
    let pool = scene.platform.contacts().await?;
    let details: Value = sqlx::query_scalar(
        "select details from contact_audit where action = 'contact_changed' order by id limit 1",
    )
    .fetch_one(&pool)
    .await?;
    ensure!(details["full_name"]["before"] == "CATALINO RODRIGUEZ ALVARADO", "{details}");
    ensure!(
        details["full_name"]["after"] == "CATALINA RODRÍGUEZ" && details.get("city").is_none(),
        "{details}"
    );
    ensure!(audited(&scene, "contact_changed").await? == 2, "two changes were made");
    // A change of nothing shows the contact, and is a read.
    let reads = audited(&scene, "contact_read").await?;
    for nothing in [json!({}), json!({ "city": "Tijuana" })] {
        let shown = patch("*", nothing.clone()).await?;
        ensure!(shown.status == 200 && shown.body["phone_e164"] == "+526121004768", "{nothing}: {shown}");
    }
    ensure!(audited(&scene, "contact_read").await? == reads + 2, "a read by PATCH is in no audit");
    ensure!(audited(&scene, "contact_changed").await? == 2);
    Ok(())
}

async fn import(client: &Client, query: &str, csv: &str) -> Result<Answer> {
    let form = Form::new().part("file", Part::bytes(csv.as_bytes().to_vec()).file_name("lista.csv"));
    answer(client.request(Method::POST, &format!("/api/v1/suppressions/imports?{query}")).multipart(form))
        .await
}

async fn reus_counts_at_once_and_nobodys_opt_in_takes_it_away(
    operator: &Client,
    contact: &str,
    phone: &str,
) -> Result<()> {
    let told = import(operator, "reason=reus", "6121004768\n").await?;
    ensure!(told.body["added"] == 1 && told.body["opted_out"] == 1, "{told}");
    let known = operator.get(phone).await?;
    ensure!(known.body["suppressed"] == true && known.body["items"][0]["reason"] == "reus", "{known}");
    let refused = operator.post(&format!("{contact}/opt-in"), &json!({})).await?;
    ensure!(refused.status == 409 && refused.body["code"] == "in_reus", "{refused}");
    ensure!(operator.delete(&format!("{phone}?reason=reus")).await?.status == 204);
    ensure!(operator.get(contact).await?.body["opt_out_at"].is_null());
    Ok(())
}

async fn a_list_that_is_none_is_refused_as_a_whole(operator: &Client) -> Result<()> {
    let unknown = "folio,num_cel,motivo\n5500000901,5500000138,opt_out\n";
    let refused = import(operator, "reason=opt_out", unknown).await?;
    ensure!(refused.status == 400 && refused.body["code"] == "invalid_file", "{refused}");
    let refused = import(operator, "reason=opt_out", "telefono\nabc\n").await?;
    ensure!(refused.status == 422 && refused.body["details"]["errors"][0]["line"] == 2, "{refused}");
    let mapped = import(operator, "reason=repep&mapping=%7B%22phone%22%3A%22num_cel%22%7D", unknown).await?;
    ensure!(mapped.status == 200 && mapped.body["added"] == 1, "{mapped}");
    ensure!(operator.get("/api/v1/suppressions/5500000901").await?.status == 404, "folios are no phones");
    ensure!(operator.delete("/api/v1/suppressions/5500000138").await?.status == 204);
    Ok(())
}

#[tokio::test]
async fn who_opted_out_is_out_until_nothing_speaks_against_it() -> Result<()> {
    let scene = scene("contactoptout").await?;
    let operator = scene.platform.user("operator", None).await?;
    let id = ids(&operator.get(&format!("{CONTACTS}?nombre=catalino")).await?)[0];
    let (contact, phone) = (format!("{CONTACTS}/{id}"), "/api/v1/suppressions/+526121004768");
    let active = async || -> Result<Value> {
        let preview = operator.post("/api/v1/segments/preview", &json!({ "max_sends": 0 })).await?;
        ensure!(preview.status == 200 && preview.body["exact"] == true, "{preview}");
        Ok(preview.body["count"].clone())
    };
    ensure!(active().await? == 4, "everybody to begin with");
    for _ in 0..2 {
        let out = operator.post(&format!("{contact}/opt-out"), &json!({ "source": "llamada" })).await?;
        ensure!(out.status == 200 && out.body["opt_out_at"].is_string(), "{out}");
    }
    ensure!(active().await? == 3, "who opted out is in no segment");
    let known = operator.get(phone).await?;
    ensure!(known.body["suppressed"] == true && known.body["items"][0]["source"] == "llamada", "{known}");
    let back = operator.post(&format!("{contact}/opt-in"), &json!({})).await?;
    ensure!(back.status == 200 && back.body["opt_out_at"].is_null(), "{back}");
    ensure!(operator.get(phone).await?.status == 404, "nothing is left of it");

    // What we decided ourselves, nobody's opt-in takes away.
    ensure!(import(&operator, "reason=manual", "6121004768\n").await?.body["added"] == 1);
    ensure!(operator.post(&format!("{contact}/opt-out"), &json!({})).await?.status == 200);
    let back = operator.post(&format!("{contact}/opt-in"), &json!({})).await?;
    ensure!(back.status == 200 && back.body["opt_out_at"].is_string(), "{back}");
    let left = operator.get(phone).await?;
    ensure!(left.body["items"].as_array().is_some_and(|items| items.len() == 1), "{left}");
    ensure!(left.body["items"][0]["reason"] == "manual", "{left}");
    ensure!(operator.delete(&format!("{phone}?reason=manual")).await?.status == 204);
    ensure!(operator.get(&contact).await?.body["opt_out_at"].is_null());
    reus_counts_at_once_and_nobodys_opt_in_takes_it_away(&operator, &contact, phone).await?;
    a_list_that_is_none_is_refused_as_a_whole(&operator).await?;

    // A list: one known twice, one of another country, one that counts at once, one later.
    let list = "telefono,motivo,vigencia\n6121004768,,2026-01-31\n044 612 100 4768,,\n+14155550100,,\n3312345670,repep,\n\
                2221004768,opt_out,\nabc,,\n5512345670,spam,\n";
    let told = import(&operator, "reason=repep&source=Profeco", list).await?;
    ensure!(told.status == 200, "{told}");
    for (name, count) in [("rows", 7), ("added", 3), ("known", 1), ("rejected", 3), ("opted_out", 1)] {
        ensure!(told.body[name] == count, "{name}: {told}");
    }
    let lines: Vec<_> =
        told.body["errors"].as_array().context("errors")?.iter().map(|error| &error["line"]).collect();
    ensure!(lines == [&json!(4), &json!(7), &json!(8)], "{told}");
    let again = import(&operator, "reason=repep", "6121004768\n").await?;
    ensure!(again.body["known"] == 1 && again.body["added"] == 0, "{again}");
    ensure!(active().await? == 3, "REPEP counts after 30 days: only the one with a date is out");
    let refused = operator.post(&format!("{contact}/opt-in"), &json!({})).await?;
    ensure!(refused.status == 409 && refused.body["code"] == "in_repep", "{refused}");
    let bad = import(&operator, "reason=repep&effective_at=ayer", "6121004768\n").await?;
    ensure!(bad.status == 400, "{bad}");

    // A date that comes is applied by itself.
    let pool = scene.platform.contacts().await?;
    sqlx::query("update suppressions set effective_at = now() where phone_e164 = '+523312345670'")
        .execute(&pool)
        .await?;
    stack::wait::until("the contact should be out", Duration::from_secs(60), async || {
        let out = "select opt_out_at is not null from contacts where phone_e164 = '+523312345670'";
        sqlx::query_scalar(out).fetch_one(&pool).await.is_ok_and(|out: bool| out)
    })
    .await?;
    ensure!(operator.delete(&format!("{phone}?reason=repep")).await?.status == 204);
    ensure!(operator.delete(phone).await?.status == 404);
    ensure!(
        active().await? == 3,
        "the one that was taken off the list is back, the one whose day came is out"
    );
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "{findings:?}");
    Ok(())
}

#[tokio::test]
async fn segments_are_kept_and_previewed() -> Result<()> {
    let scene = scene("segments").await?;
    let operator = scene.platform.user("operator", None).await?;
    let filter = json!({ "states": ["Baja California Sur"], "consent": ["contrato"] });
    let preview = operator.post("/api/v1/segments/preview", &filter).await?;
    ensure!(
        preview.status == 200 && preview.body["count"] == 2 && preview.body["exact"] == true,
        "{preview}"
    );
    ensure!(
        preview.body["by_state"]
            == json!([{ "state_code": "BCS", "state_name": "Baja California Sur", "contacts": 2 }])
    );
    ensure!(preview.body["sample"].as_array().is_some_and(|sample| sample.len() == 2), "{preview}");
    ensure!(preview.body["as_of"].is_string(), "{preview}");
    let sampled =
        json!({ "municipalities": ["LA PAZ", "ZAPOPAN"], "sample": { "size": 1, "order": "newest" } });
    let preview = operator.post("/api/v1/segments/preview", &sampled).await?;
    ensure!(preview.body["count"] == 1 && preview.body["matching"] == 3, "{preview}");
    let refused = operator.post("/api/v1/segments/preview", &json!({ "states": ["Texas"] })).await?;
    ensure!(refused.status == 422 && refused.body["code"] == "invalid_segment", "{refused}");
    ensure!(audited(&scene, "segment_previewed").await? == 2, "who saw a sample is in the audit");

    let make = async |name: &str| {
        operator.post("/api/v1/segments", &json!({ "name": name, "filter": filter })).await
    };
    let made = make("Sur").await?;
    ensure!(made.status == 201 && made.body["filter"]["states"] == json!(["BCS"]), "{made}");
    ensure!(made.body["filter"]["status"] == json!(["ACTIVE"]), "{made}");
    ensure!(make("Sur").await?.status == 409, "a name is one segment's");
    for name in ["Dos", "Tres"] {
        ensure!(make(name).await?.status == 201);
    }
    let first = operator.get("/api/v1/segments?limit=2").await?;
    let cursor = first.body["next_cursor"].as_str().context("a second page")?;
    let second = operator.get(&format!("/api/v1/segments?limit=2&cursor={cursor}")).await?;
    ensure!(
        first.body["items"][0]["name"] == "Tres" && second.body["items"][0]["name"] == "Sur",
        "{first} {second}"
    );
    ensure!(second.body["next_cursor"].is_null(), "{second}");

    let path = format!("/api/v1/segments/{}", made.body["id"].as_str().context("an id")?);
    let other = json!({ "name": "Sur y más", "filter": { "ladas": ["612"] } });
    let put = async |version: &str| {
        answer(operator.request(Method::PUT, &path).header("If-Match", version).json(&other)).await
    };
    ensure!(put("\"9\"").await?.status == 412);
    let changed = put("\"1\"").await?;
    ensure!(changed.status == 200 && changed.body["version"] == 2, "{changed}");
    ensure!(operator.get(&path).await?.body["filter"]["ladas"] == json!(["612"]));
    ensure!(operator.delete(&path).await?.status == 204 && operator.get(&path).await?.status == 404);

    let stats = operator.get(&format!("{CONTACTS}/stats")).await?;
    ensure!(stats.status == 200 && stats.body["total"] == 4 && stats.body["active"] == 4, "{stats}");
    ensure!(
        stats.body["by_state"][0]["state_code"] == "BCS" && stats.body["by_state"][0]["total"] == 2,
        "{stats}"
    );
    ensure!(stats.body["by_lada"].as_array().is_some_and(|ladas| ladas.len() == 3), "{stats}");
    ensure!(stats.body["by_city"][0]["city"] == "La Paz" && stats.body["as_of"].is_string(), "{stats}");
    Ok(())
}
