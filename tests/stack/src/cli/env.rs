use super::state::Demo;
use anyhow::{Context, Result};
use stack::{aws, home, server::write_secret, services::ALL};
use std::fs;

/// Writes `.stack/env`, to source. It holds passwords: only its owner may read it.
pub fn write(demo: &Demo) -> Result<()> {
    let wiring = &demo.wiring;
    let servers = &wiring.servers;
    let mut lines = vec![
        ("ADMIN_USER".to_owned(), wiring.admin_user.clone()),
        ("ADMIN_PASSWORD".to_owned(), wiring.admin_password.clone()),
        ("AMQP_URL".to_owned(), servers.amqp_url.clone()),
        ("RABBITMQ_MANAGEMENT_URL".to_owned(), servers.management_url.clone()),
        ("REDIS_URL".to_owned(), servers.redis_url.clone()),
        ("AWS_ENDPOINT_URL".to_owned(), servers.aws_endpoint.clone()),
        ("S3_BUCKET_NAME".to_owned(), wiring.bucket.clone()),
        ("SQS_QUEUE_NAME".to_owned(), wiring.imports_queue.clone()),
        ("SALES_DATABASE_URL".to_owned(), wiring.sales_database.clone()),
        ("POSTGRES_URL".to_owned(), servers.postgres_url.clone()),
        ("JWKS_URL".to_owned(), format!("{}/.well-known/jwks.json", wiring.gateway_url())),
    ];
    lines.extend(aws::CREDENTIALS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for service in ALL {
        let database = wiring.databases.get(service.name).cloned().unwrap_or_default();
        lines.push((format!("{}_URL", service.variable()), wiring.api_url(service)));
        lines.push((format!("{}_DATABASE_URL", service.variable()), database));
    }
    let text: String = lines.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    write_secret(&home().join("env"), &text)
}

/// Prints it.
pub fn print() -> Result<()> {
    let text = fs::read_to_string(home().join("env")).context("no .stack/env yet: make up")?;
    print!("{text}");
    Ok(())
}
