//! Campaigns against a real PostgreSQL and Redis, through a provider in this process that tells the truth.

mod audience;
mod foretold;
mod guarantees;
mod sending;
mod singles;
mod world;
