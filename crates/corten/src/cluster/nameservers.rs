//! Which name servers nodes ask: those of the machine; where these listen on its loopback only, the relay leads there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cluster::relay::{Forward, Protocol};

const DNS: u16 = 53;

/// The nodes' /etc/resolv.conf, and what the relay must lead for it to be true.
pub fn of(machine: &str, gateway: Ipv4Addr, search: Option<&[String]>) -> (String, Vec<Forward>) {
    let words = |key: &'static str| {
        let lines = machine.lines().map(str::split_ascii_whitespace);
        lines.filter_map(move |mut words| (words.next() == Some(key)).then_some(words))
    };
    let servers: Vec<IpAddr> =
        words("nameserver").filter_map(|mut words| words.next()?.parse().ok()).collect();
    let reachable: Vec<IpAddr> = servers.iter().copied().filter(|server| !server.is_loopback()).collect();
    let mut forwards = Vec::new();
    let mut text = String::new();
    if reachable.is_empty() {
        if let Some(local) = servers.first() {
            let targets = vec![SocketAddr::new(*local, DNS)];
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let listen = SocketAddr::new(gateway.into(), DNS);
                forwards.push(Forward { listen, targets: targets.clone(), protocol });
            }
            text.push_str(&format!("nameserver {gateway}\n"));
        }
    } else {
        reachable.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    }
    match search {
        Some([]) => {}
        Some(names) => text.push_str(&format!("search {}\n", names.join(" "))),
        None => {
            for mut words in words("search") {
                let names: Vec<&str> = words.by_ref().collect();
                text.push_str(&format!("search {}\n", names.join(" ")));
            }
        }
    }
    (text, forwards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_servers_are_asked() {
        let gateway = Ipv4Addr::new(198, 19, 0, 1);
        let check = |machine: &str, search: Option<&[String]>, text: &str, forwards: usize| {
            let (found, led) = of(machine, gateway, search);
            assert_eq!((found.as_str(), led.len()), (text, forwards), "{machine}");
        };
        check("nameserver 10.0.0.2\nsearch a b\n", None, "nameserver 10.0.0.2\nsearch a b\n", 0);
        check("# x\nnameserver 127.0.0.53\noptions edns0\n", None, "nameserver 198.19.0.1\n", 2);
        check("nameserver ::1\nnameserver 9.9.9.9\nsearch x\n", Some(&[]), "nameserver 9.9.9.9\n", 0);
        check("", Some(&["c".to_owned()]), "search c\n", 0);
    }
}
