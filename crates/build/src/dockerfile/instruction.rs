//! One instruction at a time, apart from FROM.

use super::flags::{self, Flags};
use super::lines::{Heredoc, Line};
use super::words;
use crate::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    Run(Run),
    Copy(Copy),
    /// As Copy; archives are unpacked and URLs fetched.
    Add(Copy),
    Env(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    Label(Vec<(String, String)>),
    User(String),
    Workdir(String),
    Cmd(Command),
    Entrypoint(Command),
    Expose(Vec<String>),
    Volume(Vec<String>),
    StopSignal(String),
    Shell(Vec<String>),
    Healthcheck(Health),
    OnBuild(String),
    Maintainer(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// To be given to the stage's shell.
    Shell(String),
    Exec(Vec<String>),
    /// A here-document by itself: given to the shell, or run as a program if it begins with `#!`.
    Script(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub command: Command,
    pub mounts: Vec<Mount>,
}

/// `RUN --mount=...`
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    pub kind: MountKind,
    pub target: String,
    pub source: String,
    pub from: Option<String>,
    pub id: String,
    pub required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// Of the context, a stage or an image.
    Bind,
    /// A directory that builds share.
    Cache,
    Tmpfs,
    /// A file given with `--secret`, in no layer.
    Secret,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Copy {
    pub sources: Vec<String>,
    pub documents: Vec<Heredoc>,
    pub target: String,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub checksum: Option<String>,
    /// Of a repository that is added, keep `.git`.
    pub keep_git_dir: bool,
    /// Keep the sources' parent directories.
    pub parents: bool,
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// As an image's configuration has it: `NONE`, `CMD` or `CMD-SHELL` first.
    pub test: Vec<String>,
    /// `Interval` and the like, in nanoseconds.
    pub times: Vec<(&'static str, i64)>,
    pub retries: Option<i64>,
}

/// `rest` is what stands after the name.
pub fn parse(name: &str, rest: &str, line: &Line, escape: char) -> Result<Instruction> {
    let fail = |message: &str| Error::at(line.number, format!("{name} {message}"));
    let needs = |what: &str| if rest.is_empty() { Err(fail(&format!("needs {what}"))) } else { Ok(()) };
    let one = || needs("a value").map(|()| rest.to_owned());
    let pairs = || {
        needs("a name and a value")?;
        pairs(rest, escape).ok_or_else(|| fail("takes name=value, or one name and a value"))
    };
    Ok(match name {
        "RUN" => Instruction::Run(run(rest, line)?),
        "COPY" => Instruction::Copy(copy(name, rest, line)?),
        "ADD" => Instruction::Add(copy(name, rest, line)?),
        "ENV" => Instruction::Env(pairs()?),
        "LABEL" => Instruction::Label(pairs()?),
        "ARG" => {
            needs("a name")?;
            let argument = |word: &String| match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.clone(), None),
            };
            let arguments: Vec<_> = words::split(rest, escape).iter().map(argument).collect();
            if arguments.iter().any(|(name, _)| name.is_empty()) {
                return Err(fail("needs a name before '='"));
            }
            Instruction::Arg(arguments)
        }
        "USER" => Instruction::User(one()?),
        "WORKDIR" => Instruction::Workdir(one()?),
        "STOPSIGNAL" => Instruction::StopSignal(one()?),
        "MAINTAINER" => Instruction::Maintainer(one()?),
        "CMD" => Instruction::Cmd(command(rest)),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)),
        "EXPOSE" => {
            needs("a port")?;
            Instruction::Expose(rest.split_whitespace().map(str::to_owned).collect())
        }
        "VOLUME" => {
            needs("a path")?;
            let paths = json(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            if paths.iter().any(|p| p.trim().is_empty()) {
                return Err(fail("has an empty path"));
            }
            Instruction::Volume(paths)
        }
        "SHELL" => match json(rest) {
            Some(words) if !words.is_empty() => Instruction::Shell(words),
            _ => return Err(fail("takes a list as JSON has it, such as [\"/bin/sh\", \"-c\"]")),
        },
        "HEALTHCHECK" => Instruction::Healthcheck(health(rest).map_err(|e| fail(&e))?),
        "ONBUILD" => {
            needs("an instruction")?;
            let (trigger, _) = super::lines::instruction(rest);
            if matches!(trigger.as_str(), "FROM" | "ONBUILD" | "MAINTAINER") {
                return Err(Error::at(line.number, format!("{trigger} cannot be an ONBUILD trigger")));
            }
            super::parse_trigger(rest, escape, line.number)?;
            Instruction::OnBuild(rest.to_owned())
        }
        other => return Err(Error::at(line.number, format!("unknown instruction {other:?}"))),
    })
}

/// A list as JSON has it, or a line for the shell.
fn command(text: &str) -> Command {
    json(text).map_or_else(|| Command::Shell(text.to_owned()), Command::Exec)
}

fn json(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn run(rest: &str, line: &Line) -> Result<Run> {
    let fail = |message: String| Error::at(line.number, format!("RUN {message}"));
    let (flags, text) = flags::split(rest, line.number)?;
    let mut mounts = Vec::new();
    for (name, value) in flags {
        match (name.as_str(), value.as_deref()) {
            ("mount", Some(value)) => mounts.push(mount(value).map_err(fail)?),
            ("network", Some("default" | "host")) | ("security", Some("sandbox")) => {}
            ("network" | "security", Some(value)) => {
                return Err(fail(format!("--{name}={value} is not supported")));
            }
            _ => return Err(fail(format!("has no flag --{name}"))),
        }
    }
    if text.is_empty() {
        return Err(fail("needs a command".to_owned()));
    }
    let command = match line.heredocs.as_slice() {
        [] => command(text),
        // Nothing but the document's name: the document is the command.
        [only] if text.strip_prefix("<<").is_some_and(|t| bare(t) == only.name) => {
            Command::Script(only.text.clone())
        }
        documents => {
            let mut script = format!("{text}\n");
            for document in documents {
                script.push_str(&format!("{}{}\n", document.text, document.name));
            }
            Command::Shell(script)
        }
    };
    Ok(Run { command, mounts })
}

fn bare(name: &str) -> &str {
    name.trim_start_matches('-').trim_matches(['"', '\''])
}

/// `type=cache,target=/x,...`
fn mount(text: &str) -> std::result::Result<Mount, String> {
    let mut mount = Mount {
        kind: MountKind::Bind,
        target: String::new(),
        source: String::new(),
        from: None,
        id: String::new(),
        required: false,
    };
    let mut writable = false;
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, "true"));
        let yes = matches!(value, "true" | "1");
        match key.to_ascii_lowercase().as_str() {
            "type" => {
                mount.kind = match value {
                    "bind" => MountKind::Bind,
                    "cache" => MountKind::Cache,
                    "tmpfs" => MountKind::Tmpfs,
                    "secret" => MountKind::Secret,
                    other => return Err(format!("--mount of type {other:?} is not supported")),
                }
            }
            "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
            "source" | "src" => value.clone_into(&mut mount.source),
            "from" => mount.from = Some(value.to_owned()),
            "id" => value.clone_into(&mut mount.id),
            "rw" | "readwrite" if yes => writable = true,
            "ro" | "readonly" if !yes => writable = true,
            "rw" | "readwrite" | "ro" | "readonly" => {}
            "required" => mount.required = yes,
            // They shape a cache or a secret; ours belong to root and are one for all.
            "sharing" | "mode" | "uid" | "gid" | "size" => {}
            other => return Err(format!("--mount has no option {other:?}")),
        }
    }
    if writable && mount.kind == MountKind::Bind {
        return Err("--mount of type bind is always read-only".to_owned());
    }
    if mount.target.is_empty() {
        match mount.kind {
            MountKind::Secret if !mount.id.is_empty() => mount.target = format!("/run/secrets/{}", mount.id),
            _ => return Err("--mount needs a target".to_owned()),
        }
    }
    if mount.id.is_empty() {
        mount.id = match mount.kind {
            MountKind::Secret => mount.target.rsplit('/').next().unwrap_or_default().to_owned(),
            _ => mount.target.clone(),
        };
    }
    Ok(mount)
}

fn copy(name: &str, rest: &str, line: &Line) -> Result<Copy> {
    let fail = |message: String| Error::at(line.number, format!("{name} {message}"));
    let (flags, text) = flags::split(rest, line.number)?;
    let mut copy = Copy { documents: line.heredocs.clone(), ..Copy::default() };
    apply(&mut copy, flags, name).map_err(fail)?;
    let mut words = json(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect());
    words.retain(|w| !(w.starts_with("<<") && line.heredocs.iter().any(|d| bare(&w[2..]) == d.name)));
    let target = words.pop().filter(|_| !words.is_empty() || !copy.documents.is_empty());
    copy.target = target.ok_or_else(|| fail("needs what to copy, and where to".to_owned()))?;
    copy.sources = words;
    Ok(copy)
}

fn apply(copy: &mut Copy, flags: Flags, name: &str) -> std::result::Result<(), String> {
    for (flag, value) in flags {
        match (flag.as_str(), value) {
            ("from", Some(value)) if name == "COPY" => copy.from = Some(value),
            ("checksum", Some(value)) if name == "ADD" => copy.checksum = Some(value),
            ("keep-git-dir", value) if name == "ADD" => copy.keep_git_dir = value.as_deref() != Some("false"),
            ("chown", Some(value)) => copy.chown = Some(value),
            ("chmod", Some(value)) => copy.chmod = Some(value),
            ("exclude", Some(value)) => copy.exclude.push(value),
            ("parents", value) if name == "COPY" => copy.parents = value.as_deref() != Some("false"),
            // Layers are independent of each other anyway.
            ("link", _) => {}
            (flag, None) if matches!(flag, "from" | "chown" | "chmod" | "checksum" | "exclude") => {
                return Err(format!("--{flag} needs a value"));
            }
            (flag, _) => return Err(format!("has no flag --{flag}")),
        }
    }
    Ok(())
}

/// `a=1 b=2`, or the older form `a the rest of the line`.
fn pairs(text: &str, escape: char) -> Option<Vec<(String, String)>> {
    let words = words::split(text, escape);
    if words.first()?.contains('=') {
        let pair = |word: &String| {
            let (name, value) = word.split_once('=')?;
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        return words.iter().map(pair).collect();
    }
    let (name, value) = text.split_once(char::is_whitespace)?;
    Some(vec![(name.to_owned(), value.trim_start().to_owned())])
}

fn health(rest: &str) -> std::result::Result<Health, String> {
    let mut health = Health { test: Vec::new(), times: Vec::new(), retries: None };
    let (flags, text) = flags::split(rest, 0).map_err(|e| e.message().to_owned())?;
    for (flag, value) in flags {
        let value = value.ok_or_else(|| format!("--{flag} needs a value"))?;
        let key = match flag.as_str() {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => {
                let retries = value.parse().ok().filter(|n| *n > 0);
                health.retries = Some(retries.ok_or_else(|| format!("--retries={value} is no count"))?);
                continue;
            }
            other => return Err(format!("has no flag --{other}")),
        };
        let time =
            nanoseconds(&value).ok_or_else(|| format!("--{flag}={value} is no duration such as 30s"))?;
        health.times.push((key, time));
    }
    let (kind, text) = super::lines::instruction(text);
    health.test = match (kind.as_str(), text) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", "") => return Err("CMD needs a command".to_owned()),
        ("CMD", text) => match json(text) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), text.to_owned()],
        },
        _ => return Err("takes NONE, or CMD and a command".to_owned()),
    };
    Ok(health)
}

/// `1m30s`, as Go writes durations.
fn nanoseconds(text: &str) -> Option<i64> {
    let mut total: f64 = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, left) = after.split_at(letters);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = left;
    }
    (1e6..9e18).contains(&total).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("5", None),
            ("", None),
            ("0s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn mounts() {
        let cache = mount("type=cache,target=/root/.cache,sharing=locked").unwrap();
        assert_eq!((cache.kind, cache.id.as_str()), (MountKind::Cache, "/root/.cache"));
        let secret = mount("type=secret,id=token,required").unwrap();
        assert_eq!((secret.target.as_str(), secret.required), ("/run/secrets/token", true));
        let bind = mount("from=base,source=/x,target=/y,ro").unwrap();
        assert_eq!((bind.from.as_deref(), bind.source.as_str()), (Some("base"), "/x"));
        for bad in ["target=/y,rw", "type=ssh,target=/x", "type=cache", "target=/x,nope=1"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
