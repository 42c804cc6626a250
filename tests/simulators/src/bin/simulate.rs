//! A vendor as a process, for the demo: `lote-simulate bsale <port> <token> [seed]`.

use anyhow::{Context, Result, bail};
use simulators::bsale::{Bsale, Shop, Size};

#[actix_web::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bsale", port, token, seed @ ..] => {
            let seed = seed.first().map_or(Ok(1), |seed| seed.parse()).context("the seed is not a number")?;
            let bsale =
                Bsale::start_at(Shop::new(seed, Size::default()), token, port.parse().context("the port")?)?;
            bsale.limit(true);
            println!("Bsale at {}; its truth at /truth.json", bsale.url());
            std::future::pending::<()>().await;
            Ok(())
        }
        _ => bail!("expected: bsale <port> <token> [seed]"),
    }
}
