//! The server as clients see it: in process, and over TLS where that makes a difference.

mod aggregation;
mod crud;
mod custom;
mod deletion;
#[path = "../../../store/tests/store/etcd.rs"]
#[allow(dead_code, reason = "shared with the store's tests, which need more of it")]
mod etcd;
mod extension;
mod fixture;
mod hook;
mod https;
mod identity;
mod kms;
mod lists;
mod observed;
mod patches;
mod plugins;
mod policies;
mod servers;
mod services;
mod subresources;
mod watches;
mod webhooks;
mod wire;
