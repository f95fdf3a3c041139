//! The server with `dig` as its client and BIND behind it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::tests::start_with_forwarder;
use super::*;

/// BIND, with a zone of its own.
struct Bind {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Bind {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().display();
        let many: String = (1..=90).map(|n| format!("many A 192.0.2.{n}\n")).collect();
        let zone = format!(
            "$TTL 60\n@ SOA ns hostmaster 1 60 60 60 30\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.7\n{many}"
        );
        std::fs::write(directory.path().join("zone"), zone).expect("zone");
        // A free port, a moment ago; named has no way to be given an open socket.
        let port =
            std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("port").port();
        let config = format!(
            "options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
             recursion no; pid-file none; dnssec-validation no; }};\ncontrols {{ }};\n\
             zone \"example.test\" {{ type primary; file \"zone\"; }};\n"
        );
        std::fs::write(directory.path().join("named.conf"), config).expect("configuration");
        let mut process = Command::new("named")
            .args(["-g", "-c", &format!("{path}/named.conf")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("named runs (Debian's bind9)");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let said: Vec<String> =
            log.by_ref().map_while(Result::ok).take_while(|line| !line.ends_with(" running")).collect();
        assert!(process.try_wait().expect("wait").is_none(), "{said:#?}");
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address: SocketAddr::new([127, 0, 0, 1].into(), port), _directory: directory }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn dig(server: SocketAddr, arguments: &str) -> String {
    let output = tokio::process::Command::new("dig")
        .args([format!("@{}", server.ip()), "-p".to_owned(), server.port().to_string()])
        .args(arguments.split(' '))
        .output()
        .await
        .expect("dig runs (Debian's bind9-dnsutils)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_and_bind() {
    let bind = Bind::start();
    let forwarder = Forwarder::with_servers(&[bind.address]);
    let server = start_with_forwarder(forwarder, |index| {
        let entry = |kind| Some(crate::index::Entry { kind, ports: Vec::new() });
        let out = crate::index::Kind::External("www.example.test".to_owned());
        index.set_service(("default".to_owned(), "abroad".to_owned()), entry(out));
    })
    .await;
    let at = server.address;
    for (arguments, expected) in [
        ("+short web.default.svc.cluster.local A", "10.96.0.1\n"),
        ("+short WEB.default.SVC.cluster.local A", "10.96.0.1\n"),
        ("+short +tcp web.default.svc.cluster.local A", "10.96.0.1\n"),
        ("+short dns-version.cluster.local TXT", "\"1.1.0\"\n"),
        ("+short -x 10.96.0.1", "web.default.svc.cluster.local.\n"),
        ("+short 10-244-0-9.default.pod.cluster.local A", "10.244.0.9\n"),
        ("+short abroad.default.svc.cluster.local A", "www.example.test.\n192.0.2.7\n"),
        ("+short www.example.test A", "192.0.2.7\n"),
        // dig walks the search path as the C library does, and ends at the right name.
        ("+short +search +ndots=5 +domain=default.svc.cluster.local web A", "10.96.0.1\n"),
    ] {
        assert_eq!(dig(at, arguments).await, expected, "{arguments}");
    }
    for (arguments, parts) in [
        ("missing.default.svc.cluster.local", &["status: NXDOMAIN", "AUTHORITY: 1", "SOA"][..]),
        ("web.default.svc.cluster.local TXT", &["status: NOERROR", "ANSWER: 0", "SOA"]),
        ("web.default.svc.cluster.local AAAA", &["status: NOERROR", "ANSWER: 0", "SOA"]),
        ("web.default.svc.cluster.local", &["flags: qr aa rd", "EDNS: version: 0", "udp: 1232"]),
        ("+noedns web.default.svc.cluster.local", &["status: NOERROR", "ADDITIONAL: 0"]),
        ("+edns=1 +noednsnegotiation web.default.svc.cluster.local", &["status: BADVERS"]),
        ("+opcode=notify web.default.svc.cluster.local", &["status: NOTIMP"]),
        // What does not fit is asked for again by TCP.
        ("many.default.svc.cluster.local", &["Truncated, retrying in TCP mode", "ANSWER: 100"]),
        ("many.example.test", &["Truncated, retrying in TCP mode", "ANSWER: 90"]),
        ("+ignore +bufsize=512 many.example.test", &["flags: qr", " tc "]),
        ("nothing.example.test", &["status: NXDOMAIN", "example.test.", "SOA"]),
    ] {
        let said = dig(at, arguments).await;
        for part in parts {
            assert!(said.contains(part), "{arguments}: {part:?} is not in\n{said}");
        }
    }
    // What BIND has said is remembered for as long as it allowed, what there is not too.
    drop(bind);
    assert_eq!(dig(at, "+short www.example.test A").await, "192.0.2.7\n");
    assert!(dig(at, "nothing.example.test").await.contains("status: NXDOMAIN"));
    assert!(dig(at, "never-asked.example.test").await.contains("status: SERVFAIL"));
}
