//! What answers at Bsale's paths.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, NaiveDate};

use super::{
    Fault, Shared, State,
    json::{list, nested, object, text},
    records::Money,
    shop::Shop,
};

const SECOND: (usize, Duration) = (8, Duration::from_secs(1));
const WINDOW: (usize, Duration) = (3_000, Duration::from_secs(300));

/// All of the shop in a few numbers, for people: no credential.
pub async fn truth(shared: web::Data<Shared>) -> HttpResponse {
    let state = shared.state();
    let shop = &state.shop;
    let active = shop.documents.values().filter(|document| document.state == 0);
    let total = Money(active.clone().map(|document| document.total.0).sum());
    HttpResponse::Ok().content_type("application/json").body(object([
        ("productos", shop.products.len().to_string()),
        ("variantes", shop.variants.len().to_string()),
        ("clientes", shop.clients.len().to_string()),
        ("documentos", shop.documents.len().to_string()),
        ("documentos_activos", active.count().to_string()),
        (
            "detalles",
            shop.documents.values().map(|document| document.details.len()).sum::<usize>().to_string(),
        ),
        ("monto_total_activo", total.to_string()),
        ("peticiones", state.requests.to_string()),
    ]))
}

pub async fn serve(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let query = web::Query::<HashMap<String, String>>::from_query(request.query_string());
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    let base = shared.base.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let (fault, answer) = {
        let mut state = shared.state();
        state.requests += 1;
        let line = format!("{}?{}", request.path(), request.query_string());
        state.log.push(line);
        let token = request.headers().get("access_token").and_then(|value| value.to_str().ok());
        if token != Some(&shared.token) {
            return refusal(401, "Unauthorized");
        }
        if over_limit(&mut state) {
            state.refused += 1;
            return refusal(429, "Too many requests");
        }
        let fault = next_fault(&mut state);
        if matches!(fault, Some(Fault::Slow(_))) {
            state.under_way += 1;
            state.most = state.most.max(state.under_way);
        }
        let is_list = query.contains_key("offset");
        if is_list && !matches!(fault, Some(Fault::Status(_) | Fault::Empty | Fault::Broken)) {
            happen(&mut state);
        }
        (fault, answer(&state.shop, request.path(), &query, &base))
    };
    if let Some(Fault::Slow(delay)) = fault {
        tokio::time::sleep(delay).await;
        shared.state().under_way -= 1;
    }
    match (fault, answer) {
        (Some(Fault::Status(status)), _) => refusal(status, "an error of the moment"),
        (Some(Fault::Empty), _) => HttpResponse::Ok().content_type("application/json").body(""),
        (Some(Fault::Broken), Some(body)) => {
            let half: String = body.chars().take(body.chars().count() / 2).collect();
            HttpResponse::Ok().content_type("application/json").body(half)
        }
        (_, Some(body)) => HttpResponse::Ok().content_type("application/json").body(body),
        (_, None) => refusal(404, "Not found"),
    }
}

fn refusal(status: u16, error: &str) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).content_type("application/json").body(object([("error", text(error))]))
}

fn over_limit(state: &mut State) -> bool {
    let now = Instant::now();
    while state.recent.front().is_some_and(|at| now.duration_since(*at) > WINDOW.1) {
        state.recent.pop_front();
    }
    let second = state.recent.iter().rev().take_while(|at| now.duration_since(**at) < SECOND.1).count();
    let over = state.limited && (second >= SECOND.0 || state.recent.len() >= WINDOW.0);
    if !over {
        state.recent.push_back(now);
    }
    over
}

fn next_fault(state: &mut State) -> Option<Fault> {
    if let Some(fault) = state.faults.pop_front() {
        return Some(fault);
    }
    if state.one_in == 0 || !state.requests.is_multiple_of(state.one_in) {
        return None;
    }
    let kinds = [
        Fault::Status(500),
        Fault::Empty,
        Fault::Broken,
        Fault::Status(503),
        Fault::Slow(Duration::from_millis(50)),
    ];
    kinds.get(usize::try_from(state.requests / state.one_in).unwrap_or_default() % kinds.len()).copied()
}

/// What a test wants to happen in the middle of a reader's pages.
fn happen(state: &mut State) {
    let mut due = Vec::new();
    for (left, change) in std::mem::take(&mut state.changes) {
        if left <= 1 { due.push(change) } else { state.changes.push((left - 1, change)) }
    }
    for change in due {
        change(&mut state.shop);
    }
}

fn number<T: std::str::FromStr>(query: &HashMap<String, String>, name: &str) -> Option<T> {
    query.get(name)?.parse().ok()
}

/// The body for a path; none: 404.
fn answer(shop: &Shop, path: &str, query: &HashMap<String, String>, base: &str) -> Option<String> {
    let path = path.strip_prefix("/v1/")?.strip_suffix(".json")?;
    let parts: Vec<&str> = path.split('/').collect();
    let id = |text: &str| text.parse::<i64>().ok();
    match parts.as_slice() {
        ["documents", "summary"] => Some(summary(shop, query)),
        ["documents", "count"] => Some(count(documents(shop, query).len())),
        ["documents"] => {
            let expand = query.get("expand").is_some_and(|expand| expand.contains("details"));
            page(path, query, base, &documents(shop, query), |id| shop.document_json(id, base, expand))
        }
        ["documents", one] => {
            let expand = query.get("expand").is_some_and(|expand| expand.contains("details"));
            shop.document_json(id(one)?, base, expand)
        }
        ["documents", one, "details"] => {
            let document = shop.documents.get(&id(one)?)?;
            let ids: Vec<i64> = document.details.iter().map(|detail| detail.id).collect();
            page(path, query, base, &ids, |id| {
                let detail = document.details.iter().find(|detail| detail.id == id)?;
                Some(shop.detail_json(detail, base))
            })
        }
        ["variants", one, "costs"] => costs(shop, id(one)?),
        ["stocks"] => stocks(shop, query, base),
        ["stocks", "receptions"] => receptions(shop, query, base),
        ["stocks", "receptions", one, "details"] => {
            let reception = shop.receptions.get(&id(one)?)?;
            let ids: Vec<i64> = (0..reception.variants.len() as i64).collect();
            page(path, query, base, &ids, |index| {
                let variant = reception.variants.get(usize::try_from(index).ok()?)?;
                Some(object([
                    ("id", (index + 1).to_string()),
                    ("variant", nested(base, "variants", *variant)),
                ]))
            })
        }
        ["price_lists", "2", "details"] => {
            // A name that v1 does not know is ignored, and so filters nothing.
            let wanted: Option<i64> = number(query, "variantid");
            let ids: Vec<i64> = shop
                .prices
                .keys()
                .rev()
                .copied()
                .filter(|variant| wanted.is_none_or(|one| one == *variant))
                .collect();
            page(path, query, base, &ids, |variant| {
                let price = shop.prices.get(&variant)?;
                // Only a link.
                let variant = object([("href", text(&format!("{base}/variants/{variant}.json")))]);
                Some(object([
                    ("id", price.id.to_string()),
                    ("variantValue", price.value.to_string()),
                    ("variantValueWithTaxes", Money(price.value.0 / 100 * 119).to_string()),
                    ("variant", variant),
                ]))
            })
        }
        [kind, "count"] => Some(count(ids_of(shop, kind, query)?.len())),
        [kind] => page(path, query, base, &ids_of(shop, kind, query)?, |id| record(shop, kind, id, base)),
        [kind, one] => record(shop, kind, id(one)?, base),
        _ => None,
    }
}

fn record(shop: &Shop, kind: &str, id: i64, base: &str) -> Option<String> {
    match kind {
        "document_types" => shop.document_type_json(id, base),
        "product_types" => shop.product_type_json(id, base),
        "products" => shop.product_json(id, base),
        "variants" => shop.variant_json(id, base),
        "clients" => shop.client_json(id, base),
        _ => None,
    }
}

/// Newest first; both states unless one is asked for.
fn ids_of(shop: &Shop, kind: &str, query: &HashMap<String, String>) -> Option<Vec<i64>> {
    let state: Option<i64> = number(query, "state");
    let all: Vec<(i64, i64)> = match kind {
        "document_types" => shop.document_types.keys().map(|id| (*id, 0)).collect(),
        "product_types" => shop.product_types.keys().map(|id| (*id, 0)).collect(),
        "products" => shop.products.values().map(|product| (product.id, product.state)).collect(),
        "variants" => shop.variants.values().map(|variant| (variant.id, variant.state)).collect(),
        "clients" => shop.clients.values().map(|client| (client.id, client.state)).collect(),
        _ => return None,
    };
    let wanted = all.into_iter().rev().filter(|(_, its)| state.is_none_or(|state| state == *its));
    Some(wanted.map(|(id, _)| id).collect())
}

fn documents(shop: &Shop, query: &HashMap<String, String>) -> Vec<i64> {
    let range = query.get("emissiondaterange").and_then(|range| range_of(range));
    let state: Option<i64> = number(query, "state");
    let wanted = shop.documents.values().rev().filter(|document| {
        range.is_none_or(|(from, to)| (from..=to).contains(&document.day))
            && state.is_none_or(|state| state == document.state)
    });
    wanted.map(|document| document.id).collect()
}

fn range_of(text: &str) -> Option<(NaiveDate, NaiveDate)> {
    let (from, to) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(',')?;
    let day = |text: &str| Some(DateTime::from_timestamp(text.trim().parse().ok()?, 0)?.date_naive());
    Some((day(from)?, day(to)?))
}

fn count(count: usize) -> String {
    object([("count", count.to_string())])
}

fn page(
    path: &str,
    query: &HashMap<String, String>,
    base: &str,
    ids: &[i64],
    record: impl Fn(i64) -> Option<String>,
) -> Option<String> {
    // Clamped, and no word of it.
    let limit = number(query, "limit").unwrap_or(25_usize).clamp(1, 50);
    let offset = number(query, "offset").unwrap_or(0_usize);
    let items: Vec<String> = ids.iter().skip(offset).take(limit).filter_map(|id| record(*id)).collect();
    let mut fields = vec![
        ("href", text(&format!("{base}/{path}.json"))),
        ("count", ids.len().to_string()),
        ("limit", limit.to_string()),
        ("offset", offset.to_string()),
        ("items", list(&items)),
    ];
    if offset + items.len() < ids.len() {
        let next = offset + limit;
        fields.push(("next", text(&format!("{base}/{path}.json?limit={limit}&offset={next}"))));
    }
    Some(object(fields))
}

/// One total a document type, of active documents.
fn summary(shop: &Shop, query: &HashMap<String, String>) -> String {
    let mut query = query.clone();
    query.insert("state".to_owned(), "0".to_owned());
    let found = documents(shop, &query);
    let totals: Vec<String> = shop
        .document_types
        .keys()
        .filter_map(|kind| {
            let of_kind: Vec<_> = found
                .iter()
                .filter_map(|id| shop.documents.get(id))
                .filter(|document| document.document_type == *kind)
                .collect();
            let sum = |amount: fn(&super::Document) -> Money| {
                Money(of_kind.iter().map(|document| amount(document).0).sum()).to_string()
            };
            (!of_kind.is_empty()).then(|| {
                object([
                    ("count", of_kind.len().to_string()),
                    ("totalNetAmount", sum(|document| document.net)),
                    ("totalTaxAmount", sum(|document| document.tax)),
                    ("totalAmount", sum(|document| document.total)),
                ])
            })
        })
        .collect();
    list(&totals)
}

fn costs(shop: &Shop, variant: i64) -> Option<String> {
    let variant = shop.variants.get(&variant)?;
    let history: Vec<String> = variant
        .history
        .iter()
        .enumerate()
        .map(|(index, (day, cost))| {
            object([
                ("reception_detail", object([("id", (index + 1).to_string())])),
                ("admissionDate", day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp().to_string()),
                ("cost", cost.to_string()),
                ("availableFifo", "1".to_owned()),
            ])
        })
        .collect();
    let average = variant.average_cost.unwrap_or_default();
    Some(object([
        ("averageCost", text(&average.to_string())),
        ("totalCost", text(&average.to_string())),
        ("history", list(&history)),
    ]))
}

fn stocks(shop: &Shop, query: &HashMap<String, String>, base: &str) -> Option<String> {
    let (variant, office): (Option<i64>, Option<i64>) =
        (number(query, "variantid"), number(query, "officeid"));
    let found: Vec<_> = shop
        .stock
        .values()
        .rev()
        .filter(|stock| {
            variant.is_none_or(|one| one == stock.variant) && office.is_none_or(|one| one == stock.office)
        })
        .collect();
    let ids: Vec<i64> = (0..found.len() as i64).collect();
    page("stocks", query, base, &ids, |index| {
        let stock = found.get(usize::try_from(index).ok()?)?;
        Some(object([
            ("quantity", stock.quantity.to_string()),
            ("quantityReserved", stock.reserved.to_string()),
            ("quantityAvailable", Money(stock.quantity.0 - stock.reserved.0).to_string()),
            ("variant", nested(base, "variants", stock.variant)),
            ("office", nested(base, "offices", stock.office)),
        ]))
    })
}

fn receptions(shop: &Shop, query: &HashMap<String, String>, base: &str) -> Option<String> {
    let day = number(query, "admissiondate").and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let ids: Vec<i64> = shop
        .receptions
        .values()
        .rev()
        .filter(|reception| day.is_none_or(|day| day.date_naive() == reception.day))
        .map(|reception| reception.id)
        .collect();
    page("stocks/receptions", query, base, &ids, |id| {
        let reception = shop.receptions.get(&id)?;
        let items: Vec<String> = reception
            .variants
            .iter()
            .take(25)
            .map(|variant| {
                object([("quantity", "1".to_owned()), ("variant", nested(base, "variants", *variant))])
            })
            .collect();
        let details = object([("count", reception.variants.len().to_string()), ("items", list(&items))]);
        Some(object([("id", id.to_string()), ("details", details)]))
    })
}
