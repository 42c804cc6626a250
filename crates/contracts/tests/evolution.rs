//! Contracts only grow. What was released once is listed in `proto/released.txt`, a line a field; each line must still
//! stand. At a release, `RELEASE_CONTRACTS=1 cargo test -p lote-contracts` adds the new lines.

use std::{collections::BTreeSet, path::Path};

use contracts::{Message, QUEUES, Route, Routed as _, catalog::v1, etl, jobs, report, sms, subscribers};
use prost_reflect::{DescriptorPool, Kind};
use serde_json::{Value, json};

fn fields() -> BTreeSet<String> {
    let pool =
        DescriptorPool::decode(contracts::DESCRIPTORS).expect("the build script encoded these descriptors");
    pool.all_messages()
        .filter(|message| message.package_name().starts_with("lote."))
        .flat_map(|message| {
            let name = message.full_name().to_owned();
            message
                .fields()
                .map(|field| {
                    let kind = match field.kind() {
                        Kind::Message(inner) => inner.full_name().to_owned(),
                        Kind::Enum(inner) => inner.full_name().to_owned(),
                        scalar => format!("{scalar:?}").to_lowercase(),
                    };
                    format!("{name} {} {} {kind} {:?}", field.number(), field.name(), field.cardinality())
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn nothing_released_is_removed_renamed_renumbered_or_retyped() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/released.txt");
    let released: BTreeSet<String> =
        std::fs::read_to_string(&path).expect("proto/released.txt").lines().map(str::to_owned).collect();
    let current = fields();
    if std::env::var_os("RELEASE_CONTRACTS").is_some() {
        let all: Vec<_> = released.union(&current).cloned().collect();
        std::fs::write(&path, all.join("\n") + "\n").expect("proto/released.txt is writable");
        return;
    }
    assert!(!released.is_empty(), "proto/released.txt lists no field");
    let broken: Vec<_> = released.difference(&current).collect();
    assert!(broken.is_empty(), "released fields that no longer stand: {broken:#?}");
}

fn golden<M: Message + PartialEq + std::fmt::Debug>(expected: &M) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.json", M::TYPE));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let decoded: M =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&decoded, expected, "{}", path.display());

    // So it may come from the next version, which is rolled out while this one still reads.
    let mut grown: Value = serde_json::from_str(&text).expect("it was decoded");
    grow(&mut grown);
    let decoded: M = serde_json::from_str(&grown.to_string())
        .unwrap_or_else(|error| panic!("{} with fields that are not known: {error}", M::TYPE));
    assert_eq!(&decoded, expected, "{} with fields that are not known", M::TYPE);
}

/// Adds fields that nobody knows to a message and to all messages in it.
fn grow(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            fields.values_mut().for_each(grow);
            fields.insert("addedLater".into(), json!({ "deep": [{ "er": null }, 7, "text"] }));
            fields.insert("added_too".into(), json!(1.5));
        }
        Value::Array(items) => items.iter_mut().for_each(grow),
        _ => {}
    }
}

#[test]
fn golden_messages_decode_for_ever() {
    let task_id = "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e11".to_owned();
    golden(&jobs::v1::RunJob { job_id: task_id.clone(), kind: "catalog.imports".into() });
    golden(&v1::ProcessImport { task_id: task_id.clone() });
    golden(&v1::ImportCompleted {
        task_id: task_id.clone(),
        proveedor_id: "PROV001".into(),
        filename: "productos.xlsx".into(),
        summary: Some(v1::ImportSummary {
            total: 300,
            accepted: 290,
            rejected: 10,
            duplicates: 5,
            created: 285,
            updated: 5,
        }),
        version: 12,
    });
    golden(&v1::ImportFailed {
        task_id: task_id.clone(),
        proveedor_id: "PROV001".into(),
        filename: "productos.xlsx".into(),
        reason: "Columnas faltantes: codigo".into(),
        version: 3,
    });
    golden(&v1::UndoImport { task_id: task_id.clone() });
    golden(&v1::AnnotateImport { job_id: task_id.clone() });
    golden(&v1::ImportUndone {
        task_id: task_id.clone(),
        import_id: "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e10".into(),
        proveedor_id: "PROV001".into(),
        filename: "productos.xlsx".into(),
        removed: 280,
        restored: 5,
        kept: 5,
        version: 9,
    });
    golden(&v1::ProductsChanged {
        proveedor_id: "PROV001".into(),
        version: 7_001,
        created: vec!["P-1".into(), "P-2".into()],
        updated: vec!["P-3".into()],
        deleted: vec!["P-4".into()],
        task_id,
    });
}

#[test]
fn golden_messages_of_campaigns_decode_for_ever() {
    let id = "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e11".to_owned();
    golden(&sms::v1::MessagesSettled {
        campaign_id: id.clone(),
        campaign_date: "2025-01-27".into(),
        rows: vec![
            sms::v1::SettledMessage {
                message_id: "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e12".into(),
                version: 3,
                contact_id: "C-1".into(),
                phone: "+573001234567".into(),
                text: "Hola, ñandú".into(),
                sent_at: Some(pbjson_types::Timestamp { seconds: 1_737_990_000, nanos: 0 }),
                state: sms::v1::MessageState::Sent.into(),
                error: String::new(),
            },
            sms::v1::SettledMessage {
                message_id: "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e13".into(),
                version: 1,
                contact_id: "C-2".into(),
                phone: "+573001234568".into(),
                text: "Hola".into(),
                sent_at: None,
                state: sms::v1::MessageState::Failed.into(),
                error: "número inválido".into(),
            },
        ],
    });
    let campaign = sms::v1::Campaign {
        id,
        name: "Cobranza enero".into(),
        date: "2025-01-27".into(),
        description: "Cartera vencida".into(),
        state: "EN PROCESO".into(),
        expected_rows: 400_000,
        version: 2,
    };
    golden(&sms::v1::CampaignCreated {
        campaign: Some(sms::v1::Campaign {
            date: String::new(),
            state: "BORRADOR".into(),
            expected_rows: 0,
            version: 1,
            ..campaign.clone()
        }),
    });
    golden(&sms::v1::CampaignStarted { campaign: Some(campaign.clone()) });
    golden(&sms::v1::CampaignPaused {
        campaign: Some(sms::v1::Campaign { state: "PAUSADA".into(), version: 3, ..campaign.clone() }),
        reason: "Pausada por ana".into(),
    });
    golden(&sms::v1::CampaignResumed {
        campaign: Some(sms::v1::Campaign { version: 4, ..campaign.clone() }),
    });
    golden(&sms::v1::CampaignCompleted {
        campaign: Some(sms::v1::Campaign { state: "COMPLETADA".into(), version: 9, ..campaign }),
    });
    golden(&sms::v1::ContactOptedOut {
        phone: "+526121000007".into(),
        source: "respuesta".into(),
        opted_out_at: Some(pbjson_types::Timestamp { seconds: 1_737_990_000, nanos: 0 }),
    });
}

#[test]
fn golden_messages_of_contacts_and_reports_decode_for_ever() {
    let id = "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e11".to_owned();
    golden(&sms::v1::ImportContacts { import_id: id.clone() });
    golden(&sms::v1::RollBackImport { job_id: id.clone() });
    golden(&sms::v1::ValidateContacts { validation_id: id.clone() });
    golden(&report::v1::StartRun { run_id: id.clone() });
    golden(&report::v1::ExportCampaign { job_id: id.clone() });
    golden(&report::v1::ReportReady {
        run_id: id.clone(),
        fecha: "2025-01-27".into(),
        tipo: "detalle".into(),
        files: 20,
        rows: 8_000,
        bytes: 1_234_567,
        version: 5,
    });
    golden(&report::v1::ReportFailed {
        run_id: id,
        fecha: "2025-01-27".into(),
        tipo: "detalle".into(),
        files: 20,
        failed: 1,
        reason: "1 de 20 archivos no se generaron".into(),
        version: 6,
    });
}

#[test]
fn golden_messages_of_syncs_decode_for_ever() {
    let id = "0190b5a4-7c1e-7d4b-9c39-0b6a6d1f2e11".to_owned();
    golden(&etl::v1::SyncCompleted {
        run_id: id.clone(),
        stream: "bsale.documentos".into(),
        mode: "daily".into(),
        read: 1_200,
        inserted: 1_000,
        updated: 20,
        deleted: 3,
        quarantined: 1,
        watermark: "2026-11-26T00:00:00+00:00".into(),
        version: 9,
    });
    golden(&etl::v1::SyncFailed {
        run_id: id.clone(),
        stream: "bsale.documentos".into(),
        mode: "daily".into(),
        reason: "Bsale: 402".into(),
        version: 4,
    });
    golden(&etl::v1::DashboardRefreshed {
        data_version: 12,
        as_of: "2026-11-26T12:00:00+00:00".into(),
        run_id: id,
        version: 12,
    });
}

#[test]
fn every_event_a_queue_is_bound_to_exists_and_its_queue_carries_events() {
    let events = [
        v1::ImportCompleted::ROUTE,
        v1::ImportFailed::ROUTE,
        v1::ImportUndone::ROUTE,
        v1::ProductsChanged::ROUTE,
        sms::v1::MessagesSettled::ROUTE,
        sms::v1::CampaignCreated::ROUTE,
        sms::v1::CampaignStarted::ROUTE,
        sms::v1::CampaignPaused::ROUTE,
        sms::v1::CampaignResumed::ROUTE,
        sms::v1::CampaignCompleted::ROUTE,
        sms::v1::ContactOptedOut::ROUTE,
        report::v1::ReportReady::ROUTE,
        report::v1::ReportFailed::ROUTE,
        etl::v1::SyncCompleted::ROUTE,
        etl::v1::SyncFailed::ROUTE,
        etl::v1::DashboardRefreshed::ROUTE,
    ];
    for queue in QUEUES {
        for key in queue.events {
            assert!(
                events.contains(&Route::Event(key)),
                "{} is bound to {key}, which nobody publishes",
                queue.name
            );
            assert_eq!(queue.transport, contracts::Transport::Amqp, "{} is bound to events", queue.name);
            assert!(subscribers(key).any(|subscriber| subscriber.name == queue.name));
        }
    }
}
