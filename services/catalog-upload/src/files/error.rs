use std::io;

use crate::domain::Column;

/// Why a whole file can't be read. The text is for its sender, in Spanish, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name ends in neither `.xlsx` nor `.csv`.
    #[error("Formato de archivo no soportado. Use Excel (.xlsx) o CSV (.csv)")]
    UnsupportedFormat,
    /// No bytes, or no cell with a value.
    #[error("El archivo está vacío. Use la plantilla y agregue al menos una fila de productos")]
    Empty,
    /// A header without rows under it.
    #[error("El archivo solo tiene encabezado. Agregue al menos una fila de productos")]
    HeaderOnly,
    /// Over `Limits::max_bytes`.
    #[error("El archivo supera el máximo de {} MB. Divídalo en archivos más pequeños", max_bytes / (1024 * 1024))]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// Not a zip archive at all.
    #[error(
        "El archivo no es un libro de Excel (.xlsx). Ábralo en Excel y guárdelo como Libro de Excel (.xlsx)"
    )]
    NotXlsx,
    /// A workbook under the name of a text file.
    #[error(
        "El archivo .csv es en realidad un libro de Excel. Cámbiele la extensión a .xlsx o guárdelo como CSV"
    )]
    NotCsv,
    /// An OLE file: an old `.xls`, or a workbook under a password.
    #[error(
        "El archivo es un .xls antiguo o está protegido con contraseña. Ábralo en Excel, quite la contraseña y guárdelo como Libro de Excel (.xlsx)"
    )]
    OldOrProtected,
    /// Broken, cut off, or not what a workbook is made of.
    #[error(
        "El archivo está dañado o incompleto ({detail}). Ábralo en Excel, guárdelo de nuevo y vuelva a subirlo"
    )]
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// It inflates beyond measure, has too many parts, or declares what it hasn't.
    #[error("El archivo no es aceptable por seguridad ({detail}). Copie los datos a la plantilla y súbala")]
    Hostile {
        /// Which bound it breaks.
        detail: String,
    },
    /// The text would not fit the memory set apart for it.
    #[error("El archivo tiene demasiado texto ({detail}). Divídalo en archivos más pequeños")]
    TooMuchText {
        /// Which bound it breaks.
        detail: String,
    },
    /// A row number over `Limits::max_rows`.
    #[error("El archivo supera el máximo de {max} filas. Divídalo en archivos más pequeños")]
    TooManyRows {
        /// The limit.
        max: u32,
    },
    /// A column number over `Limits::max_columns`.
    #[error("El archivo supera el máximo de {max} columnas. Deje solo las columnas de la plantilla")]
    TooManyColumns {
        /// The limit.
        max: u32,
    },
    /// A cell or a CSV record over `Limits::max_token_bytes`.
    #[error(
        "{} tiene una celda demasiado grande o unas comillas sin cerrar. Corríjala y vuelva a subir el archivo",
        row.map_or_else(|| "El archivo".to_owned(), |row| format!("La fila {row}"))
    )]
    CellTooLarge {
        /// The row, where it is known; of a workbook with gaps between its rows, how many come up to it.
        row: Option<u32>,
    },
    /// Required columns that no sheet's header has. The wording is part of the contract with the clients.
    #[error("Columnas faltantes: {}", names(missing))]
    MissingColumns {
        /// Which.
        missing: Vec<Column>,
    },
    /// Two headers name the same column.
    #[error("Columnas repetidas: {}. Deje solo una de cada una", repeats(repeated))]
    RepeatedColumns {
        /// Which, each with its first headers.
        repeated: Vec<(Column, Vec<String>)>,
    },
    /// The sheet that was asked for isn't there.
    #[error("El libro no tiene una hoja «{wanted}». Sus hojas son: {}", sheets.join(", "))]
    NoSuchSheet {
        /// Its name.
        wanted: String,
        /// Those that are there, the first 20.
        sheets: Vec<String>,
    },
    /// The file itself could not be read; trying again may help.
    #[error("No se pudo leer el archivo: {0}")]
    Io(#[from] io::Error),
}

impl FileError {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedFormat => "unsupported_format",
            Self::Empty => "empty_file",
            Self::HeaderOnly => "header_only",
            Self::TooLarge { .. } => "file_too_large",
            Self::NotXlsx => "not_xlsx",
            Self::NotCsv => "not_csv",
            Self::OldOrProtected => "old_or_protected",
            Self::Corrupt { .. } => "corrupt_file",
            Self::Hostile { .. } => "hostile_file",
            Self::TooMuchText { .. } => "too_much_text",
            Self::NoSuchSheet { .. } => "no_such_sheet",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::TooManyColumns { .. } => "too_many_columns",
            Self::CellTooLarge { .. } => "cell_too_large",
            Self::MissingColumns { .. } => "missing_columns",
            Self::RepeatedColumns { .. } => "repeated_columns",
            Self::Io(_) => "io",
        }
    }

    /// Whether reading the same bytes again may end otherwise.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    pub(super) fn corrupt(detail: impl Into<String>) -> Self {
        Self::Corrupt { detail: detail.into() }
    }

    /// Broken in a way that a library tells in words that are none for the sender.
    pub(super) fn unreadable(error: &impl std::fmt::Display, detail: &str) -> Self {
        tracing::debug!(%error, "a file could not be parsed");
        Self::corrupt(detail)
    }

    pub(super) fn hostile(detail: impl Into<String>) -> Self {
        Self::Hostile { detail: detail.into() }
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(", ")
}

fn repeats(columns: &[(Column, Vec<String>)]) -> String {
    let one =
        |(column, headers): &(Column, Vec<String>)| format!("{} («{}»)", column.name(), headers.join("», «"));
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}
