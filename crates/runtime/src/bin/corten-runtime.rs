//! The runtime by itself: what `corten runtime` does, without the rest of Corten. The tests drive it.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

const USAGE: &str = "corten-runtime ROOT_DIR RUN_DIR CGROUP_PARENT SHIM [HANDLER=BINARY | [later-]cni=DIR:BIN_DIR | systemd=BUS]...";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, run, cgroup, shim, handlers @ ..] = arguments.as_slice() else { return fail(USAGE) };
    let handler =
        |h: &String| h.split_once('=').map(|(name, binary)| (name.to_owned(), PathBuf::from(binary)));
    let cni =
        handlers.iter().find_map(|h| h.trim_start_matches("later-").strip_prefix("cni=")?.split_once(':'));
    let config = runtime::Config {
        root_dir: root.into(),
        run_dir: run.into(),
        socket: PathBuf::from(run).join("cri.sock"),
        cgroup_parent: cgroup.clone(),
        shim: shim.into(),
        bridge: "cni0".to_owned(),
        cluster_cidrs: Vec::new(),
        pod_cidr: None,
        cni: cni.map(|(conf, bin)| runtime::CniConfig {
            conf_dir: conf.into(),
            bin_dirs: vec![bin.into()],
            bridge_before: handlers.iter().any(|h| h.starts_with("later-")),
        }),
        systemd_bus: handlers.iter().find_map(|h| h.strip_prefix("systemd=")).map(PathBuf::from),
        handlers: handlers
            .iter()
            .filter(|h| !["cni=", "later-cni=", "systemd="].iter().any(|own| h.starts_with(own)))
            .filter_map(handler)
            .collect(),
        admission: None,
    };
    let threads = match tokio::runtime::Runtime::new() {
        Ok(threads) => threads,
        Err(error) => return fail(&format!("start threads: {error}")),
    };
    if let Err(error) = threads.block_on(runtime::run(config, CancellationToken::new())) {
        fail(&error.to_string());
    }
}

fn fail(message: &str) {
    eprintln!("{message}");
    std::process::exit(1);
}
