//! What each column of a row must hold. Pure, and shared by files and by the API.

use rust_decimal::Decimal;

use super::{
    Column, NOT_COMPUTED, ProductRow, RawCell, RawRow, RowError, RowWarning, Surplus, code,
    numbers::{self, DecimalMark, NotANumber},
    trim,
};

/// From here on a number has more digits than Excel keeps.
const BEYOND_EXCEL: f64 = 1e15;

/// The price's digits before the decimal point: 12 in all, 2 of them decimals.
const PRICE_LIMIT: i64 = 10_000_000_000;
const PRICE_DECIMALS: u32 = 2;

const DEFAULT_MINIMUM_STOCK: i32 = 10;
const DEFAULT_CRITICAL_STOCK: i32 = 5;
const DEFAULT_NEEDS_LOT: bool = false;
const DEFAULT_NEEDS_EXPIRY: bool = true;

/// What is wrong with one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable, for programs.
    pub code: &'static str,
    /// Where.
    pub column: Column,
    /// What the cell held, at most 100 characters.
    pub value: String,
    /// In Spanish, with what to do.
    pub message: String,
}

impl Problem {
    fn new(code: &'static str, column: Column, cell: &RawCell, advice: &str) -> Self {
        let value = RowError::excerpt(&cell.display());
        let message = format!("{}: {advice}", column.name());
        Self { code, column, value, message }
    }
}

/// A row that keeps all rules, and what its sender should look at all the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The row.
    pub row: ProductRow,
    /// Of most rows none.
    pub warnings: Vec<RowWarning>,
}

/// Checks a row against all rules.
///
/// # Errors
/// All problems of the row in one [`RowError`]: its code, column and value are those of the first problem,
/// empty required fields come before all others.
pub fn validate(raw: RawRow) -> Result<Checked, RowError> {
    validate_requiring(raw, Column::required)
}

/// [`validate`], where other columns are required than in a workbook.
///
/// # Errors
/// As [`validate`].
pub fn validate_requiring(mut raw: RawRow, required: impl Fn(Column) -> bool) -> Result<Checked, RowError> {
    let row = raw.number;
    if let Some(surplus) = &raw.surplus {
        return Err(too_many_values(row, surplus));
    }
    let missing: Vec<Column> =
        Column::ALL.into_iter().filter(|column| required(*column) && raw.cell(*column).is_empty()).collect();
    let mut check = Check { row, problems: Vec::new(), warnings: Vec::new() };
    if raw.mixed_encoding {
        check.mixed_encoding(&raw);
    }
    let product = ProductRow {
        row,
        id: check.text(&mut raw, Column::Id).unwrap_or_default(),
        nombre: check.text(&mut raw, Column::Nombre).unwrap_or_default(),
        codigo: check.text(&mut raw, Column::Codigo).unwrap_or_default(),
        categoria: check.text(&mut raw, Column::Categoria).unwrap_or_default(),
        presentacion: check.text(&mut raw, Column::Presentacion),
        precio_unitario: check.price(&mut raw).unwrap_or_default(),
        certificado_sanitario: check.text(&mut raw, Column::CertificadoSanitario).unwrap_or_default(),
        condiciones_almacenamiento: check
            .text(&mut raw, Column::CondicionesAlmacenamiento)
            .unwrap_or_default(),
        tiempo_entrega_dias: check.whole(&mut raw, Column::TiempoEntregaDias),
        stock_minimo: check.whole(&mut raw, Column::StockMinimo).unwrap_or(DEFAULT_MINIMUM_STOCK),
        stock_critico: check.whole(&mut raw, Column::StockCritico).unwrap_or(DEFAULT_CRITICAL_STOCK),
        requiere_lote: check.truth(&mut raw, Column::RequiereLote).unwrap_or(DEFAULT_NEEDS_LOT),
        requiere_vencimiento: check
            .truth(&mut raw, Column::RequiereVencimiento)
            .unwrap_or(DEFAULT_NEEDS_EXPIRY),
    };
    if missing.is_empty() && check.problems.is_empty() {
        if product.stock_critico > product.stock_minimo {
            let (critical, minimum) = (product.stock_critico, product.stock_minimo);
            check.warnings.push(RowWarning::critical_above_minimum(row, critical, minimum));
        }
        return Ok(Checked { row: product, warnings: check.warnings });
    }
    Err(rejection(row, product.id, &missing, check.problems))
}

/// The only problem that is told: what else is wrong with the row may come from it.
fn too_many_values(row: u32, surplus: &Surplus) -> RowError {
    let Surplus { values, columns, separator } = surplus;
    let separator = if *separator == '\t' { "la tabulación".to_owned() } else { format!("«{separator}»") };
    let message = format!(
        "La fila tiene {values} valores y el encabezado {columns} columnas; si un valor contiene {separator}, que separa \
         las columnas, escríbalo entre comillas; si la columna no tiene nombre en el encabezado, póngaselo"
    );
    RowError { row, id: None, code: "too_many_values", column: None, value: None, message }
}

fn rejection(row: u32, id: String, missing: &[Column], problems: Vec<Problem>) -> RowError {
    // An id that is wrong has left none.
    let id = Some(id).filter(|id| !id.is_empty());
    let mut parts = Vec::with_capacity(1 + problems.len());
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|column| column.name()).collect();
        // The wording is part of the contract with the clients there are.
        parts.push(format!("Campos obligatorios vacíos: {}", names.join(", ")));
    }
    parts.extend(problems.iter().map(|problem| problem.message.clone()));
    let message = parts.join("; ");
    match (missing.first(), problems.into_iter().next()) {
        (None, Some(first)) => {
            let (column, value) = (Some(first.column), Some(first.value));
            RowError { row, id, code: first.code, column, value, message }
        }
        (first, _) => RowError { row, id, code: "required", column: first.copied(), value: None, message },
    }
}

/// Collects the problems and the warnings of a row. Each check gives none for an empty cell or a wrong one.
struct Check {
    row: u32,
    problems: Vec<Problem>,
    warnings: Vec<RowWarning>,
}

impl Check {
    fn problem<T>(&mut self, code: &'static str, column: Column, cell: &RawCell, advice: &str) -> Option<T> {
        self.problems.push(Problem::new(code, column, cell, advice));
        None
    }

    fn excel_error<T>(&mut self, column: Column, cell: &RawCell) -> Option<T> {
        let (code, advice) = match cell {
            // A text it is in a workbook that we gave back.
            cell if cell.display() == NOT_COMPUTED => (
                "formula_not_computed",
                "la fórmula no tiene un valor calculado; abra el libro en Excel, guárdelo y vuelva a subirlo, o escriba el valor",
            ),
            RawCell::Text(text) if text.starts_with("##") => {
                ("formula_error", "el valor no cabía en la columna y se perdió; escríbalo de nuevo")
            }
            _ => ("formula_error", "la fórmula da un error; escriba el valor"),
        };
        self.problem(code, column, cell, advice)
    }

    /// The first text that is not plain is the one to look at: which of them it was, the file doesn't say.
    fn mixed_encoding(&mut self, raw: &RawRow) {
        let texts = Column::ALL.into_iter().filter_map(|column| match raw.cell(column) {
            RawCell::Text(text) => Some((column, text)),
            _ => None,
        });
        let found = texts.clone().find(|(_, text)| !text.is_ascii());
        if let Some((column, text)) = found {
            self.warnings.push(RowWarning::mixed_encoding(self.row, column, text));
        }
    }

    fn text(&mut self, raw: &mut RawRow, column: Column) -> Option<String> {
        let cell = raw.take(column);
        let text = match cell {
            RawCell::Empty => return None,
            RawCell::Error(_) => return self.excel_error(column, &cell),
            RawCell::DateTime(_) => {
                let advice = "Excel convirtió el valor en una fecha; dé a la columna el formato Texto y escríbalo de nuevo";
                return self.problem("date_in_text", column, &cell, advice);
            }
            RawCell::Text(text) if is_error(&text) => {
                return self.excel_error(column, &RawCell::Text(text));
            }
            RawCell::Text(text) => text,
            RawCell::Number(number) if is_code(column) && number.abs() >= BEYOND_EXCEL => {
                return self.digits_lost(column, &cell);
            }
            RawCell::Number(number) if is_code(column) => {
                self.warnings.push(RowWarning::number_in_code(self.row, column, number));
                cell.display().into_owned()
            }
            number_or_bool => number_or_bool.display().into_owned(),
        };
        let text = if needs_look(&text) { self.visible(column, text)? } else { text };
        let text = if is_code(column) { self.code(column, text)? } else { text };
        let max = column.max_chars().unwrap_or(usize::MAX);
        // Bytes are never fewer than characters.
        if text.len() > max && text.chars().nth(max).is_some() {
            let advice = format!("tiene más de {max} caracteres; acórtelo");
            return self.problem("too_long", column, &RawCell::Text(text), &advice);
        }
        Some(text)
    }

    /// A text without lines and tabs; none where it has other characters that can't be seen or read.
    fn visible(&mut self, column: Column, text: String) -> Option<String> {
        if text.chars().all(|character| character == char::REPLACEMENT_CHARACTER) {
            return self.problem(
                "unreadable_text",
                column,
                &RawCell::Text(text),
                "no se puede leer; escríbalo de nuevo",
            );
        }
        if let Some(control) = text.chars().find(|character| character.is_control() && !is_line(*character)) {
            let name =
                if control == '\0' { "NUL".to_owned() } else { format!("U+{:04X}", u32::from(control)) };
            let advice = format!("contiene un carácter no permitido ({name}); escriba el valor de nuevo");
            return self.problem("invalid_character", column, &RawCell::Text(text), &advice);
        }
        self.warnings.extend(RowWarning::unreadable(self.row, column, &text));
        if !text.contains(is_line) {
            return Some(text);
        }
        if is_code(column) {
            let advice = "contiene un salto de línea o una tabulación; escríbalo en una sola línea";
            return self.problem("invalid_character", column, &RawCell::Text(text), advice);
        }
        self.warnings.push(RowWarning::joined_lines(self.row, column, &text));
        Some(text.split(is_line).map(trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
    }

    /// An id or a code as it is kept; none where it isn't what its sender wrote.
    fn code(&mut self, column: Column, text: String) -> Option<String> {
        if code::is_scientific(&text) {
            return self.digits_lost(column, &RawCell::Text(text));
        }
        if text.starts_with('=') {
            let advice =
                "es una fórmula y no un código; dé a la columna el formato Texto y escríbalo de nuevo";
            return self.problem("formula_in_code", column, &RawCell::Text(text), advice);
        }
        match code::canonical(&text) {
            None => Some(text),
            Some(empty) if empty.is_empty() => {
                let advice = "solo tiene caracteres invisibles; escríbalo de nuevo";
                self.problem("invalid_character", column, &RawCell::Text(text), advice)
            }
            Some(kept) => {
                self.warnings.push(RowWarning::canonical_code(self.row, column, &text, &kept));
                Some(kept)
            }
        }
    }

    fn digits_lost<T>(&mut self, column: Column, cell: &RawCell) -> Option<T> {
        let advice = "Excel lo trató como número y cambió sus últimos dígitos; dé a la columna el formato Texto y escríbalo de nuevo";
        self.problem("digits_lost", column, cell, advice)
    }

    /// A number as the cell holds it; truth values, dates and failed formulas are none.
    fn number(
        &mut self,
        column: Column,
        cell: &RawCell,
        mark: Option<DecimalMark>,
        expected: &str,
    ) -> Option<Decimal> {
        let parsed = match cell {
            RawCell::Empty => return None,
            RawCell::Error(_) => return self.excel_error(column, cell),
            RawCell::Number(number) => numbers::from_f64(*number),
            RawCell::Text(text) => numbers::parse_decimal(text, mark),
            RawCell::Bool(_) | RawCell::DateTime(_) => Err(NotANumber::Syntax),
        };
        match parsed {
            Ok(number) => Some(number),
            Err(NotANumber::TooLarge) => self.problem("out_of_range", column, cell, "es demasiado grande"),
            Err(NotANumber::Ambiguous) => {
                let whole: String = cell.display().chars().filter(char::is_ascii_digit).collect();
                let advice = format!(
                    "no se sabe si el separador es de miles o de decimales (¿{whole}?); escríbalo sin separador de miles o con dos decimales"
                );
                self.problem("ambiguous_number", column, cell, &advice)
            }
            Err(NotANumber::Syntax) if matches!(cell, RawCell::Text(text) if is_error(text)) => {
                self.excel_error(column, cell)
            }
            Err(NotANumber::Syntax) => self.problem("not_a_number", column, cell, expected),
        }
    }

    fn price(&mut self, raw: &mut RawRow) -> Option<Decimal> {
        let column = Column::PrecioUnitario;
        let (cell, mark) = (raw.take(column), raw.mark(column));
        let price = self.number(column, &cell, mark, "no es un número; escriba por ejemplo 1234.50")?;
        if price.is_sign_negative() && !price.is_zero() {
            return self.problem("out_of_range", column, &cell, "no puede ser negativo");
        }
        if price >= Decimal::from(PRICE_LIMIT) {
            let advice = "admite hasta 12 dígitos, 2 de ellos decimales";
            return self.problem("out_of_range", column, &cell, advice);
        }
        if price.scale() > PRICE_DECIMALS {
            return self.problem("too_many_decimals", column, &cell, "admite hasta 2 decimales; redondéelo");
        }
        if price.is_zero() {
            self.warnings.push(RowWarning::zero_price(self.row));
        }
        Some(price)
    }

    fn whole(&mut self, raw: &mut RawRow, column: Column) -> Option<i32> {
        let (cell, mark) = (raw.take(column), raw.mark(column));
        let number = self.number(column, &cell, mark, "no es un número entero; escriba por ejemplo 5")?;
        let (min, max) = column.range().unwrap_or((i32::MIN, i32::MAX));
        if !number.is_integer() {
            return self.problem("not_an_integer", column, &cell, "debe ser un número entero, sin decimales");
        }
        match i32::try_from(number).ok().filter(|number| (min..=max).contains(number)) {
            Some(number) => Some(number),
            None => {
                let advice = format!("debe estar entre {min} y {max}");
                self.problem("out_of_range", column, &cell, &advice)
            }
        }
    }

    fn truth(&mut self, raw: &mut RawRow, column: Column) -> Option<bool> {
        let cell = raw.take(column);
        let known = match &cell {
            RawCell::Empty => return None,
            RawCell::Error(_) => return self.excel_error(column, &cell),
            RawCell::Bool(truth) => Some(*truth),
            RawCell::Number(number) => truth_of_number(*number),
            RawCell::Text(text) if is_error(text) => return self.excel_error(column, &cell),
            RawCell::Text(text) => truth_of_word(text),
            RawCell::DateTime(_) => None,
        };
        match known {
            Some(truth) => Some(truth),
            None => self.problem("not_a_boolean", column, &cell, "escriba sí o no"),
        }
    }
}

/// Whether each digit of a column's texts counts.
const fn is_code(column: Column) -> bool {
    matches!(column, Column::Id | Column::Codigo)
}

/// Whether a text may have characters that can't be seen or read. It is asked of every text, so it looks at
/// bytes: nearly all texts have none of these.
fn needs_look(text: &str) -> bool {
    let mut before = 0;
    for byte in text.bytes() {
        // Controls of ASCII and of Latin-1, and what line separators and U+FFFD begin with.
        if byte < b' ' || matches!(byte, 0x7f | 0xe2 | 0xef) || (before == 0xc2 && byte < 0xa0) {
            return true;
        }
        before = byte;
    }
    false
}

const fn is_line(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a text is what a spreadsheet shows of a formula that failed, in whatever language and of whatever
/// year: `#N/A`, `#REF!`, `#¡VALOR!`, `#¿NOMBRE?`, `#SPILL!`, LibreOffice's `Err:502`; or of a column that was
/// too narrow: `####`.
pub fn is_error(text: &str) -> bool {
    if !text.starts_with(['#', 'E']) {
        return false;
    }
    if let Some(digits) = text.strip_prefix("Err:") {
        return digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    }
    let Some(name) = text.strip_prefix('#') else { return false };
    let bare = ["N/A", "N/D", "N/DISP", "NV", "N/A N/A", "GETTING_DATA", "OBTENIENDO_DATOS"];
    if bare.iter().any(|bare| name.eq_ignore_ascii_case(bare))
        || (!name.is_empty() && name.bytes().all(|byte| byte == b'#'))
    {
        return true;
    }
    let name = name.strip_prefix(['¡', '¿']).unwrap_or(name);
    let Some(name) = name.strip_suffix(['!', '?']) else { return false };
    let in_name = |character: char| {
        character.is_uppercase() || character.is_ascii_digit() || matches!(character, '/' | '_')
    };
    name.starts_with(char::is_uppercase) && name.chars().all(in_name)
}

fn truth_of_number(number: f64) -> Option<bool> {
    if number == 1.0 {
        Some(true)
    } else if number == 0.0 {
        Some(false)
    } else {
        None
    }
}

fn truth_of_word(word: &str) -> Option<bool> {
    match word.to_lowercase().as_str() {
        "true" | "1" | "si" | "sí" | "si\u{301}" | "yes" | "verdadero" | "x" => Some(true),
        "false" | "0" | "no" | "falso" | "n" | "-" => Some(false),
        _ => None,
    }
}
