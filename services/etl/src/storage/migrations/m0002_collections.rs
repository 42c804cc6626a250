use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = include_str!("m0002_collections.sql");

const DOWN: &str = "
drop table raw_quarantine, raw_met, raw_streams, mart_version, mart_agents, mart_calls, mart_clients, aux_clients, mart_days, aux_payments, aux_calls, aux_accounts, aux_snapshots, aux_debt, aux_campaigns,
    raw_changes, raw_ejecutivos, raw_homologacion_mibotair, raw_homologacion_voicebot, raw_mibotair_gestiones,
    raw_voicebot_gestiones, raw_pagos, raw_trandeuda, raw_asignaciones, raw_calendario;
drop function note_raw_changes;
";
