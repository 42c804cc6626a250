//! The columns of the template and the limits of each.

use super::aliases;

/// A column of the template, in the template's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Column {
    /// The product's id: its primary key.
    Id,
    /// Its name.
    Nombre,
    /// The supplier's code, unique over all products.
    Codigo,
    /// Its category; any text.
    Categoria,
    /// Package or presentation.
    Presentacion,
    /// Unit price, two decimals.
    PrecioUnitario,
    /// Sanitary certificate.
    CertificadoSanitario,
    /// Storage conditions.
    CondicionesAlmacenamiento,
    /// Delivery time in days.
    TiempoEntregaDias,
    /// Minimum stock, units.
    StockMinimo,
    /// Critical stock, units.
    StockCritico,
    /// Whether stock is kept by lot.
    RequiereLote,
    /// Whether stock expires.
    RequiereVencimiento,
}

impl Column {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// Every column, in the template's order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Id,
        Self::Nombre,
        Self::Codigo,
        Self::Categoria,
        Self::Presentacion,
        Self::PrecioUnitario,
        Self::CertificadoSanitario,
        Self::CondicionesAlmacenamiento,
        Self::TiempoEntregaDias,
        Self::StockMinimo,
        Self::StockCritico,
        Self::RequiereLote,
        Self::RequiereVencimiento,
    ];

    /// The header in the template, and the name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Nombre => "nombre",
            Self::Codigo => "codigo",
            Self::Categoria => "categoria",
            Self::Presentacion => "presentacion",
            Self::PrecioUnitario => "precio_unitario",
            Self::CertificadoSanitario => "certificado_sanitario",
            Self::CondicionesAlmacenamiento => "condiciones_almacenamiento",
            Self::TiempoEntregaDias => "tiempo_entrega_dias",
            Self::StockMinimo => "stock_minimo",
            Self::StockCritico => "stock_critico",
            Self::RequiereLote => "requiere_lote",
            Self::RequiereVencimiento => "requiere_vencimiento",
        }
    }

    /// Whether each row, and so the header, must have it.
    pub const fn required(self) -> bool {
        !matches!(
            self,
            Self::Presentacion
                | Self::StockMinimo
                | Self::StockCritico
                | Self::RequiereLote
                | Self::RequiereVencimiento
        )
    }

    /// The most characters its text may have, or none where it is no text.
    pub const fn max_chars(self) -> Option<usize> {
        match self {
            Self::Id | Self::Codigo | Self::Categoria => Some(64),
            Self::Nombre | Self::CertificadoSanitario => Some(255),
            Self::Presentacion | Self::CondicionesAlmacenamiento => Some(128),
            _ => None,
        }
    }

    /// The least and the greatest value of a whole number, or none where it is none.
    pub const fn range(self) -> Option<(i32, i32)> {
        match self {
            Self::TiempoEntregaDias => Some((1, i32::MAX)),
            Self::StockMinimo | Self::StockCritico => Some((0, i32::MAX)),
            _ => None,
        }
    }

    /// Whether it holds numbers.
    pub const fn is_number(self) -> bool {
        matches!(self, Self::PrecioUnitario) || self.range().is_some()
    }

    /// The column whose name a header is: any case, with or without accents, words joined in any way or not
    /// at all, and with marks such as `*` or `¿?`.
    pub fn from_header(header: &str) -> Option<Self> {
        HeaderName::of(header).column
    }

    fn from_normal(name: &str) -> Option<Self> {
        let same = |column: &Self| column.name().bytes().filter(|byte| *byte != b'_').eq(name.bytes());
        Self::ALL.into_iter().find(same)
    }
}

/// What a header cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderName {
    /// The column whose name it is.
    pub column: Option<Column>,
    /// The column that it is another name of.
    pub alias_of: Option<Column>,
}

impl HeaderName {
    /// No name of a column is longer, bytes: longer texts need not be looked at.
    const MAX_BYTES: usize = 128;

    /// Reads a header cell.
    pub fn of(header: &str) -> Self {
        if header.len() > Self::MAX_BYTES {
            return Self { column: None, alias_of: None };
        }
        let name = normalise(header);
        let column = Column::from_normal(&name);
        Self { column, alias_of: if column.is_none() { aliases::column_of(&name) } else { None } }
    }

    /// The column, by its own name or by another.
    pub fn any(self) -> Option<Column> {
        self.column.or(self.alias_of)
    }
}

/// Letters and digits only, in lower case without accents.
fn normalise(header: &str) -> String {
    let mut name = String::with_capacity(header.len());
    for character in header.chars().flat_map(char::to_lowercase) {
        let plain = match character {
            'á' | 'à' | 'ä' | 'â' | 'ã' => 'a',
            'é' | 'è' | 'ë' | 'ê' => 'e',
            'í' | 'ì' | 'ï' | 'î' => 'i',
            'ó' | 'ò' | 'ö' | 'ô' | 'õ' => 'o',
            'ú' | 'ù' | 'ü' | 'û' => 'u',
            'ñ' => 'n',
            other => other,
        };
        // Accents that stand apart from their letter, as macOS writes them, are no letters.
        if plain.is_alphanumeric() {
            name.push(plain);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_recognised_as_people_write_them() {
        for (header, column) in [
            ("id", Column::Id),
            ("  ID ", Column::Id),
            ("Código", Column::Codigo),
            ("CO\u{301}DIGO", Column::Codigo),
            ("Categoría", Column::Categoria),
            ("Precio Unitario", Column::PrecioUnitario),
            ("precio  -  unitario", Column::PrecioUnitario),
            ("\u{feff}nombre", Column::Nombre),
            ("TIEMPO_ENTREGA_DÍAS", Column::TiempoEntregaDias),
            ("stock\u{a0}mínimo", Column::StockMinimo),
            ("precioUnitario", Column::PrecioUnitario),
            ("Nombre *", Column::Nombre),
            ("¿Requiere lote?", Column::RequiereLote),
        ] {
            assert_eq!(Column::from_header(header), Some(column), "{header:?}");
        }
        for header in ["", " ", "identificador", "nombre2", "precio"] {
            assert_eq!(Column::from_header(header), None, "{header:?}");
        }
        assert_eq!(Column::from_header(&format!("id{}", " ".repeat(200))), None);
    }

    #[test]
    fn other_names_are_recognised_apart() {
        for (header, column) in [
            ("SKU", Column::Codigo),
            ("Nombre del producto", Column::Nombre),
            ("PRODUCTO", Column::Nombre),
            ("Precio", Column::PrecioUnitario),
            ("Precio unitario (COP)", Column::PrecioUnitario),
            ("Precio $", Column::PrecioUnitario),
            ("Tiempo de entrega (días)", Column::TiempoEntregaDias),
            ("Lead Time", Column::TiempoEntregaDias),
            ("Stock mín.", Column::StockMinimo),
            ("Registro sanitario/INVIMA", Column::CertificadoSanitario),
            ("Condiciones de almacenamiento", Column::CondicionesAlmacenamiento),
        ] {
            let name = HeaderName::of(header);
            assert_eq!(
                (name.column, name.alias_of, name.any()),
                (None, Some(column), Some(column)),
                "{header:?}"
            );
        }
        for header in ["código de barras", "observaciones", "precio sugerido", "", "$"] {
            assert_eq!(HeaderName::of(header).any(), None, "{header:?}");
        }
    }

    #[test]
    fn the_table_is_the_template() {
        assert_eq!(Column::ALL.iter().filter(|column| column.required()).count(), 8);
        for (index, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, index);
            assert_eq!(Column::from_header(column.name()), Some(column));
        }
    }
}
