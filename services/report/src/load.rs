//! The command `load`: campaigns and messages from CSV files in the tables' layout, as `COPY … TO … CSV HEADER`
//! writes them. A batch and how far the file is commit together, so that a load that was broken off goes on where it
//! was; and rows know where they come from, so that a load that is repeated changes nothing. A row that makes no
//! sense, or contradicts one that is loaded, goes to a file of rejected rows.

mod parse;
mod rejects;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, ensure};
use chassis::{config::DatabaseSettings, db, idempotency::request_hash};
use chrono::NaiveDate;
use chrono_tz::Tz;
use csv::{ByteRecord, Position as CsvPosition};
use indicatif::{ProgressBar, ProgressStyle};
use sea_orm::{
    DatabaseConnection,
    sqlx::{PgConnection, PgPool},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::storage::{
    campaigns::{self, CampaignUpdate, Origin},
    loads::{self, Position},
    messages::{self, Message, Written},
};
use parse::{DETALLE, MAESTRO};
use rejects::Rejects;

/// Rows a transaction.
const BATCH: usize = 5_000;

/// What to load.
#[derive(Clone, Debug)]
pub struct Files {
    /// `ta_sms_maestro`.
    pub maestro: Option<PathBuf>,
    /// `ta_sms_detalle`, of campaigns that are loaded.
    pub detalle: Option<PathBuf>,
    /// Whose clock shows the times that name no offset.
    pub zone: Tz,
    /// Rejected rows a file, after which it stops.
    pub max_rejects: usize,
}

/// Loads campaigns first, then messages. Told to stop, it stops after a batch. Gives how many rows were rejected.
///
/// # Errors
/// A file that can't be read, too many rejected rows, the database.
pub async fn load(
    settings: &DatabaseSettings,
    files: &Files,
    shutdown: &CancellationToken,
) -> anyhow::Result<usize> {
    let database = db::connect(settings, "report load", shutdown).await?;
    let mut rejected = 0;
    if let Some(path) = &files.maestro {
        let mut source = Source::open(path, &MAESTRO, files.max_rejects, &database.orm).await?;
        while let Some(batch) = source.batch(shutdown)? {
            source.campaigns(&database.pool, batch).await?;
        }
        rejected += source.rejects.count;
    }
    if let Some(path) = &files.detalle {
        let mut source = Source::open(path, &DETALLE, files.max_rejects, &database.orm).await?;
        while let Some(batch) = source.batch(shutdown)? {
            source.messages(&database.pool, batch, files.zone).await?;
        }
        rejected += source.rejects.count;
    }
    Ok(rejected)
}

/// A row with its number, from 1.
struct Row {
    number: i64,
    record: ByteRecord,
}

/// Rows with what is wrong with them.
type Rejected = Vec<(i64, String, ByteRecord)>;

impl Row {
    fn rejected(self, reason: impl Into<String>) -> (i64, String, ByteRecord) {
        (self.number, reason.into(), self.record)
    }
}

/// A file, and how far it is.
struct Source {
    reader: csv::Reader<File>,
    path: PathBuf,
    /// How many columns there are, and where each of ours is.
    width: usize,
    columns: Vec<usize>,
    fingerprint: String,
    /// When the file was written, in seconds: a newer one's rows replace an older one's.
    version: i64,
    position: Position,
    /// Rows that changed nothing because a newer file had other values.
    older: u64,
    rejects: Rejects,
    bar: ProgressBar,
}

impl Source {
    async fn open(
        path: &Path,
        names: &[&str],
        max_rejects: usize,
        orm: &DatabaseConnection,
    ) -> anyhow::Result<Self> {
        let said = || path.display().to_string();
        let mut file = File::open(path).with_context(said)?;
        let about = file.metadata().with_context(said)?;
        let mut beginning = Vec::new();
        (&mut file).take(1 << 20).read_to_end(&mut beginning).with_context(said)?;
        let version = about.modified()?.duration_since(UNIX_EPOCH)?.as_secs();
        let parts: [&[u8]; 4] =
            [names[1].as_bytes(), &about.len().to_be_bytes(), &version.to_be_bytes(), &beginning];
        let fingerprint = request_hash(&parts);
        let position = loads::position(orm, &fingerprint).await?;

        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).with_context(said)?;
        let head = reader.headers().with_context(said)?.clone();
        let find = |name: &&str| {
            let found = head.iter().position(|column| column.trim_start_matches('\u{feff}') == *name);
            found.with_context(|| format!("{} has no column {name}: its first line is {head:?}", said()))
        };
        let columns = names.iter().map(find).collect::<anyhow::Result<Vec<_>>>()?;
        let bar = ProgressBar::new(about.len());
        let style = "{msg} {bar:30} {bytes}/{total_bytes}, {elapsed}";
        bar.set_style(ProgressStyle::with_template(style)?);
        if position.bytes > 0 {
            let mut at = CsvPosition::new();
            at.set_byte(u64::try_from(position.bytes)?);
            reader.seek(at).with_context(said)?;
            eprintln!("{}: goes on after {} rows", said(), position.rows);
        }
        let rejects = Rejects::open(path, head.as_byte_record().clone(), position.rows, max_rejects)?;
        let (version, width) = (i64::try_from(version)?, head.len());
        let path = path.to_path_buf();
        Ok(Self { reader, path, width, columns, fingerprint, version, position, older: 0, rejects, bar })
    }

    /// The next rows; none at the end.
    fn batch(&mut self, shutdown: &CancellationToken) -> anyhow::Result<Option<Vec<Row>>> {
        ensure!(
            !shutdown.is_cancelled(),
            "told to stop after {} rows; run it again to go on",
            self.position.rows
        );
        if self.position.finished {
            let mut said = format!("{}: {} rows", self.path.display(), self.position.rows);
            if self.older > 0 {
                said.push_str(&format!(", {} of them older than what is loaded", self.older));
            }
            if self.rejects.count > 0 {
                let path = self.rejects.path().display();
                said.push_str(&format!(", {} of them rejected: see {path}", self.rejects.count));
            }
            self.bar.finish_with_message(said.clone());
            // Also for those who see no bar.
            println!("{said}");
            return Ok(None);
        }
        let mut batch = Vec::with_capacity(BATCH);
        let mut record = ByteRecord::new();
        let mut number = self.position.rows;
        while batch.len() < BATCH
            && self
                .reader
                .read_byte_record(&mut record)
                .with_context(|| format!("{}, row {}", self.path.display(), number + 1))?
        {
            number += 1;
            batch.push(Row { number, record: record.clone() });
        }
        Ok(Some(batch))
    }

    /// The columns of a row that are ours.
    fn fields<'a, const N: usize>(&self, row: &'a Row) -> anyhow::Result<[&'a str; N]> {
        let found = row.record.len();
        ensure!(found == self.width, "{found} columns, expected {}", self.width);
        let mut fields = [""; N];
        for (field, column) in fields.iter_mut().zip(&self.columns) {
            let bytes = row.record.get(*column).unwrap_or_default();
            *field = std::str::from_utf8(bytes)
                .with_context(|| format!("{:?} is not UTF-8", String::from_utf8_lossy(bytes)))?;
        }
        Ok(fields)
    }

    /// Notes that the batch is in the tables, in its transaction, and what was left out of it.
    async fn advance(
        &mut self,
        conn: &mut PgConnection,
        rows: usize,
        mut rejected: Rejected,
    ) -> anyhow::Result<Position> {
        rejected.sort_by_key(|(number, ..)| *number);
        self.rejects.add(&rejected)?;
        let position = Position {
            bytes: i64::try_from(self.reader.position().byte())?,
            rows: self.position.rows + i64::try_from(rows)?,
            finished: rows < BATCH,
        };
        loads::advance(conn, &self.fingerprint, &self.path.display().to_string(), position).await?;
        Ok(position)
    }

    fn advanced(&mut self, position: Position) {
        self.position = position;
        self.bar.set_position(position.bytes.unsigned_abs());
        self.bar.set_message(format!("{} rows", position.rows));
    }

    async fn campaigns(&mut self, pool: &PgPool, batch: Vec<Row>) -> anyhow::Result<()> {
        let (rows, mut rejected) = (batch.len(), Rejected::new());
        let mut told = BTreeMap::<String, (Row, CampaignUpdate)>::new();
        for row in batch {
            let read = self.fields(&row).and_then(|fields| parse::campaign(fields, self.version));
            match read {
                Err(error) => rejected.push(row.rejected(format!("{error:#}"))),
                Ok(campaign) => {
                    keep_first(&mut told, campaign.origin_id.clone(), row, campaign, &mut rejected)
                }
            }
        }
        let mut transaction = pool.begin().await?;
        let ids: Vec<String> = told.keys().cloned().collect();
        for loaded in campaigns::loaded(&mut transaction, &ids).await? {
            let Some((row, campaign)) = told.remove(&loaded.origen_id) else { continue };
            let same = (&loaded.nombre, &loaded.estado, &loaded.descripcion)
                == (&campaign.nombre, &campaign.estado, &campaign.descripcion);
            if loaded.fecha != campaign.fecha {
                // Its messages are in that day's partition, and reports of that day have been made.
                let reason = format!(
                    "fecha {}: the campaign is loaded with {}, and a campaign's day can't change",
                    campaign.fecha, loaded.fecha
                );
                rejected.push(row.rejected(reason));
            } else if loaded.version == campaign.version && !same {
                rejected.push(row.rejected(OTHER_VALUES));
            } else {
                self.older += u64::from(loaded.version > campaign.version && !same);
                told.insert(loaded.origen_id, (row, campaign));
            }
        }
        let told: Vec<CampaignUpdate> = told.into_values().map(|(_, campaign)| campaign).collect();
        campaigns::write(&mut transaction, Origin::Load, &told).await?;
        let position = self.advance(&mut transaction, rows, rejected).await?;
        transaction.commit().await?;
        self.advanced(position);
        Ok(())
    }

    async fn messages(&mut self, pool: &PgPool, batch: Vec<Row>, zone: Tz) -> anyhow::Result<()> {
        let (rows, mut rejected) = (batch.len(), Rejected::new());
        let mut by_campaign = BTreeMap::<String, BTreeMap<Uuid, (Row, Message)>>::new();
        for row in batch {
            let read = self.fields(&row).and_then(|fields| parse::message(fields, self.version, zone));
            match read {
                Err(error) => rejected.push(row.rejected(format!("{error:#}"))),
                Ok((campaign, message)) => {
                    let messages = by_campaign.entry(campaign).or_default();
                    keep_first(messages, message.id, row, message, &mut rejected);
                }
            }
        }
        let mut transaction = pool.begin().await?;
        let wanted: Vec<String> = by_campaign.keys().cloned().collect();
        let known = campaigns::by_origin(&mut transaction, Origin::Load, &wanted).await?;
        let known: HashMap<String, (i64, NaiveDate)> =
            known.into_iter().map(|(origin_id, id, day)| (origin_id, (id, day))).collect();
        for (origin_id, mut kept) in by_campaign {
            let Some((id, day)) = known.get(&origin_id) else {
                let reason = format!("campaign {origin_id} is not loaded; load its maestro first");
                rejected.extend(kept.into_values().map(|(row, _)| row.rejected(reason.clone())));
                continue;
            };
            messages::ensure_day(&mut transaction, *day).await?;
            let messages: Vec<Message> = kept.values().map(|(_, message)| message.clone()).collect();
            let written = messages::write(&mut transaction, *id, *day, &messages).await?;
            ensure!(written != Written::NoCampaign, "campaign {origin_id} was deleted at this moment");
            if written == Written::Rows(i64::try_from(messages.len())?) {
                continue;
            }
            for (id, is_newer) in messages::differing(&mut transaction, *id, *day, &messages).await? {
                self.older += u64::from(is_newer);
                if !is_newer && let Some((row, _)) = kept.remove(&id) {
                    rejected.push(row.rejected(OTHER_VALUES));
                }
            }
        }
        let position = self.advance(&mut transaction, rows, rejected).await?;
        transaction.commit().await?;
        self.advanced(position);
        Ok(())
    }
}

/// Of two rows with one id and other values, which one is true can't be known.
const OTHER_VALUES: &str =
    "this id is loaded with other values, from this file or from one that was saved in the same second";

/// Keeps the first row of an id in a batch. What says the same again is left out; what says other things is rejected.
fn keep_first<K: Ord, T: PartialEq>(
    kept: &mut BTreeMap<K, (Row, T)>,
    key: K,
    row: Row,
    value: T,
    rejected: &mut Rejected,
) {
    match kept.entry(key) {
        Entry::Vacant(free) => {
            free.insert((row, value));
        }
        Entry::Occupied(first) if first.get().1 == value => {}
        Entry::Occupied(first) => {
            let reason = format!("this id has other values in row {}", first.get().0.number);
            rejected.push(row.rejected(reason));
        }
    }
}
