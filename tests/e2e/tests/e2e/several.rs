//! Several API servers at an etcd cluster of three, several controllers and schedulers of which one of each works; any of
//! them may die.

#![expect(clippy::zombie_processes, reason = "what is started here ends with its host")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use e2e::{Host, corten, eventually};
use serde_json::Value;

struct Plane {
    host: Host,
}

impl Plane {
    /// Etcd, two API servers, two processes of controllers, two schedulers.
    fn start() -> Self {
        let plane = Self { host: Host::new() };
        for member in 1..=3 {
            plane.member(member);
        }
        // Two API servers must agree on keys and authorities: they share the directory that has them.
        for server in 1..=2 {
            plane.api_server(server);
            eventually("the API server", || plane.try_kubectl(server, &["get", "--raw", "/readyz"]));
        }
        plane
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Child {
        let log = std::fs::File::create(self.host.directory().join(format!("{name}.log"))).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        child.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn member(&self, member: usize) {
        let client = format!("http://127.0.0.{member}:2379");
        let peer = |member: usize| format!("http://127.0.0.{member}:2380");
        let everyone: Vec<String> = (1..=3).map(|member| format!("m{member}={}", peer(member))).collect();
        let mut command = self.host.command("etcd");
        command
            .args(["--name", &format!("m{member}"), "--data-dir", &format!("m{member}")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(member), "--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &everyone.join(",")]);
        self.spawn(&format!("m{member}"), &mut command);
    }

    fn api_server(&self, server: usize) {
        let mut command = self.host.command(corten());
        command.args(["--root-dir", "root", "--run-dir", &format!("run{server}")]);
        command.args(["apiserver", "--etcd-servers"]);
        command.arg("http://127.0.0.1:2379,http://127.0.0.2:2379,http://127.0.0.3:2379");
        command.args(["--secure-port", &port(server), "--advertise-address", "198.18.0.2"]);
        self.spawn(&format!("apiserver{server}"), &mut command);
    }

    /// `controllers` or `scheduler`, by way of one API server. One that has lost the lead ends, as it may while etcd
    /// elects a new leader of its own: it is started again, as a unit of systemd is. Each has its own port for health and
    /// metrics: on one port, one that cannot reach its API server any more would keep the others from starting.
    fn part(&self, role: &str, server: usize) {
        let config = self.kubeconfig(server);
        let mut command = self.host.command("sh");
        command.args(["-c", r#"while :; do "$@"; sleep 0.2; done"#, "sh"]).arg(corten());
        command.args(["--root-dir", "root", "--run-dir", &format!("run-{role}{server}")]);
        command.arg(role).arg("--kubeconfig").arg(config);
        command.args(["--leader-elect-lease-duration", "3s", "--leader-elect-renew-deadline", "2s"]);
        command.args(["--leader-elect-retry-period", "500ms"]);
        let port = if role == "controllers" { 11257 } else { 11259 } + 10 * server;
        command.args(["--secure-port", &port.to_string()]);
        self.spawn(&format!("{role}{server}"), &mut command);
    }

    /// The administrator's, for one of the API servers.
    fn kubeconfig(&self, server: usize) -> PathBuf {
        let text = std::fs::read_to_string(self.host.directory().join("root/pki/admin.conf"));
        let text = text.unwrap_or_default();
        let text = (1..=2).fold(text, |text, other| text.replace(&port(other), &port(server)));
        self.host.file(&format!("admin{server}.conf"), &text)
    }

    fn try_kubectl(&self, server: usize, arguments: &[&str]) -> Result<String, String> {
        let config = self.kubeconfig(server);
        let kubectl = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let config = config.to_str().unwrap();
        let all = [&["--kubeconfig", config, "--request-timeout=20s"], arguments].concat();
        let output = self.host.run(&kubectl, &all, "");
        if output.ok { Ok(output.stdout) } else { Err(output.stderr) }
    }

    #[track_caller]
    fn kubectl(&self, server: usize, arguments: &[&str]) -> String {
        self.try_kubectl(server, arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    fn holder(&self, server: usize, lease: &str) -> String {
        let spec = "jsonpath={.spec.holderIdentity} {.spec.leaseTransitions}";
        self.kubectl(server, &["-n", "kube-system", "get", "lease", lease, "-o", spec])
    }

    fn kill(&self, pattern: &str) {
        let killed = self.host.run("pkill", &["-KILL", "-f", pattern], "");
        assert!(killed.ok, "{pattern}: {killed:?}");
    }
}

fn port(server: usize) -> String {
    format!("644{server}")
}

/// As many pods as were asked for are there.
fn pods(plane: &Plane, server: usize, wanted: usize) {
    eventually("the pods", || {
        let listed = plane.try_kubectl(server, &["get", "pods", "-o", "json"])?;
        let listed: Value = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
        let count = listed["items"].as_array().map_or(0, Vec::len);
        if count == wanted { Ok(()) } else { Err(format!("{count} pods")) }
    });
}

#[test]
fn any_of_them_may_die() {
    let plane = Plane::start();
    for server in 1..=2 {
        plane.part("controllers", server);
        plane.part("scheduler", server);
    }
    plane.kubectl(1, &["create", "deployment", "web", "--image=busybox", "--replicas=2"]);
    assert!(plane.kubectl(2, &["get", "deployments"]).contains("web"));
    pods(&plane, 2, 2);

    // A member of etcd.
    plane.kill("etcd --name m1");
    plane.kubectl(1, &["scale", "deployment", "web", "--replicas=3"]);
    pods(&plane, 2, 3);

    // An API server, and with it the parts that used it: if they led, the others succeed them.
    plane.kill("apiserver .*--secure-port 6441");
    plane.kubectl(2, &["scale", "deployment", "web", "--replicas=4"]);
    pods(&plane, 2, 4);
    // The leaders that are left.
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        eventually("a leader", || match plane.holder(2, lease) {
            holder if holder.starts_with("test-host_") => Ok(()),
            holder => Err(holder),
        });
    }
    plane.kill("controllers .*admin2.conf");
    plane.part("controllers", 2);
    plane.kubectl(2, &["scale", "deployment", "web", "--replicas=1"]);
    pods(&plane, 2, 1);
    let holder = plane.holder(2, "kube-controller-manager");
    let transitions: u32 = holder.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(transitions >= 1, "{holder}");
}
