use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

const UP: &str = include_str!("m0002_collections.sql");

const DOWN: &str = "
drop table raw_quarantine, raw_met, raw_streams, mart_version, mart_agents, mart_calls, mart_clients, aux_clients, mart_days, aux_payments, aux_calls, aux_accounts, aux_snapshots, aux_debt, aux_campaigns,
    raw_changes, raw_ejecutivos, raw_homologacion_mibotair, raw_homologacion_voicebot, raw_mibotair_gestiones,
    raw_voicebot_gestiones, raw_pagos, raw_trandeuda, raw_asignaciones, raw_calendario;
drop function note_raw_changes;
";
