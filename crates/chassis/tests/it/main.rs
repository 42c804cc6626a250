//! The chassis from outside: a real HTTP server, and the real servers behind it.

mod admin;
mod auth;
mod database;
mod http;
mod orm;
mod process;
mod readiness;
mod redis;
mod s3;
mod support;
