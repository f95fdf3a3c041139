//! Clients of the Kubernetes API.
//!
//! Every part of Corten that talks to an API server does so through a [`kube::Client`], made here: over
//! HTTPS from a kubeconfig ([`from_kubeconfig`]), or straight into an API server of the same process
//! ([`in_process`]). The parts cannot tell the difference, so each of them also runs against upstream's.
//!
//! [`leader::Election`] lets one of several like processes work at a time.
//!
//! [`Informers`] hands out one shared cache per kind per process, however many parts ask for it.

mod connect;
mod informer;
pub mod leader;
mod metered;
mod renewed;

pub use connect::{ConnectError, from_kubeconfig, in_process};
pub use informer::{Delta, Informer, Informers, Subscription, Watched};
pub use metered::{REQUESTS, metered};
