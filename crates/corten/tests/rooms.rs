//! A name is a room: what a crate must not know, it must not depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each crate, and what must not be among its direct dependencies.
const MUST_NOT: &[(&str, &[&str])] = &[
    ("api", &["tokio", "hyper", "http", "store", "client", "kube", "redb"]),
    ("expressions", &["tokio", "hyper", "http", "store", "apiserver", "client", "kube"]),
    ("store", &["api", "apiserver", "client", "kube", "k8s-openapi", "serde_json"]),
    ("apiserver", &["controllers", "scheduler", "kubelet", "runtime", "client", "kube"]),
    ("client", &["apiserver", "store", "api"]),
    ("controllers", &["store", "apiserver", "hyper", "http", "kubelet", "runtime"]),
    ("scheduler", &["store", "apiserver", "hyper", "http", "controllers", "kubelet"]),
    (
        "kubelet",
        &["runtime", "images", "net", "shim-protocol", "libcontainer", "oci-spec", "apiserver", "store"],
    ),
    ("runtime", &["client", "kube", "k8s-openapi", "api", "apiserver", "kubelet"]),
    ("images", &["runtime", "client", "kube", "cri"]),
    ("build", &["runtime", "client", "kube", "shim-protocol", "net"]),
    ("ctr", &["runtime", "images", "client", "kube", "k8s-openapi"]),
    ("streaming", &["cri", "kube", "k8s-openapi", "runtime"]),
    ("shim", &["tokio", "serde", "serde_json", "runtime", "net", "images"]),
    ("net", &["kube", "k8s-openapi", "client", "cri"]),
    ("netpolicy", &["apiserver", "store", "runtime", "kubelet", "proxy", "overlay"]),
    ("overlay", &["apiserver", "store", "runtime", "kubelet", "proxy"]),
    ("cluster", &["kube", "k8s-openapi", "client", "apiserver", "runtime", "kubelet"]),
    ("proxy", &["apiserver", "store", "runtime", "kubelet"]),
    ("serving", &["apiserver", "store", "kubelet", "controllers", "scheduler"]),
    ("metrics", &["apiserver", "store", "kubelet", "controllers"]),
    ("dns", &["apiserver", "store", "runtime", "kubelet", "net"]),
];

#[test]
fn rooms_keep_to_themselves() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut dependencies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().expect("a package has a name").to_owned();
        let normal =
            package["dependencies"].as_array().expect("a list").iter().filter(|d| d["kind"].is_null());
        dependencies.insert(name, normal.filter_map(|d| d["name"].as_str()).map(str::to_owned).collect());
    }
    for (room, forbidden) in MUST_NOT {
        let known = dependencies.get(*room).unwrap_or_else(|| panic!("there is no crate {room}"));
        for other in *forbidden {
            assert!(!known.contains(*other), "{room} must not know {other}: see ARCHITECTURE.md");
        }
    }
}
