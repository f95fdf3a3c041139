//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: users' own servers, asked about writes.
//!
//! Configurations are followed in the watch cache and compiled when they change ([`hooks`]). A call is a task of its
//! request alone, with an end: a slow webhook holds up nobody else. Mutating webhooks are called one after the other,
//! validating ones all at once.

mod call;
mod hooks;
mod mutate;
mod review;
mod validate;

use api::status::GroupResource;

pub use hooks::{Hook, Hooks};
pub use mutate::mutate;
pub use validate::validate;

const GROUP: &str = "admissionregistration.k8s.io";
pub const MUTATING: GroupResource<'static> = GroupResource::new(GROUP, "mutatingwebhookconfigurations");
pub const VALIDATING: GroupResource<'static> = GroupResource::new(GROUP, "validatingwebhookconfigurations");
