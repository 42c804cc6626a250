//! Files as answers, and the names that files come with.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header::{Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue},
};
use aws_sdk_s3::Client;
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use tabular::{CsvExport, CsvStyle};
use utoipa::IntoParams;

use super::{ApiResult, Problem};
use crate::s3::{self, DownloadError};

/// A file to save under a name (RFC 6266), whatever letters it has.
pub fn attachment(filename: &str) -> ContentDisposition {
    let filename = plain(filename);
    let ascii: String =
        filename.chars().map(|c| if c.is_ascii() && c != '"' && c != '\\' { c } else { '_' }).collect();
    ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![
            DispositionParam::Filename(ascii),
            DispositionParam::FilenameExt(ExtendedValue {
                charset: Charset::Ext("UTF-8".to_owned()),
                language_tag: None,
                value: filename.into_bytes(),
            }),
        ],
    }
}

/// The head of a file to save, which no cache keeps: its body is for the caller to give.
pub fn download(content_type: &str, filename: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header(attachment(filename))
        .insert_header(("Cache-Control", "private, no-store"));
    response
}

/// An object of a bucket as a file to save, streamed.
///
/// # Errors
/// 404 where it is there no more; 503 where S3 does not give it.
pub async fn send_object(
    client: &Client,
    bucket: &str,
    key: &str,
    content_type: &str,
    filename: &str,
) -> ApiResult {
    let body = s3::open(client, bucket, key).await.map_err(|error| match error {
        DownloadError::Missing { .. } => Problem::not_found("El archivo ya no está en el almacenamiento"),
        error => Problem::unavailable("storage_unavailable", error),
    })?;
    let chunks = stream::unfold(body, |mut body| async { body.next().await.map(|chunk| (chunk, body)) });
    Ok(download(content_type, filename).streaming(chunks))
}

/// For whom a CSV file is.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
pub struct CsvQuery {
    /// Para programas: comas, sin marca de orden de bytes y el texto tal cual, también donde una hoja de cálculo lo tomaría por
    /// fórmula.
    #[serde(default)]
    crudo: bool,
}

impl CsvQuery {
    /// How it is written: for a spreadsheet, unless it is for a program.
    pub const fn style(self) -> CsvStyle {
        if self.crudo { CsvStyle::Raw } else { CsvStyle::Spreadsheet }
    }
}

/// A CSV file that is written while it is sent: what `rows` has, then a page after the other. `page` adds the rows after a
/// place and gives the last one's, none after the last page. A failure in the middle breaks the download off, so that nobody
/// takes a part for the whole.
pub fn csv_pages<K, F, R, E>(filename: &str, rows: CsvExport, first: K, page: F) -> HttpResponse
where
    K: 'static,
    F: Fn(K, CsvExport) -> R + 'static,
    R: Future<Output = Result<(Option<K>, CsvExport), E>> + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    // The head leaves with the first page.
    let body = stream::unfold(Some((first, rows, page)), |state| async {
        let (after, rows, page) = state?;
        match page(after, rows).await {
            Ok((last, mut rows)) => {
                let text = Bytes::from(rows.take());
                Some((Ok(text), last.map(|last| (last, rows, page))))
            }
            Err(error) => {
                tracing::warn!(%error, "a download broke off");
                Some((Err(std::io::Error::other(error)), None))
            }
        }
    });
    download("text/csv; charset=utf-8", filename).streaming(body)
}

/// A file's name without control characters, and without marks that turn the direction of writing: with one,
/// `lista<mark>fdp.exe` shows as `listaexe.pdf`.
pub fn plain(filename: &str) -> String {
    filename.chars().filter(|c| !c.is_control() && !turns_direction(*c)).collect()
}

/// Unicode's `Bidi_Control` (UAX 44), and the marks that take no room at all.
const fn turns_direction(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_looks_like() {
        assert_eq!(plain("lista\u{202e}fdp.exe"), "listafdp.exe");
        assert_eq!(plain("\u{200f}precios\u{2069}.xlsx\u{feff}"), "precios.xlsx");
        assert_eq!(plain("Catálogo 2026 ñ.csv"), "Catálogo 2026 ñ.csv");
    }

    #[test]
    fn an_attachment_has_its_name_twice() {
        let header = attachment("año\r\n \"1\"\u{202e}.csv").to_string();
        assert_eq!(header, "attachment; filename=\"a_o _1_.csv\"; filename*=UTF-8''a%C3%B1o%20%221%22.csv");
    }
}
