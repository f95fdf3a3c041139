//! A cluster in a test host: of one node, `corten up`, or of several, `corten cluster create`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

use serde_json::Value;

use crate::host::{self, Host, Output};
use crate::{corten, eventually, repository};

/// The image that every cluster has, without any registry.
pub const BUSYBOX: &str = "busybox:1.36";

/// How a cluster differs from the usual one.
#[derive(Default)]
pub struct Options {
    pub arguments: Vec<String>,
    /// Further lines of the KubeletConfiguration; `@` stands for the host's directory.
    pub kubelet: String,
    /// A shell script that is run in the host before anything else.
    pub prepare: String,
}

/// A cluster in a host of its own. Tests of one cluster keep apart by namespaces.
pub struct Cluster {
    pub host: Host,
    how: How,
    kubectl: PathBuf,
}

enum How {
    Up {
        process: Mutex<Child>,
        options: Options,
    },
    /// By that name.
    Nodes(String),
}

/// The cluster that tests share which do no harm to it.
pub fn shared() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    &SHARED
}

/// Made once by the script that `script/up` uses too.
pub fn busybox_archive() -> &'static Path {
    static ARCHIVE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("corten-busybox-{}.tar", std::process::id()));
        let output = host::finish(
            Command::new(repository().join("script/busybox-image"))
                .args([BUSYBOX.as_ref(), path.as_os_str()]),
            "",
        );
        assert!(output.ok, "{output:?}");
        path
    });
    &ARCHIVE
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        let host = Host::new();
        // How full the disk of the machine is that the tests run on is not what they are about.
        let usual = if options.kubelet.contains("evictionHard") {
            ""
        } else {
            "evictionHard: {}\nimageGCHighThresholdPercent: 100\n"
        };
        let config = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupRoot: {}\n{usual}{}",
            host.cgroup(),
            options.kubelet.replace('@', &host.directory().display().to_string()),
        );
        host.file("kubelet.yaml", &config);
        let prepared = host.run("sh", &["-ec", &options.prepare], "");
        assert!(prepared.ok, "{prepared:?}");
        let process = Mutex::new(spawn(&host, &options));
        let cluster = Self { host, how: How::Up { process, options }, kubectl: kubectl() };
        let import = cluster.corten(&["image", "import", busybox_archive().to_str().expect("a plain path")]);
        assert!(import.ok, "{import:?}");
        cluster.wait_ready();
        cluster
    }

    /// `corten cluster create` with these arguments. The machine that has the cluster is a test host.
    #[track_caller]
    pub fn create(arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Cgroups are the machine's: names are not to clash with those of other tests.
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = Self { host: Host::new(), how: How::Nodes(name.clone()), kubectl: kubectl() };
        let archive = busybox_archive().to_str().expect("a plain path");
        let kubeconfig = cluster.kubeconfig().display().to_string();
        let usual = ["cluster", "create", &name, "--image", archive, "--kubeconfig", &kubeconfig];
        let created = cluster.corten(&[&usual, arguments].concat());
        assert!(created.ok, "{}\n{}", created.stdout, created.stderr);
        cluster
    }

    /// The name of a cluster of several nodes.
    pub fn name(&self) -> &str {
        match &self.how {
            How::Nodes(name) => name,
            How::Up { .. } => panic!("a cluster of one node has no name"),
        }
    }

    /// Another kubectl of this machine.
    pub fn use_kubectl(&mut self, path: PathBuf) {
        self.kubectl = path;
    }

    pub fn root(&self) -> PathBuf {
        self.host.directory().join("root")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        match &self.how {
            How::Up { .. } => self.root().join("pki/admin.conf"),
            How::Nodes(_) => self.host.directory().join("kube.conf"),
        }
    }

    /// Runs `corten` with the directories of this cluster.
    pub fn corten(&self, arguments: &[&str]) -> Output {
        let mut command = self.host.command(corten());
        command.args(directories(&self.host)).args(arguments);
        host::finish(&mut command, "")
    }

    /// Runs kubectl as the administrator; `stdin` is for `-f -`.
    pub fn try_kubectl(&self, arguments: &[&str], stdin: &str) -> Output {
        // kubectl takes what begins with a brace for JSON; flow style is YAML.
        let stdin = if stdin.starts_with('{') { format!("---\n{stdin}") } else { stdin.to_owned() };
        host::finish(self.kubectl_command().args(arguments), &stdin)
    }

    pub fn kubectl_command(&self) -> Command {
        let mut command = self.host.command(&self.kubectl);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// As [`Cluster::try_kubectl`], and it must succeed. Returns standard output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    #[track_caller]
    pub fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> String {
        let output = self.try_kubectl(arguments, stdin);
        assert!(output.ok, "kubectl {}\n{}{}", arguments.join(" "), output.stdout, output.stderr);
        output.stdout
    }

    /// kubectl must fail. Returns standard error.
    #[track_caller]
    pub fn kubectl_fails(&self, arguments: &[&str], stdin: &str) -> String {
        let output = self.try_kubectl(arguments, stdin);
        assert!(!output.ok, "kubectl {} succeeded: {}", arguments.join(" "), output.stdout);
        output.stderr
    }

    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        self.kubectl_with(&["apply", "-f", "-"], yaml);
    }

    /// An object as JSON.
    #[track_caller]
    pub fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat());
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// A namespace for one test.
    #[track_caller]
    pub fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
        // Pods need it; it is there a moment later.
        eventually("the default service account", || {
            let output = self.try_kubectl(&["-n", name, "get", "serviceaccount", "default"], "");
            if output.ok { Ok(()) } else { Err(output.stderr) }
        });
    }

    #[track_caller]
    pub fn wait_pod_ready(&self, namespace: &str, pod: &str) {
        self.kubectl(&[
            "-n",
            namespace,
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            &format!("pod/{pod}"),
        ]);
    }

    /// Ends the process as a crash would.
    pub fn kill(&self) {
        let How::Up { process, .. } = &self.how else { panic!("nodes are killed one by one") };
        let mut process = process.lock().expect("no test failed while it held this");
        // The child is nsenter's parent half; what counts is corten itself, inside.
        let output = self.host.run("pkill", &["-KILL", "-x", "corten"], "");
        assert!(output.ok, "nothing to kill: {output:?}");
        let _ = process.wait();
    }

    /// Starts it again after [`Cluster::kill`].
    pub fn restart(&self) {
        let How::Up { process, options } = &self.how else { panic!("nodes start again by themselves") };
        *process.lock().expect("no test failed while it held this") = spawn(&self.host, options);
        self.wait_ready();
    }

    fn wait_ready(&self) {
        eventually("a Ready node", || {
            if !self.kubeconfig().exists() {
                return Err(self.log());
            }
            let output =
                self.try_kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=1s"], "");
            if output.ok { Ok(()) } else { Err(format!("{}\n{}", output.stderr, self.log())) }
        });
    }

    /// The end of what corten logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.host.directory().join("corten.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let How::Nodes(name) = &self.how {
            self.corten(&["cluster", "delete", name]);
        }
    }
}

fn kubectl() -> PathBuf {
    std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into()).into()
}

fn directories(host: &Host) -> [String; 4] {
    let path = |name: &str| host.directory().join(name).display().to_string();
    ["--root-dir".to_owned(), path("root"), "--run-dir".to_owned(), path("run")]
}

fn spawn(host: &Host, options: &Options) -> Child {
    let log_path = host.directory().join("corten.log");
    let log = File::options().create(true).append(true).open(&log_path).expect("a log can be written");
    host.command(corten())
        .args(directories(host))
        .arg("up")
        .args(["--config".as_ref(), host.directory().join("kubelet.yaml").as_os_str()])
        .args(["--cgroup-parent", host.cgroup()])
        .args(&options.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("nsenter runs")
}
