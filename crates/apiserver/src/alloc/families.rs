//! Which IP families a Service has: `spec.ipFamilyPolicy`, `spec.ipFamilies`, and `clusterIP` beside `clusterIPs`.

use std::net::IpAddr;

use api::field::{FieldErrors, Path};
use serde_json::{Value, json};

use super::cidr::Cidr;
use crate::admission::objects::{at, items};

pub const NONE: &str = "None";

/// Makes `clusterIP` and `clusterIPs` say the same: older clients know only the first.
pub fn join_addresses(service: &mut Value, old: Option<&Value>) {
    let first = |object: &Value| object["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let all = |object: &Value| -> Vec<String> {
        items(&object["spec"]["clusterIPs"])
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect()
    };
    let (single, mut several) = (first(service), all(service));
    match old {
        Some(old) if first(old) != single && all(old) == several => {
            // Only the old field was changed: the new one follows.
            several = match (single.as_str(), several.split_first()) {
                ("", _) => Vec::new(),
                (_, Some((_, rest))) => std::iter::once(&single).chain(rest).cloned().collect(),
                (_, None) => vec![single],
            };
        }
        _ if several.is_empty() && !single.is_empty() => several = vec![single],
        _ => {}
    }
    write_addresses(service, &several);
}

/// Writes both fields; none removes them.
pub fn write_addresses(service: &mut Value, addresses: &[String]) {
    let spec = at(service, &["spec"]);
    let Some(first) = addresses.first() else {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        return;
    };
    *at(spec, &["clusterIP"]) = json!(first);
    *at(spec, &["clusterIPs"]) = json!(addresses);
}

/// Who asks for one family where there were two need not say which: the second one goes.
pub fn give_up_second(service: &mut Value, old: Option<&Value>) {
    let was_dual = old.is_some_and(|old| {
        matches!(old["spec"]["ipFamilyPolicy"].as_str(), Some("PreferDualStack" | "RequireDualStack"))
    });
    if !was_dual || service["spec"]["ipFamilyPolicy"] != "SingleStack" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        if let Some(list) = service["spec"].get_mut(field).and_then(Value::as_array_mut) {
            list.truncate(1);
        }
    }
}

/// Settles `ipFamilyPolicy` and `ipFamilies` by what was asked for and what this cluster has; `ranges` are the
/// cluster's, the default one first. Returns the families to have addresses of.
pub fn settle(service: &mut Value, ranges: &[Cidr], errors: &mut FieldErrors) -> Vec<String> {
    let default = ranges.first().map_or("IPv4", Cidr::family);
    let other = |family: &str| if family == "IPv4" { "IPv6" } else { "IPv4" };
    let supported = |family: &str| ranges.iter().any(|range| range.family() == family);
    let spec = &service["spec"];
    let addresses: Vec<&str> = items(&spec["clusterIPs"]).filter_map(Value::as_str).collect();
    let headless = addresses.first() == Some(&NONE);
    let selects = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    let mut policy = spec["ipFamilyPolicy"].as_str().map(str::to_owned);
    let mut families: Vec<String> =
        items(&spec["ipFamilies"]).filter_map(|family| family.as_str().map(str::to_owned)).collect();
    for (index, address) in addresses.iter().enumerate() {
        let Ok(address) = address.parse::<IpAddr>() else { continue };
        if families.len() == index {
            families.push(if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned());
        }
    }

    let root = Path::new("spec");
    if headless && !selects {
        // Its endpoints are somebody else's, in whatever families they like.
        let policy = policy.unwrap_or_else(|| "RequireDualStack".to_owned());
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if families.len() == 1 && policy != "SingleStack" {
            let second = other(&families[0]).to_owned();
            families.push(second);
        }
        write(service, &policy, &families);
        return families;
    }
    if policy.is_none() && (families.len() == 2 || addresses.len() == 2) {
        policy = Some("RequireDualStack".to_owned());
    }
    let policy = policy.unwrap_or_else(|| "SingleStack".to_owned());
    let list = root.child("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        if !supported(family) {
            errors.invalid(&list.index(index), family.as_str(), "not configured on this cluster");
        }
    }
    if families.len() == 2 && policy == "SingleStack" {
        let detail = "may only hold one family when `spec.ipFamilyPolicy` is `SingleStack`";
        errors.invalid(&list, json!(families), detail);
    }
    if policy == "RequireDualStack" && ranges.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&root.child("ipFamilyPolicy"), policy.as_str(), detail);
    }
    if !errors.is_empty() {
        return families;
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if families.len() == 1 && policy != "SingleStack" && supported(other(&families[0])) {
        let second = other(&families[0]).to_owned();
        families.push(second);
    }
    write(service, &policy, &families);
    families
}

fn write(service: &mut Value, policy: &str, families: &[String]) {
    *at(service, &["spec", "ipFamilyPolicy"]) = json!(policy);
    *at(service, &["spec", "ipFamilies"]) = json!(families);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn policies() {
        let check = |cidrs: &[&str], spec: Value, policy: &str, families: &[&str]| {
            let mut service = json!({"spec": spec.clone()});
            let mut errors = FieldErrors::new();
            join_addresses(&mut service, None);
            settle(&mut service, &ranges(cidrs), &mut errors);
            assert!(errors.is_empty(), "{spec}: {errors}");
            assert_eq!(service["spec"]["ipFamilyPolicy"], policy, "{spec}");
            assert_eq!(service["spec"]["ipFamilies"], json!(families), "{spec}");
        };
        let single = &["10.96.0.0/12"][..];
        let dual = &["10.96.0.0/12", "fd00::/108"][..];
        check(single, json!({}), "SingleStack", &["IPv4"]);
        check(dual, json!({}), "SingleStack", &["IPv4"]);
        check(dual, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack", &["IPv4", "IPv6"]);
        check(single, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack", &["IPv4"]);
        check(dual, json!({"ipFamilies": ["IPv6"]}), "SingleStack", &["IPv6"]);
        check(dual, json!({"clusterIP": "fd00::5"}), "SingleStack", &["IPv6"]);
        check(
            dual,
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
            "RequireDualStack",
            &["IPv6", "IPv4"],
        );
        check(dual, json!({"ipFamilies": ["IPv6", "IPv4"]}), "RequireDualStack", &["IPv6", "IPv4"]);
        check(single, json!({"clusterIP": "None"}), "RequireDualStack", &["IPv4", "IPv6"]);
        check(single, json!({"clusterIP": "None", "selector": {"a": "b"}}), "SingleStack", &["IPv4"]);
    }

    #[test]
    fn the_second_family_is_given_up() {
        let check = |before: &str, after: &str, left: usize| {
            let spec = |policy: &str| json!({"spec": {"ipFamilyPolicy": policy, "ipFamilies": ["IPv6", "IPv4"], "clusterIPs": ["fd00::5", "10.96.0.5"]}});
            let mut service = spec(after);
            give_up_second(&mut service, Some(&spec(before)));
            for field in ["ipFamilies", "clusterIPs"] {
                assert_eq!(service["spec"][field].as_array().map(Vec::len), Some(left), "{before} {after}");
            }
            assert_eq!(service["spec"]["clusterIPs"][0], "fd00::5");
        };
        check("PreferDualStack", "SingleStack", 1);
        check("RequireDualStack", "SingleStack", 1);
        check("RequireDualStack", "PreferDualStack", 2);
        // Two families and the wish for one, without a change of mind, are a mistake.
        check("SingleStack", "SingleStack", 2);
    }

    #[test]
    fn impossible_wishes() {
        let check = |spec: Value, expected: &str| {
            let mut service = json!({"spec": spec});
            let mut errors = FieldErrors::new();
            settle(&mut service, &ranges(&["10.96.0.0/12"]), &mut errors);
            assert!(errors.to_string().contains(expected), "{errors}");
        };
        check(
            json!({"ipFamilies": ["IPv6"]}),
            r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured"#,
        );
        check(json!({"ipFamilyPolicy": "RequireDualStack"}), "not configured for dual-stack");
    }

    #[test]
    fn old_and_new_field() {
        let check = |spec: Value, old: Option<Value>, expected: &[&str]| {
            let mut service = json!({"spec": spec});
            let old = old.map(|spec| json!({"spec": spec}));
            join_addresses(&mut service, old.as_ref());
            let expected = if expected.is_empty() { Value::Null } else { json!(expected) };
            assert_eq!(service["spec"]["clusterIPs"], expected);
            assert_eq!(service["spec"]["clusterIP"], expected[0]);
        };
        let both = json!({"clusterIP": "1.1.1.1", "clusterIPs": ["1.1.1.1", "::1"]});
        check(json!({"clusterIP": "1.1.1.1"}), None, &["1.1.1.1"]);
        check(json!({"clusterIPs": ["1.1.1.1", "::1"]}), None, &["1.1.1.1", "::1"]);
        check(json!({}), None, &[]);
        check(both.clone(), Some(both.clone()), &["1.1.1.1", "::1"]);
        check(
            json!({"clusterIP": "2.2.2.2", "clusterIPs": ["1.1.1.1", "::1"]}),
            Some(both.clone()),
            &["2.2.2.2", "::1"],
        );
        check(json!({"clusterIP": "", "clusterIPs": ["1.1.1.1", "::1"]}), Some(both), &[]);
    }
}
