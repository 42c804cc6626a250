//! A form with a file (RFC 7578), part by part.
//!
//! Between the body and the parser stands a filter: a part's own `Content-Length` must be ignored (RFC 7578, 4.8),
//! but actix-multipart ends the part there, and what follows is lost.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_multipart::{Multipart, MultipartError};
use actix_web::{HttpMessage as _, HttpRequest, dev::Payload, error::PayloadError};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use memchr::memmem::Finder;

/// What a part's headers may take, bytes. The parser refuses more.
const MAX_HEADERS: usize = 16 * 1024;
const CONTENT_LENGTH: &[u8] = b"content-length";
/// Stands where a part's length was. As long, so that nothing moves.
const IGNORED: &[u8; CONTENT_LENGTH.len()] = b"X-Ignored-Size";

/// The parts of a request's form.
pub(super) fn form(request: &HttpRequest, payload: &mut Payload) -> Multipart {
    let kind = request.mime_type().ok().flatten();
    let boundary = kind.as_ref().and_then(|kind| kind.get_param("boundary"));
    let boundary = boundary.map_or("", |boundary| boundary.as_str());
    Multipart::new(request.headers(), WithoutLengths::new(payload.take(), boundary))
}

/// Why a form can't be read, in Spanish.
pub(super) fn reason(error: &MultipartError) -> String {
    let reason = match error {
        MultipartError::Incomplete | MultipartError::Payload(PayloadError::Incomplete(_)) => {
            "está cortado: falta la línea que lo cierra"
        }
        MultipartError::BoundaryMissing => {
            "una parte no termina con el separador (boundary) que declara Content-Type"
        }
        MultipartError::ContentTypeMissing
        | MultipartError::ContentTypeParse
        | MultipartError::ContentTypeIncompatible => {
            "el Content-Type debe ser multipart/form-data con su boundary"
        }
        MultipartError::ContentDispositionMissing | MultipartError::ContentDispositionNameMissing => {
            "una parte no dice su nombre en Content-Disposition"
        }
        MultipartError::Nested => "una parte es otro formulario",
        other => {
            tracing::debug!(error = %other, "a form could not be read");
            "no se puede interpretar"
        }
    };
    reason.to_owned()
}

/// A body in which the headers of parts name no length.
struct WithoutLengths<S> {
    body: S,
    marker: Finder<'static>,
    held: BytesMut,
    /// Whether `held` begins in the headers of a part.
    in_headers: bool,
    /// The byte before `held`; a line end at the start, since the first marker may stand there.
    before: u8,
    ended: bool,
}

impl<S> WithoutLengths<S> {
    fn new(body: S, boundary: &str) -> Self {
        let marker = Finder::new(format!("--{boundary}").as_bytes()).into_owned();
        Self { body, marker, held: BytesMut::new(), in_headers: false, before: b'\n', ended: false }
    }

    /// What can be handed out of what is held.
    fn release(&mut self) -> Option<Bytes> {
        let marker = self.marker.needle().len();
        let length = if self.in_headers {
            let end = memchr::memmem::find(&self.held, b"\r\n\r\n").map(|end| end + 4);
            let end =
                end.or_else(|| (self.ended || self.held.len() > MAX_HEADERS).then_some(self.held.len()))?;
            forget_lengths(&mut self.held[..end]);
            self.in_headers = false;
            end
        } else {
            match self.marker.find(&self.held) {
                // The two bytes after it decide.
                Some(at) if at + marker + 2 > self.held.len() && !self.ended => at,
                Some(at) => {
                    let before = if at == 0 { self.before } else { self.held[at - 1] };
                    self.in_headers =
                        matches!(before, b'\r' | b'\n') && self.held[at + marker..].starts_with(b"\r\n");
                    at + marker
                }
                // The marker may begin in the last bytes.
                None if self.ended => self.held.len(),
                None => self.held.len().saturating_sub(marker - 1),
            }
        };
        self.before = *self.held[..length].last()?;
        Some(self.held.split_to(length).freeze())
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for WithoutLengths<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.release() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.body).poll_next(context)) {
                Some(Ok(bytes)) => this.held.extend_from_slice(&bytes),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.ended = true,
            }
        }
    }
}

/// Renames each `Content-Length` among the headers of a part.
fn forget_lengths(headers: &mut [u8]) {
    for line in headers.split_mut(|byte| *byte == b'\n') {
        let Some((name, rest)) = line.split_at_mut_checked(CONTENT_LENGTH.len()) else { continue };
        if name.eq_ignore_ascii_case(CONTENT_LENGTH) && rest.starts_with(b":") {
            name.copy_from_slice(IGNORED);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
    use futures::{StreamExt as _, stream};

    use super::*;

    /// The names and contents of a form's parts, sent in pieces of a size; or why it can't be read.
    async fn parts(body: &str, piece: usize) -> Result<Vec<(String, String)>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=lote-b"));
        let pieces: Vec<_> =
            body.as_bytes().chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut form = Multipart::new(&headers, WithoutLengths::new(stream::iter(pieces), "lote-b"));
        let mut parts = Vec::new();
        while let Some(field) = form.next().await {
            let mut field = field.map_err(|error| reason(&error))?;
            let name = field.name().unwrap_or_default().to_owned();
            let mut content = Vec::new();
            while let Some(bytes) = field.next().await {
                content.extend_from_slice(&bytes.map_err(|error| reason(&error))?);
            }
            parts.push((name, String::from_utf8_lossy(&content).into_owned()));
        }
        Ok(parts)
    }

    fn part(name: &str, headers: &str, content: &str) -> String {
        format!("--lote-b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n{headers}\r\n{content}\r\n")
    }

    const END: &str = "--lote-b--\r\n";
    const PIECES: [usize; 6] = [1, 2, 3, 7, 64, 100_000];

    #[actix_web::test]
    async fn a_parts_own_length_cuts_nothing() {
        let content = "id;nombre\r\nP1;--lote-b\r\nP2;x\r\nContent-Length: 3\r\n\r\nfin";
        for length in [
            "Content-Length: 5\r\n",
            "content-length:0\r\n",
            "CONTENT-LENGTH: 999999\r\n",
            "Content-Length: x\r\n",
            "",
        ] {
            let body = part("nota", length, "a") + &part("file", length, content) + END;
            for piece in PIECES {
                let expected =
                    vec![("nota".to_owned(), "a".to_owned()), ("file".to_owned(), content.to_owned())];
                assert_eq!(parts(&body, piece).await, Ok(expected), "{length:?} in pieces of {piece}");
            }
        }
    }

    #[actix_web::test]
    async fn malformed_forms_end_with_their_reason() {
        let whole = part("file", "", "a;b");
        for body in [
            String::new(),
            whole.clone(),
            whole.trim_end().to_owned(),
            format!("{whole}--lote-"),
            format!("{whole}--lote-bX\r\n\r\n"),
            format!("{whole}--lote-b\r\n"),
            whole.replace("\r\n\r\n", "\r\n"),
            "--lote-b\r\n\r\nsin nombre\r\n--lote-b--\r\n".to_owned(),
            "--\r\n--".to_owned(),
            "\r\n--".to_owned(),
            format!("{}\r\n--", part("file", "", "a;b").trim_end()),
        ] {
            for piece in PIECES {
                let read = parts(&body, piece).await;
                // Whoever has sent a whole part and then nothing has sent no whole form.
                assert!(
                    read.is_err() || read == Ok(vec![("file".into(), "a;b".into())]),
                    "{body:?}: {read:?}"
                );
            }
        }
        assert_eq!(
            parts(whole.trim_end(), 9).await,
            Err("está cortado: falta la línea que lo cierra".to_owned())
        );
    }
}
