//! A vendor as a process, for the demo: `lote-simulate bsale <port> <token> [seed]`, `lote-simulate bigquery <port> [seed]`,
//! `lote-simulate telnyx <port> <key>`, `lote-simulate twilio <port> <account sid> <auth token>`.
//! `LOTE_SIMULATE_HOST` is the address to listen at: this machine only, unless it says otherwise.

use anyhow::{Context, Result, bail};
use simulators::{
    bigquery::{BigQuery, demo},
    bsale::{Bsale, Shop, Size},
    messages::Messages,
};

#[actix_web::main]
async fn main() -> Result<()> {
    let host = std::env::var("LOTE_SIMULATE_HOST").unwrap_or_else(|_| "127.0.0.1".to_owned());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bsale", port, token, seed @ ..] => {
            let seed = seed.first().map_or(Ok(1), |seed| seed.parse()).context("the seed is not a number")?;
            let shop = Shop::new(seed, Size::default());
            let bsale = Bsale::start_at(shop, token, &host, port.parse().context("the port")?)?;
            bsale.limit(true);
            println!("Bsale at {}; its truth at /truth.json", bsale.url());
            std::future::pending::<()>().await;
            Ok(())
        }
        ["bigquery", port, seed @ ..] => {
            let seed = seed.first().map_or(Ok(1), |seed| seed.parse()).context("the seed is not a number")?;
            let bigquery = BigQuery::start_at(&host, port.parse().context("the port")?)?;
            demo::fill(&bigquery, seed, 2_000, chrono::Utc::now().date_naive());
            println!("BigQuery at {}; its truth at /truth.json", bigquery.url());
            std::future::pending::<()>().await;
            Ok(())
        }
        ["telnyx", port, key] => {
            let telnyx = Messages::telnyx_at(&host, key, port.parse().context("the port")?)?;
            let public_key = telnyx.public_key().unwrap_or_default();
            println!("Telnyx at {}; its public key {public_key}; its truth at /truth.json", telnyx.url());
            std::future::pending::<()>().await;
            Ok(())
        }
        ["twilio", port, account_sid, auth_token] => {
            let twilio =
                Messages::twilio_at(&host, account_sid, auth_token, port.parse().context("the port")?)?;
            println!("Twilio at {}; its truth at /truth.json", twilio.url());
            std::future::pending::<()>().await;
            Ok(())
        }
        _ => bail!(
            "expected: bsale <port> <token> [seed], bigquery <port> [seed], telnyx <port> <key>, or twilio <port> \
             <account sid> <auth token>"
        ),
    }
}
