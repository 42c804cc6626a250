//! What a person sends to change one product.

use chassis::Problem;
use chrono::NaiveDate;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{Column, ProductRow, RawCell, RawRow, RowError, trim, validate_requiring},
    files::Limits,
    storage::{
        inventory::EmptyLot,
        products::{EditError, Model},
    },
};

/// Un producto nuevo, como lo envía el formulario.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewProduct {
    /// Un UUID si falta.
    id: Option<String>,
    /// El del propio proveedor si falta.
    pub proveedor_id: Option<String>,
    /// Dónde se puede guardar el producto: un lote vacío en cada una.
    #[serde(default)]
    pub bodegas_iniciales: Option<Vec<InitialLot>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 255)]
    nombre: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 64)]
    codigo: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 64)]
    categoria: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 128)]
    presentacion: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    precio_unitario: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 128)]
    requisitos_almacenamiento: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 255)]
    certificado_sanitario: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>, minimum = 1)]
    tiempo_entrega_dias: Option<Value>,
    /// 10 si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    stock_minimo: Option<Value>,
    /// 5 si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    stock_critico: Option<Value>,
    /// `false` si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<bool>)]
    requiere_lote: Option<Value>,
    /// `true` si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<bool>)]
    requiere_vencimiento: Option<Value>,
}

/// Valores de un producto. En uno nuevo, lo que falta queda vacío o con su valor por omisión; en uno que
/// existe, como está. Un `null` explícito vacía `presentacion`, `requisitosAlmacenamiento`,
/// `certificadoSanitario` y `tiempoEntregaDias`, y devuelve a su valor por omisión las existencias y lo que
/// el producto requiere; los demás campos no pueden quedar vacíos.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Values {
    /// El del producto, para clientes que devuelven lo que leyeron.
    id: Option<String>,
    /// El del producto, como `id`.
    proveedor_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 255)]
    nombre: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 64)]
    codigo: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 64)]
    categoria: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 128)]
    presentacion: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    precio_unitario: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 128)]
    requisitos_almacenamiento: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 255)]
    certificado_sanitario: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>, minimum = 1)]
    tiempo_entrega_dias: Option<Value>,
    /// 10 si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    stock_minimo: Option<Value>,
    /// 5 si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    stock_critico: Option<Value>,
    /// `false` si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<bool>)]
    requiere_lote: Option<Value>,
    /// `true` si falta.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<bool>)]
    requiere_vencimiento: Option<Value>,
}

/// Tells `null` from what is left out.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a workbook's row must have and the form may leave out.
const fn required(column: Column) -> bool {
    column.required()
        && !matches!(
            column,
            Column::CertificadoSanitario | Column::CondicionesAlmacenamiento | Column::TiempoEntregaDias
        )
}

impl NewProduct {
    /// The product that it makes, under the rules of a workbook's row but for what is required.
    ///
    /// # Errors
    /// 422 with the first field that breaks them, and all of them in the sentence.
    pub fn check(self) -> Result<ProductRow, Problem> {
        let given = self.id.clone().filter(|id| !id.is_empty());
        let id = given.unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut row = RawRow::new(0);
        row.set(Column::Id, RawCell::text(&id, Limits::default().max_cell_chars));
        self.values().fill(&mut row)?;
        let row = validate_requiring(row, required).map_err(refused)?.row;
        // A file's row may have spaces around its id; an address may not mean two products.
        if row.id == id {
            Ok(row)
        } else {
            let detail = format!("id {id:?} inválido: no se esperan espacios alrededor");
            let details = json!({ "campo": "id", "valor": RowError::excerpt(&id) });
            Err(Problem::unprocessable("invalid_id", detail).with_details(details))
        }
    }
}

impl NewProduct {
    fn values(self) -> Values {
        let Self {
            id,
            proveedor_id,
            bodegas_iniciales: _,
            nombre,
            codigo,
            categoria,
            presentacion,
            precio_unitario,
            requisitos_almacenamiento,
            certificado_sanitario,
            tiempo_entrega_dias,
            stock_minimo,
            stock_critico,
            requiere_lote,
            requiere_vencimiento,
        } = self;
        Values {
            id,
            proveedor_id,
            nombre,
            codigo,
            categoria,
            presentacion,
            precio_unitario,
            requisitos_almacenamiento,
            certificado_sanitario,
            tiempo_entrega_dias,
            stock_minimo,
            stock_critico,
            requiere_lote,
            requiere_vencimiento,
        }
    }
}

impl Values {
    /// Sets the cells of the columns that are given, and gives those columns.
    fn fill(self, row: &mut RawRow) -> Result<Vec<Column>, Problem> {
        let max_chars = Limits::default().max_cell_chars;
        let mut columns = Vec::new();
        for (column, value) in [
            (Column::Nombre, self.nombre),
            (Column::Codigo, self.codigo),
            (Column::Categoria, self.categoria),
            (Column::Presentacion, self.presentacion),
            (Column::PrecioUnitario, self.precio_unitario),
            (Column::CertificadoSanitario, self.certificado_sanitario),
            (Column::CondicionesAlmacenamiento, self.requisitos_almacenamiento),
            (Column::TiempoEntregaDias, self.tiempo_entrega_dias),
            (Column::StockMinimo, self.stock_minimo),
            (Column::StockCritico, self.stock_critico),
            (Column::RequiereLote, self.requiere_lote),
            (Column::RequiereVencimiento, self.requiere_vencimiento),
        ] {
            let Some(value) = value else { continue };
            columns.push(column);
            let cell = match &value {
                Value::Null => RawCell::Empty,
                Value::String(text) => RawCell::text(text, max_chars),
                Value::Bool(truth) => RawCell::Bool(*truth),
                Value::Number(number) => RawCell::Number(number.as_f64().unwrap_or(f64::NAN)),
                Value::Array(_) | Value::Object(_) => {
                    let (field, value) = (field(column), RowError::excerpt(&value.to_string()));
                    let detail = format!("{field}: se espera un solo valor; se recibió {value}");
                    let details = json!({ "campo": field, "valor": value });
                    return Err(Problem::unprocessable("invalid_type", detail).with_details(details));
                }
            };
            row.set(column, cell);
        }
        Ok(columns)
    }

    /// The product as it is to be: with the values that are given, and else with its own, which are not checked
    /// again.
    ///
    /// # Errors
    /// As [`NewProduct::check`].
    pub fn change(self, model: &Model) -> Result<ProductRow, Problem> {
        for (name, given, own) in
            [("id", &self.id, &model.id), ("proveedorId", &self.proveedor_id, &model.proveedor_id)]
        {
            if given.as_ref().is_some_and(|given| given != own) {
                let detail = format!("{name} no se puede cambiar: es {own}");
                return Err(
                    Problem::unprocessable("not_changeable", detail).with_details(json!({ "campo": name }))
                );
            }
        }
        let mut row = RawRow::new(0);
        let given = self.fill(&mut row)?;
        let wanted = |column: Column| given.contains(&column);
        let new = validate_requiring(row, |column| required(column) && wanted(column)).map_err(refused)?.row;
        let text = |column, new: String, own: &str| if wanted(column) { new } else { own.to_owned() };
        Ok(ProductRow {
            row: 0,
            id: model.id.clone(),
            nombre: text(Column::Nombre, new.nombre, &model.nombre),
            codigo: text(Column::Codigo, new.codigo, &model.codigo),
            categoria: text(Column::Categoria, new.categoria, &model.categoria),
            presentacion: if wanted(Column::Presentacion) {
                new.presentacion
            } else {
                model.presentacion.clone()
            },
            precio_unitario: if wanted(Column::PrecioUnitario) {
                new.precio_unitario
            } else {
                model.precio_unitario
            },
            certificado_sanitario: text(
                Column::CertificadoSanitario,
                new.certificado_sanitario,
                &model.certificado_sanitario,
            ),
            condiciones_almacenamiento: text(
                Column::CondicionesAlmacenamiento,
                new.condiciones_almacenamiento,
                &model.condiciones_almacenamiento,
            ),
            tiempo_entrega_dias: if wanted(Column::TiempoEntregaDias) {
                new.tiempo_entrega_dias
            } else {
                model.tiempo_entrega_dias
            },
            stock_minimo: if wanted(Column::StockMinimo) { new.stock_minimo } else { model.stock_minimo },
            stock_critico: if wanted(Column::StockCritico) { new.stock_critico } else { model.stock_critico },
            requiere_lote: if wanted(Column::RequiereLote) { new.requiere_lote } else { model.requiere_lote },
            requiere_vencimiento: if wanted(Column::RequiereVencimiento) {
                new.requiere_vencimiento
            } else {
                model.requiere_vencimiento
            },
        })
    }
}

/// What breaks the rules, by the names that this API has for the columns.
fn refused(error: RowError) -> Problem {
    let named = |message: String, column: &Column| message.replace(column.name(), field(*column));
    let mut message = Column::ALL.iter().fold(error.message, named);
    if let Some(value) = &error.value {
        message = format!("{message} (valor recibido: {value:?})");
    }
    let details = json!({ "campo": error.column.map(field), "valor": error.value });
    Problem::unprocessable(error.code, message).with_details(details)
}

/// Una bodega en la que se puede guardar un producto nuevo.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct InitialLot {
    #[schema(max_length = 64)]
    bodega_id: String,
    /// Dos letras (ISO 3166).
    #[schema(min_length = 2, max_length = 2, example = "CO")]
    pais: String,
    /// `INICIAL-` y el día, en UTC, si falta.
    #[schema(max_length = 64)]
    lote: Option<String>,
    /// 2099-12-31 si falta.
    #[schema(value_type = Option<chrono::NaiveDate>)]
    fecha_vencimiento: Option<String>,
}

impl InitialLot {
    /// The longest name of a warehouse or a lot, in characters.
    const MAX_NAME: usize = 64;
    /// The most of them for a product.
    const MOST: usize = 100;
    /// When a lot expires that nobody gave an end.
    const NEVER: &str = "2099-12-31";

    /// The lots that a product begins with, on the given day.
    ///
    /// # Errors
    /// 422 with the first field that is wrong.
    pub fn check_all(lots: &[Self], today: NaiveDate) -> Result<Vec<EmptyLot>, Problem> {
        if lots.len() > Self::MOST {
            let detail =
                format!("bodegasIniciales tiene {} bodegas; se admiten hasta {}", lots.len(), Self::MOST);
            return Err(Problem::unprocessable("too_many_bodegas", detail));
        }
        let mut checked: Vec<EmptyLot> = Vec::with_capacity(lots.len());
        for (place, lot) in lots.iter().enumerate() {
            let lot = lot.check(place, today)?;
            let same = |other: &EmptyLot| {
                other.bodega_id == lot.bodega_id && other.pais == lot.pais && other.lote == lot.lote
            };
            if checked.iter().any(same) {
                return Err(wrong(place, "bodega_id", &lot.bodega_id, "está repetida con el mismo lote"));
            }
            checked.push(lot);
        }
        Ok(checked)
    }

    fn check(&self, place: usize, today: NaiveDate) -> Result<EmptyLot, Problem> {
        let bodega_id = Self::name(place, "bodega_id", &self.bodega_id)?;
        let pais = self.pais.trim();
        if pais.len() != 2 || !pais.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(wrong(place, "pais", pais, "se esperan las dos letras de un país, por ejemplo CO"));
        }
        let lote = match self.lote.as_deref().filter(|lote| !lote.trim().is_empty()) {
            Some(lote) => Self::name(place, "lote", lote)?,
            None => format!("INICIAL-{}", today.format("%Y%m%d")),
        };
        let day = self.fecha_vencimiento.as_deref().filter(|day| !day.trim().is_empty());
        let day = day.unwrap_or(Self::NEVER).trim();
        let vence = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().filter(|_| day.len() == 10);
        let advice = "se espera una fecha AAAA-MM-DD, por ejemplo 2027-01-31";
        let vence = vence.ok_or_else(|| wrong(place, "fecha_vencimiento", day, advice))?;
        Ok(EmptyLot { bodega_id, pais: pais.to_ascii_uppercase(), lote, vence })
    }

    fn name(place: usize, field: &str, text: &str) -> Result<String, Problem> {
        let name = trim(text);
        let length = name.chars().count();
        if length == 0 || length > Self::MAX_NAME || name.chars().any(char::is_control) {
            let advice =
                format!("se espera un texto de 1 a {} caracteres, sin caracteres de control", Self::MAX_NAME);
            return Err(wrong(place, field, text, &advice));
        }
        Ok(name.to_owned())
    }
}

impl From<&EmptyLot> for InitialLot {
    fn from(lot: &EmptyLot) -> Self {
        Self {
            bodega_id: lot.bodega_id.clone(),
            pais: lot.pais.clone(),
            lote: Some(lot.lote.clone()),
            fecha_vencimiento: Some(lot.vence.to_string()),
        }
    }
}

fn wrong(place: usize, field: &str, value: &str, advice: &str) -> Problem {
    let (field, value) = (format!("bodegasIniciales[{place}].{field}"), RowError::excerpt(value));
    let details = json!({ "campo": field, "valor": value });
    Problem::unprocessable("invalid_bodega", format!("{field} es {value:?}: {advice}")).with_details(details)
}

/// The name of a column in this API.
const fn field(column: Column) -> &'static str {
    match column {
        Column::PrecioUnitario => "precioUnitario",
        Column::CertificadoSanitario => "certificadoSanitario",
        Column::CondicionesAlmacenamiento => "requisitosAlmacenamiento",
        Column::TiempoEntregaDias => "tiempoEntregaDias",
        Column::StockMinimo => "stockMinimo",
        Column::StockCritico => "stockCritico",
        Column::RequiereLote => "requiereLote",
        Column::RequiereVencimiento => "requiereVencimiento",
        other => other.name(),
    }
}

/// There is none, or it is not the caller's to see.
pub(super) fn no_product(id: &str) -> Problem {
    Problem::not_found(format!("Producto {id} no encontrado"))
}

/// The answer to a change that was not made.
pub(super) fn edit_problem(error: EditError, id: &str, codigo: &str) -> Problem {
    match error {
        EditError::NotFound => no_product(id),
        EditError::Taken(what) => {
            let value = if what == "ID" { id } else { codigo };
            Problem::conflict(
                "duplicate_product",
                format!("El {what} {value} ya es de otro producto; use otro"),
            )
        }
        EditError::Changed(version) => {
            let detail = format!("El producto {id} cambió desde que lo leyó; léalo de nuevo");
            Problem::changed("product_changed", detail, version)
        }
        EditError::Database(error) => error.into(),
        EditError::Entity(error) => error.into(),
    }
}
