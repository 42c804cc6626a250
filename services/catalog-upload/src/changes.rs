//! Says which products changed to who listens.

use contracts::catalog::v1::ProductsChanged;
use outbox::Meta;
use sea_orm::sqlx::PgConnection;

use crate::SERVICE;

/// Changes in one event.
const EVENT_CHANGES: usize = 2_000;

/// What was done to products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Updated,
    Deleted,
}

/// Says which products changed, in the caller's transaction, whose version theirs is now.
pub async fn publish_changes<'a>(
    conn: &mut PgConnection,
    proveedor_id: &str,
    task_id: &str,
    version: i64,
    changes: impl Iterator<Item = (&'a str, Change)>,
) -> anyhow::Result<()> {
    let empty = ProductsChanged {
        proveedor_id: proveedor_id.to_owned(),
        version: u64::try_from(version)?,
        task_id: task_id.to_owned(),
        ..ProductsChanged::default()
    };
    let mut events: Vec<(ProductsChanged, Meta)> = Vec::new();
    for (count, (id, change)) in changes.enumerate() {
        if count % EVENT_CHANGES == 0 {
            events.push((empty.clone(), Meta::about(proveedor_id)));
        }
        if let Some((event, _)) = events.last_mut() {
            let ids = match change {
                Change::Created => &mut event.created,
                Change::Updated => &mut event.updated,
                Change::Deleted => &mut event.deleted,
            };
            ids.push(id.to_owned());
        }
    }
    outbox::publish_all(conn, SERVICE, events).await?;
    Ok(())
}
