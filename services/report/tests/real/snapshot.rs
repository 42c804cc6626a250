//! While rows of a campaign come and change, its file is what the table was at one moment.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use chrono::NaiveDate;
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use report::{
    domain::params::Params,
    files::produce::{Counter, Produced, Subject, produce},
    storage::messages::{self, Message},
};
use sea_orm::sqlx::{self, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::world::{World, day, message};

/// The numbers of the messages that one event tells of.
type Write = Vec<u32>;

/// What happens to a campaign.
#[derive(Clone, Debug)]
struct History {
    /// Messages that it has before.
    rows: u32,
    /// Transactions, each of some writes: of messages that are there, and of new ones.
    transactions: Vec<Vec<Write>>,
    /// Between two transactions, in microseconds.
    pause: u64,
    /// Between two pieces, for whoever takes the file.
    slowness: u64,
}

fn histories() -> impl Strategy<Value = History> {
    (1..6_000u32).prop_flat_map(|rows| {
        // A third of them or so are new.
        let write = prop::collection::vec(0..rows * 3 / 2 + 5, 1..200);
        let transactions = prop::collection::vec(prop::collection::vec(write, 1..4), 5..60);
        (Just(rows), transactions, 0..3_000u64, 0..2_000u64)
            .prop_map(|(rows, transactions, pause, slowness)| History { rows, transactions, pause, slowness })
    })
}

/// Phones and their texts.
type State = BTreeMap<String, String>;

impl History {
    /// What each transaction writes, and the table's states by how often the campaign had changed: before them all,
    /// and after each.
    fn play(&self, changes: i64) -> (Vec<Vec<Vec<Message>>>, BTreeMap<i64, State>) {
        let mut state: State =
            (0..self.rows).map(|number| message(number, 1)).map(|row| (row.phone, row.text)).collect();
        let (mut states, mut version, mut changes) = (BTreeMap::from([(changes, state.clone())]), 1, changes);
        let mut written = Vec::new();
        for transaction in &self.transactions {
            let mut batches = Vec::new();
            for numbers in transaction {
                version += 1;
                // As the service hands them over: by id, each once.
                let numbers: std::collections::BTreeSet<_> = numbers.iter().collect();
                let batch: Vec<_> = numbers.into_iter().map(|number| message(*number, version)).collect();
                state.extend(batch.iter().map(|row| (row.phone.clone(), row.text.clone())));
                changes += 1;
                batches.push(batch);
            }
            states.insert(changes, state.clone());
            written.push(batches);
        }
        (written, states)
    }
}

async fn write(
    pool: PgPool,
    campaign: i64,
    fecha: NaiveDate,
    written: Vec<Vec<Vec<Message>>>,
    pause: Duration,
) -> Result<()> {
    for batches in written {
        let mut transaction = pool.begin().await?;
        for batch in batches {
            messages::write(&mut transaction, campaign, fecha, &batch).await?;
        }
        transaction.commit().await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Makes the file, and takes its pieces as slowly as S3 might.
async fn file(pool: &PgPool, subject: &Subject, slowness: Duration) -> Result<(Produced, Vec<u8>)> {
    let (sender, mut receiver) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let producing =
        tokio::spawn(produce(pool.clone(), subject.clone(), sender, Counter::default(), stop.clone()));
    let mut bytes = Vec::new();
    while let Some(piece) = receiver.recv().await {
        bytes.extend_from_slice(&piece.map_err(|error| anyhow!(error))?);
        tokio::time::sleep(slowness).await;
    }
    Ok((producing.await??, bytes))
}

/// Compares a file with the table's state at its moment. Gives the moment.
fn compare(produced: Produced, bytes: &[u8], states: &BTreeMap<i64, State>) -> Result<i64> {
    let moment = produced.changes;
    let should =
        states.get(&moment).with_context(|| format!("{moment} is in the middle of a transaction"))?;
    let mut reader = csv::Reader::from_reader(bytes);
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    ensure!(produced.rows == i64::try_from(records.len())?, "{produced:?}, {} records", records.len());
    let is: State = records.iter().map(|record| (record[3].to_owned(), record[4].to_owned())).collect();
    ensure!(is.len() == records.len(), "{} records of {} messages", records.len(), is.len());
    let wrong = is.iter().find(|(phone, text)| should.get(*phone) != Some(text));
    ensure!(
        wrong.is_none(),
        "at {moment} {wrong:?} was {:?}",
        wrong.and_then(|(phone, _)| should.get(phone))
    );
    ensure!(is.len() == should.len(), "{} of {} rows at {moment}", is.len(), should.len());
    Ok(moment)
}

/// Plays a history while files are made. Gives how many of them show a moment in the middle.
async fn check(world: &World, name: &str, history: &History) -> Result<usize> {
    let fecha = day("2025-01-27")?;
    let campaign = world.campaign(fecha, name, history.rows).await?;
    let changes: i64 = sqlx::query_scalar("select cambios from ta_sms_maestro where id = $1")
        .bind(campaign)
        .fetch_one(&world.pool)
        .await?;
    let (written, states) = history.play(changes);
    let subject = Subject { campaign, fecha, zone: world.resources.settings.zone, params: Params::default() };
    let pause = Duration::from_micros(history.pause);
    let writer = tokio::spawn(write(world.pool.clone(), campaign, fecha, written, pause));
    let (mut moments, mut last) = (Vec::new(), false);
    // The last one begins after all is written.
    while !last {
        last = writer.is_finished();
        let slowness = Duration::from_micros(history.slowness);
        let (produced, bytes) = file(&world.pool, &subject, slowness).await?;
        moments.push(compare(produced, &bytes, &states)?);
    }
    writer.await??;
    let (first, end) = (states.keys().next().copied(), states.keys().next_back().copied());
    ensure!(moments.is_sorted() && moments.last().copied() == end, "{moments:?} of {end:?}");
    Ok(moments.iter().filter(|moment| Some(**moment) != first && Some(**moment) != end).count())
}

#[test]
fn a_file_is_the_table_at_one_moment() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let world = runtime.block_on(World::new("reportmoment"))?;
    let (number, amid) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let config = Config { cases: 24, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    // How often a file comes amid the changes is the machine's affair.
    for _ in 0..10 {
        let checked = TestRunner::new(config.clone()).run(&histories(), |history| {
            let name = format!("C{}", number.fetch_add(1, Ordering::Relaxed));
            let found = runtime
                .block_on(check(&world, &name, &history))
                .map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            amid.fetch_add(found, Ordering::Relaxed);
            Ok(())
        });
        checked.map_err(|error| anyhow!("{error}"))?;
        if amid.load(Ordering::Relaxed) > 24 {
            break;
        }
    }
    let amid = amid.into_inner();
    ensure!(amid > 24, "only {amid} files were made while rows changed");
    // Its pool belongs to the runtime.
    runtime.block_on(async { drop(world) });
    Ok(())
}
