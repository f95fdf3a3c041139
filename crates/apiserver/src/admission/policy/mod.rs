//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: expressions instead of servers.
//!
//! A policy says what to look at and what to demand or change ([`spec`]); its bindings say where, and with which
//! objects as parameters ([`binding`], [`params`]). Both are followed in the watch cache and compiled when they change
//! ([`index`]).

mod apply;
mod binding;
pub mod check;
mod index;
mod mutating;
mod params;
mod spec;
mod validating;
mod variables;

use api::status::GroupResource;

pub use index::Policies;
pub use mutating::mutate;
pub use validating::validate;

use super::AdmissionRequest;

const GROUP: &str = "admissionregistration.k8s.io";
pub const VALIDATING: [GroupResource<'static>; 2] = [
    GroupResource::new(GROUP, "validatingadmissionpolicies"),
    GroupResource::new(GROUP, "validatingadmissionpolicybindings"),
];
pub const MUTATING: [GroupResource<'static>; 2] = [
    GroupResource::new(GROUP, "mutatingadmissionpolicies"),
    GroupResource::new(GROUP, "mutatingadmissionpolicybindings"),
];

/// Policies do not judge policies, nor the questions that authorizers are asked.
fn is_exempt(request: &AdmissionRequest<'_>) -> bool {
    let (group, resource) = (request.resource.group.as_str(), request.resource.resource.as_str());
    match group {
        GROUP => VALIDATING.iter().chain(&MUTATING).any(|policy| policy.resource == resource),
        "authorization.k8s.io" => true,
        "authentication.k8s.io" => true,
        _ => false,
    }
}
