//! Campaigns against a real PostgreSQL and Redis, through a provider in this process that tells the truth.

mod audience;
mod breaker;
mod closings;
mod days;
mod foretold;
mod guarantees;
mod live;
mod pace;
mod records;
mod reports;
mod resent;
mod retention;
mod sending;
mod singles;
mod slow;
mod unmade;
mod vendors;
mod watch;
mod world;
