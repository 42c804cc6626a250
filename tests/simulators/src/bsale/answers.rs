//! The records of a shop as Bsale's API has them.

use super::{
    json::{self, nested, object, optional, text},
    records::{Detail, Money},
    shop::Shop,
};

impl Shop {
    pub(super) fn document_type_json(&self, id: i64, base: &str) -> Option<String> {
        let kind = self.document_types.get(&id)?;
        Some(object([
            ("href", text(&format!("{base}/document_types/{id}.json"))),
            ("id", id.to_string()),
            ("name", text(&kind.name)),
            ("codeSii", text("39")),
            ("use", kind.usage.to_string()),
            ("isCreditNote", i64::from(kind.credit_note).to_string()),
            ("isSalesNote", "0".to_owned()),
            ("isElectronicDocument", "1".to_owned()),
            ("state", "0".to_owned()),
            ("book_type", nested(base, "book_types", 1)),
        ]))
    }

    pub(super) fn product_type_json(&self, id: i64, base: &str) -> Option<String> {
        let name = self.product_types.get(&id)?;
        Some(object([
            ("href", text(&format!("{base}/product_types/{id}.json"))),
            ("id", id.to_string()),
            ("name", text(name)),
            ("isEditable", "1".to_owned()),
            ("state", "0".to_owned()),
        ]))
    }

    pub(super) fn product_json(&self, id: i64, base: &str) -> Option<String> {
        let product = self.products.get(&id)?;
        Some(object([
            ("href", text(&format!("{base}/products/{id}.json"))),
            ("id", id.to_string()),
            ("name", text(&product.name)),
            ("description", optional(product.description.as_deref())),
            ("classification", "0".to_owned()),
            ("ledgerAccount", "null".to_owned()),
            ("costCenter", "null".to_owned()),
            ("allowDecimal", "0".to_owned()),
            ("stockControl", i64::from(product.stock_control).to_string()),
            ("state", product.state.to_string()),
            ("product_type", nested(base, "product_types", product.product_type)),
            ("product_taxes", object([("href", text(&format!("{base}/products/{id}/product_taxes.json")))])),
        ]))
    }

    pub(super) fn variant_json(&self, id: i64, base: &str) -> Option<String> {
        let variant = self.variants.get(&id)?;
        Some(object([
            ("href", text(&format!("{base}/variants/{id}.json"))),
            ("id", id.to_string()),
            ("description", text(&variant.description)),
            ("unlimitedStock", "0".to_owned()),
            ("allowNegativeStock", "0".to_owned()),
            ("state", variant.state.to_string()),
            ("barCode", optional(variant.bar_code.as_deref())),
            ("code", optional(variant.sku.as_deref())),
            ("serialNumber", "0".to_owned()),
            ("product", nested(base, "products", variant.product)),
            ("costs", object([("href", text(&format!("{base}/variants/{id}/costs.json")))])),
        ]))
    }

    pub(super) fn client_json(&self, id: i64, base: &str) -> Option<String> {
        let client = self.clients.get(&id)?;
        Some(object([
            ("href", text(&format!("{base}/clients/{id}.json"))),
            ("id", id.to_string()),
            ("firstName", optional(client.first_name.as_deref())),
            ("lastName", optional(client.last_name.as_deref())),
            ("code", optional(client.code.as_deref())),
            ("email", optional(client.email.as_deref())),
            ("phone", optional(client.phone.as_deref())),
            ("company", text("")),
            (
                "note",
                if self.broken_note == Some(id) {
                    r#""gracias \ud83d""#.to_owned()
                } else {
                    "null".to_owned()
                },
            ),
            ("hasCredit", "0".to_owned()),
            ("maxCredit", text("0.0")),
            ("state", client.state.to_string()),
            ("activity", "null".to_owned()),
            ("city", text("Santiago")),
            ("municipality", text("Ñuñoa")),
            ("address", optional(client.address.as_deref())),
            ("companyOrPerson", "0".to_owned()),
            ("points", "0.0".to_owned()),
        ]))
    }

    pub(super) fn detail_json(&self, detail: &Detail, base: &str) -> String {
        let variant = detail.variant;
        // A detail's variant has an id that is a number or a string.
        let id = if variant % 2 == 0 { variant.to_string() } else { text(&variant.to_string()) };
        object([
            ("id", detail.id.to_string()),
            ("lineNumber", detail.line.to_string()),
            ("quantity", format!("{}.0", detail.quantity)),
            ("netUnitValue", detail.net_unit.to_string()),
            ("totalUnitValue", Money(detail.net_unit.0 / 100 * 119).to_string()),
            ("netAmount", detail.net.to_string()),
            ("taxAmount", detail.tax.to_string()),
            ("totalAmount", detail.total.to_string()),
            ("netDiscount", detail.net_discount.to_string()),
            ("totalDiscount", Money(detail.net_discount.0 / 100 * 119).to_string()),
            ("variant", object([("href", text(&format!("{base}/variants/{variant}.json"))), ("id", id)])),
            ("note", text("")),
        ])
    }

    pub(super) fn document_json(&self, id: i64, base: &str, expand: bool) -> Option<String> {
        let document = self.documents.get(&id)?;
        let seconds = document.day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
        let href = text(&format!("{base}/documents/{id}/details.json"));
        let details = if expand {
            // Cut, and no word of it.
            let items: Vec<_> =
                document.details.iter().take(25).map(|detail| self.detail_json(detail, base)).collect();
            object([
                ("href", href),
                ("count", document.details.len().to_string()),
                ("limit", "25".to_owned()),
                ("offset", "0".to_owned()),
                ("items", json::list(&items)),
            ])
        } else {
            object([("href", href)])
        };
        let mut fields = vec![
            ("href", text(&format!("{base}/documents/{id}.json"))),
            ("id", id.to_string()),
            // Three in the morning, of the same UTC day.
            ("emissionDate", (seconds + 10_800 * (id % 2)).to_string()),
            ("expirationDate", seconds.to_string()),
            ("generationDate", (seconds + 50_000).to_string()),
            ("rcofDate", seconds.to_string()),
            ("number", document.number.to_string()),
            ("totalAmount", document.total.to_string()),
            ("netAmount", document.net.to_string()),
            ("taxAmount", document.tax.to_string()),
            ("exemptAmount", "0.0".to_owned()),
            ("token", text(&format!("{id:x}"))),
            ("state", document.state.to_string()),
            ("informedSii", "0".to_owned()),
            ("urlPublicView", text(&format!("https://app2.bsale.io/view/{id}"))),
            ("address", text("Av. Siempre Viva 742")),
            ("municipality", text("Ñuñoa")),
            ("city", text("Santiago")),
            ("document_type", nested(base, "document_types", document.document_type)),
            ("office", nested(base, "offices", document.office)),
            ("user", nested(base, "users", 1)),
            ("coin", nested(base, "coins", 1)),
            ("details", details),
        ];
        if let Some(client) = document.client {
            fields.push(("client", nested(base, "clients", client)));
        }
        if self.new_field {
            fields.push(("loyaltyPoints", "12.50".to_owned()));
        }
        Some(object(fields))
    }
}
