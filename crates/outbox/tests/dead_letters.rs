//! Dead letters, from RabbitMQ into the table and back.

mod common;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use common::{Recorder, World};
use contracts::queues::CATALOG_IMPORTS;
use messaging::{Broker, Destination, Envelope, Outgoing};
use outbox::{
    Relay, Retention,
    dead_letters::{self, Archiver, DeadLetter, Filter, LetterState, Page, Selection},
};
use sea_orm::sqlx;
use uuid::Uuid;

const OPEN: &str = "SELECT count(*) FROM dead_letters WHERE state = 'open'";

async fn send(broker: &Broker, body: Vec<u8>) -> Result<()> {
    let outgoing = Outgoing {
        destination: Destination::Queue(CATALOG_IMPORTS.name.into()),
        id: Uuid::now_v7(),
        kind: "lote.catalog.v1.ProcessImport".into(),
        body: body.into(),
    };
    for result in broker.publish(&[outgoing]).await {
        result?;
    }
    Ok(())
}

/// Rows as an archiver would write them: `n`-th of its queue, failed `n` minutes ago.
async fn write_letters(world: &World, queue: &str, count: i32, reason: &str, error: &str) -> Result<()> {
    for n in 0..count {
        let envelope = Envelope::new("test", &common::nudge(&format!("{queue} {n}")))?;
        sqlx::query(
            "INSERT INTO dead_letters (id, queue, message_id, fingerprint, kind, body, decodable, reason, error,
                 attempts, failed_at, origin)
             VALUES ($1, $2, $3, $3::text, $4, $5, true, $6, $7, 3, now() - make_interval(mins => $8), $2)",
        )
        .bind(Uuid::now_v7())
        .bind(queue)
        .bind(envelope.id)
        .bind(&envelope.kind)
        .bind(serde_json::to_string(&envelope)?)
        .bind(reason)
        .bind(error)
        .bind(n)
        .execute(&world.pool)
        .await?;
    }
    Ok(())
}

/// The letters that the list has, each with its body.
async fn all(world: &World, filter: &Filter) -> Result<Vec<DeadLetter>> {
    let listed = dead_letters::list(&world.pool, filter, &Page { after: None, size: 200 }).await?.items;
    let mut letters = Vec::with_capacity(listed.len());
    for listed in listed {
        let letter = dead_letters::get(&world.pool, listed.id).await?.context("a letter that is listed")?;
        assert_eq!(
            DeadLetter { body: None, ..letter.clone() },
            listed,
            "the list differs in more than the body"
        );
        letters.push(letter);
    }
    Ok(letters)
}

fn body(letter: &DeadLetter) -> &str {
    letter.body.as_deref().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_comes_with_its_reason_and_goes_back_into_its_queue() -> Result<()> {
    let world = World::new("letters_round").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());
    tokio::spawn(Relay::new(world.pool.clone(), broker.clone()).run(world.shutdown.clone()));
    tokio::spawn(
        Archiver::new(world.pool.clone(), broker.clone(), &[&CATALOG_IMPORTS]).run(world.shutdown.clone()),
    );
    let id = world.publish("bad").await?;
    world.publish("good").await?;
    world.until_count(OPEN, 1).await?;

    let letters = all(&world, &Filter::default()).await?;
    let letter = &letters[0];
    assert_eq!((letter.queue.as_str(), letter.message_id), ("catalog.imports", Some(id)));
    assert_eq!(letter.kind.as_deref(), Some("lote.catalog.v1.ProcessImport"));
    assert!(letter.decodable);
    assert_eq!((letter.reason.as_str(), letter.attempts, letter.replay_count), ("failed", 1, 0));
    assert!(letter.error.contains("task bad can never work"), "{}", letter.error);
    assert_eq!(dead_letters::get(&world.pool, letter.id).await?.as_ref(), Some(letter));
    let envelope: Envelope = serde_json::from_str(body(letter))?;
    assert_eq!((envelope.id, envelope.replay_count), (id, 0));

    // It goes back under its id, and dies again: another letter, which knows that it was replayed.
    let report = dead_letters::replay(&world.pool, &Selection::Ids(vec![letter.id]), "ana", false).await?;
    assert_eq!((report.matched, report.changed, report.undecodable), (1, 1, 0));
    world.until_count("SELECT count(*) FROM dead_letters", 2).await?;
    let again = all(&world, &Filter { state: Some(LetterState::Open), ..Filter::default() }).await?;
    assert_eq!((again.len(), again[0].message_id, again[0].replay_count), (1, Some(id), 1));
    let replayed = dead_letters::get(&world.pool, letter.id).await?.context("the first letter is gone")?;
    assert_eq!((replayed.state, replayed.resolved_by.as_deref()), (LetterState::Replayed, Some("ana")));
    assert!(replayed.replayed_at.is_some());
    assert_eq!(recorder.tasks().iter().filter(|task| *task == "bad").count(), 2);

    // What was replayed can't be replayed or discarded again.
    let selection = Selection::Ids(vec![letter.id]);
    assert_eq!(dead_letters::replay(&world.pool, &selection, "ana", false).await?.changed, 0);
    assert_eq!(dead_letters::discard(&world.pool, &selection, "ana", false).await?.changed, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_archived_as_it_is_and_never_replayed() -> Result<()> {
    let world = World::new("letters_garbage").await?;
    let broker = world.broker().await?;
    world.consume(&broker, Recorder::default());
    send(&broker, b"no json".to_vec()).await?;
    send(&broker, vec![0xff, 0x00, 0xfe]).await?;
    send(&broker, b"{\"text\":\"a \0 in it\"}".to_vec()).await?;
    tokio::spawn(Archiver::new(world.pool.clone(), broker, &[&CATALOG_IMPORTS]).run(world.shutdown.clone()));
    world.until_count(OPEN, 3).await?;

    let letters = all(&world, &Filter { reason: Some("UNDECODABLE".into()), ..Filter::default() }).await?;
    let bodies: BTreeSet<&str> = letters.iter().map(body).collect();
    assert_eq!(bodies, BTreeSet::from(["no json", "\u{fffd}\0\u{fffd}", "{\"text\":\"a \0 in it\"}"]));
    assert!(letters.iter().all(|letter| !letter.decodable));

    let everything = Selection::Filter(Filter::default());
    let report = dead_letters::replay(&world.pool, &everything, "ana", false).await?;
    assert_eq!((report.matched, report.changed, report.undecodable), (3, 0, 3));
    assert_eq!(world.count("SELECT count(*) FROM outbox").await?, 0);
    let report = dead_letters::discard(&world.pool, &everything, "ana", false).await?;
    assert_eq!((report.matched, report.changed), (3, 3));
    assert_eq!(world.count(OPEN).await?, 0);
    Ok(())
}

/// Puts a message into the dead-letter queue with headers that no publisher of ours would write.
async fn bury(world: &World, body: &[u8], headers: &serde_json::Value) -> Result<()> {
    let url = format!("{}/api/exchanges/%2F/amq.default/publish", world.namespace.servers().management_url);
    let message = serde_json::json!({
        "routing_key": format!("{}{}.dead", world.namespace.queue_prefix, CATALOG_IMPORTS.name),
        "properties": {"delivery_mode": 2, "headers": headers},
        "payload": BASE64_STANDARD.encode(body),
        "payload_encoding": "base64",
    });
    let answer = stack::http().post(url).json(&message).send().await?.error_for_status()?;
    anyhow::ensure!(answer.text().await?.contains("true"), "no queue took the letter");
    Ok(())
}

/// Letters of which each is strange in another way, and a good one at the end: what they are, bodies and headers.
fn strange_letters() -> Result<Vec<(&'static str, Vec<u8>, serde_json::Value)>> {
    let task = |name: &str| Envelope::new("test", &common::nudge(name));
    let nul_in_its_type = Envelope { kind: "a\0b".into(), ..task("type")? };
    let with_a_stray_member = |member: &[u8]| -> Result<Vec<u8>> {
        let body = serde_json::to_vec(&task("member")?)?;
        Ok([b"{\"more\":\"", member, b"\",", &body[1..]].concat())
    };
    let none = serde_json::json!({});
    Ok(vec![
        ("no envelope, NUL in its type", br#"{"type":"a\u0000b"}"#.to_vec(), none.clone()),
        ("NUL in its type", serde_json::to_vec(&nul_in_its_type)?, none.clone()),
        ("NUL in its reason", b"1".to_vec(), serde_json::json!({"lote-reason": "a\0b"})),
        ("NUL in its error", b"2".to_vec(), serde_json::json!({"lote-error": "a\0b"})),
        ("failed too early", b"3".to_vec(), serde_json::json!({"lote-failed-at": "-5000-01-01T00:00:00Z"})),
        ("failed too late", b"4".to_vec(), serde_json::json!({"lote-failed-at": "+262000-01-01T00:00:00Z"})),
        (
            "first too early",
            b"5".to_vec(),
            serde_json::json!({"lote-first-failed-at": "-5000-01-01T00:00:00Z"}),
        ),
        (
            "first too late",
            b"6".to_vec(),
            serde_json::json!({"lote-first-failed-at": "+200000-01-01T00:00:00Z"}),
        ),
        ("too many attempts", b"7".to_vec(), serde_json::json!({"lote-attempts": u32::MAX})),
        (
            "too many replays",
            serde_json::to_vec(&Envelope { replay_count: u32::MAX, ..task("replays")? })?,
            none.clone(),
        ),
        ("not UTF-8 where nobody looks", with_a_stray_member(b"\xff")?, none.clone()),
        ("refused as text", with_a_stray_member(b"not as text")?, none.clone()),
        ("refused", b"in no form".to_vec(), none.clone()),
        ("good", serde_json::to_vec(&task("good")?)?, none.clone()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_letter_holds_up_those_behind_it_whatever_it_says() -> Result<()> {
    let world = World::new("letters_strange").await?;
    let broker = world.broker().await?;
    sqlx::raw_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'in no form' USING ERRCODE = 'check_violation'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON dead_letters FOR EACH ROW
             WHEN (position('in no form'::bytea IN coalesce(NEW.body_raw, convert_to(NEW.body, 'UTF8'))) > 0)
             EXECUTE FUNCTION refuse();
         ALTER TABLE dead_letters ADD CHECK (body NOT LIKE '%not as text%')",
    )
    .execute(&world.pool)
    .await?;
    let letters = strange_letters()?;
    for (what, body, headers) in &letters {
        bury(&world, body, headers).await.with_context(|| what.to_string())?;
    }
    tokio::spawn(
        Archiver::new(world.pool.clone(), broker.clone(), &[&CATALOG_IMPORTS]).run(world.shutdown.clone()),
    );
    world.until_count("SELECT count(*) FROM dead_letters WHERE body LIKE '%good%'", 1).await?;
    // All but the one that the table takes in no form, which stays in the broker.
    world.until_count(OPEN, letters.len() as i64 - 1).await?;

    let archived = all(&world, &Filter::default()).await?;
    let by_reason = |reason: &str| -> Result<&DeadLetter> {
        let found = archived.iter().find(|letter| letter.reason == reason);
        found.with_context(|| format!("no letter with the reason {reason}"))
    };
    let by_body = |body: &str| -> Result<&DeadLetter> {
        let found = archived.iter().find(|letter| self::body(letter).contains(body));
        found.with_context(|| format!("no letter with {body}"))
    };
    assert_eq!(archived.iter().filter(|letter| letter.kind.as_deref() == Some("a\u{fffd}b")).count(), 2);
    assert_eq!(body(by_reason("a\u{fffd}b")?), "1");
    for (body, error) in [
        ("2", "a\u{fffd}b"),
        ("3", "failed_at is -5000-01-01T00:00:00Z: not a time that the archive can hold"),
        ("4", "failed_at is +262000-01-01T00:00:00Z: not a time that the archive can hold"),
        ("5", "first_failed_at is -5000-01-01T00:00:00Z: not a time that the archive can hold"),
        ("6", "first_failed_at is +200000-01-01T00:00:00Z: not a time that the archive can hold"),
    ] {
        let letter = archived.iter().find(|letter| self::body(letter) == body).context("a letter")?;
        assert_eq!((letter.error.as_str(), letter.first_failed_at), (error, None), "{body}");
    }
    assert_eq!(by_body("\"replays\"")?.replay_count, i32::MAX);
    let refused = by_reason("unarchivable")?;
    assert!(body(refused).contains("not as text") && !refused.decodable, "{refused:?}");
    assert!(refused.error.contains("violates check constraint"), "{}", refused.error);
    assert!(!by_body("\u{fffd}\"")?.decodable, "what is not kept as text can't be sent again as it was");

    // The envelopes among them go back, those of a strange type too, and none holds up the others.
    let everything = Selection::Filter(Filter::default());
    let report = dead_letters::replay(&world.pool, &everything, "ana", false).await?;
    assert_eq!((report.changed, report.matched - report.undecodable), (3, 3));
    let kinds = "SELECT count(*) FROM outbox WHERE kind = E'a\\ufffdb' OR kind LIKE 'lote.%'";
    assert_eq!(world.count(kinds).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_can_no_longer_be_read_stays_open_and_the_others_go() -> Result<()> {
    let world = World::new("letters_older").await?;
    write_letters(&world, "a.work", 3, "failed", "division by zero").await?;
    sqlx::query(
        "UPDATE dead_letters SET body = '{}' WHERE id = (SELECT id FROM dead_letters ORDER BY id LIMIT 1)",
    )
    .execute(&world.pool)
    .await?;
    let everything = Selection::Filter(Filter::default());
    let report = dead_letters::replay(&world.pool, &everything, "ana", false).await?;
    assert_eq!((report.matched, report.changed, report.undecodable), (3, 2, 1));
    assert_eq!(world.count("SELECT count(*) FROM outbox").await?, 2);
    assert_eq!(world.count(OPEN).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_may_ask_for_what_no_letter_can_say() -> Result<()> {
    let world = World::new("letters_filter").await?;
    write_letters(&world, "a.work", 3, "failed", "a \u{fffd} in it").await?;
    let (early, late) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    for (filter, expected) in [
        (Filter { queue: Some("a\0work".into()), ..Filter::default() }, 0),
        (Filter { kind: Some("\0".into()), ..Filter::default() }, 0),
        // What stands for NUL is found by NUL.
        (Filter { reason: Some("A \0 in".into()), ..Filter::default() }, 3),
        (Filter { from: Some(early), to: Some(late), ..Filter::default() }, 3),
        (Filter { from: Some(late), ..Filter::default() }, 0),
        (Filter { to: Some(early), ..Filter::default() }, 0),
    ] {
        assert_eq!(all(&world, &filter).await?.len(), expected, "{filter:?}");
        let selection = Selection::Filter(filter);
        let report = dead_letters::replay(&world.pool, &selection, "a\0na", true).await?;
        assert_eq!(report.matched, expected as i64, "{selection:?}");
    }
    for micros in [i64::MIN, -200_000_000_000_000_000, 8_200_000_000_000_000_000, i64::MAX] {
        let page = Page { after: Some(format!("{micros}_{}", Uuid::nil().simple())), size: 10 };
        dead_letters::list(&world.pool, &Filter::default(), &page).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() -> Result<()> {
    let world = World::new("letters_list").await?;
    write_letters(&world, "a.work", 25, "failed", "division by zero").await?;
    write_letters(&world, "b.work", 10, "attempts", "Connection refused").await?;
    let count = |filter: Filter| {
        let world = &world;
        async move { anyhow::Ok(all(world, &filter).await?.len()) }
    };
    assert_eq!(count(Filter::default()).await?, 35);
    assert_eq!(count(Filter { queue: Some("a.work".into()), ..Filter::default() }).await?, 25);
    assert_eq!(count(Filter { kind: Some("another".into()), ..Filter::default() }).await?, 0);
    assert_eq!(count(Filter { reason: Some("connection REFUSED".into()), ..Filter::default() }).await?, 10);
    assert_eq!(count(Filter { reason: Some("failed".into()), ..Filter::default() }).await?, 25);
    assert_eq!(count(Filter { reason: Some("100%".into()), ..Filter::default() }).await?, 0);
    assert_eq!(count(Filter { state: Some(LetterState::Discarded), ..Filter::default() }).await?, 0);
    // Failed 0, 1, 2, … minutes ago, in both queues.
    let ago = |minutes: f64| -> DateTime<Utc> { Utc::now() - TimeDelta::seconds((minutes * 60.0) as i64) };
    assert_eq!(count(Filter { from: Some(ago(4.5)), ..Filter::default() }).await?, 10);
    assert_eq!(count(Filter { to: Some(ago(4.5)), ..Filter::default() }).await?, 25);

    let filter = Filter { queue: Some("a.work".into()), ..Filter::default() };
    let (mut seen, mut page) = (Vec::new(), Page { after: None, size: 10 });
    loop {
        let got = dead_letters::list(&world.pool, &filter, &page).await?;
        seen.extend(got.items);
        // Arrivals shift nothing.
        write_letters(&world, "a.work", 1, "failed", "a new one").await?;
        match got.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted_by(|a, b| (a.failed_at, a.id) > (b.failed_at, b.id)));
    assert!(seen.iter().all(|letter| letter.error == "division by zero"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_has_sent_stays_sent_where_it_breaks_off() -> Result<()> {
    let world = World::new("letters_broken").await?;
    write_letters(&world, "a.work", 600, "failed", "division by zero").await?;
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin
             if new.message_id = (select message_id from dead_letters order by id desc limit 1) then
                 raise exception 'not this one';
             end if;
             return new;
         end $$;
         create trigger refuse before insert on outbox for each row execute function refuse()",
    )
    .execute(&world.pool)
    .await?;
    let everything = Selection::Filter(Filter::default());
    assert!(dead_letters::replay(&world.pool, &everything, "ana", false).await.is_err());
    assert_eq!(world.count(OPEN).await?, 100, "a batch was sent");
    assert_eq!(world.count("SELECT count(*) FROM outbox").await?, 500);

    sqlx::query("drop trigger refuse on outbox").execute(&world.pool).await?;
    assert_eq!(dead_letters::replay(&world.pool, &everything, "ana", false).await?.changed, 100);
    assert_eq!(world.count("SELECT count(DISTINCT message_id) FROM outbox").await?, 600);
    let audit = dead_letters::audit(&world.pool, None, 10).await?;
    let counts: Vec<_> = audit.iter().map(|entry| (entry.matched, entry.count)).collect();
    assert_eq!(counts, [(100, 100), (600, 500)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_leaves_alone_what_dies_again_while_it_is_under_way() -> Result<()> {
    let world = World::new("letters_again").await?;
    write_letters(&world, "a.work", 3, "failed", "division by zero").await?;
    // As if each died, and was archived, at once. Not for ever, so that a replay of them too has an end.
    sqlx::raw_sql(
        "create function die_again() returns trigger language plpgsql as $$ begin
             if (select count(*) from dead_letters) < 12 then
                 insert into dead_letters (id, queue, message_id, fingerprint, kind, body, decodable, reason, error,
                     attempts, failed_at, origin, replay_count)
                 select overlay(gen_random_uuid()::text placing 'ffffffff' from 1)::uuid, queue, message_id,
                     gen_random_uuid()::text, kind, body, true, reason, error, attempts, now(), origin, 1
                 from dead_letters where message_id = new.message_id limit 1;
             end if;
             return new;
         end $$;
         create trigger die_again after insert on outbox for each row execute function die_again()",
    )
    .execute(&world.pool)
    .await?;
    let everything = Selection::Filter(Filter::default());
    let report = dead_letters::replay(&world.pool, &everything, "ana", false).await?;
    assert_eq!((report.matched, report.changed), (3, 3));
    assert_eq!(world.count(OPEN).await?, 3, "they are for the next one");
    assert_eq!(world.count("SELECT count(*) FROM outbox").await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_by_reason_and_a_replay_of_a_filter_takes_just_those() -> Result<()> {
    let world = World::new("letters_bulk").await?;
    write_letters(&world, "a.work", 1203, "failed", "division by zero").await?;
    write_letters(&world, "b.work", 7, "attempts", "connection refused").await?;
    let everything = Selection::Filter(Filter::default());
    let dry = dead_letters::replay(&world.pool, &everything, "ana", true).await?;
    assert_eq!((dry.dry_run, dry.matched, dry.changed), (true, 1210, 0));
    let reasons: Vec<_> = dry
        .reasons
        .iter()
        .map(|r| (r.queue.as_str(), r.reason.as_str(), r.error.as_str(), r.count))
        .collect();
    assert_eq!(
        reasons,
        [("a.work", "failed", "division by zero", 1203), ("b.work", "attempts", "connection refused", 7)]
    );
    assert_eq!(world.count("SELECT count(*) FROM outbox").await?, 0);
    assert_eq!(world.count(OPEN).await?, 1210);

    let refused = Selection::Filter(Filter { reason: Some("refused".into()), ..Filter::default() });
    assert_eq!(dead_letters::replay(&world.pool, &refused, "ana", false).await?.changed, 7);
    assert_eq!(world.count("SELECT count(*) FROM outbox WHERE destination = 'queue:b.work'").await?, 7);
    // All the rest; two people at once replay each letter once.
    let (ana, eva) = tokio::join!(
        dead_letters::replay(&world.pool, &everything, "ana", false),
        dead_letters::replay(&world.pool, &everything, "eva", false)
    );
    assert_eq!(ana?.changed + eva?.changed, 1203);
    assert_eq!(world.count("SELECT count(*) FROM outbox").await?, 1210);
    assert_eq!(world.count("SELECT count(DISTINCT message_id) FROM outbox").await?, 1210);
    assert_eq!(
        world.count("SELECT count(*) FROM outbox WHERE (body::jsonb ->> 'replaycount')::int = 1").await?,
        1210
    );
    assert_eq!(world.count(OPEN).await?, 0);

    let audit = dead_letters::audit(&world.pool, None, 10).await?;
    assert_eq!(audit.len(), 4);
    assert_eq!(audit.iter().map(|entry| entry.count).sum::<i64>(), 1210);
    assert_eq!((audit[3].actor.as_str(), audit[3].action.as_str()), ("ana", "replay"));
    assert_eq!((audit[3].dry_run, audit[3].matched, audit[3].count), (true, 1210, 0));
    assert_eq!(serde_json::from_value::<Selection>(audit[2].filter.clone())?, refused);
    assert_eq!(dead_letters::audit(&world.pool, Some(audit[2].id), 10).await?.len(), 1);
    // They wait in the outbox, which is young; and no letter is left.
    assert_eq!(outbox::doctor(&world.pool).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_letters_are_kept_for_a_while() -> Result<()> {
    let world = World::new("letters_prune").await?;
    write_letters(&world, "a.work", 3, "failed", "division by zero").await?;
    assert_eq!(outbox::doctor(&world.pool).await?.len(), 1, "open letters wait for somebody");
    let first = all(&world, &Filter::default()).await?[0].id;
    let report = dead_letters::discard(&world.pool, &Selection::Ids(vec![first]), "ana", false).await?;
    assert_eq!(report.changed, 1);
    let retention = Retention { resolved_letters: Duration::from_secs(60), ..Retention::default() };
    assert_eq!(outbox::prune(&world.pool, retention).await?.letters, 0);
    sqlx::query(
        "UPDATE dead_letters SET resolved_at = now() - interval '2 minutes' WHERE resolved_at IS NOT NULL",
    )
    .execute(&world.pool)
    .await?;
    assert_eq!(outbox::prune(&world.pool, retention).await?.letters, 1);
    assert_eq!(world.count(OPEN).await?, 2, "open ones stay");
    Ok(())
}
