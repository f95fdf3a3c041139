//! `corten cluster create`.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cluster::plan::{Families, Plan, PlannedNode, Role, check_name};
use cluster::record::{Node, Record, Records, segment_name};
use cluster::relay::{Forward, Protocol};
use cluster::{cgroups, kind, kubeconfig, node, remove, subnets};
use net::segment::Segment;

use super::programs::{self, API_PORT, Common};
use super::{context, etcd, images, nameservers, ready, relay};
use crate::cli::{CreateArgs, DEFAULT_NAME};
use crate::join::{Invitation, Token};

pub const RELAY_LOG: &str = "relay.log";
const MOST_NODES: usize = 200;

/// The administrator's of a cluster, beside the files that its servers share.
pub fn admin_kubeconfig(records: &Records, name: &str) -> PathBuf {
    records.directory(name).join("pki/admin.conf")
}

/// Says what has been done, and after how long.
struct Progress(Instant);

impl Progress {
    fn tell(&self, text: &str) {
        println!("  {:>6} ms  {text}", self.0.elapsed().as_millis());
        let _ = std::io::stdout().flush();
    }
}

pub async fn run(records: &Records, args: CreateArgs) -> Result<()> {
    let progress = Progress(Instant::now());
    let plan = plan(&args)?;
    let user_kubeconfig = match &args.kubeconfig {
        Some(path) => std::path::absolute(path).context("--kubeconfig")?,
        None => kubeconfig::of_user()?,
    };
    let etcd = if plan.servers() > 1 { Some(etcd::find()?) } else { None };
    let kubelet = match &args.kubelet_config {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => String::new(),
    };
    println!(
        "Creating cluster {:?}: {} nodes, {} of them servers",
        plan.name,
        plan.nodes.len(),
        plan.servers()
    );
    let record = claim(records, &plan, args.subnet.as_deref(), &user_kubeconfig)?;
    let work = async {
        let made = Making { records, plan: &plan, args: &args, progress: &progress, etcd, kubelet };
        made.make(record).await
    };
    let result = tokio::select! {
        result = work => result,
        // What there is by then is taken back like after any other failure.
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot watch for SIGINT").and_then(|()| bail!("interrupted")),
    };
    let Err(error) = result else { return Ok(()) };
    if args.retain {
        eprintln!(
            "What there is of the cluster is left; its logs: {}",
            records.directory(&plan.name).display()
        );
        return Err(error);
    }
    show_logs(records, &plan);
    let removed = records
        .lock()
        .map_err(anyhow::Error::from)
        .and_then(|_lock| Ok(remove::remove(records, &records.get(&plan.name)?)?));
    if let Err(left) = removed {
        eprintln!("What was made could not be removed: {left:#}");
    }
    Err(error)
}

fn plan(args: &CreateArgs) -> Result<Plan> {
    let name = args.cluster.as_ref().or(args.name.as_ref());
    let mut plan = match &args.config {
        Some(path) => {
            let read = kind::read(path, DEFAULT_NAME)?;
            for warning in &read.warnings {
                eprintln!("warning: {}: {warning}", path.display());
            }
            let mut plan = read.plan;
            if let Some(name) = name {
                plan.name.clone_from(name);
            }
            plan
        }
        None => {
            if args.servers == 0 || args.nodes < args.servers || args.nodes > MOST_NODES {
                bail!(
                    "--nodes {} --servers {}: a cluster has 1 to {MOST_NODES} nodes, of which at least one and at most all are servers",
                    args.nodes,
                    args.servers
                );
            }
            Plan::of_size(name.map_or(DEFAULT_NAME, String::as_str).to_owned(), args.servers, args.nodes)
        }
    };
    check_name(&plan.name).map_err(anyhow::Error::msg)?;
    if let Some(port) = args.api_port {
        plan.api_port = port;
    }
    Ok(plan)
}

/// Gives the cluster its name and its networks, and makes its record: from here on all can be taken back.
fn claim(records: &Records, plan: &Plan, subnet: Option<&str>, kubeconfig: &Path) -> Result<Record> {
    let _lock = records.lock()?;
    if records.get(&plan.name).is_ok() || records.directory(&plan.name).exists() {
        bail!(
            "there is a cluster {:?} already: delete it with: corten cluster delete {}, or choose another name",
            plan.name,
            plan.name
        );
    }
    let nodes = subnets::choose(subnet, plan.nodes.len())?;
    subnets::check_apart(&[
        ("nodes' network", &nodes.to_string()),
        ("pod network", &plan.pod_subnet),
        ("Service network", &plan.service_subnet),
    ])?;
    let segment = segment_name(&plan.name);
    let cgroup = format!("/corten-cluster-{}", plan.name);
    if Segment::exists(&segment)? || cgroups::exists(&cgroup) {
        bail!(
            "an interface {segment} or a cgroup {cgroup} is there already: another root directory has a cluster {:?}; choose another name",
            plan.name
        );
    }
    let mut hosts = nodes.hosts();
    let gateway = hosts.next().and_then(|first| net::Ipv4Net::new(first, nodes.prefix_len()).ok());
    let gateway = gateway.context("the nodes' network has no addresses")?;
    let beside = |ip| (plan.families != Families::Ipv4).then(|| net::segment::beside(nodes, ip)).flatten();
    let node = |((index, name), (planned, ip)): ((usize, String), (&PlannedNode, _))| Node {
        name,
        role: planned.role,
        ip,
        ip6: beside(ip).map(|net| net.addr()),
        families: plan.families,
        port: format!("{segment}p{index}"),
        host: None,
        paused: false,
        cut: false,
    };
    let record = Record {
        name: plan.name.clone(),
        segment: segment.clone(),
        gateway,
        gateway6: beside(gateway.addr()),
        api: None,
        relay: None,
        began_forwarding: false,
        kubeconfig: Some(kubeconfig.to_owned()),
        nodes: plan
            .node_names()
            .into_iter()
            .enumerate()
            .zip(plan.nodes.iter().zip(hosts))
            .map(node)
            .collect(),
    };
    records.put(&record)?;
    Ok(record)
}

struct Making<'a> {
    records: &'a Records,
    plan: &'a Plan,
    args: &'a CreateArgs,
    progress: &'a Progress,
    etcd: Option<PathBuf>,
    kubelet: String,
}

impl Making<'_> {
    async fn make(mut self, mut record: Record) -> Result<()> {
        let deadline = Instant::now() + self.args.wait.max(std::time::Duration::from_secs(60));
        let invitation = tokio::task::block_in_place(|| self.start(&mut record))?;
        self.progress.tell(&format!("{} nodes run", record.nodes.len()));
        let config = admin_kubeconfig(self.records, &record.name);
        let api = ready::api(&config, deadline).await?;
        self.progress.tell("API server answers");
        invitation.token.create(&api, None, "corten cluster create").await?;
        if !self.args.image.is_empty() {
            let nodes: Vec<&Node> = record.nodes.iter().collect();
            for path in &self.args.image {
                let names = tokio::task::block_in_place(|| images::load_archive(&nodes, path))?;
                self.progress.tell(&format!("loaded {}", names.join(", ")));
            }
        }
        if !self.args.wait.is_zero() {
            let deadline = Instant::now() + self.args.wait;
            ready::nodes(&api, &record, deadline, |text| self.progress.tell(text)).await?;
        }
        let text =
            std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
        let context = context(&record.name);
        let Some(path) = &record.kubeconfig else { return Ok(()) };
        kubeconfig::merge(path, &context, &text)?;
        let seconds = self.progress.0.elapsed().as_secs_f64();
        println!("\nCluster {:?} is ready after {seconds:.2} s. To use it:\n", record.name);
        println!("  kubectl --kubeconfig {} --context {context} get nodes\n", path.display());
        println!("It is the current context. Delete it with: corten cluster delete {}", record.name);
        Ok(())
    }

    /// Everything up to running nodes.
    fn start(&mut self, record: &mut Record) -> Result<Invitation> {
        let segment = node::segment(record);
        record.began_forwarding = segment.create()?;
        self.records.put(record)?;
        self.progress.tell(&format!("network {} on bridge {}", record.gateway.trunc(), record.segment));

        let machine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let (resolv_conf, dns) =
            nameservers::of(&machine, record.gateway.addr(), self.plan.dns_search.as_deref());
        self.start_relay(record, dns)?;
        let invitation = self.invitation(record)?;
        let common = Common {
            plan: self.plan,
            record: &record.clone(),
            invitation: &invitation,
            pki: self.records.directory(&record.name).join("pki"),
            resolv_conf,
            kubelet: std::mem::take(&mut self.kubelet),
            server_args: &self.args.server_arg,
            node_args: &self.args.node_arg,
            etcd: self.etcd.clone(),
        };
        for (index, planned) in self.plan.nodes.iter().enumerate() {
            let Some(known) = record.nodes.get_mut(index) else { continue };
            let furniture = common.furniture(known, planned)?;
            if known.role == Role::Server {
                let own =
                    node::kept(self.records, &self.plan.name, &known.name, Path::new("/var/lib/corten/pki"));
                programs::share_pki(&common.pki, &own.context("a node keeps its state")?)?;
            }
            let mut init = Command::new("/proc/self/exe");
            init.arg0("corten").args(["cluster", "host"]);
            let host = node::start(self.records, common.record, known, furniture, init)?;
            known.host = Some(host.identity);
            self.records.put(record)?;
        }
        Ok(invitation)
    }

    fn start_relay(&self, record: &mut Record, dns: Vec<Forward>) -> Result<()> {
        let servers = record.nodes.iter().filter(|node| node.role == Role::Server);
        let mut forwards = vec![Forward {
            listen: SocketAddr::new(self.plan.api_address, self.plan.api_port),
            targets: servers.map(|node| SocketAddr::new(node.ip.into(), API_PORT)).collect(),
            protocol: Protocol::Tcp,
        }];
        for (planned, node) in self.plan.nodes.iter().zip(&record.nodes) {
            forwards.extend(planned.ports.iter().map(|port| Forward {
                listen: SocketAddr::new(port.listen, port.port),
                targets: vec![SocketAddr::new(node.ip.into(), port.node_port)],
                protocol: port.protocol,
            }));
        }
        forwards.extend(dns);
        let log = self.records.directory(&record.name).join(RELAY_LOG);
        let (relay, addresses) = relay::start(&forwards, &log)?;
        record.relay = Some(relay);
        record.api = addresses.first().copied();
        self.records.put(record)?;
        for (forward, address) in forwards.iter().zip(&addresses).skip(1) {
            if let Some(target) = forward.targets.first() {
                self.progress.tell(&format!("{address} leads to {target} ({:?})", forward.protocol));
            }
        }
        Ok(())
    }

    /// The authorities that servers share, and by which nodes that join know them.
    fn invitation(&self, record: &Record) -> Result<Invitation> {
        let api = record.api.context("the relay says where it listens")?;
        let names = pki::Names {
            cluster: context(&record.name),
            // What listens on every address is found on that of the loopback.
            server: match api.ip().is_unspecified() {
                true => format!("https://127.0.0.1:{}", api.port()),
                false => format!("https://{api}"),
            },
            domain: "cluster.local".to_owned(),
            addresses: vec![api.ip()],
            hostnames: Vec::new(),
        };
        let files = pki::Cluster::ensure(&self.records.directory(&record.name).join("pki"), names)?;
        let servers = record.nodes.iter().filter(|node| node.role == Role::Server);
        Ok(Invitation {
            servers: servers
                .map(|node| format!("https://{}", SocketAddr::new(node.main_ip(), API_PORT)))
                .collect(),
            token: Token::generate()?,
            pins: vec![pki::public_key_hash(files.authority())?],
        })
    }
}

/// The ends of the nodes' logs.
fn show_logs(records: &Records, plan: &Plan) {
    const LINES: usize = 15;
    for name in plan.node_names() {
        let path = node::kept(records, &plan.name, &name, Path::new("/var/log/corten.log"));
        let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
            eprintln!("  {name} | {line}");
        }
    }
}
