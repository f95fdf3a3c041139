//! The rules of Kubernetes' own signers: which requests each of them signs. Free of IO.

use std::collections::BTreeSet;

use super::request::Request;

pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

pub fn is_ours(signer: &str) -> bool {
    matches!(signer, API_CLIENT | KUBELET_CLIENT | KUBELET_SERVING | LEGACY_UNKNOWN)
}

/// Why a signer does not sign a request, if it does not.
pub fn check(signer: &str, request: &Request, usages: &[String]) -> Result<(), String> {
    let usages: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    match signer {
        KUBELET_CLIENT => kubelet_client(request, &usages),
        KUBELET_SERVING => kubelet_serving(request, &usages),
        API_CLIENT => {
            let allowed = ["key encipherment", "digital signature", "client auth"];
            let fits = usages.contains("client auth") && usages.iter().all(|usage| allowed.contains(usage));
            if fits { Ok(()) } else { Err(bad_usages(&usages)) }
        }
        // Whatever it says: nobody is known to trust these.
        LEGACY_UNKNOWN => Ok(()),
        other => Err(format!("unknown signer {other}")),
    }
}

pub fn kubelet_client(request: &Request, usages: &BTreeSet<&str>) -> Result<(), String> {
    is_of_a_node(request)?;
    for (count, what) in [
        (request.dns_names, "DNS"),
        (request.emails, "Email"),
        (request.addresses, "IP"),
        (request.uris, "URI"),
    ] {
        if count > 0 {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    has_usages(usages, "client auth")
}

fn kubelet_serving(request: &Request, usages: &BTreeSet<&str>) -> Result<(), String> {
    is_of_a_node(request)?;
    if request.dns_names == 0 && request.addresses == 0 {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    if request.emails > 0 {
        return Err("Email subjectAltNames are not allowed".to_owned());
    }
    if request.uris > 0 {
        return Err("URI subjectAltNames are not allowed".to_owned());
    }
    has_usages(usages, "server auth")
}

fn is_of_a_node(request: &Request) -> Result<(), String> {
    if request.organizations != [NODES] {
        return Err(format!("subject organization is not {NODES}"));
    }
    if !request.common_name.starts_with(NODE_PREFIX) {
        return Err(format!("subject common name does not begin with {NODE_PREFIX}"));
    }
    Ok(())
}

/// Keys that cannot encipher (all but RSA) do without that usage.
fn has_usages(usages: &BTreeSet<&str>, auth: &str) -> Result<(), String> {
    let few = BTreeSet::from(["digital signature", auth]);
    let all = BTreeSet::from(["digital signature", "key encipherment", auth]);
    if *usages == few || *usages == all { Ok(()) } else { Err(bad_usages(usages)) }
}

fn bad_usages(usages: &BTreeSet<&str>) -> String {
    let usages: Vec<&str> = usages.iter().copied().collect();
    format!("usages did not match: [{}]", usages.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Request {
        Request {
            common_name: "system:node:n1".to_owned(),
            organizations: vec![NODES.to_owned()],
            ..Request::default()
        }
    }

    #[test]
    fn signers_keep_to_their_rules() {
        let check = |signer: &str, change: &dyn Fn(&mut Request), usages: &[&str], good: bool| {
            let mut request = node();
            change(&mut request);
            let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
            let found = check(signer, &request, &usages);
            assert_eq!(found.is_ok(), good, "{signer} {usages:?}: {found:?}");
        };
        let client: &[&str] = &["digital signature", "client auth"];
        let server: &[&str] = &["digital signature", "key encipherment", "server auth"];
        check(KUBELET_CLIENT, &|_| {}, client, true);
        check(KUBELET_CLIENT, &|_| {}, server, false);
        check(KUBELET_CLIENT, &|_| {}, &["client auth"], false);
        check(KUBELET_CLIENT, &|r| r.dns_names = 1, client, false);
        check(KUBELET_CLIENT, &|r| r.organizations.push("system:masters".into()), client, false);
        check(KUBELET_CLIENT, &|r| r.common_name = "admin".into(), client, false);
        check(KUBELET_SERVING, &|_| {}, server, false);
        check(KUBELET_SERVING, &|r| r.addresses = 1, server, true);
        check(KUBELET_SERVING, &|r| (r.dns_names, r.uris) = (1, 1), server, false);
        check(KUBELET_SERVING, &|r| r.addresses = 1, client, false);
        check(API_CLIENT, &|r| *r = Request::default(), &["client auth"], true);
        check(API_CLIENT, &|_| {}, &["digital signature"], false);
        check(API_CLIENT, &|_| {}, server, false);
        check(LEGACY_UNKNOWN, &|_| {}, &["cert sign"], true);
        check("example.com/other", &|_| {}, client, false);
    }
}
