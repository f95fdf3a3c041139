//! Seccomp profiles compiled to BPF. That takes milliseconds and pods share a few profiles, so programs are kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::{Arc, LazyLock};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{Error, Result};

/// More different profiles than this on one node are compiled again and again.
const MOST_KEPT: usize = 64;

static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Vec<u8>>>>> = LazyLock::new(Mutex::default);

/// The program of an OCI `linux.seccomp`.
pub fn compile(profile: &Value) -> Result<Arc<Vec<u8>>> {
    let text = profile.to_string();
    if let Some(known) = COMPILED.lock().get(&text) {
        return Ok(known.clone());
    }
    let invalid = |e: &dyn std::fmt::Display| Error::InvalidArgument(format!("seccomp profile: {e}"));
    let parsed: LinuxSeccomp = serde_json::from_str(&text).map_err(|e| invalid(&e))?;
    let program = Arc::new(assemble(&parsed).map_err(|e| invalid(&e))?);
    let mut compiled = COMPILED.lock();
    if compiled.len() >= MOST_KEPT {
        compiled.clear();
    }
    compiled.insert(text, program.clone());
    Ok(program)
}

fn assemble(profile: &LinuxSeccomp) -> Result<Vec<u8>, String> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let told = |e: libseccomp::error::SeccompError| e.to_string();
    let mut filter = ScmpFilterContext::new(default).map_err(told)?;
    for architecture in profile.architectures().iter().flatten() {
        let name = serde_json::to_value(architecture).map_err(|e| e.to_string())?;
        let name = name.as_str().unwrap_or_default();
        let architecture: ScmpArch = name.parse().map_err(told)?;
        filter.add_arch(architecture).map_err(told)?;
    }
    for flag in profile.flags().iter().flatten() {
        if matches!(flag, LinuxSeccompFilterFlag::SeccompFilterFlagLog) {
            filter.set_ctl_log(true).map_err(told)?;
        }
    }
    // A binary search over the numbers instead of one comparison after the other.
    filter.set_ctl_optimize(2).map_err(told)?;
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        if action == default {
            continue;
        }
        let conditions = conditions(rule)?;
        for name in rule.names() {
            // A name that this libseccomp does not know is of a newer kernel than it: the default action holds.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            for condition in &conditions {
                filter.add_rule_conditional(action, call, condition).map_err(|e| format!("{name}: {e}"))?;
            }
        }
    }
    export(&filter).map_err(|e| format!("export the filter: {e}"))
}

/// The library writes to files only.
fn export(filter: &ScmpFilterContext) -> std::io::Result<Vec<u8>> {
    let memory = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)?;
    filter.export_bpf(&memory).map_err(std::io::Error::other)?;
    let mut file = File::from(memory);
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    Ok(program)
}

/// All of a rule's conditions must hold; two on one argument are two rules, of which one must, as runc has it.
fn conditions(rule: &LinuxSyscall) -> Result<Vec<Vec<ScmpArgCompare>>, String> {
    let mut all = Vec::new();
    let mut indices = Vec::new();
    for argument in rule.args().iter().flatten() {
        let index = u32::try_from(argument.index()).map_err(|e| e.to_string())?;
        let (first, second) = (argument.value(), argument.value_two().unwrap_or(0));
        let (operator, datum) = match argument.op() {
            LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, first),
            LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, first),
            LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, first),
            LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, first),
            LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, first),
            LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, first),
            // The mask is the first value; what the masked argument must equal is the second.
            LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(first), second),
        };
        indices.push(index);
        all.push(ScmpArgCompare::new(index, operator, datum));
    }
    let count = indices.len();
    indices.sort_unstable();
    indices.dedup();
    Ok(if indices.len() < count { all.into_iter().map(|c| vec![c]).collect() } else { vec![all] })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, String> {
    let errno = errno.map_or(libc::EPERM, |e| i32::try_from(e).unwrap_or(libc::EPERM));
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(errno).map_err(|e| e.to_string())?)
        }
        LinuxSeccompAction::ScmpActNotify => {
            return Err("SCMP_ACT_NOTIFY needs an agent and is not supported".to_owned());
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn profiles() {
        let rule = |name: &str| json!({"names": [name, "no_such_call"], "action": "SCMP_ACT_ALLOW"});
        let good = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("read")]});
        let program = compile(&good).unwrap();
        assert!(!program.is_empty() && program.len().is_multiple_of(8));
        assert!(Arc::ptr_eq(&program, &compile(&good).unwrap()));
        for bad in [json!({}), json!({"defaultAction": "NOPE"}), json!({"defaultAction": "SCMP_ACT_NOTIFY"})]
        {
            assert!(compile(&bad).is_err(), "{bad}");
        }
    }
}
