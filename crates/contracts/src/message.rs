use serde::{Serialize, de::DeserializeOwned};

use crate::{Route, catalog, etl, queues, report, sms};

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

impl Message for sms::v1::ImportContacts {
    const TYPE: &'static str = "lote.sms.v1.ImportContacts";
    const ROUTE: Route = Route::Command(&queues::SMS_IMPORTS);
}

impl Message for sms::v1::RollBackImport {
    const TYPE: &'static str = "lote.sms.v1.RollBackImport";
    const ROUTE: Route = Route::Command(&queues::SMS_IMPORTS);
}

impl Message for sms::v1::ValidateContacts {
    const TYPE: &'static str = "lote.sms.v1.ValidateContacts";
    const ROUTE: Route = Route::Command(&queues::SMS_VALIDATIONS);
}

impl Message for sms::v1::MessagesSettled {
    const TYPE: &'static str = "lote.sms.v1.MessagesSettled";
    const ROUTE: Route = Route::Event("sms.messages_settled.v1");
}

impl Message for sms::v1::CampaignStarted {
    const TYPE: &'static str = "lote.sms.v1.CampaignStarted";
    const ROUTE: Route = Route::Event("sms.campaign_started.v1");
}

impl Message for sms::v1::CampaignCompleted {
    const TYPE: &'static str = "lote.sms.v1.CampaignCompleted";
    const ROUTE: Route = Route::Event("sms.campaign_completed.v1");
}

impl Message for report::v1::StartRun {
    const TYPE: &'static str = "lote.report.v1.StartRun";
    const ROUTE: Route = Route::Command(&queues::REPORT_RUNS);
}

impl Message for report::v1::ExportCampaign {
    const TYPE: &'static str = "lote.report.v1.ExportCampaign";
    const ROUTE: Route = Route::Command(&queues::REPORT_CAMPAIGNS);
}

impl Message for report::v1::ReportReady {
    const TYPE: &'static str = "lote.report.v1.ReportReady";
    const ROUTE: Route = Route::Event("report.report_ready.v1");
}

impl Message for report::v1::ReportFailed {
    const TYPE: &'static str = "lote.report.v1.ReportFailed";
    const ROUTE: Route = Route::Event("report.report_failed.v1");
}

impl Message for etl::v1::RunSync {
    const TYPE: &'static str = "lote.etl.v1.RunSync";
    const ROUTE: Route = Route::Command(&queues::ETL_RUNS);
}

impl Message for etl::v1::RefetchResource {
    const TYPE: &'static str = "lote.etl.v1.RefetchResource";
    const ROUTE: Route = Route::Command(&queues::ETL_WEBHOOKS);
}

impl Message for etl::v1::SyncCompleted {
    const TYPE: &'static str = "lote.etl.v1.SyncCompleted";
    const ROUTE: Route = Route::Event("etl.sync_completed.v1");
}

impl Message for etl::v1::SyncFailed {
    const TYPE: &'static str = "lote.etl.v1.SyncFailed";
    const ROUTE: Route = Route::Event("etl.sync_failed.v1");
}

impl Message for etl::v1::DashboardRefreshed {
    const TYPE: &'static str = "lote.etl.v1.DashboardRefreshed";
    const ROUTE: Route = Route::Event("etl.dashboard_refreshed.v1");
}
