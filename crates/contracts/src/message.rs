use serde::{Serialize, de::DeserializeOwned};

use crate::{Route, catalog, queues};

/// A command or an event: something that travels in an envelope.
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The `type` of the CloudEvents envelope: the message's full protobuf name.
    const TYPE: &'static str;
    /// Where it goes.
    const ROUTE: Route;
}

impl Message for catalog::v1::ProcessImport {
    const TYPE: &'static str = "lote.catalog.v1.ProcessImport";
    const ROUTE: Route = Route::Command(&queues::CATALOG_IMPORTS);
}

impl Message for catalog::v1::UndoImport {
    const TYPE: &'static str = "lote.catalog.v1.UndoImport";
    const ROUTE: Route = Route::Command(&queues::CATALOG_IMPORTS);
}

impl Message for catalog::v1::AnnotateImport {
    const TYPE: &'static str = "lote.catalog.v1.AnnotateImport";
    const ROUTE: Route = Route::Command(&queues::CATALOG_REPORTS);
}

impl Message for catalog::v1::ImportCompleted {
    const TYPE: &'static str = "lote.catalog.v1.ImportCompleted";
    const ROUTE: Route = Route::Event("catalog.import_completed.v1");
}

impl Message for catalog::v1::ImportFailed {
    const TYPE: &'static str = "lote.catalog.v1.ImportFailed";
    const ROUTE: Route = Route::Event("catalog.import_failed.v1");
}

impl Message for catalog::v1::ImportUndone {
    const TYPE: &'static str = "lote.catalog.v1.ImportUndone";
    const ROUTE: Route = Route::Event("catalog.import_undone.v1");
}

impl Message for catalog::v1::ProductsChanged {
    const TYPE: &'static str = "lote.catalog.v1.ProductsChanged";
    const ROUTE: Route = Route::Event("catalog.products_changed.v1");
}
