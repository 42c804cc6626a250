//! Campaigns against a real PostgreSQL and Redis, through a provider in this process that tells the truth.

mod audience;
mod breaker;
mod closings;
mod days;
mod files;
mod foretold;
mod guarantees;
mod help;
mod hours;
mod live;
mod own_hour;
mod pace;
mod records;
mod reports;
mod resent;
mod retention;
mod sending;
mod singles;
mod slow;
mod throttled;
mod turns;
mod unmade;
mod vendors;
mod watch;
mod windows;
mod world;
