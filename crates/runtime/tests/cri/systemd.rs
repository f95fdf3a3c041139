//! Control groups by way of systemd, which is a stand-in here: it does what the real one does with scopes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbus::testing::Bus;
use dbus::{Connection, Message, Value};
use k8s_cri::v1::*;
use parking_lot::Mutex;

use crate::containers::{Pod, status};
use crate::host::{Host, with_host, with_unified_host};

/// Calls of systemd's manager, in short.
type Calls = Arc<Mutex<Vec<String>>>;

/// Serves the manager's calls: a scope is a directory with the given process in it.
async fn systemd(bus: PathBuf, hierarchy: PathBuf, calls: Calls) {
    let mut service = Connection::open(&bus).await.unwrap();
    service.own("org.freedesktop.systemd1").await;
    calls.lock().push("ready".into());
    loop {
        let call = service.called().await;
        match call.member.as_str() {
            "StartTransientUnit" => {
                let (unit, properties) = (call.body[0].text().unwrap().to_owned(), pairs(&call.body[2]));
                let text = |name: &str| properties.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                let Some(Value::Text(slice)) = text("Slice") else { panic!("no slice: {properties:?}") };
                let Some(Value::Array(_, pids)) = text("PIDs") else { panic!("no process: {properties:?}") };
                let [Value::Number(pid)] = pids.as_slice() else { panic!("{pids:?}") };
                let parent = slice.split('-').next().unwrap();
                let group = hierarchy.join(format!("{parent}.slice")).join(&slice).join(&unit);
                fs::create_dir_all(&group).unwrap();
                fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
                calls.lock().push(format!("start {unit}: {}", numbers(&properties)));
                end_job(&mut service, &call, &unit).await;
            }
            "SetUnitProperties" => {
                let unit = call.body[0].text().unwrap().to_owned();
                calls.lock().push(format!("set {unit}: {}", numbers(&pairs(&call.body[2]))));
                service.reply(&call, Vec::new(), None).await;
            }
            "Subscribe" => service.reply(&call, Vec::new(), None).await,
            other => panic!("unexpected call {other}"),
        }
    }
}

/// The job's path comes first, then news of its end, among that of others.
async fn end_job(service: &mut Connection, call: &Message, unit: &str) {
    let job = |n: u32| Value::Text(format!("/org/freedesktop/systemd1/job/{n}"));
    service.reply(call, vec![job(2)], None).await;
    for (n, unit) in [(1, "other.service"), (2, unit)] {
        let body = vec![Value::Number(n), job(n), Value::Text(unit.into()), Value::Text("done".into())];
        service
            .emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved", body)
            .await;
    }
}

fn pairs(properties: &Value) -> Vec<(String, Value)> {
    let Value::Array(_, properties) = properties else { panic!("{properties:?}") };
    let pair = |property: &Value| match property {
        Value::Struct(members) => match members.as_slice() {
            [Value::Text(name), Value::Variant(value)] => (name.clone(), (**value).clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    properties.iter().map(pair).collect()
}

/// Limits are numbers, and what is a number is a limit.
fn numbers(properties: &[(String, Value)]) -> String {
    let number = |(name, value): &(String, Value)| match value {
        Value::Long(number) if *number != u64::MAX => Some(format!("{name}={number}")),
        _ => None,
    };
    properties.iter().filter_map(number).collect::<Vec<_>>().join(" ")
}

async fn a_container_is_a_scope(mut host: Host, hierarchy: &Path, weight: &str, more: &str) {
    let bus = Bus::start(host.directory.path());
    let socket = host.directory.path().join("bus");
    let calls = Calls::default();
    let manager = tokio::spawn(systemd(socket.clone(), hierarchy.to_owned(), calls.clone()));
    while calls.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    host.restart_with(&[format!("systemd={}", socket.display())]).await;
    let driver = host.runtime.runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(driver.linux.unwrap().cgroup_driver(), CgroupDriver::Systemd);

    // Names of slices are places in the tree.
    let tier = host.cgroup.trim_start_matches('/').replace(['-', '.'], "");
    let mut config = Pod::config(&host, "sliced");
    config.linux.as_mut().unwrap().cgroup_parent = format!("{tier}-pod.slice");
    let pod = Pod::run_with(&mut host, config).await;
    let mut config = pod.script("main", "exec sleep 1000");
    // Controllers may all be with version 1 here: only what a group of version 2 has without them is set.
    let unified = hierarchy == Path::new("/sys/fs/cgroup");
    let limits = |shares| LinuxContainerResources { cpu_shares: shares, ..Default::default() };
    config.linux = Some(LinuxContainerConfig { resources: Some(limits(1024)), security_context: None });
    let id = pod.create(&mut host, config).await.unwrap();
    let unit = format!("corten-{id}.scope");
    let group = hierarchy.join(format!("{tier}.slice/{tier}-pod.slice/{unit}"));
    let inside = || fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert_eq!(calls.lock().last().unwrap(), &format!("start {unit}: {weight}"));
    let keeper = inside();
    assert_eq!(keeper.lines().count(), 1);

    host.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    // The keeper has been told to go; what is left is the container's own.
    while inside().contains(keeper.trim()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(inside().lines().count(), 1);
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(limits(2048)),
        ..Default::default()
    };
    host.runtime.update_container_resources(update).await.unwrap();
    assert_eq!(calls.lock().last().unwrap(), &format!("set {unit}: {more}"));
    if !unified {
        let shares = Path::new("/sys/fs/cgroup/cpu").join(group.strip_prefix(hierarchy).unwrap());
        assert_eq!(fs::read_to_string(shares.join("cpu.shares")).unwrap(), "2048\n");
    }

    // One that never runs keeps nothing either.
    let idle = pod.create(&mut host, pod.script("idle", "true")).await.unwrap();
    let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    host.runtime.stop_container(request).await.unwrap();
    assert_eq!(status(&mut host, &id).await.exit_code, 137);
    pod.remove(&mut host).await;
    for id in [id, idle] {
        let group = group.with_file_name(format!("corten-{id}.scope"));
        assert!(!group.exists(), "{}", group.display());
    }
    assert_eq!(host.leftovers(), Vec::<String>::new());
    manager.abort();
    drop(bus);
    // The slices are the kubelet's.
    for mount in fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path()).chain([hierarchy.into()])
    {
        let slice = mount.join(format!("{tier}.slice"));
        let _ = fs::remove_dir(slice.join(format!("{tier}-pod.slice")));
        let _ = fs::remove_dir(slice);
    }
}

#[test]
fn scopes_of_version_1() {
    let Some(hierarchy) = Some(PathBuf::from("/sys/fs/cgroup/systemd")).filter(|h| h.exists()) else {
        return eprintln!("skipped: this machine has cgroup v2 alone");
    };
    with_host(|host| async move {
        a_container_is_a_scope(host, &hierarchy, "CPUShares=1024", "CPUShares=2048").await;
    });
}

#[test]
fn scopes_of_version_2() {
    with_unified_host(|host| async move {
        a_container_is_a_scope(host, Path::new("/sys/fs/cgroup"), "CPUWeight=100", "CPUWeight=174").await;
    });
}
