/// What a file may cost. Each bound keeps memory or time within what the worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file, bytes.
    pub max_bytes: u64,
    /// The greatest row number; Excel's own limit by default.
    pub max_rows: u32,
    /// The greatest column number; Excel's own limit by default.
    pub max_columns: u32,
    /// Characters kept of a cell. It must exceed every column's limit, so that a cell that was cut is still
    /// rejected as too long.
    pub max_cell_chars: usize,
    /// Bytes of one cell with its markup, or of one record of a CSV file: what is in memory at once.
    pub max_token_bytes: usize,
    /// Entries of the zip archive.
    pub max_parts: usize,
    /// Bytes of all parts of a workbook together, inflated.
    pub max_inflated_bytes: u64,
    /// Inflated bytes by compressed byte, of any part over [`Self::RATIO_FLOOR`].
    pub max_ratio: u64,
    /// Memory for the shared strings of a workbook, bytes.
    pub max_shared_strings_bytes: u64,
    /// Inflated bytes of each small part that is kept in memory: styles, relations, list of sheets.
    pub max_small_part_bytes: u64,
}

impl Limits {
    /// Small parts may compress as well as they like, bytes inflated.
    pub const RATIO_FLOOR: u64 = 1024 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        const MB: u64 = 1024 * 1024;
        Self {
            max_bytes: 100 * MB,
            max_rows: 1_048_576,
            max_columns: 16_384,
            max_cell_chars: 1_000,
            max_token_bytes: 1024 * 1024,
            max_parts: 2_000,
            max_inflated_bytes: 2048 * MB,
            max_ratio: 100,
            max_shared_strings_bytes: 512 * MB,
            max_small_part_bytes: 8 * MB,
        }
    }
}
