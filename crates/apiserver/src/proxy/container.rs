//! Which container of a pod a request is about.

use api::status::Status;
use serde_json::Value;

use crate::admission::objects::{items, name};

/// The container that was asked for, or the pod's only one.
pub fn choose(pod: &Value, wanted: &str) -> Result<String, Status> {
    let pod_name = name(pod);
    let names = |list: &str| -> Vec<&str> {
        items(&pod["spec"][list]).filter_map(|container| container["name"].as_str()).collect()
    };
    let (plain, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !wanted.is_empty() {
        if [&plain, &init, &ephemeral].iter().any(|list| list.contains(&wanted)) {
            return Ok(wanted.to_owned());
        }
        return Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")));
    }
    match plain.as_slice() {
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        [only] => Ok((*only).to_owned()),
        several => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                several.join(" ")
            );
            for (list, title) in [(&init, "init"), (&ephemeral, "ephemeral")] {
                if !list.is_empty() {
                    message.push_str(&format!(" or one of the {title} containers: [{}]", list.join(" ")));
                }
            }
            Err(Status::bad_request(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers() {
        let check = |spec: Value, wanted: &str, expected: Result<&str, &str>| {
            let pod = json!({"metadata": {"name": "x"}, "spec": spec});
            let got = choose(&pod, wanted).map_err(|status| status.message);
            assert_eq!(got.as_deref().map_err(String::as_str), expected);
        };
        let one = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
        check(one.clone(), "", Ok("a"));
        check(one.clone(), "i", Ok("i"));
        check(one, "z", Err("container z is not valid for pod x"));
        check(two.clone(), "b", Ok("b"));
        check(
            two,
            "",
            Err(
                "a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]",
            ),
        );
        check(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            "",
            Err("a container name must be specified for pod x, choose one of: [a b]"),
        );
        check(json!(null), "", Err("a container name must be specified for pod x"));
    }
}
