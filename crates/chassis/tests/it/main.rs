//! The chassis from outside: a real HTTP server, and the real servers behind it.

mod auth;
mod database;
mod http;
mod readiness;
mod redis;
mod s3;
mod support;
