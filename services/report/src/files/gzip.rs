//! A file's pieces, compressed as they come.

use std::io::Write as _;

use flate2::write::GzEncoder;

use crate::domain::params::Compression;

/// Compresses, or does not.
pub enum Wrapping {
    None,
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Wrapping {
    pub fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            // No name and no time in the header: the same rows give the same bytes.
            Compression::Gzip => {
                Self::Gzip(Box::new(GzEncoder::new(Vec::new(), flate2::Compression::default())))
            }
        }
    }

    /// What can be sent of the file after this piece.
    ///
    /// # Errors
    /// None that memory would give.
    pub fn wrap(&mut self, piece: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(piece),
            Self::Gzip(encoder) => {
                encoder.write_all(&piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// The end of the file.
    ///
    /// # Errors
    /// None that memory would give.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn pieces_make_one_file() {
        let mut wrapping = Wrapping::new(Compression::Gzip);
        let mut file = Vec::new();
        let mut plain = Vec::new();
        for number in 0..50_000u32 {
            let piece = format!("{number},").into_bytes();
            plain.extend_from_slice(&piece);
            file.extend(wrapping.wrap(piece).expect("memory"));
        }
        file.extend(wrapping.finish().expect("memory"));
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut read).expect("gzip");
        assert_eq!(read, plain);
    }
}
