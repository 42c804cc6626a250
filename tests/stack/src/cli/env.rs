use super::state::Demo;
use anyhow::{Context, Result};
use stack::{home, server::write_secret};
use std::fs;

/// Writes `.stack/env`, to source. It holds passwords: only its owner may read it.
pub fn write(demo: &Demo) -> Result<()> {
    let wiring = &demo.wiring;
    let servers = &wiring.servers;
    let lines = [
        ("GATEWAY_URL", wiring.gateway_url()),
        ("CATALOG_UPLOAD_URL", wiring.api_url()),
        ("REPORT_URL", wiring.report_api_url()),
        ("SMS_DISPATCH_URL", wiring.sms_api_url()),
        ("ETL_URL", wiring.etl_api_url()),
        ("ADMIN_USER", wiring.admin_user.clone()),
        ("ADMIN_PASSWORD", wiring.admin_password.clone()),
        ("AMQP_URL", servers.amqp_url.clone()),
        ("RABBITMQ_MANAGEMENT_URL", servers.management_url.clone()),
        ("REDIS_URL", servers.redis_url.clone()),
        ("AWS_ENDPOINT_URL", servers.aws_endpoint.clone()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("S3_BUCKET_NAME", wiring.bucket.clone()),
        ("SQS_QUEUE_NAME", wiring.imports_queue.clone()),
        ("GATEWAY_DATABASE_URL", wiring.gateway_database.clone()),
        ("CATALOG_UPLOAD_DATABASE_URL", wiring.catalog_database.clone()),
        ("REPORT_DATABASE_URL", wiring.report_database.clone()),
        ("SMS_DISPATCH_DATABASE_URL", wiring.sms_database.clone()),
        ("ETL_DATABASE_URL", wiring.etl_database.clone()),
        ("SALES_DATABASE_URL", wiring.sales_database.clone()),
        ("POSTGRES_URL", servers.postgres_url.clone()),
        ("JWKS_URL", format!("{}/.well-known/jwks.json", wiring.gateway_url())),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    write_secret(&home().join("env"), &text)
}

/// Prints it.
pub fn print() -> Result<()> {
    let text = fs::read_to_string(home().join("env")).context("no .stack/env yet: make up")?;
    print!("{text}");
    Ok(())
}
