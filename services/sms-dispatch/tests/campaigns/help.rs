//! Who asks for help is answered once a day, as soon as that can be, and what was not answered says so.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use sms_dispatch::{
    domain::sender::ProviderName,
    help::Help,
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    reports::Reports,
    storage::{providers, reports},
};
use uuid::Uuid;

use crate::world::{SENDER, World};

const ANSWERED: &str = "select count(*) from help_answers where outcome = 'Enviada'";
const WAITS: &str = "select count(*) from help_answers where taken_at is null";

fn help(world: &World) -> Help {
    let mut settings = (*world.settings).clone();
    settings.help_text = Some("Para no recibir mensajes responda BAJA.".to_owned());
    Help {
        pool: world.pool.clone(),
        providers: world.providers(),
        buckets: Arc::clone(&world.sender().buckets),
        settings: Arc::new(settings),
    }
}

async fn writes(world: &World, phone: &str, text: &str) -> Result<()> {
    reports::keep_inbound(&world.pool, "telnyx", Uuid::new_v4(), phone, SENDER, text).await?;
    Reports::new(world.pool.clone()).inbound().await?;
    Ok(())
}

fn refusal(outcome: Outcome, code: u32) -> Submission {
    let verdict = Verdict {
        outcome,
        code: Some(code),
        reason: "La cola del remitente en el proveedor está llena.".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: true,
    };
    Submission::NotAccepted(Refusal { verdict, pause: None })
}

#[tokio::test]
async fn who_asks_for_help_is_answered_once_a_day_and_not_after_an_opt_out() -> Result<()> {
    let world = World::new("help").await?;
    let help = help(&world);
    for (phone, text) in [
        ("+526121000007", "ayuda"),
        ("+526121000007", "AYUDA!"),
        ("+526121000014", "BAJA"),
        ("+526121000014", "ayuda"),
        ("+526121000021", "¿Quién es?"),
    ] {
        writes(&world, phone, text).await?;
    }
    while help.answer().await? {}
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 1 && accepted["+526121000007"].len() == 1, "{accepted:?}");
    ensure!(world.count(ANSWERED).await? == 1);
    // Who opts out while the answer waits gets none, and that is noted.
    for text in ["ayuda", "BAJA"] {
        writes(&world, "+526121000028", text).await?;
    }
    while help.answer().await? {}
    ensure!(world.provider.accepted().len() == 1, "{:?}", world.provider.accepted());
    let stopped = "select count(*) from help_answers where outcome = 'El destinatario se dio de baja'";
    ensure!(world.count(stopped).await? == 1);
    Ok(())
}

#[tokio::test]
async fn an_answer_waits_until_its_provider_and_its_sender_take_messages() -> Result<()> {
    let world = World::new("helpwaits").await?;
    let help = help(&world);
    writes(&world, "+526121000007", "ayuda").await?;
    let mut conn = world.pool.acquire().await?;
    providers::close(&mut conn, ProviderName::Telnyx, "Sin fondos", None).await?;
    ensure!(!help.answer().await?, "through a provider that is closed");
    providers::open(&mut conn, Some(ProviderName::Telnyx)).await?;
    world.execute("update sms_senders set held_until = now() + interval '1 hour'").await?;
    ensure!(!help.answer().await?, "in the name of a sender that is held");
    ensure!(world.provider.asked().is_empty());
    // Who asks again meanwhile is answered once, though it is another day.
    world.execute("update help_answers set day = day - 1").await?;
    writes(&world, "+526121000007", "ayuda").await?;

    // It has too much of it, and then no money.
    world.execute("update sms_senders set held_until = null").await?;
    let answers = [refusal(Outcome::Later, 40_318), refusal(Outcome::ProviderClosed, 20_100)];
    world.provider.answer_next(answers);
    ensure!(!help.answer().await?);
    ensure!(world.count("select count(*) from sms_senders where held_until > now()").await? == 1);
    world.execute("update sms_senders set held_until = null").await?;
    ensure!(!help.answer().await?);
    ensure!(world.count("select count(*) from sms_providers where closed_at is not null").await? == 1);
    ensure!(world.count(WAITS).await? == 1, "it is given up");
    providers::open(&mut conn, Some(ProviderName::Telnyx)).await?;
    while help.answer().await? {}
    ensure!(world.provider.accepted().len() == 1, "{:?}", world.provider.accepted());
    ensure!(
        world.count(ANSWERED).await? == 1 && world.count("select count(*) from help_answers").await? == 1
    );
    Ok(())
}

#[tokio::test]
async fn what_a_slow_sender_can_not_answer_on_its_day_says_so_and_keeps_no_other_waiting() -> Result<()> {
    let world = World::new("helpslow").await?;
    let help = help(&world);
    // A message in two minutes.
    world.execute("update sms_senders set per_second = 0.01").await?;
    for phone in ["+526121000007", "+526121000014"] {
        writes(&world, phone, "ayuda").await?;
    }
    ensure!(help.answer().await?);
    // It has no turn, and nobody stands waiting for one.
    let second = tokio::time::timeout(Duration::from_secs(20), help.answer()).await??;
    ensure!(!second && world.count(WAITS).await? == 1);
    let other = "insert into sms_senders (address, provider, kind, per_second, created_by)
                 values ('+525550002222', 'telnyx', 'long_code', 100, 'test')";
    world.execute(other).await?;
    let phone = "+526121000021";
    reports::keep_inbound(&world.pool, "telnyx", Uuid::new_v4(), phone, "+525550002222", "ayuda").await?;
    Reports::new(world.pool.clone()).inbound().await?;
    ensure!(help.answer().await?, "it waits behind another sender's");
    ensure!(world.provider.accepted().contains_key(phone));

    // Within the hour it may still go, on the next day too.
    world.execute("update help_answers set day = day - 1 where taken_at is null").await?;
    ensure!(!help.answer().await? && world.count(WAITS).await? == 1);
    world
        .execute("update help_answers set created_at = now() - interval '2 hours' where taken_at is null")
        .await?;
    ensure!(!help.answer().await?);
    let late = "select count(*) from help_answers where outcome = 'No se pudo contestar a tiempo'";
    ensure!(world.count(late).await? == 1 && world.provider.accepted().len() == 2);
    Ok(())
}

#[tokio::test]
async fn workers_that_come_at_once_answer_one_each() -> Result<()> {
    let world = World::new("helpworkers").await?;
    // Their turns are apart: all of them have seen what waits before the first one sends.
    world.execute("update sms_senders set per_second = 4").await?;
    for phone in ["+526121000007", "+526121000014", "+526121000021"] {
        writes(&world, phone, "ayuda").await?;
    }
    let [one, two, three] = [(); 3].map(|()| help(&world));
    let answered = tokio::try_join!(one.answer(), two.answer(), three.answer())?;
    ensure!(answered == (true, true, true), "{answered:?}");
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 3, "turns were taken in vain: {accepted:?}");
    ensure!(world.count(ANSWERED).await? == 3 && world.count(WAITS).await? == 0);
    Ok(())
}

#[tokio::test]
async fn who_asks_on_the_next_day_while_an_answer_waits_has_that_day_s() -> Result<()> {
    let world = World::new("helpnextday").await?;
    let help = help(&world);
    let phone = "+526121000007";
    world.execute("update sms_senders set held_until = now() + interval '1 hour'").await?;
    writes(&world, phone, "ayuda").await?;
    ensure!(!help.answer().await?, "its sender is held");
    // Midnight is past, and the hour nearly.
    world
        .execute("update help_answers set day = day - 1, created_at = now() - interval '59 minutes'")
        .await?;
    writes(&world, phone, "ayuda").await?;
    let today = "select count(*) from help_answers
         where taken_at is null and day = (now() at time zone 'America/Mexico_City')::date";
    ensure!(world.count(today).await? == 1 && world.count(WAITS).await? == 1, "one answer, of this day");
    // Two hours later it is still this day's.
    world.execute("update help_answers set created_at = created_at - interval '2 hours'").await?;
    ensure!(!help.answer().await? && world.count(WAITS).await? == 1, "it lapsed with the day before");
    world.execute("update sms_senders set held_until = null").await?;
    while help.answer().await? {}
    writes(&world, phone, "ayuda").await?;
    while help.answer().await? {}
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 1 && accepted[phone].len() == 1, "once a day: {accepted:?}");
    ensure!(world.count(ANSWERED).await? == 1);
    Ok(())
}
