use std::time::Duration;

use contracts::Queue;

use crate::{Broker, DeadLetter, delivery::Pauses, transport::LetterSource};

/// How long a source may be silent before somebody looks whether letters wait.
const SILENT_FOR: Duration = Duration::from_secs(15);

/// Takes dead letters from a queue, through reconnects. At most [`Letters::HELD`] can be held at a time.
pub struct Letters {
    broker: Broker,
    queue: &'static Queue,
    source: Option<LetterSource>,
    pauses: Pauses,
}

impl Letters {
    /// Letters that can be held without an ack before RabbitMQ sends no more.
    pub const HELD: usize = 100;

    pub(crate) fn new(broker: &Broker, queue: &'static Queue) -> Self {
        Self { broker: broker.clone(), queue, source: None, pauses: Pauses::new() }
    }

    /// The next letter; waits for one, and for the broker to come back. Cancel-safe; on SQS, what was being
    /// received at that moment comes after a minute.
    pub async fn next(&mut self) -> DeadLetter {
        loop {
            let attempted = if self.broker.pushes(self.queue) {
                match tokio::time::timeout(SILENT_FOR, self.attempt()).await {
                    Ok(attempted) => attempted,
                    Err(_) if self.letters_wait().await => {
                        Err(anyhow::anyhow!("letters wait, and none is delivered"))
                    }
                    Err(_) => continue,
                }
            } else {
                self.attempt().await
            };
            match attempted {
                Ok(letter) => {
                    self.pauses.reset();
                    return letter;
                }
                Err(error) => {
                    self.source = None;
                    let pause = self.pauses.next();
                    tracing::warn!(queue = self.queue.name, error = %format!("{error:#}"),
                        pause_ms = pause.as_millis() as u64, "no dead letters can be taken");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Whether a silent source has gone deaf: RabbitMQ 3.10 leaves a consumer so whose queue was deleted and made again
    /// at once.
    async fn letters_wait(&self) -> bool {
        self.broker.depth(self.queue).await.is_ok_and(|depth| depth.dead > 0)
    }

    async fn attempt(&mut self) -> anyhow::Result<DeadLetter> {
        if self.source.is_none() {
            self.source = Some(self.broker.open_letters(self.queue).await?);
        }
        match &mut self.source {
            Some(LetterSource::Rabbit(source)) => source.next().await,
            Some(LetterSource::Sqs(source)) => source.next().await,
            Some(LetterSource::Memory) => self.broker.memory_letter(self.queue).await,
            None => anyhow::bail!("no source"),
        }
    }
}
