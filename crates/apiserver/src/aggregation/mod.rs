//! Aggregated APIs: groups that another server serves behind this one.
//!
//! An APIService names a group version and the Service that serves it. [`controller`] follows them: it finds out whether
//! each answers and what it has, which is then [`shown`] by discovery in the [`order`] of their priorities like what is
//! served here, and it makes the APIServices that stand for this server's own group versions. [`proxy`] passes requests
//! on, telling the far end who asks.

pub mod controller;
mod local;
pub mod openapi;
pub mod order;
pub mod proxy;
mod remote;
pub mod shown;

pub use remote::Remote;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub const GROUP: &str = "apiregistration.k8s.io";
pub const PLURAL: &str = "apiservices";

/// The group versions that others serve.
#[derive(Default)]
pub struct Aggregation(ArcSwap<Vec<Arc<Remote>>>);

impl Aggregation {
    /// Who serves a path, if not this server.
    pub fn of_path(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.0.load();
        if remotes.is_empty() {
            return None;
        }
        let mut segments = path.strip_prefix("/apis/")?.split('/');
        let (group, version) = (segments.next()?, segments.next()?);
        remotes.iter().find(|remote| remote.group == group && remote.version == version).cloned()
    }

    /// Who has the OpenAPI document at a path, if not this server.
    pub fn of_openapi(&self, path: &str) -> Option<Arc<Remote>> {
        let path = path.strip_prefix("/openapi/v3")?;
        self.of_path(path)
    }

    fn set(&self, remotes: Vec<Arc<Remote>>) {
        self.0.store(Arc::new(remotes));
    }

    fn all(&self) -> Arc<Vec<Arc<Remote>>> {
        self.0.load_full()
    }
}
