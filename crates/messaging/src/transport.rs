//! The boundary between the runtime and the transports: whichever one a queue rides on.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{
    delivery::{Delivery, SettleError, Verdict},
    memory, rabbit, sqs,
};

/// What it takes to settle a delivery.
pub(crate) enum Token {
    Rabbit(Box<rabbit::Token>),
    Sqs(sqs::Token),
    Memory(memory::Token),
}

impl Token {
    pub async fn settle(&self, verdict: &Verdict, body: &Bytes) -> Result<(), SettleError> {
        match self {
            Self::Rabbit(token) => token.settle(verdict, body).await,
            Self::Sqs(token) => token.settle(verdict, body).await,
            Self::Memory(token) => {
                token.settle(verdict, body);
                Ok(())
            }
        }
    }

    /// Gives back a delivery that can't be settled. On SQS its message comes again after the pause. On RabbitMQ
    /// it comes again at once, ahead of others: only the broker's delivery limit bounds how often.
    pub fn give_up(&self, pause: Duration) {
        match self {
            Self::Rabbit(token) => token.give_up(),
            Self::Sqs(token) => token.give_up(pause),
            // There, every delivery can be settled.
            Self::Memory(_) => {}
        }
    }

    /// Keeps the message ours for as long as this is polled.
    pub async fn keep(&self) -> Infallible {
        match self {
            Self::Sqs(token) => token.keep().await,
            // An open channel is enough.
            Self::Rabbit(_) | Self::Memory(_) => std::future::pending().await,
        }
    }
}

/// Where deliveries come from: one consumer's place at one queue.
pub(crate) enum Source {
    Rabbit(Box<rabbit::Source>),
    Sqs(sqs::Source),
    Memory(memory::Source),
}

impl Source {
    /// Deliveries worth waiting a moment for, so that one call to the broker brings them all.
    pub fn batch(&self) -> Batch {
        match self {
            Self::Rabbit(_) => Batch { most: 32, linger: Duration::ZERO },
            Self::Sqs(_) => Batch { most: 10, linger: Duration::from_millis(20) },
            Self::Memory(_) => Batch { most: 1, linger: Duration::ZERO },
        }
    }

    /// Deliveries, at least one and at most `most`. Cancel-safe. An error means that this source has ended.
    pub async fn receive(&mut self, most: usize) -> anyhow::Result<Vec<Delivery<Token>>> {
        match self {
            Self::Rabbit(source) => Ok(all(source.receive(most).await?, Token::Rabbit)),
            Self::Sqs(source) => Ok(all(source.receive(most).await?, Token::Sqs)),
            Self::Memory(source) => Ok(vec![source.receive().await.map(Token::Memory)]),
        }
    }

    /// Fetches so many more at a time: handlers that held their places have ended.
    pub async fn widen(&mut self, more: usize) -> anyhow::Result<()> {
        match self {
            Self::Rabbit(source) => source.widen(u16::try_from(more).unwrap_or(u16::MAX)).await,
            // They take what they are asked for.
            Self::Sqs(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Stops taking, and returns what had been taken already.
    pub async fn stop(&mut self) -> Vec<Delivery<Token>> {
        match self {
            Self::Rabbit(source) => all(source.stop().await, Token::Rabbit),
            Self::Sqs(source) => all(source.stop().await, Token::Sqs),
            Self::Memory(_) => Vec::new(),
        }
    }

    /// Leaves a source that has ended, with handlers still at work. On SQS they settle all the same; the task ends
    /// when all is written out.
    pub fn abandon(self) -> Option<JoinHandle<()>> {
        match self {
            Self::Sqs(source) => Some(source.abandon()),
            // The broker has taken its messages back.
            Self::Rabbit(_) | Self::Memory(_) => None,
        }
    }

    /// Writes out what is settled, and leaves.
    pub async fn close(self) {
        match self {
            Self::Rabbit(source) => source.close().await,
            Self::Sqs(source) => source.close().await,
            Self::Memory(_) => {}
        }
    }
}

fn all<T>(deliveries: Vec<Delivery<T>>, wrap: impl Fn(T) -> Token) -> Vec<Delivery<Token>> {
    deliveries.into_iter().map(|delivery| delivery.map(&wrap)).collect()
}

/// Where dead letters come from.
pub(crate) enum LetterSource {
    Rabbit(Box<rabbit::LetterSource>),
    Sqs(sqs::LetterSource),
    Memory,
}

/// How a source wants to be asked.
pub(crate) struct Batch {
    pub most: usize,
    /// How long to wait for more free handlers.
    pub linger: Duration,
}
