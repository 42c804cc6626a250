//! Messages while their broker fails: orders go out through an outbox, and are worked by consumers with an inbox. By the
//! consumers' count each has its effect once, or its letter in the archive.

mod account;
mod orders;
mod scene;

use account::{Account, Deleted, Part};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use scene::Scene;
use serde::Serialize;
use std::time::Duration;

/// Orders that are written at once where it matters that the relay publishes all of them together. Less than its batch.
const BURST: usize = 300;
/// How long the broker may take to have all that was published, short of the time after which the publisher gives up.
const TAKEN: Duration = Duration::from_secs(8);
/// Longer than a publisher waits for a confirm.
const GIVEN_UP: Duration = Duration::from_secs(11);

/// What is broken, each on servers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// RabbitMQ raises its memory alarm, now and then for longer than publishers wait for a confirm.
    BrokerAlarm,
    /// A work queue, its dead letters or one of its retry queues is deleted, also while no consumer runs.
    QueueDeleted,
    /// The publisher's connection is reset when the broker has messages and their confirms are on the way.
    CutMidConfirm,
    /// The broker takes all, and the publisher learns of a part.
    ConfirmsLost,
}

impl Case {
    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrokerAlarm => "broker_alarm",
            Self::QueueDeleted => "queue_deleted",
            Self::CutMidConfirm => "cut_mid_confirm",
            Self::ConfirmsLost => "confirms_lost",
        }
    }
}

/// A case's results, in the order in which they are printed.
#[derive(Default, Serialize)]
pub struct Line {
    chaos: &'static str,
    case: &'static str,
    rounds: u32,
    struck: u32,
    /// Orders whose rows were committed. Each has a command, and an event with two subscribers.
    accepted: usize,
    /// Those with the right outcome at all three.
    r#final: usize,
    /// Outcomes that are missing.
    lost: usize,
    /// Effects beyond the first of a message at a consumer.
    duplicated: usize,
    /// Deliveries beyond those that an order needs: the inbox saw them.
    redelivered: u64,
    /// The most times that one message came too often to one consumer.
    copies: u32,
    /// Messages that were in a queue when it was deleted, and were sent again from their rows.
    swept: usize,
    /// Events that one subscriber missed because its queue was away while another's took them; sent again, too.
    missed: usize,
    /// Rounds that came to rest only once consumers were started, or started again.
    stuck: u32,
    /// The most connections that one of the two processes had at a time.
    connections: usize,
    doctor: usize,
}

/// Strikes at random moments until `rounds` of them were in the middle of work.
pub async fn measure(case: Case, rounds: u32, seed: u64) -> Result<Line> {
    eprintln!("{}: starting servers", case.name());
    let mut scene = Scene::start(case.name()).await?;
    let mut line = Line { chaos: "messaging", case: case.name(), ..Line::default() };
    let measured = strikes(&mut scene, case, rounds, seed, &mut line).await;
    line.connections = scene.most_connections();
    let clean = measured.is_ok() && line.lost + line.duplicated + line.doctor == 0 && line.stuck == 0;
    scene.end(clean).await.context("stop the servers")?;
    measured.map(|()| line)
}

async fn strikes(scene: &mut Scene, case: Case, rounds: u32, seed: u64, line: &mut Line) -> Result<()> {
    // Round 0 is not disturbed: what goes wrong in it is a fault of this suite. The second burst finds its channels open.
    let mut answers = 0;
    for burst in 0..2 {
        let before = scene.publishing.answered();
        scene.place(0, BURST, seed.wrapping_add(burst)).await?;
        let confirmed = scene.outbox_gets_empty().await;
        ensure!(confirmed, "an undisturbed burst is not confirmed");
        answers = scene.publishing.answered() - before;
    }
    let (duties, at_rest) = scene.settled(0).await?;
    let account = Account::of(&duties);
    ensure!(at_rest && account.is_exact() && account.redelivered == 0, "an undisturbed round: {account:?}");
    eprintln!("{}: {BURST} orders are confirmed with {answers} bytes", case.name());
    let mut tried = 0;
    while line.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", line.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        let struck = match case {
            Case::BrokerAlarm => (alarm(scene, &mut random, tried).await?, None),
            Case::QueueDeleted => delete(scene, &mut random, tried, line).await?,
            Case::CutMidConfirm => (cut(scene, &mut random, tried).await?, None),
            Case::ConfirmsLost => (lose_confirms(scene, &mut random, tried, answers).await?, None),
        };
        let (struck, deleted) = struck;
        judge(scene, tried, deleted.as_ref(), line).await?;
        line.struck += u32::from(struck);
        eprintln!(
            "{} {tried}: {}, lost {}, duplicated {}, redelivered {}, stuck {}, doctor {}",
            case.name(),
            if struck { "struck in mid-work" } else { "missed: once more" },
            line.lost,
            line.duplicated,
            line.redelivered,
            line.stuck,
            line.doctor
        );
    }
    line.rounds = line.struck;
    line.lost += scene.left_in_queues().await?;
    Ok(())
}

/// Waits for the end of the work, and counts what is wrong with it.
async fn judge(scene: &mut Scene, round: u32, deleted: Option<&Deleted>, line: &mut Line) -> Result<()> {
    let (mut duties, mut at_rest) = scene.settled(round).await?;
    if !at_rest {
        line.stuck += 1;
        scene.stop_consumers().await?;
        scene.start_consumers();
        (duties, at_rest) = scene.settled(round).await?;
    }
    if let Some(deleted) = deleted.filter(|_| at_rest) {
        line.missed += duties.iter().filter(|duty| !duty.is_settled() && deleted.hid(duty)).count();
        let swept = scene.sweep(&duties, deleted).await?;
        line.swept += swept;
        if swept > 0 {
            (duties, _) = scene.settled(round).await?;
        }
    }
    let account = Account::of(&duties);
    for fault in account.lost.iter().chain(&account.duplicated).take(10) {
        eprintln!("{fault}");
    }
    if !account.lost.is_empty() {
        scene.tell_queues().await?;
    }
    line.accepted += account.orders;
    line.r#final += account.right;
    line.lost += account.lost.len();
    line.duplicated += account.duplicated.len();
    line.redelivered += account.redelivered;
    line.copies = line.copies.max(account.copies);
    for finding in scene.findings().await? {
        eprintln!("doctor: {finding}");
        line.doctor += 1;
    }
    Ok(())
}

/// Whether rows waited for the alarm to end.
async fn alarm(scene: &Scene, random: &mut StdRng, round: u32) -> Result<bool> {
    let writer = scene.write(round, random.random());
    pause(random, 200..800).await;
    scene.rabbit.raise_memory_alarm().await?;
    // A publisher gives up after 10 s: some alarms outlast that, and some what it tries next.
    let length = match round % 20 {
        5 => 22_000..25_000,
        0 | 10 | 15 => 11_000..14_000,
        _ => 500..3_000,
    };
    pause(random, length).await;
    let waiting = scene.outbox().await?;
    scene.rabbit.clear_memory_alarm().await?;
    pause(random, 100..500).await;
    writer.stop().await?;
    Ok(waiting > 0)
}

/// Whether messages were on their way to the queue that was deleted, and which that was.
async fn delete(
    scene: &mut Scene,
    random: &mut StdRng,
    round: u32,
    line: &mut Line,
) -> Result<(bool, Option<Deleted>)> {
    let consuming = random.random_bool(0.6);
    if !consuming {
        scene.stop_consumers().await?;
    }
    let writer = scene.write(round, random.random());
    pause(random, 300..1_200).await;
    let any = orders::QUEUES[random.random_range(0..orders::QUEUES.len())];
    let (queue, part) = match random.random_range(0..5) {
        0 | 1 => (&orders::SHIPMENTS, Part::Work),
        2 => (any, Part::Work),
        3 => (any, Part::Dead),
        _ => (any, Part::Tier(orders::BACKOFF[random.random_range(0..orders::BACKOFF.len())])),
    };
    // Of those that go on, the first that comes back makes the queue again. Of a burst, many do at once.
    let burst = random.random_bool(0.5);
    let mut writer = Some(writer);
    if burst && let Some(writer) = writer.take() {
        writer.stop().await?;
    }
    let under_way = scene.outbox().await? > 0
        || scene.duties(round).await?.iter().any(|duty| duty.is_for(queue, Part::Work) && !duty.is_settled());
    let name = part.name(queue);
    let there = scene.delete(&name).await?;
    let deleted = Deleted { queue, part, up_to: scene.last_order() };
    if burst {
        scene.place(round, BURST, random.random()).await?;
    }
    let who = if consuming { "consumers at work" } else { "no consumer" };
    let then = if burst { "a burst" } else { "a trickle" };
    eprintln!("deleted {name}, {who}, then {then}, {} rows in the outbox", scene.outbox().await?);
    pause(random, 300..1_500).await;
    if let Some(writer) = writer {
        writer.stop().await?;
    }
    if !consuming {
        if !scene.outbox_gets_empty().await {
            eprintln!("while no consumer runs, the outbox does not get empty");
            line.stuck += 1;
        }
        scene.start_consumers();
    }
    Ok((there && under_way, Some(deleted)))
}

/// Whether confirms were held back, and rows waited for them, when the connection was reset.
async fn cut(scene: &Scene, random: &mut StdRng, round: u32) -> Result<bool> {
    let writer = scene.write(round, random.random());
    pause(random, 200..1_000).await;
    scene.publishing.limit_answers(0).await;
    let held = stack::wait::until("a confirm should be on its way", TAKEN, async || {
        scene.publishing.withheld() > 0 && scene.outbox().await.is_ok_and(|rows| rows > 0)
    });
    let struck = held.await.is_ok();
    pause(random, 0..100).await;
    scene.publishing.cut().await;
    pause(random, 50..800).await;
    scene.publishing.heal().await;
    pause(random, 100..500).await;
    writer.stop().await?;
    Ok(struck)
}

/// Whether the broker had all, and the publisher knew of a part. `answers` are the bytes that confirm a burst.
async fn lose_confirms(scene: &Scene, random: &mut StdRng, round: u32, answers: u64) -> Result<bool> {
    // The last cut took the connection along: the burst shall find one.
    scene.place(round, BURST, random.random()).await?;
    ensure!(scene.outbox_gets_empty().await, "an undisturbed burst is not confirmed");
    let part = answers as f64 * random.random_range(0.2..0.7);
    scene.publishing.limit_answers(part as u64).await;
    scene.place(round, BURST, random.random()).await?;
    let taken = stack::wait::until("the broker should have all", TAKEN, async || {
        scene.publishing.withheld() > 0
            && scene.duties(round).await.is_ok_and(|duties| duties.iter().all(|duty| duty.runs > 0))
    });
    let struck = taken.await.is_ok() && scene.outbox().await? > 0;
    // Now and then nothing breaks, and the publisher gives up by itself.
    if round.is_multiple_of(5) {
        tokio::time::sleep(GIVEN_UP).await;
    }
    scene.publishing.cut().await;
    pause(random, 50..800).await;
    scene.publishing.heal().await;
    Ok(struck)
}

async fn pause(random: &mut impl Rng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}
