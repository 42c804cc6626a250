//! The command `load`: campaigns and messages from CSV files in the tables' layout, as `COPY … TO … CSV HEADER`
//! writes them. A batch and how far the file is commit together, so that a load that was broken off goes on where it
//! was; and rows know where they come from, so that a load that is repeated changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, bail, ensure};
use chassis::{config::DatabaseSettings, db, idempotency::request_hash};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use csv::{Position as CsvPosition, StringRecord};
use indicatif::{ProgressBar, ProgressStyle};
use sea_orm::{
    DatabaseConnection,
    sqlx::{PgConnection, PgPool},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::params::MessageState,
    storage::{
        campaigns::{self, CampaignUpdate, Origin},
        loads::{self, Position},
        messages::{self, Message, Written},
    },
};

/// Rows a transaction.
const BATCH: usize = 5_000;

const MAESTRO: [&str; 5] = ["id", "fecha", "nombre", "estado", "descripcion"];
const DETALLE: [&str; 7] = ["id", "id_maestro", "telefono", "mensaje", "fecha_envio", "estado", "error"];

/// What to load.
#[derive(Clone, Debug)]
pub struct Files {
    /// `ta_sms_maestro`.
    pub maestro: Option<PathBuf>,
    /// `ta_sms_detalle`, of campaigns that are loaded.
    pub detalle: Option<PathBuf>,
    /// Whose clock shows the times that name no offset.
    pub zone: Tz,
}

/// Loads campaigns first, then messages. Told to stop, it stops after a batch.
///
/// # Errors
/// A file that can't be read, a line that makes no sense (with its number), the database.
pub async fn load(
    settings: &DatabaseSettings,
    files: &Files,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let database = db::connect(settings, "report load", shutdown).await?;
    if let Some(path) = &files.maestro {
        let mut source = Source::open(path, &MAESTRO, &database.orm).await?;
        while let Some(batch) = source.batch(shutdown)? {
            source.campaigns(&database.pool, &batch).await?;
        }
    }
    if let Some(path) = &files.detalle {
        let mut source = Source::open(path, &DETALLE, &database.orm).await?;
        while let Some(batch) = source.batch(shutdown)? {
            source.messages(&database.pool, &batch, files.zone).await?;
        }
    }
    Ok(())
}

/// A file, and how far it is.
struct Source {
    reader: csv::Reader<File>,
    path: PathBuf,
    /// Where each column is.
    columns: Vec<usize>,
    fingerprint: String,
    /// When the file was written: a newer one's rows replace an older one's.
    version: i64,
    position: Position,
    bar: ProgressBar,
}

impl Source {
    async fn open(path: &Path, names: &[&str], orm: &DatabaseConnection) -> anyhow::Result<Self> {
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

        let mut reader = csv::Reader::from_path(path).with_context(said)?;
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
        let version = i64::try_from(version)?;
        Ok(Self { reader, path: path.to_path_buf(), columns, fingerprint, version, position, bar })
    }

    /// The next rows; none at the end.
    fn batch(&mut self, shutdown: &CancellationToken) -> anyhow::Result<Option<Vec<StringRecord>>> {
        ensure!(
            !shutdown.is_cancelled(),
            "told to stop after {} rows; run it again to go on",
            self.position.rows
        );
        if self.position.finished {
            self.bar.finish_with_message(format!("{}: {} rows", self.path.display(), self.position.rows));
            // Also for those who see no bar.
            println!("{}: {} rows", self.path.display(), self.position.rows);
            return Ok(None);
        }
        let mut batch = Vec::with_capacity(BATCH);
        let mut record = StringRecord::new();
        while batch.len() < BATCH
            && self.reader.read_record(&mut record).with_context(|| self.place(batch.len()))?
        {
            batch.push(record.clone());
        }
        Ok(Some(batch))
    }

    /// Where a row of the batch after the position is.
    fn place(&self, index: usize) -> String {
        format!("{}, row {}", self.path.display(), self.position.rows + i64::try_from(index).unwrap_or(0) + 1)
    }

    fn field<'a>(&self, record: &'a StringRecord, index: usize) -> &'a str {
        self.columns.get(index).and_then(|column| record.get(*column)).unwrap_or_default()
    }

    /// Notes that the batch is in the tables, in its transaction.
    async fn advance(&mut self, conn: &mut PgConnection, rows: usize) -> anyhow::Result<Position> {
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

    async fn campaigns(&mut self, pool: &PgPool, batch: &[StringRecord]) -> anyhow::Result<()> {
        let mut told = BTreeMap::new();
        for (index, record) in batch.iter().enumerate() {
            let campaign = self.campaign(record).with_context(|| self.place(index))?;
            told.insert(campaign.origin_id.clone(), campaign);
        }
        let told: Vec<CampaignUpdate> = told.into_values().collect();
        let mut transaction = pool.begin().await?;
        campaigns::write(&mut transaction, Origin::Load, &told).await?;
        let position = self.advance(&mut transaction, batch.len()).await?;
        transaction.commit().await?;
        self.advanced(position);
        Ok(())
    }

    fn campaign(&self, record: &StringRecord) -> anyhow::Result<CampaignUpdate> {
        let day = self.field(record, 1);
        Ok(CampaignUpdate {
            origin_id: number("id", self.field(record, 0))?.to_string(),
            fecha: NaiveDate::parse_from_str(day, "%Y-%m-%d")
                .with_context(|| format!("fecha {day:?} is no day, expected YYYY-MM-DD"))?,
            nombre: self.field(record, 2).to_owned(),
            estado: self.field(record, 3).to_owned(),
            descripcion: self.field(record, 4).to_owned(),
            expected_rows: None,
            version: self.version,
        })
    }

    async fn messages(&mut self, pool: &PgPool, batch: &[StringRecord], zone: Tz) -> anyhow::Result<()> {
        let mut by_campaign: BTreeMap<String, BTreeMap<Uuid, Message>> = BTreeMap::new();
        for (index, record) in batch.iter().enumerate() {
            let message = self.message(record, zone).with_context(|| self.place(index))?;
            let campaign = number("id_maestro", self.field(record, 1)).with_context(|| self.place(index))?;
            by_campaign.entry(campaign.to_string()).or_default().insert(message.id, message);
        }
        let mut transaction = pool.begin().await?;
        let wanted: Vec<String> = by_campaign.keys().cloned().collect();
        let known = campaigns::by_origin(&mut transaction, Origin::Load, &wanted).await?;
        let known: HashMap<String, (i64, NaiveDate)> =
            known.into_iter().map(|(origin_id, id, day)| (origin_id, (id, day))).collect();
        for (origin_id, messages) in by_campaign {
            let Some((id, day)) = known.get(&origin_id) else {
                bail!("{}: campaign {origin_id} is not loaded; load its maestro first", self.place(0));
            };
            messages::ensure_day(&mut transaction, *day).await?;
            let messages: Vec<Message> = messages.into_values().collect();
            let written = messages::write(&mut transaction, *id, *day, &messages).await?;
            ensure!(written != Written::NoCampaign, "campaign {origin_id} was deleted at this moment");
        }
        let position = self.advance(&mut transaction, batch.len()).await?;
        transaction.commit().await?;
        self.advanced(position);
        Ok(())
    }

    fn message(&self, record: &StringRecord, zone: Tz) -> anyhow::Result<Message> {
        let state = match self.field(record, 5) {
            "ENVIADO" => MessageState::Enviado,
            "PENDIENTE" => MessageState::Pendiente,
            "FALLIDO" => MessageState::Fallido,
            other => bail!("estado {other:?}, expected ENVIADO, PENDIENTE or FALLIDO"),
        };
        let id = number("id", self.field(record, 0))?;
        Ok(Message {
            // No message of sms-dispatch has such a UUID: theirs have a version.
            id: Uuid::from_u128(u128::from(id.unsigned_abs())),
            version: self.version,
            phone: self.field(record, 2).to_owned(),
            text: self.field(record, 3).to_owned(),
            sent_at: time(self.field(record, 4), zone)?,
            state,
            error: Some(self.field(record, 6).to_owned()).filter(|error| !error.is_empty()),
        })
    }
}

fn number(name: &str, text: &str) -> anyhow::Result<i64> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{name} {text:?} is no id, expected a number from 1"))
}

/// A time as PostgreSQL writes it, with an offset or as a clock in `zone` shows it.
fn time(text: &str, zone: Tz) -> anyhow::Result<Option<DateTime<Utc>>> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(time) = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z") {
        return Ok(Some(time.to_utc()));
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .with_context(|| format!("fecha_envio {text:?} is not a valid time, expected YYYY-MM-DD HH:MM:SS"))?;
    let time = local.and_local_timezone(zone).earliest();
    Ok(Some(time.with_context(|| format!("there is no {text} in {zone}"))?.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_postgresql_writes_them() {
        let zone = chrono_tz::America::Bogota;
        let read = |text| time(text, zone).expect(text).map(|time| time.to_rfc3339());
        assert_eq!(read(""), None);
        assert_eq!(read("2025-01-27 10:00:00").as_deref(), Some("2025-01-27T15:00:00+00:00"));
        assert_eq!(read("2025-01-27 10:00:00.25+00").as_deref(), Some("2025-01-27T10:00:00.250+00:00"));
        assert_eq!(read("2025-01-27 10:00:00-05").as_deref(), Some("2025-01-27T15:00:00+00:00"));
        assert!(time("ayer", zone).is_err());
        assert!(number("id", "0").is_err() && number("id", "-1").is_err() && number("id", "x").is_err());
    }
}
