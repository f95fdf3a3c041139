//! The list of what a default server of the published release serves, made from its discovery document.
//!
//! `curl -LO https://raw.githubusercontent.com/kubernetes/kubernetes/v1.36.0/api/discovery/aggregated_v2.json`, then
//! `cargo run --release -- published aggregated_v2.json`. That document is of a server with every API turned on; of it a
//! default one serves the versions without `alpha` and `beta` in their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const HEADER: &str = "\
# The resources of a default kube-apiserver v1.36, one on each line; made by `cargo run --release -- published
# aggregated_v2.json` in xtask/ from the release's api/discovery/aggregated_v2.json: see xtask/src/published.rs.
# <group version> <plural> <kind> <Namespaced|Cluster> <verbs; * for all eight> [<subresource>:<verbs>]...
";
const ALL_VERBS: usize = 8;

/// Writes `crates/api/data/published-v1.36.txt`.
pub fn write(document: &str) -> Result<()> {
    let text = std::fs::read_to_string(document).with_context(|| format!("read {document}"))?;
    let list = list(&serde_json::from_str(&text).with_context(|| format!("{document} is not JSON"))?)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/data/published-v1.36.txt");
    std::fs::write(&path, list).with_context(|| format!("write {}", path.display()))
}

fn list(document: &Value) -> Result<String> {
    ensure!(document["kind"] == "APIGroupDiscoveryList", "it is no APIGroupDiscoveryList");
    // The core group, which has no name, comes first.
    let mut versions: BTreeMap<(String, String), &Value> = BTreeMap::new();
    for group in items(&document["items"]) {
        let name = text(&group["metadata"]["name"]);
        for version in items(&group["versions"]) {
            let called = text(&version["version"]);
            if !called.contains("alpha") && !called.contains("beta") {
                versions.insert((name.to_owned(), called.to_owned()), version);
            }
        }
    }
    let mut out = HEADER.to_owned();
    for ((group, version), found) in versions {
        let mut resources: Vec<&Value> = items(&found["resources"]).iter().collect();
        resources.sort_by_key(|resource| text(&resource["resource"]));
        for resource in resources {
            // One that is only there for its subresources is not listed by itself.
            if items(&resource["verbs"]).is_empty() {
                continue;
            }
            if !group.is_empty() {
                write!(out, "{group}/")?;
            }
            let (plural, kind) = (text(&resource["resource"]), text(&resource["responseKind"]["kind"]));
            let scope = text(&resource["scope"]);
            let scope = if scope == "Namespaced" { scope } else { "Cluster" };
            write!(out, "{version} {plural} {kind} {scope} {}", verbs(resource))?;
            let mut subresources: Vec<&Value> = items(&resource["subresources"]).iter().collect();
            subresources.sort_by_key(|sub| text(&sub["subresource"]));
            for sub in subresources {
                write!(out, " {}:{}", text(&sub["subresource"]), verbs(sub))?;
            }
            out.push('\n');
        }
    }
    Ok(out)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn verbs(of: &Value) -> String {
    let mut verbs: Vec<&str> = items(&of["verbs"]).iter().map(text).collect();
    verbs.sort_unstable();
    if verbs.len() == ALL_VERBS { "*".to_owned() } else { verbs.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines() {
        let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        let pods = json!({"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced", "verbs": all,
            "subresources": [{"subresource": "log", "verbs": ["get"]}, {"subresource": "exec", "verbs": ["get", "create"]}]});
        let status = json!({"resource": "componentstatuses", "responseKind": {"kind": "ComponentStatus"},
            "scope": "Cluster", "verbs": ["list", "get"]});
        let document = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "batch"}, "versions": [{"version": "v2alpha1", "resources": [pods]}]},
            {"metadata": {}, "versions": [{"version": "v1", "resources": [pods, status]}]},
        ]});
        let list = list(&document).expect("a list");
        let lines: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            ["v1 componentstatuses ComponentStatus Cluster get,list", "v1 pods Pod Namespaced * exec:create,get log:get"]
        );
    }
}
