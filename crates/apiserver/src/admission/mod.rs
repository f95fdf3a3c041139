//! What is changed in, or held against, an object before it is stored.
//!
//! The plugins are those that a default server of upstream's runs, plus NodeRestriction; each is a file with a
//! `mutate` and/or `validate` function of the request and the cached objects. [`Chain`] calls them in upstream's
//! order. Which of them run, and a few [`optional`] ones, is chosen when the server starts: [`plugins`].

pub mod cel;
pub mod certificates;
mod claim_status;
pub mod configuration;
pub mod connect;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
mod device_selectors;
mod event_rate_limit;
mod image_policy;
pub mod limit_ranger;
pub mod matching;
mod mutation;
mod namespace_auto_provision;
pub mod namespace_lifecycle;
mod node_audience;
mod node_declared_features;
pub mod node_restriction;
pub mod objects;
mod optional;
mod owner_references;
mod phase;
pub mod plugins;
pub mod pod_security;
mod pod_toleration_restriction;
pub mod pod_topology_labels;
pub mod policy;
pub mod priority;
pub mod quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use;
pub mod taint_nodes_by_condition;
mod version;
pub mod volume_resize;
pub mod webhook;

use std::sync::Arc;
use std::time::Instant;

use api::gvk::{GroupVersionKind, GroupVersionResource};
use api::status::Status;
use serde_json::Value;

use crate::UserInfo;
use crate::authz::follow::Followed;
use crate::authz::{Authorizer, escalation};
use crate::cache::Caches;
use crate::state::State;
use configuration::Configured;
use mutation::Round;
use phase::Phase;
use plugins::Plugins;
use policy::Policies;
use webhook::Hooks;

/// The verbs that admission sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way to the store.
pub struct AdmissionRequest<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation,
    pub resource: &'a GroupVersionResource,
    pub kind: &'a GroupVersionKind,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Null on delete.
    pub object: Value,
    /// Null on create.
    pub old_object: &'a Value,
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions.
    pub options: &'a Value,
    /// Told to the client in `Warning` headers.
    pub warnings: Vec<String>,
}

impl AdmissionRequest<'_> {
    /// Whether this writes objects of that resource themselves, not a subresource of them.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.is_subresource(group, resource, "")
    }

    pub fn is_subresource(&self, group: &str, resource: &str, subresource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource && self.subresource == subresource
    }

    pub fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation == Operation::Create && self.is(group, resource)
    }

    /// The name of the object, or what there is of it before one has been generated.
    pub fn object_name(&self) -> &str {
        let metadata = &self.object["metadata"];
        [Some(self.name), metadata["name"].as_str(), metadata["generateName"].as_str()]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
            .unwrap_or("Unknown")
    }

    /// 403 for this object.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let resource = (self.resource.group.as_str(), self.resource.resource.as_str());
        Status::forbidden(resource, self.object_name(), why)
    }
}

/// The admission plugins, in upstream's order. Users' own policies and webhooks come at the end of each phase, before
/// quotas.
pub struct Chain {
    plugins: Plugins,
    configured: Configured,
    quotas: quota::Quotas,
    mutating_policies: Followed<Policies>,
    mutating_webhooks: Followed<Hooks>,
    validating_policies: Followed<Policies>,
    validating_webhooks: Followed<Hooks>,
    caches: Arc<Caches>,
    authorizer: Arc<Authorizer>,
}

impl Chain {
    pub fn new(
        caches: Arc<Caches>,
        authorizer: Arc<Authorizer>,
        plugins: Plugins,
        configured: Configured,
    ) -> Self {
        let quotas = quota::Quotas::new(caches.clone());
        Self {
            plugins,
            configured,
            quotas,
            mutating_policies: Followed::new(Policies::default(), &caches, &policy::MUTATING),
            mutating_webhooks: Followed::new(Hooks::default(), &caches, &[webhook::MUTATING]),
            validating_policies: Followed::new(Policies::default(), &caches, &policy::VALIDATING),
            validating_webhooks: Followed::new(Hooks::default(), &caches, &[webhook::VALIDATING]),
            caches,
            authorizer,
        }
    }

    /// Plugins that may change the object. What users' own mutations have changed, plugins see once more, and those
    /// mutations that ask for it.
    pub async fn mutate(&self, request: &mut AdmissionRequest<'_>, state: &Arc<State>) -> Result<(), Status> {
        let begun = Instant::now();
        let admitted = self.mutated(request, state).await;
        state.metrics.admission.step("admit", request.operation, admitted.is_err(), begun.elapsed());
        admitted
    }

    async fn mutated(&self, request: &mut AdmissionRequest<'_>, state: &Arc<State>) -> Result<(), Status> {
        self.mutate_by_plugins(request, state).await?;
        let mut round = Round::default();
        self.mutate_by_users(request, state, &mut round).await?;
        if !round.changed {
            return Ok(());
        }
        round.end(&request.object);
        self.mutate_by_plugins(request, state).await?;
        let mut second = round.second(&request.object);
        self.mutate_by_users(request, state, &mut second).await
    }

    async fn mutate_by_users(
        &self,
        request: &mut AdmissionRequest<'_>,
        state: &Arc<State>,
        round: &mut Round,
    ) -> Result<(), Status> {
        let phase = Phase::new("admit", request.operation, &self.plugins, &state.metrics);
        let policies = policy::mutate(&self.mutating_policies, request, state, round);
        phase.plugin_async("MutatingAdmissionPolicy", policies).await?;
        let webhooks = webhook::mutate(&self.mutating_webhooks, request, state, round);
        phase.plugin_async("MutatingAdmissionWebhook", webhooks).await
    }

    async fn mutate_by_plugins(
        &self,
        request: &mut AdmissionRequest<'_>,
        state: &Arc<State>,
    ) -> Result<(), Status> {
        let objects = &*self.caches;
        let phase = Phase::new("admit", request.operation, &self.plugins, &state.metrics);
        phase.plugin("ExtendedResourceToleration", || optional::tolerate_extended(request))?;
        let provision = namespace_auto_provision::provision(request, objects, state);
        phase.plugin_async("NamespaceAutoProvision", provision).await?;
        phase.plugin("NamespaceLifecycle", || namespace_lifecycle::admit(request, objects))?;
        phase.plugin("NamespaceExists", || namespace_lifecycle::admit(request, objects))?;
        phase.plugin("LimitRanger", || limit_ranger::mutate(request, objects))?;
        let account = async {
            service_account::wait_for_default(request, &self.caches).await;
            service_account::mutate(request, objects)
        };
        phase.plugin_async("ServiceAccount", account).await?;
        phase.plugin("TaintNodesByCondition", || taint_nodes_by_condition::mutate(request))?;
        phase.plugin("AlwaysPullImages", || optional::always_pull(request))?;
        phase.plugin("PodTopologyLabels", || pod_topology_labels::mutate(request, objects))?;
        phase.plugin("PodNodeSelector", || optional::select_nodes(request, objects))?;
        phase.plugin("Priority", || priority::mutate(request, objects))?;
        phase.plugin("DefaultTolerationSeconds", || default_toleration_seconds::mutate(request))?;
        let tolerations = &self.configured.tolerations;
        phase.plugin("PodTolerationRestriction", || tolerations.mutate(request, objects))?;
        phase.plugin("DefaultStorageClass", || default_storage_class::mutate(request, objects))?;
        phase.plugin("StorageObjectInUseProtection", || storage_object_in_use::mutate(request))?;
        phase.plugin("RuntimeClass", || runtime_class::mutate(request, objects))?;
        phase.plugin("DefaultIngressClass", || default_ingress_class::mutate(request, objects))?;
        phase.plugin("AlwaysDeny", || optional::deny(request))
    }

    /// Plugins that only say yes or no.
    pub async fn validate(
        &self,
        request: &mut AdmissionRequest<'_>,
        state: &Arc<State>,
    ) -> Result<(), Status> {
        let begun = Instant::now();
        let admitted = self.validated(request, state).await;
        state.metrics.admission.step("validate", request.operation, admitted.is_err(), begun.elapsed());
        admitted
    }

    async fn validated(&self, request: &mut AdmissionRequest<'_>, state: &Arc<State>) -> Result<(), Status> {
        let objects = &*self.caches;
        let phase = Phase::new("validate", request.operation, &self.plugins, &state.metrics);
        phase.plugin("LimitPodHardAntiAffinityTopology", || optional::limit_anti_affinity(request))?;
        phase.plugin("LimitRanger", || limit_ranger::validate(request, objects))?;
        phase.plugin("ServiceAccount", || service_account::validate(request))?;
        phase.plugin_async("NodeRestriction", self.restricted(request)).await?;
        phase
            .plugin("NodeDeclaredFeatureValidator", || node_declared_features::validate(request, objects))?;
        if let Some(images) = &self.configured.images {
            phase.plugin_async("ImagePolicyWebhook", images.validate(request)).await?;
        }
        let standards = &self.configured.pod_security;
        phase.plugin("PodSecurity", || standards.validate(request, objects))?;
        phase.plugin("Priority", || priority::validate(request, objects))?;
        let tolerations = &self.configured.tolerations;
        phase.plugin("PodTolerationRestriction", || tolerations.validate(request, objects))?;
        phase.plugin("EventRateLimit", || self.configured.events.validate(request, Instant::now()))?;
        let owners =
            async { owner_references::validate(request, &self.authorizer, &state.catalog().registry).await };
        phase.plugin_async("OwnerReferencesPermissionEnforcement", owners).await?;
        phase.plugin("PersistentVolumeClaimResize", || volume_resize::validate(request, objects))?;
        phase.plugin("RuntimeClass", || runtime_class::validate(request, objects))?;
        let approval = certificates::validate(request, &self.authorizer);
        phase.plugin_async("CertificateApproval", approval).await?;
        phase.plugin("DenyServiceExternalIPs", || optional::deny_external_ips(request))?;
        let target = escalation::Target {
            group: &request.resource.group,
            resource: &request.resource.resource,
            namespace: request.namespace,
            name: request.object_name(),
        };
        if matches!(request.operation, Operation::Create | Operation::Update) {
            let (new, old) = (&request.object, request.old_object);
            escalation::check(&self.authorizer, request.user, &target, new, old).await?;
        }
        policy::check::validate(request)?;
        device_selectors::validate(request)?;
        claim_status::validate(request, &self.authorizer).await?;
        let policies = policy::validate(&self.validating_policies, request, state);
        phase.plugin_async("ValidatingAdmissionPolicy", policies).await?;
        let webhooks = webhook::validate(&self.validating_webhooks, request, state);
        phase.plugin_async("ValidatingAdmissionWebhook", webhooks).await?;
        // What it lets through is counted.
        phase.plugin_async("ResourceQuota", self.quotas.validate(request, state)).await?;
        phase.plugin("AlwaysDeny", || optional::deny(request))
    }

    async fn restricted(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        node_restriction::validate(request, &*self.caches)?;
        node_audience::validate(request, &*self.caches, &self.authorizer).await
    }
}

/// Requests for plugin tests.
#[cfg(test)]
pub(crate) mod testing {
    use serde_json::json;

    use super::*;

    /// Owns what an [`AdmissionRequest`] borrows.
    pub(crate) struct Case {
        pub user: UserInfo,
        pub operation: Operation,
        pub resource: GroupVersionResource,
        pub subresource: &'static str,
        pub namespace: String,
        pub name: String,
        pub object: Value,
        pub old_object: Value,
        pub kind: GroupVersionKind,
        pub options: Value,
    }

    impl Case {
        pub(crate) fn create(group: &str, resource: &str, object: Value) -> Self {
            Self {
                user: UserInfo::authenticated("alice", &[]),
                operation: Operation::Create,
                resource: GroupVersionResource::new(group, "v1", resource),
                subresource: "",
                namespace: objects::namespace(&object).to_owned(),
                name: objects::name(&object).to_owned(),
                object,
                old_object: Value::Null,
                kind: GroupVersionKind::new(group, "v1", "Kind"),
                options: json!({}),
            }
        }

        pub(crate) fn update(group: &str, resource: &str, old: Value, new: Value) -> Self {
            Self { operation: Operation::Update, old_object: old, ..Self::create(group, resource, new) }
        }

        pub(crate) fn delete(group: &str, resource: &str, old: Value) -> Self {
            let mut case = Self::create(group, resource, old);
            case.operation = Operation::Delete;
            case.old_object = std::mem::take(&mut case.object);
            case
        }

        /// Runs a plugin and returns the object as it has left it, with the warnings.
        pub(crate) fn run_with_warnings(
            &self,
            plugin: impl FnOnce(&mut AdmissionRequest<'_>) -> Result<(), Status>,
        ) -> Result<(Value, Vec<String>), Status> {
            let mut request = AdmissionRequest {
                user: &self.user,
                operation: self.operation,
                resource: &self.resource,
                kind: &self.kind,
                subresource: self.subresource,
                namespace: &self.namespace,
                name: &self.name,
                object: self.object.clone(),
                old_object: &self.old_object,
                dry_run: false,
                options: &self.options,
                warnings: Vec::new(),
            };
            plugin(&mut request)?;
            Ok((request.object, request.warnings))
        }

        pub(crate) fn run(
            &self,
            plugin: impl FnOnce(&mut AdmissionRequest<'_>) -> Result<(), Status>,
        ) -> Result<Value, Status> {
            self.run_with_warnings(plugin).map(|(object, _)| object)
        }

        /// The message with which the plugin refuses; empty when it does not.
        pub(crate) fn refusal(
            &self,
            plugin: impl FnOnce(&mut AdmissionRequest<'_>) -> Result<(), Status>,
        ) -> String {
            self.run(plugin).err().map(|status| status.message).unwrap_or_default()
        }
    }
}
