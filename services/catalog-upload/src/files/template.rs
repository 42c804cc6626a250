//! The workbooks that suppliers start from: an empty one and one with examples, both with what Excel can check
//! itself and with a sheet of instructions.

use rust_xlsxwriter::{
    Color, DataValidation, DataValidationErrorStyle, DataValidationRule, DocProperties, Format, FormatAlign,
    FormatBorder, Formula, Note, Workbook, Worksheet, XlsxError,
};

use super::guide::{self, Guide};
use crate::domain::Column;

/// The rows that Excel checks: all below the header.
const FIRST_ROW: u32 = 1;
const LAST_ROW: u32 = 1_048_575;

const REQUIRED_FILL: Color = Color::RGB(0x1F_4E_79);
const OPTIONAL_FILL: Color = Color::RGB(0xD9_E1_F2);

/// A workbook to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// The header only.
    Vacia,
    /// With rows that an import accepts as they are. Ids and codes are unique in the whole catalog, so they carry this.
    Ejemplo(String),
}

/// Characters of an id or a code that tell whose example it is.
const OWNER: usize = 32;

impl Template {
    /// The template of a name without its extension; `owner` is whose example it is.
    pub fn named(name: &str, owner: &str) -> Option<Self> {
        match name {
            "vacia" => Some(Self::Vacia),
            "ejemplo" => {
                // The end tells suppliers apart, and ids of the same time.
                let surplus = owner.chars().count().saturating_sub(OWNER);
                Some(Self::Ejemplo(owner.chars().skip(surplus).collect()))
            }
            _ => None,
        }
    }

    /// The workbook: some 15 KB.
    ///
    /// # Errors
    /// None that depends on anything but this code; the tests make both.
    pub fn xlsx(self) -> Result<Vec<u8>, XlsxError> {
        let mut workbook = Workbook::new();
        workbook.set_properties(&DocProperties::new().set_title("Plantilla de carga de productos"));
        let sheet = workbook.add_worksheet().set_name("Sheet1")?;
        write_columns(sheet)?;
        if let Self::Ejemplo(owner) = self {
            for (row, cells) in (FIRST_ROW..).zip(guide::EXAMPLES) {
                write_example(sheet, row, &cells, &owner)?;
            }
        }
        write_instructions(workbook.add_worksheet().set_name("Instrucciones")?)?;
        workbook.save_to_buffer()
    }
}

fn write_columns(sheet: &mut Worksheet) -> Result<(), XlsxError> {
    let header =
        Format::new().set_bold().set_border(FormatBorder::Thin).set_align(FormatAlign::VerticalCenter);
    let required = header.clone().set_background_color(REQUIRED_FILL).set_font_color(Color::White);
    let optional = header.set_background_color(OPTIONAL_FILL);
    let text = Format::new().set_num_format("@");
    let price = Format::new().set_num_format("0.00");
    for (position, column) in (0..).zip(Column::ALL) {
        let guide = guide::of(column);
        sheet.set_column_width(position, guide.width)?;
        match column {
            // As text a code keeps its zeros and all its digits.
            Column::Id | Column::Codigo => {
                sheet.set_column_format(position, &text)?;
            }
            Column::PrecioUnitario => {
                sheet.set_column_format(position, &price)?;
            }
            _ => {}
        }
        let format = if column.required() { &required } else { &optional };
        sheet.write_string_with_format(0, position, column.name(), format)?;
        let note =
            Note::new(note_text(column, &guide)).add_author_prefix(false).set_width(260).set_height(110);
        sheet.insert_note(0, position, &note)?;
        sheet.add_data_validation(FIRST_ROW, position, LAST_ROW, position, &validation(column, &guide)?)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    Ok(())
}

fn note_text(column: Column, guide: &Guide) -> String {
    let need = match guide.default {
        _ if column.required() => "OBLIGATORIA.".to_owned(),
        "" => "Opcional.".to_owned(),
        default => format!("Opcional; si se deja vacía: {default}."),
    };
    format!("{need}\n{}\n{}\nEjemplo: {}", guide.what, guide.limits, guide.example)
}

/// What Excel refuses to take, or asks about, in the cells of a column.
fn validation(column: Column, guide: &Guide) -> Result<DataValidation, XlsxError> {
    let rule = DataValidation::new();
    let rule = match column {
        Column::Categoria => rule
            .allow_list_strings(&guide::CATEGORIES)?
            // Others are taken as well.
            .set_error_style(DataValidationErrorStyle::Warning),
        Column::PrecioUnitario => {
            rule.allow_custom(Formula::new("AND(ISNUMBER(F2),F2>=0,F2<10000000000,ROUND(F2,2)=F2)"))
        }
        Column::RequiereLote | Column::RequiereVencimiento => rule.allow_list_strings(&["sí", "no"])?,
        _ => match (column.range(), column.max_chars()) {
            (Some((min, max)), _) => rule.allow_whole_number(DataValidationRule::Between(min, max)),
            // Columns of text have a limit each, which is far below u32's.
            (None, max) => rule.allow_text_length(DataValidationRule::Between(1, max.unwrap_or(255) as u32)),
        },
    };
    rule.set_error_title(column.name())?.set_error_message(format!("{}. {}", guide.what, guide.limits))
}

fn write_example(
    sheet: &mut Worksheet,
    row: u32,
    cells: &[&str; Column::COUNT],
    owner: &str,
) -> Result<(), XlsxError> {
    for ((position, column), cell) in (0..).zip(Column::ALL).zip(cells) {
        match cell.parse::<f64>() {
            _ if cell.is_empty() => continue,
            _ if matches!(column, Column::Id | Column::Codigo) => {
                sheet.write_string(row, position, format!("{cell}-{owner}"))?
            }
            Ok(number) if column.is_number() => sheet.write_number(row, position, number)?,
            _ => sheet.write_string(row, position, *cell)?,
        };
    }
    Ok(())
}

fn write_instructions(sheet: &mut Worksheet) -> Result<(), XlsxError> {
    let title = Format::new().set_bold().set_font_size(14);
    let heading = Format::new().set_bold().set_font_size(12);
    let wrapped = Format::new().set_text_wrap().set_align(FormatAlign::Top);
    let table = wrapped.clone().set_border(FormatBorder::Thin);
    let head = table.clone().set_bold().set_background_color(OPTIONAL_FILL);
    let required = table.clone().set_bold();

    for (position, width) in (0..).zip([28, 14, 48, 48, 30, 20]) {
        sheet.set_column_width(position, width)?;
    }
    sheet.write_string_with_format(0, 0, "Cómo llenar la hoja Sheet1", &title)?;
    let mut row = 2;
    for (position, text) in
        (0..).zip(["columna", "¿obligatoria?", "qué es", "límites", "ejemplo", "si se deja vacía"])
    {
        sheet.write_string_with_format(row, position, text, &head)?;
    }
    for column in Column::ALL {
        row += 1;
        let guide = guide::of(column);
        let is_required = column.required();
        let (need, default) = if is_required { ("sí", "la fila se rechaza") } else { ("no", guide.default) };
        sheet.write_string_with_format(
            row,
            0,
            column.name(),
            if is_required { &required } else { &table },
        )?;
        for (position, text) in (1..).zip([need, guide.what, guide.limits, guide.example, default]) {
            sheet.write_string_with_format(row, position, text, &table)?;
        }
    }
    for (name, rules) in guide::RULES {
        row += 2;
        sheet.write_string_with_format(row, 0, name, &heading)?;
        for rule in rules {
            row += 1;
            sheet.merge_range(row, 0, row, 5, rule, &wrapped)?;
            sheet.set_row_height(row, 32)?;
        }
    }
    Ok(())
}
