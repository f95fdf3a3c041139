//! The runtime by itself: what `corten runtime` and `corten oci` do, without the rest of Corten.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

const USAGE: &str =
    "corten-runtime oci ... | corten-runtime serve ROOT_DIR RUN_DIR CGROUP_PARENT SHIM [HANDLER=BINARY]...";

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("oci") => std::process::exit(runtime::oci::main(arguments.collect())),
        Some("serve") => serve(&arguments.map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>()),
        _ => fail(USAGE),
    }
}

fn serve(arguments: &[String]) {
    let [root, run, cgroup, shim, handlers @ ..] = arguments else { return fail(USAGE) };
    let handler =
        |h: &String| h.split_once('=').map(|(name, binary)| (name.to_owned(), PathBuf::from(binary)));
    let program =
        std::env::current_exe().map_or_else(|_| "corten-runtime".to_owned(), |p| p.display().to_string());
    let config = runtime::Config {
        root_dir: root.into(),
        run_dir: run.into(),
        socket: PathBuf::from(run).join("cri.sock"),
        cgroup_parent: cgroup.clone(),
        shim: shim.into(),
        oci: vec![program, "oci".to_owned()],
        bridge: "cni0".to_owned(),
        cluster_cidrs: Vec::new(),
        handlers: handlers.iter().filter_map(handler).collect(),
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
