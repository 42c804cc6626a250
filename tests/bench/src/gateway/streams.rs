use super::Callers;
use anyhow::{Result, ensure};
use reqwest::{Method, Response};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many are open, of one user, whose limit is raised.
pub const OPEN: usize = 200;

/// Live streams that are read until they are ended.
pub struct Open(Vec<JoinHandle<Result<()>>>);

impl Open {
    /// Ends them.
    ///
    /// # Errors
    /// Where one had ended already.
    pub fn end(self) -> Result<()> {
        for stream in self.0 {
            ensure!(!stream.is_finished(), "a stream ended while others were measured");
            stream.abort();
        }
        Ok(())
    }
}

/// Opens all, and waits for the first bytes of each.
pub async fn open(callers: &Callers) -> Result<Open> {
    let mut open = Vec::with_capacity(OPEN);
    for _ in 0..OPEN {
        let request = callers.through.request(Method::GET, "/api/v1/stream");
        let mut response = request.timeout(Duration::from_secs(600)).send().await?.error_for_status()?;
        ensure!(
            response.chunk().await?.is_some(),
            "a stream says how long to wait before it is opened again"
        );
        open.push(tokio::spawn(drain(response)));
    }
    Ok(Open(open))
}

async fn drain(mut response: Response) -> Result<()> {
    while response.chunk().await?.is_some() {}
    Ok(())
}
