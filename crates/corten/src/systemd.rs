//! `corten systemd`: a unit for whatever role this machine has.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::cli::{Cli, Directories, SystemdCommand, UnitArgs};

const UNITS: &str = "/etc/systemd/system";

pub fn run(directories: &Directories, command: SystemdCommand) -> Result<()> {
    match command {
        SystemdCommand::Print(args) => {
            print!("{}", unit(directories, &args)?);
            Ok(())
        }
        SystemdCommand::Install(args) => install(directories, &args),
    }
}

fn install(directories: &Directories, args: &UnitArgs) -> Result<()> {
    let name = format!("corten-{}.service", args.role);
    let path = Path::new(UNITS).join(&name);
    // Flags may hold a token.
    pki::write_private(&path, &unit(directories, args)?)?;
    println!("Wrote {}.", path.display());
    for arguments in [&["daemon-reload"][..], &["enable", "--now", &name]] {
        let status = Command::new("systemctl").args(arguments).status().context("cannot run systemctl")?;
        if !status.success() {
            bail!("systemctl {} has failed ({status})", arguments.join(" "));
        }
    }
    Ok(())
}

fn unit(directories: &Directories, args: &UnitArgs) -> Result<String> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut words = vec![program.display().to_string()];
    words.push(format!("--root-dir={}", directories.root_dir.display()));
    words.push(format!("--run-dir={}", directories.run_dir.display()));
    words.push(args.role.clone());
    words.extend(args.flags.iter().cloned());
    // A unit that cannot start is better refused now.
    Cli::try_parse_from(&words).map_err(|error| anyhow::anyhow!("{error}"))?;
    if words.iter().any(|word| word.contains('\n')) {
        bail!("a flag has more than one line");
    }
    let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    Ok(format!(
        "[Unit]
Description=Corten: Kubernetes ({role})
Documentation=https://github.com/corten/corten
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart={command}
Restart=always
RestartSec=1
# Containers are not Corten's to take along: they are found again.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999
TimeoutStartSec=0

[Install]
WantedBy=multi-user.target
",
        role = args.role,
        command = command.join(" ")
    ))
}

/// A word of a command line of systemd, where it means itself (systemd.service(5)).
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    let text = word.replace('%', "%%").replace('$', "$$");
    if !text.is_empty() && word.chars().all(plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_run_the_role() {
        let directories = Directories { root_dir: "/var/lib/corten".into(), run_dir: "/run/corten".into() };
        let args = |role: &str, flags: &[&str]| UnitArgs {
            role: role.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        };
        let text = unit(&directories, &args("server", &["--secure-port", "7443"])).unwrap();
        assert!(text.contains("server --secure-port 7443\n") && text.contains("Type=notify"), "{text}");
        assert!(unit(&directories, &args("server", &["--no-such-flag"])).is_err());
        assert!(unit(&directories, &args("boss", &[])).is_err());
        assert_eq!(quoted("a b%c\"$d"), "\"a b%%c\\\"$$d\"");
    }
}
