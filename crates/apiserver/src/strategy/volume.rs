//! Persistent volumes and claims: Pending when new; a volume remembers when its phase last changed.

use serde_json::{Value, json};

use super::{PLAIN, Strategy, status};
use crate::UserInfo;
use crate::write::meta;

pub static VOLUME: Strategy = Strategy {
    create: |volume, user| {
        pending(volume, user);
        status(volume)["lastPhaseTransitionTime"] = json!(meta::now());
    },
    status: phase_changed,
    returns_deleted: true,
    ..PLAIN
};
pub static CLAIM: Strategy = Strategy { create: pending, returns_deleted: true, ..PLAIN };

fn pending(object: &mut Value, _: &UserInfo) {
    status(object)["phase"] = json!("Pending");
}

/// A time that the client has chosen itself is his.
fn phase_changed(volume: &mut Value, old: &Value) {
    let time = "lastPhaseTransitionTime";
    if !volume["status"].is_object() {
        return;
    }
    let told = volume["status"][time] != old["status"][time] && volume["status"][time].is_string();
    if volume["status"]["phase"] != old["status"]["phase"] {
        if !told {
            volume["status"][time] = json!(meta::now());
        }
    } else if !told && old["status"][time].is_string() {
        volume["status"][time] = old["status"][time].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_follows_the_phase() {
        let old = json!({"status": {"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"}});
        let mut same = json!({"status": {"phase": "Pending"}});
        phase_changed(&mut same, &old);
        assert_eq!(same, old);
        let mut bound = json!({"status": {"phase": "Bound"}});
        phase_changed(&mut bound, &old);
        let time = bound["status"]["lastPhaseTransitionTime"].as_str().unwrap();
        assert!(time > "2026-01-01T00:00:00Z", "{time}");
    }
}
