//! JSON by hand: amounts are written digit by digit, never through a float.

/// An object of names and values that are JSON already.
pub fn object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<_> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// A text.
pub fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text, or null.
pub fn optional(value: Option<&str>) -> String {
    value.map_or_else(|| "null".to_owned(), text)
}

/// A list.
pub fn list(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

/// A nested object, of which Bsale writes the id as a string.
pub fn nested(base: &str, what: &str, id: i64) -> String {
    object([("href", text(&format!("{base}/{what}/{id}.json"))), ("id", text(&id.to_string()))])
}
