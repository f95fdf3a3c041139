//! Certificate signing requests: who asks is what approvers and signers go by, so the server says it.

use serde_json::{Value, json};

use super::{PLAIN, Strategy, put_back};
use crate::UserInfo;

pub static STRATEGY: Strategy = Strategy {
    create,
    // What was asked for, and by whom, stays as it was.
    update: |new, old| put_back(new, old, "spec"),
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
