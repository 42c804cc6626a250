//! From Bsale's records to rows. Each function takes a record's fields one by one, in the order of the table's columns.

use rust_decimal::Decimal;
use sea_orm::Value;

use super::{
    record::{Bad, Record},
    rules,
};
use crate::domain::table::{Cell as _, Row};

/// A record, understood.
#[derive(Debug)]
pub struct Understood {
    pub row: Row,
    /// Why the views don't show it.
    pub skipped: Option<&'static str>,
    /// Fields that Bsale did not have when this was written.
    pub new_fields: Vec<String>,
}

fn understood(
    record: Record<'_>,
    known: &[&str],
    mut values: Vec<Value>,
    version: i64,
    skipped: Option<&'static str>,
) -> Result<Understood, Bad> {
    let (extra, new_fields) = record.rest(known)?;
    // Rows wait for their commit: no room for more.
    values.reserve_exact(1);
    values.push(extra.cell());
    Ok(Understood { row: Row::new(values, version), skipped, new_fields })
}

fn reason(skipped: Option<&'static str>) -> Value {
    skipped.map(str::to_owned).cell()
}

/// 0 active, 1 inactive; absent is active.
fn state(record: &mut Record<'_>) -> Result<i64, Bad> {
    Ok(record.optional_id("state")?.unwrap_or_default())
}

pub fn document_type(mut record: Record<'_>, version: i64) -> Result<Understood, Bad> {
    let values = vec![
        record.id("id")?.cell(),
        record.text("name", 255)?.cell(),
        record.text("codeSii", 20)?.cell(),
        record.optional_id("use")?.cell(),
        record.flag("isCreditNote")?.cell(),
        record.flag("isSalesNote")?.cell(),
        record.flag("isElectronicDocument")?.cell(),
        state(&mut record)?.cell(),
    ];
    let known = &[
        "initialNumber",
        "breakdownTax",
        "isExempt",
        "restrictsTax",
        "useClient",
        "useMaxDays",
        "thermalPrinter",
        "maxDays",
        "ledgerAccount",
        "ledgerCode",
        "messageBodyFormat",
        "book_type",
    ];
    understood(record, known, values, version, None)
}

pub fn product_type(mut record: Record<'_>, version: i64) -> Result<Understood, Bad> {
    let values = vec![
        record.id("id")?.cell(),
        record.text("name", 255)?.cell(),
        record.flag("isEditable")?.cell(),
        state(&mut record)?.cell(),
    ];
    let known = &["imagestionCategoryId", "prestashopCategoryId", "attributes"];
    understood(record, known, values, version, None)
}

pub fn product(mut record: Record<'_>, version: i64) -> Result<Understood, Bad> {
    let values = vec![
        record.id("id")?.cell(),
        record.text("name", 500)?.cell(),
        record.text("description", 100_000)?.cell(),
        record.nested_id("product_type")?.cell(),
        record.optional_id("classification")?.cell(),
        record.flag("allowDecimal")?.cell(),
        record.flag("stockControl")?.cell(),
        state(&mut record)?.cell(),
    ];
    let known = &[
        "ledgerAccount",
        "costCenter",
        "printDetailPack",
        "prestashopProductId",
        "presashopAttributeId",
        "product_taxes",
        "variants",
    ];
    understood(record, known, values, version, None)
}

pub fn variant(mut record: Record<'_>, version: i64) -> Result<Understood, Bad> {
    let id = record.id("id")?;
    let product = record.nested_id("product")?;
    let product = product.ok_or_else(|| Bad::Drift(format!("variant.product is missing of variant {id}")))?;
    let values = vec![
        id.cell(),
        product.cell(),
        record.text("description", 1_000)?.cell(),
        record.text("code", 255)?.cell(),
        record.text("barCode", 255)?.cell(),
        record.flag("unlimitedStock")?.cell(),
        record.flag("allowNegativeStock")?.cell(),
        state(&mut record)?.cell(),
    ];
    let known = &[
        "serialNumber",
        "imagestionCenterCost",
        "imagestionAccount",
        "imagestionConceptCod",
        "imagestionProyectCod",
        "imagestionCategoryCod",
        "imagestionProductId",
        "prestashopCombinationId",
        "prestashopValueId",
        "attribute_values",
        "costs",
        "isLot",
    ];
    understood(record, known, values, version, None)
}

pub fn client(mut record: Record<'_>, version: i64) -> Result<Understood, Bad> {
    let id = record.id("id")?;
    let (name, surname, rut) =
        (record.text("firstName", 255)?, record.text("lastName", 255)?, record.text("code", 50)?);
    let skipped = rules::client(name.as_deref(), rut.as_deref());
    let values = vec![
        id.cell(),
        name.cell(),
        surname.cell(),
        rut.cell(),
        record.text("email", 255)?.cell(),
        record.text("phone", 100)?.cell(),
        record.text("company", 500)?.cell(),
        record.text("address", 500)?.cell(),
        record.text("municipality", 255)?.cell(),
        record.text("city", 255)?.cell(),
        record.flag("hasCredit")?.cell(),
        record.optional_amount("maxCredit")?.cell(),
        state(&mut record)?.cell(),
        reason(skipped),
    ];
    let known = &[
        "note",
        "facebook",
        "twitter",
        "activity",
        "companyOrPerson",
        "points",
        "pointsUpdated",
        "accumulatePoints",
        "sendDte",
        "isForeigner",
        "prestashopClienId",
        "contacts",
        "attributes",
        "addresses",
        "payment_type",
        "sale_condition",
        "price_list",
        "createdAt",
        "updatedAt",
    ];
    understood(record, known, values, version, skipped)
}

/// A document with what came along with it.
#[derive(Debug)]
pub struct Document {
    pub id: i64,
    pub client: Option<i64>,
    pub document: Understood,
    /// Its lines. None: they did not come along, or not all of them.
    pub details: Option<Vec<Understood>>,
}

pub fn document(mut record: Record<'_>, version: i64) -> Result<Document, Bad> {
    let id = record.id("id")?;
    let kind = record.nested_id("document_type")?;
    let kind =
        kind.ok_or_else(|| Bad::Drift(format!("document.document_type is missing of document {id}")))?;
    let client = record.nested_id("client")?;
    let (net, tax, total) =
        (record.amount("netAmount")?, record.amount("taxAmount")?, record.amount("totalAmount")?);
    let skipped = rules::document(net, tax, total);
    let values = vec![
        id.cell(),
        kind.cell(),
        client.cell(),
        record.nested_id("office")?.cell(),
        record.nested_id("user")?.cell(),
        record.optional_id("number")?.cell(),
        record.seconds("emissionDate")?.date_naive().cell(),
        record.optional_seconds("expirationDate")?.map(|date| date.date_naive()).cell(),
        record.optional_seconds("generationDate")?.cell(),
        net.cell(),
        tax.cell(),
        record.optional_amount("exemptAmount")?.cell(),
        total.cell(),
        state(&mut record)?.cell(),
        record.optional_id("informedSii")?.cell(),
        reason(skipped),
    ];
    let lines = record.expanded("details")?.map(|list| list.whole()).transpose()?.flatten();
    let read = |lines: Vec<Record<'_>>| {
        lines.into_iter().map(|line| detail(line, id, version)).collect::<Result<Vec<_>, _>>()
    };
    let details = lines.map(read).transpose()?;
    let known = &[
        "rcofDate",
        "notExemptAmount",
        "exportTotalAmount",
        "exportNetAmount",
        "exportTaxAmount",
        "exportExemptAmount",
        "commissionRate",
        "commissionNetAmount",
        "commissionTaxAmount",
        "commissionTotalAmount",
        "percentageTaxWithheld",
        "purchaseTaxAmount",
        "purchaseTotalAmount",
        "address",
        "municipality",
        "city",
        "urlTimbre",
        "urlPublicView",
        "urlPdf",
        "urlPublicViewOriginal",
        "urlPdfOriginal",
        "urlXml",
        "token",
        "responseMsgSii",
        "stampSii",
        "salesId",
        "ted",
        "trackingNumber",
        "coin",
        "references",
        "document_taxes",
        "sellers",
        "payments",
        "attributes",
        "priceList",
        "price_list",
    ];
    let document = understood(record, known, values, version, skipped)?;
    Ok(Document { id, client, document, details })
}

/// A line of document `document`.
pub fn detail(mut record: Record<'_>, document: i64, version: i64) -> Result<Understood, Bad> {
    let (quantity, unit) = (record.amount("quantity")?, record.amount("netUnitValue")?);
    let skipped = rules::detail(quantity, unit);
    let values = vec![
        record.id("id")?.cell(),
        document.cell(),
        record.optional_id("lineNumber")?.cell(),
        record.nested_id("variant")?.cell(),
        quantity.cell(),
        unit.cell(),
        record.optional_amount("totalUnitValue")?.cell(),
        record.amount("netAmount")?.cell(),
        record.amount("taxAmount")?.cell(),
        record.amount("totalAmount")?.cell(),
        record.optional_amount("netDiscount")?.cell(),
        record.optional_amount("totalDiscount")?.cell(),
        record.text("note", 100_000)?.cell(),
        reason(skipped),
    ];
    let known = &["netUnitValueRaw", "relatedDetailId", "gift", "comment"];
    understood(record, known, values, version, skipped)
}

pub fn stock(mut record: Record<'_>, version: i64) -> Result<Understood, Bad> {
    let missing = |name: &str| Bad::Drift(format!("stock.{name} is missing"));
    let values = vec![
        record.nested_id("variant")?.ok_or_else(|| missing("variant"))?.cell(),
        record.nested_id("office")?.ok_or_else(|| missing("office"))?.cell(),
        record.amount("quantity")?.cell(),
        record.optional_amount("quantityReserved")?.cell(),
        record.optional_amount("quantityAvailable")?.cell(),
    ];
    understood(record, &["id"], values, version, None)
}

pub fn price(mut record: Record<'_>, list: i64, version: i64) -> Result<Understood, Bad> {
    let variant = record.nested_id("variant")?;
    let values = vec![
        list.cell(),
        variant.ok_or_else(|| Bad::Drift("price.variant is missing".to_owned()))?.cell(),
        record.optional_id("id")?.cell(),
        record.amount("variantValue")?.cell(),
        record.optional_amount("variantValueWithTaxes")?.cell(),
    ];
    understood(record, &[], values, version, None)
}

/// What a variant costs, from `/variants/{id}/costs.json`.
pub fn cost(mut record: Record<'_>, variant: i64, version: i64) -> Result<Row, Bad> {
    let (average, total) = (record.optional_amount("averageCost")?, record.optional_amount("totalCost")?);
    let mut last: Option<(chrono::NaiveDate, Decimal)> = None;
    let mut has_cost = false;
    for mut entry in record.list("history")? {
        let (date, cost) = (entry.optional_seconds("admissionDate")?, entry.optional_amount("cost")?);
        let Some(cost) = cost else { continue };
        has_cost |= cost > Decimal::ZERO;
        let date = date.map(|date| date.date_naive()).unwrap_or_default();
        if last.is_none_or(|(known, _)| date >= known) {
            last = Some((date, cost));
        }
    }
    let values = vec![
        variant.cell(),
        average.cell(),
        total.cell(),
        has_cost.cell(),
        last.map(|(_, cost)| cost).cell(),
        last.map(|(date, _)| date).cell(),
    ];
    Ok(Row::new(values, version))
}

/// The variants of a reception's lines. None: they did not come along, or not all of them.
pub fn received(mut record: Record<'_>) -> Result<(i64, Option<Vec<i64>>), Bad> {
    let id = record.id("id")?;
    let lines = record.expanded("details")?.map(|list| list.whole()).transpose()?.flatten();
    let Some(lines) = lines else { return Ok((id, None)) };
    let mut variants = Vec::new();
    for mut line in lines {
        variants.extend(line.nested_id("variant")?);
    }
    Ok((id, Some(variants)))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_reception_without_all_of_its_lines_is_asked_for_them() {
        for (details, expected) in [
            (r#"{"href": "https://x/stocks/receptions/1/details.json"}"#, None),
            ("null", None),
            (r#"{"count": 0, "items": [{"id": 1, "variant": {"id": "7"}}]}"#, None),
            (r#"{"count": 26, "items": [{"id": 1, "variant": {"id": "7"}}]}"#, None),
            (r#"{"count": 1, "items": [{"id": 1, "variant": {"id": "7"}}]}"#, Some(vec![7])),
            (r#"{"count": 0, "items": []}"#, Some(Vec::new())),
        ] {
            let text = format!(r#"{{"id": 1, "details": {details}}}"#);
            let raw = RawValue::from_string(text).expect("JSON");
            let record = Record::read("reception", &raw).expect("an object");
            assert_eq!(received(record), Ok((1, expected)), "{details}");
        }
    }
}
