//! Identity against a real PostgreSQL, through HTTP.

mod api_keys;
mod doctor;
mod door;
mod first_admin;
mod login;
mod matrix;
mod refresh;
mod sessions;
mod signing_keys;
mod throttle;
mod users;
