//! The shop: what it holds, how a seed makes one, and what happens to it over the days.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate, Utc};

use super::records::{
    Client, Detail, Document, DocumentType, Money, Price, Product, Reception, Stock, Variant,
};

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
    pub document_types: BTreeMap<i64, DocumentType>,
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
    /// The client whose note was cut in the middle of an emoji.
    pub broken_note: Option<i64>,
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
                (1, DocumentType::new("BOLETA ELECTRÓNICA T", 0)),
                (5, DocumentType::new("FACTURA ELECTRÓNICA", 0)),
                (7, DocumentType::new("GUÍA DE DESPACHO ELECTRÓNICA", 2)),
                (
                    9,
                    DocumentType {
                        credit_note: true, ..DocumentType::new("NOTA DE CRÉDITO ELECTRÓNICA", 1)
                    },
                ),
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
            broken_note: None,
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
        let document_type = [1, 1, 1, 5, 5, 9, 7][self.dice(7) as usize];
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
}
