//! Certificate signing requests: who asks is what approvers and signers go by, so the server says it.

use serde_json::{Value, json};

use super::{PLAIN, Strategy, put_back};
use crate::UserInfo;
use crate::write::meta;

pub static STRATEGY: Strategy = Strategy {
    create,
    // What was asked for, and by whom, stays as it was.
    update: |new, old| put_back(new, old, "spec"),
    status,
    ..PLAIN
};

fn create(request: &mut Value, user: &UserInfo) {
    let Some(spec) = request["spec"].as_object_mut() else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

/// Conditions know when they were set, though clients need not say so.
fn status(request: &mut Value, old: &Value) {
    let before = old["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let now = meta::now();
    for condition in request["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if !condition.is_object() {
            continue;
        }
        if !condition["lastUpdateTime"].is_string() {
            condition["lastUpdateTime"] = json!(now);
        }
        if !condition["lastTransitionTime"].is_string() {
            let same = |known: &&Value| {
                known["type"] == condition["type"]
                    && known["status"] == condition["status"]
                    && known["lastTransitionTime"].is_string()
            };
            let time = before.iter().find(same).map(|known| known["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = time.unwrap_or_else(|| json!(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asks_in_the_name_of_another() {
        let mut request =
            json!({"spec": {"username": "system:admin", "groups": ["system:masters"], "request": "x"}});
        create(&mut request, &UserInfo { name: "me".to_owned(), ..UserInfo::default() });
        assert_eq!(request, json!({"spec": {"username": "me", "request": "x"}}));
    }
}
