//! Campaigns against a real PostgreSQL and Redis, through a provider in this process that tells the truth.

mod audience;
mod days;
mod foretold;
mod guarantees;
mod pace;
mod records;
mod reports;
mod sending;
mod singles;
mod watch;
mod world;
