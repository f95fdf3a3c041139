//! The command line: `[global flags] COMMAND [flags] ID [further words]`.

use std::path::PathBuf;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub root: PathBuf,
    pub log: Option<PathBuf>,
    pub log_format: String,
    pub systemd_cgroup: bool,
    pub command: String,
    pub id: String,
    /// What follows the id: a signal, or the command of an exec.
    pub rest: Vec<String>,
    pub bundle: PathBuf,
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub process: Option<PathBuf>,
    pub force: bool,
}

impl Arguments {
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut parsed = Self { root: "/run/corten/oci".into(), bundle: ".".into(), ..Self::default() };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') || word == "-" {
                if parsed.command.is_empty() {
                    parsed.command.clone_from(word);
                    continue;
                }
                parsed.id.clone_from(word);
                parsed.rest = words.cloned().collect();
                break;
            }
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value = || {
                inline
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| format!("flag {flag} needs a value"))
            };
            match flag {
                "--root" => parsed.root = value()?.into(),
                "--log" => parsed.log = Some(value()?.into()),
                "--log-format" => parsed.log_format = value()?,
                "--bundle" | "-b" => parsed.bundle = value()?.into(),
                "--pid-file" => parsed.pid_file = Some(value()?.into()),
                "--console-socket" => parsed.console_socket = Some(value()?.into()),
                "--process" | "-p" => parsed.process = Some(value()?.into()),
                "--systemd-cgroup" => parsed.systemd_cgroup = true,
                "--force" | "-f" => parsed.force = true,
                "--detach" | "-d" | "--tty" | "-t" | "--debug" | "--all" | "-a" | "--no-pivot" => {}
                other => return Err(format!("unknown flag {other}")),
            }
        }
        if parsed.command.is_empty() || parsed.id.is_empty() {
            return Err("expected: oci [--root DIR] run|create|start|state|kill|delete|exec ID".to_owned());
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(&line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn command_lines() {
        let run = parse("--root /r --log=/l --log-format json run --detach -b /b --pid-file /p id").unwrap();
        assert_eq!(
            run,
            Arguments {
                root: "/r".into(),
                log: Some("/l".into()),
                log_format: "json".into(),
                command: "run".into(),
                id: "id".into(),
                bundle: "/b".into(),
                pid_file: Some("/p".into()),
                ..Arguments::default()
            }
        );
        let kill = parse("kill id -9").unwrap();
        assert_eq!((kill.id.as_str(), kill.rest.as_slice()), ("id", &["-9".to_owned()][..]));
        for bad in ["", "run", "run --what id", "run --bundle", "--root"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
