//! The variables of expressions in admission: match conditions of webhooks, and policies.

use std::sync::LazyLock;

use crate::environment::Environment;
use crate::types::{Sized, Type};

fn fields(named: &[(&str, Type)]) -> Vec<(String, Sized)> {
    named.iter().map(|(name, of)| ((*name).to_owned(), of.clone().into())).collect()
}

/// `request`: an AdmissionRequest without the objects, which are variables of their own.
pub static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    use Type::{Bool, Dyn, String};
    let kind = Type::object(
        "kubernetes.GroupVersionKind",
        fields(&[("group", String), ("version", String), ("kind", String)]),
    );
    let resource = Type::object(
        "kubernetes.GroupVersionResource",
        fields(&[("group", String), ("version", String), ("resource", String)]),
    );
    let user = Type::object(
        "kubernetes.UserInfo",
        fields(&[
            ("username", String),
            ("uid", String),
            ("groups", Type::list(String)),
            ("extra", Type::map(String, Type::list(String))),
        ]),
    );
    Type::object(
        "kubernetes.AdmissionRequest",
        fields(&[
            ("uid", String),
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", String),
            ("name", String),
            ("namespace", String),
            ("operation", String),
            ("userInfo", user),
            ("dryRun", Bool),
            ("options", Dyn),
        ]),
    )
});

/// `namespaceObject`: what is stable of a Namespace.
pub static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    use Type::{Int, String, Timestamp};
    let texts = || Type::map(String, String);
    let metadata = Type::object(
        "kubernetes.NamespaceMetadata",
        fields(&[
            ("name", String),
            ("generateName", String),
            ("namespace", String),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", String),
            ("creationTimestamp", Timestamp),
            ("deletionGracePeriodSeconds", Int),
            ("deletionTimestamp", Timestamp),
            ("generation", Int),
            ("resourceVersion", String),
            ("finalizers", Type::list(String)),
        ]),
    );
    let spec = Type::object("kubernetes.NamespaceSpec", fields(&[("finalizers", Type::list(String))]));
    let status = Type::object("kubernetes.NamespaceStatus", fields(&[("phase", String)]));
    Type::object(
        "kubernetes.Namespace",
        fields(&[("metadata", metadata), ("spec", spec), ("status", status)]),
    )
});

/// What all expressions in admission know. `object` is what the object is known to be; at admission that is nothing.
pub fn environment(object: &Type, params: Option<&Type>) -> Environment {
    let environment = Environment::kubernetes()
        .with("object", object.clone())
        .with("oldObject", object.clone())
        .with("request", REQUEST.clone())
        .with("namespaceObject", NAMESPACE.clone())
        .with("authorizer", Type::authorizer())
        .with("authorizer.requestResource", Type::resource_check());
    match params {
        Some(params) => environment.with("params", params.clone()),
        None => environment,
    }
}
