//! What the kubelet, the scheduler and the controllers have in common as servers: HTTPS, and the question who may ask.
//!
//! They keep no users of their own. [`tls`] knows clients by certificates of the cluster's authority, [`authority`] asks
//! the API server about tokens (TokenReview) and about what a user may (SubjectAccessReview). [`component`] is the
//! pages that every part of a control plane has: health, metrics, configuration, flags. [`plain`] is pages for everybody.

pub mod authority;
pub mod component;
pub mod plain;
mod roots;
pub mod tls;
mod user;

pub use authority::{Authority, Refusal, Rules};
pub use component::{Component, Options};
pub use tls::{ServeError, Tls, serve};
pub use user::{User, bearer_token};
