//! The clients of providers against the simulators, fault by fault; their webhooks against our reading of them; and the
//! simulators against the vendors' own clients.

mod clients;
mod receiver;
mod sdk;
mod webhooks;
