//! The sniffer and the reader of text files, over any bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lote_fuzz::{corpus, files::FileKind, read_all};

fuzz_target!(init: corpus::write("csv", Ok(corpus::texts())), |bytes: &[u8]| read_all(bytes, FileKind::Csv));
