//! What the templates tell people about each column and about the rules: words only.

use crate::domain::Column;

/// What to know of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guide {
    /// Width in a sheet, characters.
    pub width: f64,
    /// What it is.
    pub what: &'static str,
    /// What it may hold.
    pub limits: &'static str,
    /// A value.
    pub example: &'static str,
    /// What an empty cell stands for, where it may be empty.
    pub default: &'static str,
}

/// The categories that suppliers use most. Others are taken as well.
pub(super) const CATEGORIES: [&str; 8] = [
    "ANTIBIOTICS",
    "ANALGESICS",
    "ANTIINFLAMATORIOS",
    "CARDIOVASCULARES",
    "DIABETES",
    "GASTROINTESTINAL",
    "ANTIHISTAMINICOS",
    "VITAMINAS",
];

const YES_OR_NO: &str = "sí o no (también true, 1, x; false, 0)";

pub(super) const fn of(column: Column) -> Guide {
    let (width, what, limits, example, default) = match column {
        Column::Id => {
            (14.0, "Identificador único del producto", "Hasta 64 caracteres, como texto", "PROD001", "")
        }
        Column::Nombre => (34.0, "Nombre del producto", "Hasta 255 caracteres", "Amoxicilina 500 mg", ""),
        Column::Codigo => {
            (16.0, "Código del proveedor, único", "Hasta 64 caracteres, como texto", "AMX-500", "")
        }
        Column::Categoria => {
            (20.0, "Categoría; elija de la lista o escriba otra", "Hasta 64 caracteres", "ANTIBIOTICS", "")
        }
        Column::Presentacion => {
            (22.0, "Empaque o presentación", "Hasta 128 caracteres", "Caja x 21 cápsulas", "sin presentación")
        }
        Column::PrecioUnitario => (
            17.0,
            "Precio por unidad",
            "Número de 0 a 9999999999.99, hasta 2 decimales, sin separador de miles",
            "12500.50",
            "",
        ),
        Column::CertificadoSanitario => {
            (24.0, "Certificado o registro sanitario", "Hasta 255 caracteres", "INVIMA 2024M-0001", "")
        }
        Column::CondicionesAlmacenamiento => {
            (30.0, "Condiciones de almacenamiento", "Hasta 128 caracteres", "Entre 15 y 30 °C", "")
        }
        Column::TiempoEntregaDias => (20.0, "Tiempo de entrega en días", "Número entero, 1 o más", "3", ""),
        Column::StockMinimo => {
            (14.0, "Unidades por debajo de las cuales el stock es bajo", "Número entero, 0 o más", "20", "10")
        }
        Column::StockCritico => (
            14.0,
            "Unidades por debajo de las cuales el stock es crítico",
            "Número entero, 0 o más; no mayor que stock_minimo",
            "8",
            "5",
        ),
        Column::RequiereLote => (15.0, "Si el stock se lleva por lote", YES_OR_NO, "sí", "no"),
        Column::RequiereVencimiento => (21.0, "Si el producto vence", YES_OR_NO, "sí", "sí"),
    };
    Guide { width, what, limits, example, default }
}

/// The rules that aren't a column's.
pub(super) const RULES: [(&str, &[&str]); 4] = [
    (
        "Antes de subir el archivo",
        &[
            "No cambie los nombres de las columnas. El orden no importa, y las columnas que no están en esta tabla se ignoran.",
            "Borre las filas de ejemplo. Las filas vacías se ignoran.",
            "Escriba los códigos con formato Texto: como número, Excel les quita los ceros a la izquierda y cambia los dígitos después del 15. Un código como 7.50103E+12 se rechaza: sus dígitos ya no están en el archivo.",
            "Si otro programa generó el libro con fórmulas, ábralo en Excel y guárdelo antes de subirlo. Los errores de fórmulas (#N/A, #¡VALOR!, ####) se rechazan.",
            "Guarde como Libro de Excel (.xlsx) o CSV UTF-8 (.csv), sin contraseña. En un CSV, un valor que contiene el separador va entre comillas.",
            "Los productos van en una sola hoja: se lee la primera que tiene encabezado y filas, y el resultado nombra las demás que los tienen; la opción «hoja» elige otra.",
        ],
    ),
    (
        "Productos duplicados",
        &[
            "Una fila es duplicada si su id o su codigo ya existen. Por defecto se rechaza; con la opción «reemplazar duplicados» actualiza el producto: una columna que el archivo no tiene queda como está, una celda vacía borra el valor (o le da el predeterminado), y lo que no cambia no se escribe.",
            "Si dos filas del archivo tienen el mismo id o codigo, vale la primera y las demás se rechazan, también si ese producto cambió mientras se cargaba el archivo.",
            "Una fila nunca cambia un producto de otro proveedor, ni dos productos a la vez (id de uno, codigo de otro).",
        ],
    ),
    (
        "Qué pasa con las filas que tienen errores",
        &[
            "Las filas correctas se cargan y las que tienen errores se rechazan; cada rechazo dice la fila, la columna, el valor y qué corregir.",
            "Descargue el libro con los errores marcados, corrija esas filas y vuelva a subirlo.",
            "Una advertencia no rechaza la fila: el producto se carga, pero conviene revisarlo.",
        ],
    ),
    (
        "Números",
        &[
            "Los decimales van con punto o con coma. No use separador de miles: «1.234» puede leerse como 1234 o como 1,234; se toma por 1234 si las demás filas usan coma decimal, y si no se rechaza.",
        ],
    ),
];

/// Rows of the example, in the template's order.
pub(super) const EXAMPLES: [[&str; Column::COUNT]; 10] = [
    [
        "EJ-001",
        "Amoxicilina 500 mg",
        "AMX-500",
        "ANTIBIOTICS",
        "Caja x 21 cápsulas",
        "12500.5",
        "INVIMA 2024M-0001",
        "Entre 15 y 30 °C",
        "3",
        "20",
        "8",
        "sí",
        "sí",
    ],
    [
        "EJ-002",
        "Azitromicina 500 mg",
        "AZI-500",
        "ANTIBIOTICS",
        "Caja x 3 tabletas",
        "9800",
        "INVIMA 2023M-0217",
        "Lugar seco, entre 15 y 30 °C",
        "3",
        "15",
        "5",
        "sí",
        "sí",
    ],
    [
        "EJ-003",
        "Acetaminofén 500 mg",
        "0001203",
        "ANALGESICS",
        "Caja x 100 tabletas",
        "15200",
        "INVIMA 2022M-0458",
        "Temperatura ambiente",
        "2",
        "50",
        "20",
        "no",
        "sí",
    ],
    [
        "EJ-004",
        "Ibuprofeno 400 mg",
        "IBU-400",
        "ANTIINFLAMATORIOS",
        "Caja x 50 tabletas",
        "18350.25",
        "INVIMA 2021M-1187",
        "Temperatura ambiente",
        "2",
        "40",
        "15",
        "no",
        "sí",
    ],
    [
        "EJ-005",
        "Losartán 50 mg",
        "LOS-050",
        "CARDIOVASCULARES",
        "Caja x 30 tabletas",
        "7450",
        "INVIMA 2024M-0332",
        "Protegido de la luz",
        "5",
        "30",
        "10",
        "sí",
        "sí",
    ],
    [
        "EJ-006",
        "Insulina glargina 100 UI/ml",
        "INS-G100",
        "DIABETES",
        "Cartucho x 3 ml",
        "68900",
        "INVIMA 2023M-0790",
        "Refrigerado, entre 2 y 8 °C",
        "7",
        "12",
        "6",
        "sí",
        "sí",
    ],
    [
        "EJ-007",
        "Omeprazol 20 mg",
        "OME-020",
        "GASTROINTESTINAL",
        "Frasco x 100 cápsulas",
        "21000",
        "INVIMA 2022M-0915",
        "Lugar seco",
        "3",
        "",
        "",
        "no",
        "sí",
    ],
    [
        "EJ-008",
        "Loratadina 10 mg",
        "LOR-010",
        "ANTIHISTAMINICOS",
        "Caja x 10 tabletas",
        "3900.9",
        "INVIMA 2021M-0064",
        "Temperatura ambiente",
        "2",
        "25",
        "10",
        "",
        "",
    ],
    [
        "EJ-009",
        "Vitamina C 500 mg",
        "VIT-C500",
        "VITAMINAS",
        "",
        "11200",
        "INVIMA 2024M-0511",
        "Lugar fresco y seco",
        "4",
        "30",
        "10",
        "no",
        "sí",
    ],
    [
        "EJ-010",
        "Termómetro digital",
        "TER-DIG1",
        "EQUIPOS",
        "Unidad",
        "24900",
        "INVIMA 2020DM-0102",
        "Temperatura ambiente",
        "10",
        "5",
        "2",
        "no",
        "no",
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_what_the_rules_are() {
        for column in Column::ALL {
            let guide = of(column);
            if let Some(max) = column.max_chars() {
                assert!(guide.limits.contains(&format!("Hasta {max} caracteres")), "{column:?}");
            }
            if let Some((min, _)) = column.range() {
                assert!(guide.limits.contains(&format!("{min} o más")), "{column:?}");
            }
            assert_eq!(guide.default.is_empty(), column.required(), "{column:?}");
        }
    }
}
