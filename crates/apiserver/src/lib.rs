//! The Kubernetes API over HTTPS: authentication, authorization, admission, storage, watch.
//!
//! One request takes one path (`server/pipeline.rs`): connection -> [`request::RequestInfo`] -> authentication ->
//! authorization -> handler. Every kind, built-in or from a CRD, is served by the same generic handlers
//! (`handlers/`); what differs is data (`api::registry`) and a small strategy (`strategy/`).
//!
//! Objects are validated and encoded once, when written. The store ([`store::Store`]) makes a write durable and
//! hands the event to the watch cache (`cache/`) before it acknowledges it; reads are answered from the cache alone,
//! by copying bytes.
//!
//! [`ApiServer`] is the whole of the surface: start it over a store, then serve sockets, or call it in process.

pub mod access_review;
pub mod admission;
pub mod aggregation;
pub mod alloc;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod cache;
pub mod catalog;
mod compaction;
pub mod config;
pub mod convert;
pub mod crd;
pub mod encryption;
mod expiry;
mod files;
pub mod flow_control;
#[doc(hidden)]
pub mod fuzz;
pub mod handlers;
pub mod metrics;
pub mod negotiate;
pub mod options;
pub mod outbound;
mod peers;
pub mod proxy;
pub mod request;
pub mod server;
pub mod state;
pub mod strategy;
pub mod subresources;
pub mod token;
pub mod write;

pub use authn::user::UserInfo;
pub use config::Config;
pub use outbound::{Extension, Inside};
pub use request::{Attributes, RequestInfo};
pub use server::ApiServer;
pub use state::State;
