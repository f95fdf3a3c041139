//! What all controllers are made of: views, queues, workers, events, and what they know about pods.

pub mod claim;
pub mod error;
pub mod events;
pub mod hash;
pub mod history;
pub mod intstr;
pub mod key;
pub mod meta;
pub mod meters;
pub mod metrics;
pub mod pods;
pub mod queue;
pub mod view;
pub mod worker;
pub mod world;
pub mod write;

pub use error::{Context, SyncError, brief};
pub use key::Key;
pub use metrics::Metrics;
pub use queue::Queue;
pub use view::{Change, View};
pub use worker::{Controller, run};
pub use world::World;
