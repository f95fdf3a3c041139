//! What a container runs: the pod's command, arguments and environment over the image's.

use k8s_cri::v1::{ContainerConfig, KeyValue};
use serde_json::{Value, json};

use super::user::User;
use crate::{Error, Result};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of an image's configuration concerns the process.
#[derive(Debug, Clone, Default)]
pub struct ImageProcess {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: String,
}

impl ImageProcess {
    pub fn of(image: &images::ImageConfiguration) -> Self {
        let Some(config) = image.config() else { return Self::default() };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let list = |value: &Option<Vec<String>>| value.clone().unwrap_or_default();
        Self {
            entrypoint: list(config.entrypoint()),
            cmd: list(config.cmd()),
            env: list(config.env()),
            working_dir: text(config.working_dir()),
            user: text(config.user()),
            stop_signal: text(config.stop_signal()),
        }
    }
}

/// `command` replaces the entrypoint and with it the image's arguments; `args` replaces the arguments.
pub fn arguments(config: &ContainerConfig, image: &ImageProcess) -> Result<Vec<String>> {
    let arguments: Vec<String> = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => [image.entrypoint.as_slice(), &image.cmd].concat(),
        (true, false) => [image.entrypoint.as_slice(), &config.args].concat(),
        (false, _) => [config.command.as_slice(), &config.args].concat(),
    };
    if arguments.is_empty() {
        return Err(Error::InvalidArgument(
            "no command specified: neither the image nor the container names one".into(),
        ));
    }
    Ok(arguments)
}

/// The image's environment, overridden by the pod's; a `PATH` and a `HOME` are always there.
pub fn environment(image: &[String], pod: &[KeyValue], home: &str, terminal: bool) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |entry: String| {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        let is_it = |e: &String| e.strip_prefix(&name).is_some_and(|rest| rest.starts_with('='));
        match env.iter_mut().find(|e| is_it(e)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
    };
    set(DEFAULT_PATH.to_owned());
    set(format!("HOME={}", if home.is_empty() { "/" } else { home }));
    if terminal {
        set("TERM=xterm".to_owned());
    }
    image.iter().filter(|e| e.contains('=')).for_each(|e| set(e.clone()));
    pod.iter().for_each(|e| set(format!("{}={}", e.key, e.value)));
    env
}

/// The `process` of an OCI configuration, without what security adds.
pub fn process(config: &ContainerConfig, image: &ImageProcess, user: &User, hostname: &str) -> Result<Value> {
    let cwd = [config.working_dir.as_str(), &image.working_dir, "/"]
        .into_iter()
        .find(|d| !d.is_empty())
        .unwrap_or("/");
    let mut env = environment(&image.env, &config.envs, &user.home, config.tty);
    if !env.iter().any(|e| e.starts_with("HOSTNAME=")) {
        env.push(format!("HOSTNAME={hostname}"));
    }
    Ok(json!({
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": arguments(config, image)?,
        "env": env,
        "cwd": cwd,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_and_arguments() {
        // As the table in the Kubernetes documentation: image entrypoint and cmd, pod command and args, result.
        for (entrypoint, cmd, command, args, expected) in [
            ("ep", "a b", "", "", "ep a b"),
            ("ep", "a b", "cm", "", "cm"),
            ("ep", "a b", "", "z", "ep z"),
            ("ep", "a b", "cm", "z", "cm z"),
            ("", "a", "", "", "a"),
        ] {
            let image =
                ImageProcess { entrypoint: words(entrypoint), cmd: words(cmd), ..ImageProcess::default() };
            let config =
                ContainerConfig { command: words(command), args: words(args), ..ContainerConfig::default() };
            assert_eq!(arguments(&config, &image).unwrap(), words(expected));
        }
        assert!(arguments(&ContainerConfig::default(), &ImageProcess::default()).is_err());
    }

    #[test]
    fn environments_are_merged() {
        let pod = [("A", "2"), ("PATH", "/x"), ("AB", "=3=")]
            .map(|(key, value)| KeyValue { key: key.into(), value: value.into() });
        assert_eq!(
            environment(&words("A=1 B=1 junk"), &pod, "", false),
            words("PATH=/x HOME=/ A=2 B=1 AB==3=")
        );
        assert_eq!(environment(&[], &[], "/h", true), words(&format!("{DEFAULT_PATH} HOME=/h TERM=xterm")));
    }
}
