//! The shop: what it holds, how a seed makes one, and what happens to it over the days.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{Days, NaiveDate, Utc};

use super::json::{self, nested, object, optional, text};

/// An amount in ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub i64);

impl Money {
    pub const fn units(units: i64) -> Self {
        Self(units * 10_000)
    }
}

impl fmt::Display for Money {
    /// As `-12.3456`, without zeros at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, all) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, rest) = (all / 10_000, all % 10_000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let rest = format!("{rest:04}");
        write!(f, "{sign}{whole}.{}", rest.trim_end_matches('0'))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub id: i64,
    pub name: String,
    pub description: Option<String>,
    pub product_type: i64,
    pub stock_control: bool,
    pub state: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    pub id: i64,
    pub product: i64,
    pub description: String,
    pub sku: Option<String>,
    pub bar_code: Option<String>,
    pub state: i64,
    /// The average cost, once something was received.
    pub average_cost: Option<Money>,
    /// Receptions: day and cost.
    pub history: Vec<(NaiveDate, Money)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: i64,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub code: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
    pub state: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub id: i64,
    pub line: i64,
    pub variant: i64,
    pub quantity: Money,
    pub net_unit: Money,
    pub net: Money,
    pub tax: Money,
    pub total: Money,
    pub net_discount: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub id: i64,
    pub document_type: i64,
    pub client: Option<i64>,
    pub office: i64,
    pub number: i64,
    pub day: NaiveDate,
    pub net: Money,
    pub tax: Money,
    pub total: Money,
    /// 0 active, 1 annulled.
    pub state: i64,
    pub details: Vec<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    pub variant: i64,
    pub office: i64,
    pub quantity: Money,
    pub reserved: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub id: i64,
    pub variant: i64,
    pub value: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception {
    pub id: i64,
    pub day: NaiveDate,
    pub variants: Vec<i64>,
}

/// How large a shop is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub products: i64,
    pub clients: i64,
    /// Days with documents, up to today.
    pub days: u64,
    pub documents_a_day: i64,
}

impl Default for Size {
    fn default() -> Self {
        Self { products: 60, clients: 80, days: 20, documents_a_day: 8 }
    }
}

/// Everything there is. Deleted things are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shop {
    pub today: NaiveDate,
    /// id, name, credit note?
    pub document_types: BTreeMap<i64, (String, bool)>,
    pub product_types: BTreeMap<i64, String>,
    pub products: BTreeMap<i64, Product>,
    pub variants: BTreeMap<i64, Variant>,
    pub clients: BTreeMap<i64, Client>,
    pub documents: BTreeMap<i64, Document>,
    pub stock: BTreeMap<(i64, i64), Stock>,
    /// Of list 2.
    pub prices: BTreeMap<i64, Price>,
    pub receptions: BTreeMap<i64, Reception>,
    /// Fields that Bsale adds to documents one day.
    pub new_field: bool,
    /// Webhooks that Bsale has sent, or lost.
    pub notices: Vec<serde_json::Value>,
    seed: u64,
    next: i64,
}

/// The company that webhooks are of.
pub const COMPANY: i64 = 4321;

impl Shop {
    /// A shop that follows from its seed, with documents up to today (UTC).
    pub fn new(seed: u64, size: Size) -> Self {
        let mut shop = Self {
            today: Utc::now().date_naive(),
            document_types: BTreeMap::from([
                (1, ("BOLETA ELECTRÓNICA T".to_owned(), false)),
                (5, ("FACTURA ELECTRÓNICA".to_owned(), false)),
                (9, ("NOTA DE CRÉDITO ELECTRÓNICA".to_owned(), true)),
            ]),
            product_types: BTreeMap::from([(1, "Alimento".to_owned()), (2, "Juguetes".to_owned())]),
            products: BTreeMap::new(),
            variants: BTreeMap::new(),
            clients: BTreeMap::new(),
            documents: BTreeMap::new(),
            stock: BTreeMap::new(),
            prices: BTreeMap::new(),
            receptions: BTreeMap::new(),
            new_field: false,
            notices: Vec::new(),
            seed,
            next: 100,
        };
        for _ in 0..size.products {
            shop.add_product();
        }
        for _ in 0..size.clients {
            shop.add_client();
        }
        for back in (0..size.days).rev() {
            let day = shop.today - Days::new(back);
            for _ in 0..size.documents_a_day {
                shop.sell(day);
            }
            shop.receive(day);
        }
        shop.notices.clear();
        shop
    }

    /// The next number below `bound` that follows from the seed (SplitMix64).
    pub fn dice(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn id(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn one_of<T: Copy>(&mut self, all: Vec<T>) -> Option<T> {
        let index = self.dice(all.len() as u64);
        all.get(usize::try_from(index).ok()?).copied()
    }

    fn notice(&mut self, topic: &str, action: &str, resource: String, id: i64) {
        self.notices.push(serde_json::json!({
            "cpnId": COMPANY, "resource": resource, "resourceId": id.to_string(), "topic": topic, "action": action,
            "send": 1_700_000_000,
        }));
    }

    /// A product with one to three variants, prices and stock. Some have no SKU, no price, or no stock control.
    pub fn add_product(&mut self) -> i64 {
        let id = self.id();
        let name = format!("Alimento Ñandú {id} {}", ["Adulto", "Cachorro", "Senior"][self.dice(3) as usize]);
        let description = (self.dice(3) > 0).then(|| format!("Saco \"premium\" de {} kg", self.dice(20)));
        let (product_type, stock_control) = (1 + self.dice(2) as i64, self.dice(5) > 0);
        let state = i64::from(self.dice(12) == 0);
        self.products.insert(id, Product { id, name, description, product_type, stock_control, state });
        for _ in 0..=self.dice(3) {
            let variant = self.id();
            // Neither SKU nor bar code is unique.
            let sku = (self.dice(15) > 0).then(|| format!("SKU-{}", self.dice(1_000)));
            let bar_code = (self.dice(3) > 0).then(|| format!("78{:011}", self.dice(1_000_000)));
            let description = format!("Talla {}", self.dice(9));
            let state = i64::from(self.dice(20) == 0);
            self.variants.insert(
                variant,
                Variant {
                    id: variant,
                    product: id,
                    description,
                    sku,
                    bar_code,
                    state,
                    average_cost: None,
                    history: Vec::new(),
                },
            );
            if self.dice(15) > 0 {
                let value = Money(self.dice(900_000_000) as i64 + 1);
                let price = self.id();
                self.prices.insert(variant, Price { id: price, variant, value });
            }
            for office in 1..=2 {
                let quantity = Money::units(self.dice(100) as i64);
                let stock = Stock { variant, office, quantity, reserved: Money::units(self.dice(3) as i64) };
                self.stock.insert((variant, office), stock);
            }
        }
        self.notice("product", "post", format!("/v2/products/{id}.json"), id);
        id
    }

    /// A client. Some have no name, some a RUT that is none.
    pub fn add_client(&mut self) -> i64 {
        let id = self.id();
        let digit = self.dice(10);
        let code = match self.dice(8) {
            0 => None,
            1 => Some("SIN RUT".to_owned()),
            2 => Some(format!("{}.{:03}.{:03}-K", 10 + self.dice(15), self.dice(1_000), self.dice(1_000))),
            _ => Some(format!("{}-{digit}", 7_000_000 + self.dice(18_000_000))),
        };
        let first_name = (self.dice(12) > 0).then(|| format!("José María {id}"));
        let client = Client {
            id,
            first_name,
            last_name: Some("Núñez O'Higgins".to_owned()),
            code,
            email: (self.dice(2) == 0).then(|| format!("cliente{id}@example.cl")),
            phone: (self.dice(2) == 0).then(|| format!("+569{:08}", self.dice(100_000_000))),
            address: (self.dice(2) == 0).then(|| format!("Av. Siempre Viva {}", self.dice(900))),
            state: i64::from(self.dice(25) == 0),
        };
        self.clients.insert(id, client);
        id
    }

    /// A document of a day: one to some thirty lines, some of them of the same variant; some are credit notes, some
    /// have no client, some a total above 99,999,999.99, some one of 0.
    pub fn sell(&mut self, day: NaiveDate) -> i64 {
        let id = self.id();
        let lines = match self.dice(12) {
            0 => 26 + self.dice(40),
            1 => 0,
            other => 1 + other % 5,
        };
        let variants: Vec<i64> = self.variants.keys().copied().collect();
        let mut details: Vec<Detail> = Vec::new();
        for line in 0..lines {
            // A line is repeated now and then.
            let repeated = details.last().map(|detail| detail.variant).filter(|_| line % 4 == 3);
            let Some(variant) = repeated.or_else(|| self.one_of(variants.clone())) else { continue };
            let quantity = Money::units(1 + self.dice(4) as i64);
            let huge = self.dice(40) == 0;
            let net_unit =
                if huge { Money(1_234_567_890_123_456) } else { Money(self.dice(90_000_000) as i64) };
            let gross = net_unit.0 / 10_000 * quantity.0;
            let net_discount = Money(if self.dice(6) == 0 { gross / 10 } else { 0 });
            let net = Money(gross - net_discount.0);
            let tax = Money(net.0 / 100 * 19);
            let total = Money(net.0 + tax.0);
            let detail = self.id();
            let line = line as i64 + 1;
            details.push(Detail {
                id: detail,
                line,
                variant,
                quantity,
                net_unit,
                net,
                tax,
                total,
                net_discount,
            });
        }
        let sum = |amount: fn(&Detail) -> Money| Money(details.iter().map(|detail| amount(detail).0).sum());
        let (net, tax, total) = (sum(|d| d.net), sum(|d| d.tax), sum(|d| d.total));
        let document_type = [1, 1, 1, 5, 5, 9][self.dice(6) as usize];
        let clients: Vec<i64> = self.clients.keys().copied().collect();
        let client = if self.dice(4) == 0 { None } else { self.one_of(clients) };
        let office = 1 + self.dice(2) as i64;
        let document = Document {
            id,
            document_type,
            client,
            office,
            number: id,
            day,
            net,
            tax,
            total,
            state: 0,
            details,
        };
        self.documents.insert(id, document);
        self.notice("document", "post", format!("/documents/{id}.json"), id);
        id
    }

    /// Something is received: its variants have another cost.
    pub fn receive(&mut self, day: NaiveDate) {
        let id = self.id();
        let all: Vec<i64> = self.variants.keys().copied().collect();
        let mut variants = Vec::new();
        for _ in 0..(1 + self.dice(3)) {
            let Some(variant) = self.one_of(all.clone()) else { return };
            let cost = Money(if self.dice(8) == 0 { 0 } else { self.dice(50_000_000) as i64 });
            if let Some(variant) = self.variants.get_mut(&variant) {
                variant.history.push((day, cost));
                variant.average_cost = Some(cost);
            }
            variants.push(variant);
        }
        self.receptions.insert(id, Reception { id, day, variants });
    }

    /// A document is annulled.
    pub fn annul(&mut self, id: i64) {
        if let Some(document) = self.documents.get_mut(&id) {
            document.state = 1;
        }
    }

    /// A document is deleted. Bsale tells nobody.
    pub fn delete_document(&mut self, id: i64) {
        self.documents.remove(&id);
    }

    /// Documents that there are now, oldest first.
    pub fn some_document(&mut self) -> Option<i64> {
        let ids: Vec<i64> = self.documents.keys().copied().collect();
        self.one_of(ids)
    }

    /// What happens to a shop in a day: sales, a few of them back-dated by up to `back` days; annulments, deletions,
    /// lines that change, products and clients that come and change, prices, stock, receptions.
    pub fn live_a_day(&mut self, back: u64) {
        for _ in 0..6 {
            self.sell(self.today);
        }
        for _ in 0..2 {
            let day = self.today - Days::new(self.dice(back + 1));
            self.sell(day);
        }
        if let Some(id) = self.some_document() {
            self.annul(id);
        }
        if let Some(id) = self.some_document() {
            self.delete_document(id);
        }
        self.add_client();
        if self.dice(3) == 0 {
            self.add_product();
        }
        let products: Vec<i64> = self.products.keys().copied().collect();
        if let Some(product) = self.one_of(products) {
            self.rename(product, &format!("Renombrado {}", self.seed % 1_000));
        }
        let variants: Vec<i64> = self.variants.keys().copied().collect();
        if let Some(variant) = self.one_of(variants.clone()) {
            let value = Money(self.dice(900_000_000) as i64 + 1);
            if let Some(price) = self.prices.get_mut(&variant) {
                price.value = value;
            }
            self.notice("price", "put", format!("/v2/price_lists/2/details.json?variant={variant}"), variant);
        }
        if let Some(variant) = self.one_of(variants) {
            let quantity = Money::units(self.dice(100) as i64);
            if let Some(stock) = self.stock.get_mut(&(variant, 1)) {
                stock.quantity = quantity;
            }
            self.notice("stock", "put", format!("/v2/stocks.json?variant={variant}&office=1"), variant);
        }
        self.receive(self.today);
    }

    /// A product has another name.
    pub fn rename(&mut self, id: i64, name: &str) {
        if let Some(product) = self.products.get_mut(&id) {
            name.clone_into(&mut product.name);
        }
        self.notice("product", "put", format!("/v2/products/{id}.json"), id);
    }

    pub(super) fn document_type_json(&self, id: i64, base: &str) -> Option<String> {
        let (name, credit) = self.document_types.get(&id)?;
        Some(object([
            ("href", text(&format!("{base}/document_types/{id}.json"))),
            ("id", id.to_string()),
            ("name", text(name)),
            ("codeSii", text("39")),
            ("use", i64::from(*credit).to_string()),
            ("isCreditNote", i64::from(*credit).to_string()),
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
            ("note", "null".to_owned()),
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
