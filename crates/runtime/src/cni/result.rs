//! What plugins answer, in the form of any version.

use std::net::IpAddr;

use serde_json::Value;

/// The pod's addresses; none for an answer that has no valid one.
pub fn addresses(result: &Value) -> Option<Vec<IpAddr>> {
    let parse = |text: &Value| text.as_str()?.split('/').next()?.parse::<IpAddr>().ok();
    let interfaces = result["interfaces"].as_array();
    // An address may belong to an interface of the host's.
    let of_pod = |ip: &&Value| match (ip["interface"].as_u64(), interfaces) {
        (Some(position), Some(interfaces)) => {
            let interface = usize::try_from(position).ok().and_then(|p| interfaces.get(p));
            interface.is_some_and(|i| i["sandbox"].as_str().is_some_and(|s| !s.is_empty()))
        }
        _ => true,
    };
    let mut addresses: Vec<IpAddr> = match result["ips"].as_array() {
        Some(ips) => ips.iter().filter(of_pod).filter_map(|ip| parse(&ip["address"])).collect(),
        // Before version 0.3.
        None => ["ip4", "ip6"].iter().filter_map(|family| parse(&result[*family]["ip"])).collect(),
    };
    let mut seen = Vec::new();
    addresses.retain(|a| {
        !seen.contains(a) && {
            seen.push(*a);
            true
        }
    });
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_every_version() {
        for (result, expected) in [
            (
                json!({"ips": [{"address": "10.1.0.5/16"}, {"address": "fd00::5/64"}]}),
                &["10.1.0.5", "fd00::5"][..],
            ),
            (
                json!({"interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/proc/1/ns/net"}],
                    "ips": [{"address": "10.1.0.1/16", "interface": 0}, {"address": "10.1.0.5/16", "interface": 1}]}),
                &["10.1.0.5"],
            ),
            (json!({"ip4": {"ip": "10.1.0.5/16"}}), &["10.1.0.5"]),
            (json!({"ips": [{"address": "10.1.0.5/16"}, {"address": "10.1.0.5/16"}]}), &["10.1.0.5"]),
        ] {
            let found = addresses(&result).unwrap();
            assert_eq!(found.iter().map(IpAddr::to_string).collect::<Vec<_>>(), expected, "{result}");
        }
        for bad in [json!(null), json!({"ips": []}), json!({"ips": [{"address": "x"}, 7]}), json!([1])] {
            assert_eq!(addresses(&bad), None, "{bad}");
        }
    }
}
