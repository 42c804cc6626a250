use serde::{Serialize, de::DeserializeOwned};

use crate::{Route, catalog, etl, jobs, queues, report, sms};

/// A command or an event: something that travels in an envelope.
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The `type` of the CloudEvents envelope: the message's full protobuf name.
    const TYPE: &'static str;
}

/// A message that always goes to the same place.
pub trait Routed: Message {
    /// Where it goes.
    const ROUTE: Route;
}

/// Goes to the queue of its job's kind, which only its service knows.
impl Message for jobs::v1::RunJob {
    const TYPE: &'static str = "lote.jobs.v1.RunJob";
}

impl Message for catalog::v1::ImportCompleted {
    const TYPE: &'static str = "lote.catalog.v1.ImportCompleted";
}

impl Routed for catalog::v1::ImportCompleted {
    const ROUTE: Route = Route::Event("catalog.import_completed.v1");
}

impl Message for catalog::v1::ImportFailed {
    const TYPE: &'static str = "lote.catalog.v1.ImportFailed";
}

impl Routed for catalog::v1::ImportFailed {
    const ROUTE: Route = Route::Event("catalog.import_failed.v1");
}

impl Message for catalog::v1::ImportUndone {
    const TYPE: &'static str = "lote.catalog.v1.ImportUndone";
}

impl Routed for catalog::v1::ImportUndone {
    const ROUTE: Route = Route::Event("catalog.import_undone.v1");
}

impl Message for catalog::v1::ProductsChanged {
    const TYPE: &'static str = "lote.catalog.v1.ProductsChanged";
}

impl Routed for catalog::v1::ProductsChanged {
    const ROUTE: Route = Route::Event("catalog.products_changed.v1");
}

impl Message for sms::v1::MessagesSettled {
    const TYPE: &'static str = "lote.sms.v1.MessagesSettled";
}

impl Routed for sms::v1::MessagesSettled {
    const ROUTE: Route = Route::Event("sms.messages_settled.v1");
}

impl Message for sms::v1::CampaignCreated {
    const TYPE: &'static str = "lote.sms.v1.CampaignCreated";
}

impl Routed for sms::v1::CampaignCreated {
    const ROUTE: Route = Route::Event("sms.campaign_created.v1");
}

impl Message for sms::v1::CampaignStarted {
    const TYPE: &'static str = "lote.sms.v1.CampaignStarted";
}

impl Routed for sms::v1::CampaignStarted {
    const ROUTE: Route = Route::Event("sms.campaign_started.v1");
}

impl Message for sms::v1::CampaignPaused {
    const TYPE: &'static str = "lote.sms.v1.CampaignPaused";
}

impl Routed for sms::v1::CampaignPaused {
    const ROUTE: Route = Route::Event("sms.campaign_paused.v1");
}

impl Message for sms::v1::CampaignResumed {
    const TYPE: &'static str = "lote.sms.v1.CampaignResumed";
}

impl Routed for sms::v1::CampaignResumed {
    const ROUTE: Route = Route::Event("sms.campaign_resumed.v1");
}

impl Message for sms::v1::CampaignCompleted {
    const TYPE: &'static str = "lote.sms.v1.CampaignCompleted";
}

impl Routed for sms::v1::CampaignCompleted {
    const ROUTE: Route = Route::Event("sms.campaign_completed.v1");
}

impl Message for sms::v1::ContactOptedOut {
    const TYPE: &'static str = "lote.sms.v1.ContactOptedOut";
}

impl Routed for sms::v1::ContactOptedOut {
    const ROUTE: Route = Route::Event("sms.contact_opted_out.v1");
}

impl Message for report::v1::ReportReady {
    const TYPE: &'static str = "lote.report.v1.ReportReady";
}

impl Routed for report::v1::ReportReady {
    const ROUTE: Route = Route::Event("report.report_ready.v1");
}

impl Message for report::v1::ReportFailed {
    const TYPE: &'static str = "lote.report.v1.ReportFailed";
}

impl Routed for report::v1::ReportFailed {
    const ROUTE: Route = Route::Event("report.report_failed.v1");
}

impl Message for etl::v1::SyncCompleted {
    const TYPE: &'static str = "lote.etl.v1.SyncCompleted";
}

impl Routed for etl::v1::SyncCompleted {
    const ROUTE: Route = Route::Event("etl.sync_completed.v1");
}

impl Message for etl::v1::SyncFailed {
    const TYPE: &'static str = "lote.etl.v1.SyncFailed";
}

impl Routed for etl::v1::SyncFailed {
    const ROUTE: Route = Route::Event("etl.sync_failed.v1");
}

impl Message for etl::v1::DashboardRefreshed {
    const TYPE: &'static str = "lote.etl.v1.DashboardRefreshed";
}

impl Routed for etl::v1::DashboardRefreshed {
    const ROUTE: Route = Route::Event("etl.dashboard_refreshed.v1");
}

// The commands of the previous release. `RunJob` has replaced them: nobody publishes them any more, and a service consumes
// one where a kind of its jobs says so (`JobKind::replaces`). They go with the next release.

impl Message for catalog::v1::ProcessImport {
    const TYPE: &'static str = "lote.catalog.v1.ProcessImport";
}

impl Routed for catalog::v1::ProcessImport {
    const ROUTE: Route = Route::Command(&queues::CATALOG_IMPORTS);
}

impl Message for catalog::v1::UndoImport {
    const TYPE: &'static str = "lote.catalog.v1.UndoImport";
}

impl Routed for catalog::v1::UndoImport {
    const ROUTE: Route = Route::Command(&queues::CATALOG_IMPORTS);
}

impl Message for catalog::v1::AnnotateImport {
    const TYPE: &'static str = "lote.catalog.v1.AnnotateImport";
}

impl Routed for catalog::v1::AnnotateImport {
    const ROUTE: Route = Route::Command(&queues::CATALOG_REPORTS);
}

impl Message for sms::v1::ImportContacts {
    const TYPE: &'static str = "lote.sms.v1.ImportContacts";
}

impl Routed for sms::v1::ImportContacts {
    const ROUTE: Route = Route::Command(&queues::SMS_IMPORTS);
}

impl Message for sms::v1::RollBackImport {
    const TYPE: &'static str = "lote.sms.v1.RollBackImport";
}

impl Routed for sms::v1::RollBackImport {
    const ROUTE: Route = Route::Command(&queues::SMS_IMPORTS);
}

impl Message for sms::v1::ValidateContacts {
    const TYPE: &'static str = "lote.sms.v1.ValidateContacts";
}

impl Routed for sms::v1::ValidateContacts {
    const ROUTE: Route = Route::Command(&queues::SMS_VALIDATIONS);
}

impl Message for report::v1::StartRun {
    const TYPE: &'static str = "lote.report.v1.StartRun";
}

impl Routed for report::v1::StartRun {
    const ROUTE: Route = Route::Command(&queues::REPORT_RUNS);
}

impl Message for report::v1::ExportCampaign {
    const TYPE: &'static str = "lote.report.v1.ExportCampaign";
}

impl Routed for report::v1::ExportCampaign {
    const ROUTE: Route = Route::Command(&queues::REPORT_CAMPAIGNS);
}
