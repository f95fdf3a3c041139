//! Control groups by way of systemd, which wants to know of every group on its machines: a container is a scope in the
//! slice of its pod.
//!
//! A scope lives as long as there are processes in it, and begins with one. Ours begin with a keeper, which does nothing,
//! and goes when the container's own first process is there.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use dbus::{Connection, Message, Value};
use k8s_cri::v1::LinuxContainerResources;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::cgroup::weight_of_shares;
use crate::{Error, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long starting a scope may take.
const JOB: Duration = Duration::from_secs(30);
/// systemd counts processor time in hundredths of a processor; a limit is rounded up to the next, in microseconds.
const HUNDREDTH: u64 = 10_000;

/// A container's scope, and the slice it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    pub unit: String,
    pub slice: String,
}

impl Scope {
    /// Of a container whose pod's group is a slice, by its name or by its path. Other groups are none of systemd's.
    pub fn of(parent: &str, id: &str) -> Option<Self> {
        let slice = parent.trim_end_matches('/').rsplit('/').next()?;
        slice
            .ends_with(".slice")
            .then(|| Self { unit: format!("corten-{id}.scope"), slice: slice.to_owned() })
    }

    /// As OCI runtimes are told of it.
    pub fn for_oci(&self, id: &str) -> String {
        format!("{}:corten:{id}", self.slice)
    }
}

pub struct Systemd {
    bus: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Systemd {
    pub fn new(bus: PathBuf) -> Self {
        Self { bus, connection: Mutex::default() }
    }

    /// Whether it can be talked to.
    pub async fn check(&self) -> Result<()> {
        let mut held = self.connection.lock().await;
        match self.connect().await {
            Ok(connection) => *held = Some(connection),
            Err(source) => {
                return Err(Error::Systemd {
                    what: format!("make control groups, at {}", self.bus.display()),
                    source,
                });
            }
        }
        Ok(())
    }

    /// Makes a scope that holds one process.
    pub async fn start_scope(
        &self,
        scope: &Scope,
        process: u32,
        limits: &LinuxContainerResources,
        unified: bool,
    ) -> Result<()> {
        let text = |name: &str, value: &str| Value::property(name, Value::Text(value.to_owned()));
        let flag = |name: &str, value| Value::property(name, Value::Flag(value));
        let mut properties = vec![
            text("Description", &format!("container {}", scope.unit)),
            text("Slice", &scope.slice),
            text("CollectMode", "inactive-or-failed"),
            flag("Delegate", true),
            // It is stopped by its kubelet, not by the machine's shutdown before that.
            flag("DefaultDependencies", false),
            Value::property("PIDs", Value::Array("u".to_owned(), vec![Value::Number(process)])),
            // What limits processes is the pod's group.
            Value::property("TasksMax", Value::Long(u64::MAX)),
        ];
        let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
        properties
            .extend(["CPUAccounting", "MemoryAccounting", "TasksAccounting", io].map(|a| flag(a, true)));
        properties.extend(limit_properties(limits, unified));
        let arguments = vec![
            Value::Text(scope.unit.clone()),
            Value::Text("fail".to_owned()),
            Value::Array("(sv)".to_owned(), properties),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let mut held = self.connection.lock().await;
        let started = async {
            let connection = self.connected(&mut held).await?;
            let answer = connection.call(manager("StartTransientUnit", arguments)).await?;
            let job = answer.body.first().and_then(Value::text).unwrap_or_default().to_owned();
            job_result(connection, &job).await
        };
        let result = match tokio::time::timeout(JOB, started).await {
            Ok(result) => result,
            Err(_) => Err(dbus::Error::Timeout("StartTransientUnit".to_owned())),
        };
        let told = Self::settle(&mut held, result);
        let result =
            told.map_err(|source| Error::Systemd { what: format!("start {}", scope.unit), source })?;
        if result == "done" {
            return Ok(());
        }
        Err(Error::FailedPrecondition(format!("systemd has not started {}: {result}", scope.unit)))
    }

    /// Limits that systemd would otherwise undo the next time it reads its units anew.
    pub async fn limit_scope(
        &self,
        scope: &Scope,
        limits: &LinuxContainerResources,
        unified: bool,
    ) -> Result<()> {
        let arguments = vec![
            Value::Text(scope.unit.clone()),
            Value::Flag(true),
            Value::Array("(sv)".to_owned(), limit_properties(limits, unified)),
        ];
        let mut held = self.connection.lock().await;
        let result = async {
            let connection = self.connected(&mut held).await?;
            connection.call(manager("SetUnitProperties", arguments)).await.map(drop)
        };
        let result = result.await;
        Self::settle(&mut held, result)
            .map_err(|source| Error::Systemd { what: format!("limit {}", scope.unit), source })
    }

    /// What failed otherwise than by an answer leaves the connection in an unknown state: the next call makes another.
    fn settle<T>(held: &mut Option<Connection>, result: Result<T, dbus::Error>) -> Result<T, dbus::Error> {
        if matches!(&result, Err(error) if !matches!(error, dbus::Error::Answer { .. })) {
            *held = None;
        }
        result
    }

    async fn connected<'a>(
        &self,
        held: &'a mut Option<Connection>,
    ) -> Result<&'a mut Connection, dbus::Error> {
        let connection = match held.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(held.insert(connection))
    }

    async fn connect(&self) -> Result<Connection, dbus::Error> {
        let mut connection = Connection::open(&self.bus).await?;
        connection.listen(MANAGER, "JobRemoved").await?;
        connection.call(manager("Subscribe", Vec::new())).await?;
        Ok(connection)
    }
}

fn manager(member: &str, arguments: Vec<Value>) -> Message {
    Message::call(SYSTEMD, PATH, MANAGER, member, arguments)
}

/// Waits for the end of a job: its number, path, unit and result are told.
async fn job_result(connection: &mut Connection, job: &str) -> Result<String, dbus::Error> {
    loop {
        let signal = connection.signal().await?;
        if let [_, path, _, result] = signal.body.as_slice()
            && path.text() == Some(job)
        {
            return Ok(result.text().unwrap_or_default().to_owned());
        }
    }
}

/// In systemd's words; what is not asked for is not said.
fn limit_properties(limits: &LinuxContainerResources, unified: bool) -> Vec<Value> {
    let mut properties = Vec::new();
    let mut number = |name: &str, value| properties.push(Value::property(name, Value::Long(value)));
    // What is below zero is unlimited, and has a number too.
    let bytes = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    if let Ok(shares @ 1..) = u64::try_from(limits.cpu_shares) {
        match unified {
            true => number("CPUWeight", weight_of_shares(shares)),
            false => number("CPUShares", shares),
        }
    }
    let period = u64::try_from(limits.cpu_period).ok().filter(|p| *p > 0).unwrap_or(100_000);
    match u64::try_from(limits.cpu_quota) {
        Ok(0) => {}
        Ok(quota) => {
            number("CPUQuotaPeriodUSec", period);
            let second = quota.saturating_mul(1_000_000) / period;
            number("CPUQuotaPerSecUSec", second.next_multiple_of(HUNDREDTH));
        }
        Err(_) => number("CPUQuotaPerSecUSec", u64::MAX),
    }
    if limits.memory_limit_in_bytes != 0 {
        number(if unified { "MemoryMax" } else { "MemoryLimit" }, bytes(limits.memory_limit_in_bytes));
    }
    let (both, memory) = (limits.memory_swap_limit_in_bytes, limits.memory_limit_in_bytes);
    if unified && both != 0 && memory > 0 {
        number("MemorySwapMax", bytes(if both < 0 { both } else { (both - memory).max(0) }));
    }
    if unified {
        for (name, list) in
            [("AllowedCPUs", &limits.cpuset_cpus), ("AllowedMemoryNodes", &limits.cpuset_mems)]
        {
            // What is no list is refused by the kernel, with the file's name.
            if let Some(mask) = mask(list).filter(|_| !list.is_empty()) {
                let mask = mask.into_iter().map(Value::Byte).collect();
                properties.push(Value::property(name, Value::Array("y".to_owned(), mask)));
            }
        }
    }
    properties
}

/// `0-2,8` as bits, the lowest in the first byte.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // More than any machine has.
        for bit in (first..=last).take_while(|bit| *bit < 8192) {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            *mask.get_mut(bit / 8)? |= 1 << (bit % 8);
        }
    }
    Some(mask)
}

/// Starts a process that does nothing, for a scope to begin with. It may outlive us: so may the container.
pub fn keeper(shim: &std::path::Path) -> Result<i32> {
    let mut child = Command::new(shim)
        .arg("hold")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("run the shim", shim))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    tokio::spawn(async move { child.wait().await });
    Ok(pid)
}

/// Ends a keeper; a process of that number that is none is left alone.
pub fn release(keeper: i32) {
    let Some(pid) = rustix::process::Pid::from_raw(keeper) else { return };
    let command = std::fs::read(format!("/proc/{keeper}/cmdline")).unwrap_or_default();
    if !command.ends_with(b"\0hold\0") {
        return;
    }
    // It may have ended since.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        let scope =
            |parent| Scope::of(parent, "1").map(|s| (s.slice.clone(), s.unit.clone(), s.for_oci("1")));
        let expected =
            || Some(("a-b.slice".to_owned(), "corten-1.scope".to_owned(), "a-b.slice:corten:1".to_owned()));
        assert_eq!(scope("a-b.slice"), expected());
        assert_eq!(scope("/a.slice/a-b.slice/"), expected());
        for other in ["", "/kubepods/pod1", "/a.slice/pod1"] {
            assert_eq!(scope(other), None, "{other}");
        }
    }

    #[test]
    fn limits() {
        let properties = |limits: LinuxContainerResources, unified| {
            let properties = limit_properties(&limits, unified).into_iter();
            let line = |property| match property {
                Value::Struct(members) => format!("{} {:?}", members[0].text().unwrap(), members[1]),
                other => panic!("{other:?}"),
            };
            properties.map(line).map(|l| l.replace("Variant(Long(", "").replace("))", "")).collect::<Vec<_>>()
        };
        let limits = LinuxContainerResources {
            cpu_shares: 1024,
            cpu_quota: 12_345,
            cpu_period: 50_000,
            memory_limit_in_bytes: 1 << 20,
            memory_swap_limit_in_bytes: 3 << 20,
            ..Default::default()
        };
        assert_eq!(
            properties(limits.clone(), true),
            [
                "CPUWeight 100",
                "CPUQuotaPeriodUSec 50000",
                "CPUQuotaPerSecUSec 250000",
                "MemoryMax 1048576",
                "MemorySwapMax 2097152"
            ]
        );
        assert_eq!(
            properties(limits, false),
            [
                "CPUShares 1024",
                "CPUQuotaPeriodUSec 50000",
                "CPUQuotaPerSecUSec 250000",
                "MemoryLimit 1048576"
            ]
        );
        assert!(properties(LinuxContainerResources::default(), true).is_empty());
        let unlimited =
            LinuxContainerResources { cpu_quota: -1, memory_limit_in_bytes: -1, ..Default::default() };
        assert_eq!(
            properties(unlimited, true),
            [format!("CPUQuotaPerSecUSec {}", u64::MAX), format!("MemoryMax {}", u64::MAX)]
        );
    }

    #[test]
    fn masks() {
        for (list, expected) in
            [("0", Some(vec![1])), ("0-2,9", Some(vec![7, 2])), ("x", None), ("3-1", Some(vec![]))]
        {
            assert_eq!(mask(list), expected, "{list}");
        }
        assert!(mask("0-99999999999").unwrap().len() <= 1024);
    }
}
