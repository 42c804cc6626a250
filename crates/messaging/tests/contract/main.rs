//! What the crate promises, run over each transport against real servers: this suite is the definition of
//! the crate. A transport that passes is a transport.

mod alarm;
mod attribution;
mod connection;
mod dead_letters;
mod delivery;
mod draining;
mod harness;
mod observation;
mod publishing;
mod rabbit;
mod retries;
mod settling;
mod slow_open;
mod sqs;
mod stuck_queue;
mod topology;

/// One test a transport, of a function that takes the transport and returns a result.
#[macro_export]
macro_rules! contract {
    ($name:ident: $($transport:ident),+) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[allow(non_snake_case)]
                async fn $transport() -> anyhow::Result<()> {
                    super::$name(contracts::Transport::$transport).await
                }
            )+
        }
    };
}
