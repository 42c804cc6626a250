//! Campaigns against a real PostgreSQL and Redis, through a provider in this process that tells the truth.

mod audience;
mod days;
mod guarantees;
mod pace;
mod records;
mod reports;
mod sending;
mod watch;
mod world;
