use super::*;
use crate::index::Slice;

fn port(name: &str, protocol: &str, port: u16) -> Port {
    Port { name: name.to_owned(), protocol: protocol.to_owned(), port }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("address")).collect()
}

fn index() -> Index {
    let mut index = Index::new("cluster.local");
    let mut service = |name: &str, kind, ports| {
        index.set_service(("default".to_owned(), name.to_owned()), Some(Entry { kind, ports }));
    };
    let ports = vec![port("http", "tcp", 80), port("dns", "udp", 53)];
    service("web", Kind::Addresses(ips(&["10.96.0.1", "fd96::1"])), ports.clone());
    service("db", Kind::Headless, ports);
    service("none", Kind::Headless, Vec::new());
    service("out", Kind::External("example.com".to_owned()), Vec::new());
    let endpoint = |ip: &str, hostname: &str| Endpoint {
        ip: ip.parse().expect("address"),
        hostname: hostname.to_owned(),
    };
    let slice = Slice {
        ports: vec![port("http", "tcp", 8080)],
        endpoints: vec![endpoint("10.244.0.2", "db-0"), endpoint("10.244.0.3", "10-244-0-3")],
    };
    index.set_slice(("default".to_owned(), "db".to_owned()), "db-1".to_owned(), Some(slice));
    let slice = Slice { ports: Vec::new(), endpoints: vec![endpoint("10.244.0.9", "hidden")] };
    index.set_slice(("default".to_owned(), "web".to_owned()), "web-1".to_owned(), Some(slice));
    index.set_complete();
    index
}

fn look(index: &Index, name: &str) -> Found {
    let labels: Vec<String> = name.split('.').map(str::to_owned).collect();
    find(index, &labels, &ips(&["10.96.0.10"]), kind::A)
}

/// What there is at a name, in the words of the table below.
fn shown(found: Found) -> String {
    let data = |data: &Data| match data {
        Data::Address(ip) => ip.to_string(),
        Data::Name { target, .. } => target.clone(),
        Data::Srv { port, target } => format!("{target}:{port}"),
        Data::Text(text) => text.clone(),
        Data::Soa { .. } => "soa".to_owned(),
    };
    match found {
        Found::Foreign => "foreign".to_owned(),
        Found::Unknown => "unknown".to_owned(),
        Found::Nothing => "nothing".to_owned(),
        Found::Alias(target) => format!("-> {target}"),
        Found::Records { answers, additional } => {
            let more: Vec<String> =
                additional.iter().map(|(name, d)| format!("+{name}={}", data(d))).collect();
            answers.iter().map(data).chain(more).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn names_of_the_specification() {
    let index = index();
    for (name, expected) in [
        ("cluster.local", "soa ns.dns.cluster.local"),
        ("dns-version.cluster.local", "1.1.0"),
        ("ns.dns.cluster.local", "10.96.0.10"),
        ("svc.cluster.local", ""),
        ("default.svc.cluster.local", ""),
        ("missing.svc.cluster.local", "nothing"),
        ("web.default.svc.cluster.local", "10.96.0.1 fd96::1"),
        ("missing.default.svc.cluster.local", "nothing"),
        ("x.web.default.svc.cluster.local", "nothing"),
        ("_tcp.web.default.svc.cluster.local", ""),
        ("_sctp.web.default.svc.cluster.local", "nothing"),
        (
            "_http._tcp.web.default.svc.cluster.local",
            "web.default.svc.cluster.local:80 +web.default.svc.cluster.local=10.96.0.1 +web.default.svc.cluster.local=fd96::1",
        ),
        ("_http._udp.web.default.svc.cluster.local", "nothing"),
        ("http._tcp.web.default.svc.cluster.local", "nothing"),
        ("db.default.svc.cluster.local", "10.244.0.2 10.244.0.3"),
        ("db-0.db.default.svc.cluster.local", "10.244.0.2"),
        ("10-244-0-3.db.default.svc.cluster.local", "10.244.0.3"),
        ("db-1.db.default.svc.cluster.local", "nothing"),
        (
            "_http._tcp.db.default.svc.cluster.local",
            "db-0.db.default.svc.cluster.local:8080 10-244-0-3.db.default.svc.cluster.local:8080 \
             +db-0.db.default.svc.cluster.local=10.244.0.2 +10-244-0-3.db.default.svc.cluster.local=10.244.0.3",
        ),
        ("none.default.svc.cluster.local", "nothing"),
        ("out.default.svc.cluster.local", "-> example.com"),
        ("10-244-0-2.default.pod.cluster.local", "10.244.0.2"),
        ("nonsense.default.pod.cluster.local", "nothing"),
        ("default.pod.cluster.local", ""),
        ("example.com", "foreign"),
        ("xcluster.local", "foreign"),
        ("1.0.96.10.in-addr.arpa", "web.default.svc.cluster.local"),
        ("2.0.244.10.in-addr.arpa", "db-0.db.default.svc.cluster.local"),
        ("9.0.244.10.in-addr.arpa", "foreign"),
        ("300.0.96.10.in-addr.arpa", "foreign"),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.d.f.ip6.arpa",
            "web.default.svc.cluster.local",
        ),
    ] {
        assert_eq!(shown(look(&index, name)), expected, "{name}");
    }
}

#[test]
fn names_follow_their_objects() {
    let mut index = index();
    let web = ("default".to_owned(), "web".to_owned());
    let moved = Entry { kind: Kind::Addresses(ips(&["10.96.0.2"])), ports: Vec::new() };
    index.set_service(web.clone(), Some(moved));
    assert_eq!(shown(look(&index, "web.default.svc.cluster.local")), "10.96.0.2");
    assert_eq!(shown(look(&index, "1.0.96.10.in-addr.arpa")), "foreign");
    assert_eq!(shown(look(&index, "2.0.96.10.in-addr.arpa")), "web.default.svc.cluster.local");
    let db = ("default".to_owned(), "db".to_owned());
    index.set_slice(db.clone(), "db-1".to_owned(), None);
    assert_eq!(shown(look(&index, "db.default.svc.cluster.local")), "nothing");
    assert_eq!(shown(look(&index, "2.0.244.10.in-addr.arpa")), "foreign");
    for name in ["web", "db", "none", "out"] {
        index.set_service(("default".to_owned(), name.to_owned()), None);
    }
    assert_eq!(shown(look(&index, "default.svc.cluster.local")), "nothing");
}

#[test]
fn nothing_is_denied_before_all_is_known() {
    let mut index = Index::new("cluster.local.");
    assert_eq!(look(&index, "web.default.svc.cluster.local"), Found::Unknown);
    assert_eq!(look(&index, "example.com"), Found::Foreign);
    index.set_complete();
    assert_eq!(look(&index, "web.default.svc.cluster.local"), Found::Nothing);
}

#[test]
fn a_services_own_name_has_its_ports() {
    let mut index = index();
    let unnamed = Entry { kind: Kind::Addresses(ips(&["10.96.0.2"])), ports: vec![port("", "tcp", 81)] };
    index.set_service(("default".to_owned(), "plain".to_owned()), Some(unnamed));
    let check = |name: &str, expected: &str| {
        let name = format!("{name}.default.svc.cluster.local");
        let labels: Vec<String> = name.split('.').map(str::to_owned).collect();
        let found = shown(find(&index, &labels, &[], kind::SRV));
        assert_eq!(found.replace(".default.svc.cluster.local", ""), expected, "{name}");
    };
    check("plain", "10.96.0.2 plain:81 +plain=10.96.0.2");
    check(
        "db",
        "10.244.0.2 10.244.0.3 db-0.db:8080 10-244-0-3.db:8080 +db-0.db=10.244.0.2 +10-244-0-3.db=10.244.0.3",
    );
    check("_tcp.plain", "nothing");
    check("none", "nothing");
}
