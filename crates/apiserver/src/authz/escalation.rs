//! Nobody hands out more than they have: writes of roles and bindings are held against the writer's own rules.
//!
//! Who may `escalate` (a role) or `bind` (to it) is exempt, and so is `system:masters`.

use std::fmt::Write;

use api::status::Status;
use serde_json::Value;

use super::Authorizer;
use super::rules::Rule;
use crate::UserInfo;
use crate::admission::objects::{CLUSTER_ROLES, ROLES};
use crate::authn::user::MASTERS;
use crate::request::RequestInfo;

const GROUP: &str = "rbac.authorization.k8s.io";

/// 403 unless the user may write `new` in place of `old` (null when there was none). Other resources pass.
pub async fn check(
    authorizer: &Authorizer,
    user: &UserInfo,
    request: &Target<'_>,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    if request.group != GROUP || user.in_group(MASTERS) {
        return Ok(());
    }
    match request.resource {
        "roles" | "clusterroles" => check_role(authorizer, user, request, new, old).await,
        "rolebindings" | "clusterrolebindings" => check_binding(authorizer, user, request, new, old).await,
        _ => Ok(()),
    }
}

/// What is written.
pub struct Target<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

async fn check_role(
    authorizer: &Authorizer,
    user: &UserInfo,
    target: &Target<'_>,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let same = |field: &str| new[field] == old[field];
    if old.is_object() && same("rules") && same("aggregationRule") {
        return Ok(());
    }
    if may(authorizer, user, "escalate", target.resource, target.namespace, target.name).await {
        return Ok(());
    }
    if new["aggregationRule"].is_object() && !same("aggregationRule") {
        // Whoever labels a role could put anything into this one.
        let (have, _) = authorizer.rules(user, "");
        if !super::everything().iter().all(|rule| rule.is_covered_by(&have)) {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Status::forbidden((GROUP, target.resource), target.name, why));
        }
    }
    confirm(authorizer, user, target, &Rule::all(&new["rules"]))
}

async fn check_binding(
    authorizer: &Authorizer,
    user: &UserInfo,
    target: &Target<'_>,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    if old.is_object() && new["roleRef"] == old["roleRef"] && new["subjects"] == old["subjects"] {
        return Ok(());
    }
    let reference = &new["roleRef"];
    let role = reference["name"].as_str().unwrap_or_default();
    let cluster = reference["kind"].as_str() == Some("ClusterRole");
    let (resource, home) = match cluster {
        true => (CLUSTER_ROLES, ""),
        false => (ROLES, target.namespace),
    };
    if may(authorizer, user, "bind", resource.resource, target.namespace, role).await {
        return Ok(());
    }
    let Some(rules) = authorizer.role(home, role) else {
        return Err(Status::not_found(resource, role));
    };
    confirm(authorizer, user, target, &rules)
}

async fn may(
    authorizer: &Authorizer,
    user: &UserInfo,
    verb: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let request = RequestInfo {
        is_resource: true,
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..RequestInfo::default()
    };
    authorizer.allows(user, &request).await
}

/// 403 unless the user has all of `rules` in the target's namespace.
fn confirm(
    authorizer: &Authorizer,
    user: &UserInfo,
    target: &Target<'_>,
    rules: &[Rule],
) -> Result<(), Status> {
    let (have, missing_roles) = authorizer.rules(user, target.namespace);
    match refusal(user, &have, &missing_roles, rules) {
        None => Ok(()),
        Some(why) => Err(Status::forbidden((GROUP, target.resource), target.name, why)),
    }
}

fn refusal(user: &UserInfo, have: &[Rule], missing_roles: &[String], wanted: &[Rule]) -> Option<String> {
    let mut missing: Vec<String> =
        wanted.iter().filter_map(|rule| rule.uncovered_by(have)).map(|rule| rule.to_string()).collect();
    if missing.is_empty() {
        return None;
    }
    missing.sort_unstable();
    missing.dedup();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let mut why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    );
    if !missing_roles.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(why, "; resolution errors: [{}]", missing_roles.join(", "));
    }
    Some(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_name_what_is_missing() {
        let rule =
            |verbs: &[&str]| Rule::read(&json!({"apiGroups": [""], "resources": ["pods"], "verbs": verbs}));
        let user = UserInfo::authenticated("bob", &["dev"]);
        assert_eq!(refusal(&user, &[rule(&["get"])], &[], &[rule(&["get"])]), None);
        assert_eq!(refusal(&user, &[], &[], &[]), None);
        assert_eq!(
            refusal(&user, &[rule(&["get"])], &["x".into()], &[rule(&["get", "delete"])]).as_deref(),
            Some(
                "user \"bob\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not \
                 currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}; resolution errors: [x]"
            )
        );
    }
}
