//! A file that comes as a part of a form (RFC 7578): read as it arrives, under a plain name, to its end, and no form is taken
//! that is not whole.

mod form;

use std::{
    future::{Ready, ready},
    io,
    path::{Path, PathBuf},
};

use actix_multipart::{Field, Multipart};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::StatusCode};
use anyhow::Context as _;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, task::spawn_blocking};

use self::form::{form, reason};
use super::{Problem, attachment::plain};
use crate::{
    disk,
    s3::{self, Gather, UploadError},
};

/// The part of the form that is the file.
const FILE: &str = "file";
/// The longest name that is kept, in characters.
const LONGEST_NAME: usize = 255;
/// Bytes of a file's beginning that tell what it is.
const BEGINNING: usize = 16;

/// A form with a file in its part `file`, and nothing else.
pub struct Upload(Multipart);

impl FromRequest for Upload {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // What is wrong with the type of the request, the first part says.
        ready(Ok(Self(form(request, payload))))
    }
}

/// Where files go.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    /// S3.
    pub client: &'a aws_sdk_s3::Client,
    /// The bucket's name.
    pub name: &'a str,
    /// The most bytes that a file may have.
    pub limit: u64,
    /// The folder that a part is in while it comes, 8 MiB at most. What is there has no name.
    pub spool: &'a Path,
}

/// A file that is stored.
#[derive(Debug)]
pub struct Stored {
    /// Its name without a path or control characters, 255 characters at most; empty where it was sent without one.
    pub filename: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its first 16 bytes.
    pub beginning: Vec<u8>,
}

impl Upload {
    /// Streams the file into the bucket, under `key`. `check` sees its name before anything of it is read. Where this fails,
    /// nothing stays in the bucket.
    ///
    /// # Errors
    /// 400 for a form that is not whole, has no file, or has something else; 408 where it comes slowly while others wait for its
    /// room; 413 for a file that is too large; 503 where S3 does not answer, the disk has no room, or others' uploads take all
    /// the room that there is for them; and what `check` says.
    pub async fn store(
        self,
        bucket: Bucket<'_>,
        key: &str,
        check: impl Fn(&str) -> Result<(), Problem>,
    ) -> Result<Stored, Problem> {
        let mut form = Parts::of(self);
        let (filename, field) = form.file().await?;
        check(&filename)?;
        let mut beginning = Vec::new();
        let bytes = field.map_err(|error| reason(&error)).inspect_ok(|chunk| {
            let missing = BEGINNING.saturating_sub(beginning.len());
            beginning.extend_from_slice(&chunk[..missing.min(chunk.len())]);
        });
        let gather = Gather::OnDisk(bucket.spool);
        let uploaded = s3::upload_stream(bucket.client, bucket.name, key, bytes, bucket.limit, gather).await;
        let uploaded = uploaded.map_err(|error| match error {
            UploadError::TooLarge { limit } => too_large(limit),
            UploadError::Interrupted(reason) => interrupted(&reason),
            UploadError::GaveWay => gave_way(),
            UploadError::Busy => Problem::unavailable("uploads_busy", error),
            UploadError::Disk(_) => Problem::unavailable("spool_unavailable", error),
            UploadError::Store(_) => Problem::unavailable("storage_unavailable", error),
        })?;
        if let Err(problem) = form.end().await {
            discard(bucket, key).await;
            return Err(problem);
        }
        Ok(Stored { filename, bytes: uploaded.bytes, sha256: uploaded.sha256, beginning })
    }

    /// Copies the file to a path that exists; gives its name, as [`Stored::filename`].
    ///
    /// # Errors
    /// As [`Upload::store`]; 500 where the disk does not take it for another reason than its room.
    pub async fn copy_to(self, path: &Path, limit: u64) -> Result<String, Problem> {
        let copying = |result: io::Result<()>| result.map_err(not_copied);
        let mut room = Room::beside(path);
        let mut form = Parts::of(self);
        let (filename, field) = form.file().await?;
        let opened = tokio::fs::OpenOptions::new().write(true).truncate(true).open(path).await;
        let mut file = opened.context("opening the copy of an upload").map_err(Problem::internal)?;
        let mut bytes = Box::pin(field.map_err(|error| reason(&error)));
        let mut size = 0;
        while let Some(chunk) = next(&mut bytes).await? {
            size += chunk.len() as u64;
            if size > limit {
                return Err(too_large(limit));
            }
            room.keep(size).await?;
            copying(file.write_all(&chunk).await)?;
        }
        copying(file.flush().await)?;
        // The form gives no other part while this one is held.
        drop(bytes);
        form.end().await?;
        Ok(filename)
    }
}

/// Room on a disk for a copy that grows.
struct Room {
    folder: PathBuf,
    /// For so many bytes of the copy there was some.
    until: u64,
}

impl Room {
    /// How far ahead the disk is asked.
    const STEP: u64 = 8 << 20;

    /// On the disk of a file.
    fn beside(path: &Path) -> Self {
        Self { folder: path.parent().unwrap_or(path).to_owned(), until: 0 }
    }

    /// Refuses a copy of `size` bytes where others would be left without room.
    async fn keep(&mut self, size: u64) -> Result<(), Problem> {
        if size <= self.until {
            return Ok(());
        }
        let (folder, more) = (self.folder.clone(), (size - self.until).saturating_add(Self::STEP));
        let asked = spawn_blocking(move || disk::ensure_room(&folder, more)).await;
        asked.map_err(io::Error::from).flatten().map_err(not_copied)?;
        self.until = size.saturating_add(Self::STEP);
        Ok(())
    }
}

/// 503 where a disk is full, else 500.
fn not_copied(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::StorageFull => Problem::unavailable("spool_unavailable", error),
        _ => Problem::internal(anyhow::Error::new(error).context("copying an upload")),
    }
}

async fn next(
    bytes: &mut (impl Stream<Item = Result<Bytes, String>> + Unpin),
) -> Result<Option<Bytes>, Problem> {
    bytes.next().await.transpose().map_err(|reason| interrupted(&reason))
}

/// Removes an object that no row names. What stays behind if this fails is found by the clean-up of old objects.
pub async fn discard(bucket: Bucket<'_>, key: &str) {
    if let Err(error) = bucket.client.delete_object().bucket(bucket.name).key(key).send().await {
        tracing::warn!(key, %error, "an upload without a row was not removed");
    }
}

/// A form, part by part.
struct Parts {
    form: Multipart,
    /// The first part that is not expected.
    unexpected: Option<String>,
}

impl Parts {
    fn of(Upload(form): Upload) -> Self {
        Self { form, unexpected: None }
    }

    /// The next part, if there is one.
    async fn next(&mut self) -> Result<Option<Field>, Problem> {
        self.form.try_next().await.map_err(|error| {
            let detail = format!("Formulario multipart inválido: {}", reason(&error));
            Problem::bad_request("invalid_multipart", detail)
        })
    }

    /// Goes to the file.
    async fn file(&mut self) -> Result<(String, Field), Problem> {
        while let Some(field) = self.next().await? {
            if field.name() == Some(FILE) {
                self.refuse_the_unexpected()?;
                plain_transfer(&field)?;
                let filename = field.content_disposition().and_then(|disposition| disposition.get_filename());
                return Ok((plain_filename(filename.unwrap_or_default()), field));
            }
            self.pass_over(field).await?;
        }
        Err(no_file())
    }

    /// Reads the form to its end: nobody knows where a file ended whose form does not end well.
    async fn end(&mut self) -> Result<(), Problem> {
        while let Some(field) = self.next().await? {
            self.pass_over(field).await?;
        }
        self.refuse_the_unexpected()
    }

    /// The parts of a form come one after another: what is not wanted has to be read over.
    async fn pass_over(&mut self, mut field: Field) -> Result<(), Problem> {
        self.unexpected.get_or_insert_with(|| field.name().unwrap_or_default().to_owned());
        while let Some(read) = field.next().await {
            read.map_err(|error| interrupted(&reason(&error)))?;
        }
        Ok(())
    }

    /// A part that is passed over was meant to do something: an option, or a second file.
    fn refuse_the_unexpected(&self) -> Result<(), Problem> {
        let Some(name) = &self.unexpected else { return Ok(()) };
        let shown: String = name.chars().take(60).collect();
        let detail = format!(
            "No se espera la parte {shown:?} del formulario: solo un archivo, en la parte \"file\"; las opciones van en la dirección"
        );
        Err(Problem::bad_request("unknown_field", detail).with_details(json!({ "campo": shown })))
    }
}

/// Refuses a part whose bytes are not the file's.
fn plain_transfer(field: &Field) -> Result<(), Problem> {
    let encoding = field.headers().get("content-transfer-encoding").and_then(|value| value.to_str().ok());
    let is_plain = |encoding: &str| {
        ["binary", "8bit", "7bit"].iter().any(|plain| encoding.trim().eq_ignore_ascii_case(plain))
    };
    match encoding {
        Some(encoding) if !is_plain(encoding) => Err(Problem::bad_request(
            "transfer_encoding",
            format!(
                "El archivo viene con Content-Transfer-Encoding: {encoding}, que los formularios ya no admiten (RFC 7578); envíelo tal cual"
            ),
        )),
        _ => Ok(()),
    }
}

/// 400: the form has no file.
pub fn no_file() -> Problem {
    Problem::bad_request("no_file", "No se envió ningún archivo")
}

fn interrupted(reason: &str) -> Problem {
    Problem::bad_request("upload_interrupted", format!("La carga se interrumpió: {reason}"))
}

/// 408: who sends next to nothing does not keep others out.
fn gave_way() -> Problem {
    Problem::of(StatusCode::REQUEST_TIMEOUT).with_details(
        "El archivo llegaba muy despacio y otras cargas esperaban su lugar; inténtelo de nuevo más tarde",
    )
}

fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!("El archivo supera el máximo de {} MB", limit >> 20))
}

/// The last part of a path, as some clients send one, without what could not be seen of it.
fn plain_filename(sent: &str) -> String {
    let name = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean = plain(name);
    let clean = clean.trim();
    // The end is kept: it has the extension.
    let surplus = clean.chars().count().saturating_sub(LONGEST_NAME);
    clean.chars().skip(surplus).collect()
}

#[cfg(test)]
mod tests {
    use super::{Room, plain_filename};

    #[tokio::test]
    async fn a_copy_is_refused_before_the_disk_is_full() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let mut room = Room::beside(file.path());
        assert!(room.keep(1).await.is_ok());
        let refused =
            room.keep(u64::MAX).await.map_err(|problem| (problem.status().as_u16(), problem.code()));
        assert_eq!(refused, Err((503, "spool_unavailable")));
        assert!(room.keep(Room::STEP).await.is_ok());
        Ok(())
    }

    #[test]
    fn a_filename_is_a_name_and_no_path() {
        assert_eq!(plain_filename("C:\\datos\\Productos 2024.XLSX"), "Productos 2024.XLSX");
        assert_eq!(plain_filename("../../etc/passwd"), "passwd");
        assert_eq!(plain_filename("a\r\nb\0.csv"), "ab.csv");
        assert_eq!(plain_filename("lista\u{202e}vsc.exe"), "listavsc.exe");
        let long = format!("{}.xlsx", "x".repeat(400));
        assert_eq!(plain_filename(&long).chars().count(), 255);
        assert!(plain_filename(&long).ends_with(".xlsx"));
    }
}
