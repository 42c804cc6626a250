use std::convert::Infallible;

use actix_web::body::SizedStream;
use bytes::Bytes;
use futures::{Stream, stream};

/// Sent at a time.
const PIECE: usize = 32 << 10;

/// A body of known bytes that is sent piece by piece. One that actix gets as a whole it copies into the connection's buffer as a
/// whole: a copy for each client that asks and does not read.
pub fn in_pieces(bytes: Bytes) -> SizedStream<impl Stream<Item = Result<Bytes, Infallible>>> {
    let size = bytes.len();
    let pieces = (0..size)
        .step_by(PIECE)
        .map(move |start| Ok::<_, Infallible>(bytes.slice(start..size.min(start + PIECE))));
    SizedStream::new(size as u64, stream::iter(pieces))
}

#[cfg(test)]
mod tests {
    use actix_web::body::{BodySize, MessageBody as _, to_bytes};

    use super::*;

    #[tokio::test]
    async fn the_pieces_are_the_whole_and_its_size_is_announced() {
        for size in [0, 1, PIECE, PIECE + 1, 3 * PIECE - 1] {
            let whole: Bytes = (0..size).map(|at| at as u8).collect::<Vec<_>>().into();
            let body = in_pieces(whole.clone());
            assert_eq!(body.size(), BodySize::Sized(size as u64));
            assert_eq!(to_bytes(body).await.expect("nothing fails"), whole);
        }
    }

    #[tokio::test]
    async fn no_more_than_a_piece_is_given_at_a_time() {
        let mut body = std::pin::pin!(in_pieces(vec![0; 2 * PIECE].into()));
        let first = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await;
        assert_eq!(first.expect("there is more").expect("nothing fails").len(), PIECE);
    }
}
