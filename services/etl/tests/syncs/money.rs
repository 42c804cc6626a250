//! Amounts are exact, and a new field is kept.

use anyhow::{Context as _, Result, ensure};
use etl::{domain::run::Mode, target::Sql};
use rust_decimal::Decimal;
use simulators::bsale::{Detail, Money, Shop, Size};

use crate::world::{Kind, World};

async fn large(label: &str, kind: Kind) -> Result<()> {
    let mut shop = Shop::new(1, Size { days: 1, documents_a_day: 1, ..Size::default() });
    let id = *shop.documents.keys().next().context("a document")?;
    // 99,999,999,999,999.9999: the most that DECIMAL(18,4) holds, and 18 digits are more than a float has.
    let most = Money(999_999_999_999_999_999);
    let variant = *shop.variants.keys().next().context("a variant")?;
    let document = shop.documents.get_mut(&id).context("a document")?;
    document.details = vec![Detail {
        id: 999_999,
        line: 1,
        variant,
        quantity: Money::units(1),
        net_unit: Money::units(1),
        net: most,
        tax: Money(1),
        total: most,
        net_discount: Money(0),
    }];
    (document.net, document.tax, document.total, document.state) = (most, Money(1), most, 0);
    shop.new_field = true;
    let world = World::new(label, kind, shop).await?;
    let job = world.sync("bsale.documentos", Mode::Full).await?;
    let result = job.result.context("a result")?;
    ensure!(result["contadores"]["campos_nuevos"]["loyaltyPoints"] == 1, "{result}");
    ensure!(result["dias_distintos"] == serde_json::json!([]), "{result}");
    let db = &world.ours().target.db;
    let row = Sql::new(
        "SELECT d.monto_total AS total, v.monto_iva AS tax, l.monto_total_linea AS line
                        FROM documentos_venta d JOIN documento_venta v ON v.id_bsale = d.id_bsale
                            JOIN detalle_documento l ON l.id_documento = d.id_bsale",
    )
    .one(db)
    .await?
    .context("a row")?;
    let most = Decimal::new(most.0, 4);
    for name in ["total", "line"] {
        let found: Decimal = row.try_get("", name)?;
        ensure!(found == most, "{name}: {found}");
    }
    let tax: Decimal = row.try_get("", "tax")?;
    ensure!(tax == Decimal::new(1, 4), "{tax}");
    let extra = Sql::new("SELECT CAST(extra AS CHAR(10000)) AS extra FROM documentos_venta")
        .one(db)
        .await?
        .context("a row")?;
    let extra: String = extra.try_get("", "extra")?;
    ensure!(extra.contains("loyaltyPoints") && extra.contains("12.50"), "{extra}");
    Ok(())
}

#[tokio::test]
async fn the_largest_amounts_are_exact_in_mariadb() -> Result<()> {
    large("etlbigmaria", Kind::MariaDb).await
}

#[tokio::test]
async fn the_largest_amounts_are_exact_in_postgresql() -> Result<()> {
    large("etlbigpg", Kind::Postgres).await
}
