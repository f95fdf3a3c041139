//! Several servers share an etcd cluster, of which each has a member: Debian's etcd, over TLS with certificates of its own
//! authority.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cluster::host::{File, Program};
use cluster::record::Node;
use pki::{Authority, Leaf};

/// On the nodes.
const FILES: &str = "/etc/corten/etcd";
const DATA: &str = "/var/lib/corten/etcd";
const LOG: &str = "/var/log/etcd.log";
const CLIENT: u16 = 2379;
const PEER: u16 = 2380;

/// Where the program is.
pub fn find() -> Result<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .map(|directory| directory.join("etcd"))
        .find(|path| path.is_file())
        .context("several servers share an etcd cluster, and there is no etcd: apt-get install etcd-server")
}

/// The member of one server, and the files that it and the API server beside it need.
pub fn member(program: &Path, pki: &Path, node: &Node, all: &[&Node]) -> Result<(Program, Vec<File>)> {
    let authority = Authority::ensure(pki, "etcd-ca", "etcd-ca")?;
    let leaf = Leaf {
        common_name: node.name.clone(),
        addresses: vec![node.ip.into(), IpAddr::V4(Ipv4Addr::LOCALHOST)],
        server: true,
        client: true,
        ..Leaf::default()
    };
    let issued = authority.issue(&leaf)?;
    let file = |name: &str, contents: &str| File {
        path: Path::new(FILES).join(name),
        contents: contents.to_owned(),
    };
    let files = vec![
        file("ca.crt", authority.certificate()),
        file("member.crt", &issued.certificate),
        file("member.key", &issued.key),
    ];
    let url = |ip: Ipv4Addr, port: u16| format!("https://{ip}:{port}");
    let everyone: Vec<String> =
        all.iter().map(|other| format!("{}={}", other.name, url(other.ip, PEER))).collect();
    let mut arguments: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    flag("name", &node.name);
    flag("data-dir", DATA);
    flag("listen-client-urls", &format!("{},{}", url(Ipv4Addr::LOCALHOST, CLIENT), url(node.ip, CLIENT)));
    flag("advertise-client-urls", &url(node.ip, CLIENT));
    flag("listen-peer-urls", &url(node.ip, PEER));
    flag("initial-advertise-peer-urls", &url(node.ip, PEER));
    flag("initial-cluster", &everyone.join(","));
    let path = |name: &str| format!("{FILES}/{name}");
    for kind in ["", "peer-"] {
        flag(&format!("{kind}cert-file"), &path("member.crt"));
        flag(&format!("{kind}key-file"), &path("member.key"));
        flag(&format!("{kind}trusted-ca-file"), &path("ca.crt"));
        flag(&format!("{kind}client-cert-auth"), "true");
    }
    let program =
        Program { path: Some(program.to_owned()), arguments, environment: Vec::new(), log: LOG.into() };
    Ok((program, files))
}

/// What the API servers are told of it: their own member first, the others for when it is gone.
pub fn flags(own: &Node, all: &[&Node]) -> Vec<String> {
    let others = all.iter().filter(|node| node.name != own.name).map(|node| node.ip);
    let servers: Vec<String> =
        std::iter::once(own.ip).chain(others).map(|ip| format!("https://{ip}:{CLIENT}")).collect();
    vec![
        format!("--etcd-servers={}", servers.join(",")),
        format!("--etcd-cafile={FILES}/ca.crt"),
        format!("--etcd-certfile={FILES}/member.crt"),
        format!("--etcd-keyfile={FILES}/member.key"),
    ]
}
