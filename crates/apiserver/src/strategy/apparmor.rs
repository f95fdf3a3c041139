//! AppArmor profiles that are told in annotations, as before 1.30: containers get them as fields.

use serde_json::{Value, json};

const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Fills in the profiles of containers that have none of their own.
pub fn fill_in(pod: &mut Value) {
    let Some(annotations) = pod["metadata"]["annotations"].as_object() else { return };
    let told: Vec<(String, Value)> = annotations
        .iter()
        .filter_map(|(key, profile)| Some((key.strip_prefix(PREFIX)?.to_owned(), field(profile.as_str()?)?)))
        .collect();
    if told.is_empty() || pod["spec"]["os"]["name"] == "windows" {
        return;
    }
    let of_pod = pod["spec"]["securityContext"]["appArmorProfile"].clone();
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let own = container["securityContext"].get("appArmorProfile").is_some_and(|own| !own.is_null());
            let Some((_, profile)) = told.iter().find(|(name, _)| container["name"] == name.as_str()) else {
                continue;
            };
            if !own && *profile != of_pod && container.is_object() {
                if !container["securityContext"].is_object() {
                    container["securityContext"] = json!({});
                }
                container["securityContext"]["appArmorProfile"] = profile.clone();
            }
        }
    }
}

fn field(profile: &str) -> Option<Value> {
    match profile {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let name = profile.strip_prefix("localhost/").filter(|name| !name.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": name}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_become_fields() {
        let annotation = |container: &str| format!("{PREFIX}{container}");
        let mut pod = json!({
            "metadata": {"annotations": {
                annotation("a"): "unconfined", annotation("b"): "localhost/x", annotation("c"): "runtime/default", "other": "y",
            }},
            "spec": {
                "initContainers": [{"name": "b"}],
                "containers": [{"name": "a", "securityContext": null}, {"name": "c", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, {"name": "d"}],
            },
        });
        fill_in(&mut pod);
        let spec = &pod["spec"];
        let profile = |container: &Value| container["securityContext"]["appArmorProfile"].clone();
        assert_eq!(profile(&spec["containers"][0]), json!({"type": "Unconfined"}));
        assert_eq!(
            profile(&spec["initContainers"][0]),
            json!({"type": "Localhost", "localhostProfile": "x"})
        );
        assert_eq!(profile(&spec["containers"][1]), json!({"type": "Unconfined"}));
        assert_eq!(profile(&spec["containers"][2]), Value::Null);
    }
}
