//! One stage, instruction after instruction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dockerfile::{Command, Copy, Instruction, Run, Stage, Step, words};
use crate::image::Image;
use crate::source::hex;
use crate::tree::Tree;
use crate::{Build, Error, Event, Result, copy, mounts, run};

/// Arguments that need not be declared: they make no difference to what is built.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A stage that is being built.
pub struct Work<'a> {
    pub build: &'a mut Build,
    pub image: Image,
    arguments: BTreeMap<String, String>,
    escape: char,
}

impl<'a> Work<'a> {
    pub fn new(build: &'a mut Build, image: Image, escape: char) -> Self {
        Self { build, image, arguments: BTreeMap::new(), escape }
    }

    /// Carries out the stage, with what its base image has left to do first.
    pub async fn run(mut self, stage: &Stage) -> Result<Image> {
        let triggers = self.image.list("OnBuild");
        self.image.config().remove("OnBuild");
        for trigger in triggers {
            let step = crate::dockerfile::parse_trigger(&trigger, self.escape, stage.line)?;
            self.step(&step).await?;
        }
        for step in &stage.steps {
            self.build.number += 1;
            let (number, total) = (self.build.number, self.build.total);
            self.build.printer.tell(Event::Step { number, total, text: step.text.clone() });
            self.step(step).await?;
        }
        Ok(self.image)
    }

    /// With variables put in and quotes taken off.
    pub fn expand(&self, text: &str, line: usize) -> Result<String> {
        words::expand(text, self.escape, &|name| self.lookup(name)).map_err(|e| Error::at(line, e))
    }

    pub fn expand_document(&self, text: &str, line: usize) -> Result<String> {
        words::expand_document(text, self.escape, &|name| self.lookup(name)).map_err(|e| Error::at(line, e))
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let set = self.image.environment().into_iter().find(|(known, _)| known == name).map(|(_, v)| v);
        set.or_else(|| self.arguments.get(name).cloned())
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let line = step.line;
        let expand = |work: &Self, text: &String| work.expand(text, line);
        match &step.instruction {
            Instruction::Run(run) => return self.command(step, run).await,
            Instruction::Copy(copy) => return self.copy(step, copy, false).await,
            Instruction::Add(copy) => return self.copy(step, copy, true).await,
            Instruction::Workdir(path) => return self.workdir(step, &self.expand(path, line)?),
            Instruction::Arg(arguments) => {
                for (name, default) in arguments {
                    let default = default.as_ref().map(|d| expand(self, d)).transpose()?;
                    let given = self.build.argument(name);
                    let value = given.or(default).or_else(|| self.build.globals.get(name).cloned());
                    if let Some(value) = value {
                        self.arguments.insert(name.clone(), value);
                    }
                }
            }
            Instruction::Env(pairs) => {
                // All of a line see what was before it.
                let pairs = self.pairs(pairs, line)?;
                pairs.iter().for_each(|(name, value)| self.image.set_environment(name, value));
            }
            Instruction::Label(pairs) => {
                for (name, value) in self.pairs(pairs, line)? {
                    self.image.add("Labels", name, value.into());
                }
            }
            Instruction::User(user) => {
                let user = expand(self, user)?;
                self.image.set("User", user);
            }
            Instruction::Cmd(command) => {
                let words = self.words(command);
                self.image.set("Cmd", words);
            }
            Instruction::Entrypoint(command) => {
                let words = self.words(command);
                self.image.set("Entrypoint", words);
                // It was meant for another.
                self.image.config().remove("Cmd");
            }
            Instruction::Expose(ports) => {
                for port in ports {
                    let expanded = expand(self, port)?;
                    for port in expanded.split_whitespace() {
                        for port in
                            ports_of(port).ok_or_else(|| Error::at(line, format!("{port:?} is no port")))?
                        {
                            self.image.add("ExposedPorts", port, json!({}));
                        }
                    }
                }
            }
            Instruction::Volume(paths) => {
                for path in paths {
                    let path = expand(self, path)?;
                    self.image.add("Volumes", path, json!({}));
                }
            }
            Instruction::StopSignal(signal) => {
                let signal = expand(self, signal)?;
                self.image.set("StopSignal", signal);
            }
            Instruction::Shell(words) => self.image.set("Shell", words.clone()),
            Instruction::Healthcheck(health) => {
                let mut check = json!({"Test": health.test});
                for (key, time) in &health.times {
                    check[*key] = (*time).into();
                }
                if let Some(retries) = health.retries {
                    check["Retries"] = retries.into();
                }
                self.image.set("Healthcheck", check);
            }
            Instruction::OnBuild(trigger) => {
                let mut triggers = self.image.list("OnBuild");
                triggers.push(trigger.clone());
                self.image.set("OnBuild", triggers);
            }
            Instruction::Maintainer(name) => self.image.configuration["author"] = Value::from(name.as_str()),
        }
        self.image.note(&step.text, None);
        Ok(())
    }

    fn pairs(&self, pairs: &[(String, String)], line: usize) -> Result<Vec<(String, String)>> {
        pairs.iter().map(|(k, v)| Ok((self.expand(k, line)?, self.expand(v, line)?))).collect()
    }

    /// A line for the shell becomes an argument of it.
    fn words(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) | Command::Script(text) => {
                let mut words = self.image.list("Shell");
                if words.is_empty() {
                    words = SHELL.map(str::to_owned).into();
                }
                words.push(text.clone());
                words
            }
        }
    }

    /// What names a result: all that it depends on.
    pub fn key(&self, parts: &[&str]) -> String {
        let mut hasher = Sha256::new();
        let layers = self.image.layers.join(",");
        for part in [layers.as_str()].iter().chain(parts) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hex(&hasher.finalize())
    }

    /// Takes a step's result of the cache. False if there is none.
    pub fn recall(&mut self, step: &Step, key: &str) -> Result<bool> {
        if self.build.options.no_cache {
            return Ok(false);
        }
        let layer = match self.build.store.cached(key)?.as_deref() {
            Some([layer, created]) => Some((layer.clone(), created.clone())),
            Some([nothing]) if nothing == "-" => None,
            _ => return Ok(false),
        };
        self.build.printer.tell(Event::Cached);
        self.image.note(&step.text, layer);
        Ok(true)
    }

    /// Makes a layer of what was changed, and remembers it.
    pub fn commit(&mut self, step: &Step, key: &str, upper: &Path, skip: &[PathBuf]) -> Result<()> {
        let skip = |path: &Path| skip.iter().any(|s| s == path);
        let layer = self.build.store.commit(&self.build.making, upper, &skip)?;
        let layer = layer.map(|layer| (layer, jiff::Timestamp::now().to_string()));
        let lines = match &layer {
            Some((layer, created)) => vec![layer.clone(), created.clone()],
            None => vec!["-".to_owned()],
        };
        self.build.store.cache(key, &lines)?;
        self.image.note(&step.text, layer);
        Ok(())
    }

    async fn command(&mut self, step: &Step, order: &Run) -> Result<()> {
        let line = step.line;
        let mut command = self.words(&order.command);
        let mut environment = Vec::new();
        for (name, value) in &self.arguments {
            if !self.image.environment().iter().any(|(known, _)| known == name) {
                environment.push((name.clone(), value.clone()));
            }
        }
        let given = |name: &&str| self.build.argument(name).map(|value| ((*name).to_owned(), value));
        let proxies: Vec<_> = PROXIES.iter().filter_map(given).collect();
        let mut key = vec!["RUN".to_owned(), command.join("\u{0}"), format!("{environment:?}")];
        let config = ["Env", "User", "WorkingDir"].map(|k| self.image.configuration["config"][k].to_string());
        key.extend(config);
        key.extend(mounts::key(self, &order.mounts, line)?);
        let key = self.key(&key.iter().map(String::as_str).collect::<Vec<_>>());
        if self.recall(step, &key)? {
            return Ok(());
        }
        environment.extend(proxies);
        let mut mounted = mounts::make(self, &order.mounts, line)?;
        if let Command::Script(text) = &order.command
            && text.starts_with("#!")
        {
            let script =
                mounted.file(text.as_bytes(), 0o755).map_err(Error::during(line, "write the script"))?;
            mounted.add(script, "/dev/pipes/build-script".to_owned(), true);
            command = vec!["/dev/pipes/build-script".to_owned()];
        }
        let bytes = self.image.bytes();
        let image = self.build.store.put(&self.build.making, &bytes, &[])?.id;
        let order = run::Order { image: image.clone(), command, environment, mounts: mounted.list.clone() };
        let outcome = self.run_and_commit(step, order, &key).await;
        // It was there for this command only.
        self.build.forget(&image)?;
        outcome
    }

    async fn run_and_commit(&mut self, step: &Step, order: run::Order, key: &str) -> Result<()> {
        let line = step.line;
        // What the runtime had to make to mount upon is not the command's work.
        let mut skip: Vec<PathBuf> =
            ["etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys", "dev"].map(PathBuf::from).into();
        skip.extend(order.mounts.iter().map(|(_, target, _)| PathBuf::from(target.trim_start_matches('/'))));
        let printer = self.build.printer.clone();
        let runner = self.build.runner().await.map_err(|e| Error::at(line, e))?;
        let ran = runner.run(order, &printer).await.map_err(|e| Error::at(line, e))?;
        self.commit(step, key, &ran.upper, &skip)?;
        let runner = self.build.runner().await.map_err(|e| Error::at(line, e))?;
        runner.done(ran).await.map_err(|e| Error::at(line, e))
    }

    async fn copy(&mut self, step: &Step, order: &Copy, add: bool) -> Result<()> {
        copy::run(self, step, order, add).await
    }

    fn workdir(&mut self, step: &Step, path: &str) -> Result<()> {
        let line = step.line;
        let path = self.absolute(path);
        let shown = path.display().to_string();
        self.image.set("WorkingDir", shown.clone());
        let key = self.key(&["WORKDIR", &shown]);
        if self.recall(step, &key)? {
            return Ok(());
        }
        let fail = |what: &str| format!("{what} {shown}");
        let tree =
            Tree::upon(&self.build.store, &self.image.layers).map_err(Error::during(line, fail("make")))?;
        tree.make_directory(&path).map_err(Error::during(line, fail("make")))?;
        self.commit(step, &key, &tree.upper(), &[])
    }

    /// A path of the image; those that do not begin at its root begin at the working directory.
    pub fn absolute(&self, path: &str) -> PathBuf {
        let working = self.image.text("WorkingDir");
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{working}/{path}") };
        let mut clean = PathBuf::from("/");
        for component in Path::new(&whole).components() {
            match component {
                std::path::Component::Normal(name) => clean.push(name),
                std::path::Component::ParentDir => {
                    clean.pop();
                }
                _ => {}
            }
        }
        clean
    }
}

/// `80`, `80/udp`, `8000-8002/tcp`.
fn ports_of(text: &str) -> Option<Vec<String>> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    if first == 0 || last < first {
        return None;
    }
    Some((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, expected) in [
            ("80", Some("80/tcp")),
            ("53/UDP", Some("53/udp")),
            ("1-3", Some("1/tcp 2/tcp 3/tcp")),
            ("3-1", None),
            ("0", None),
            ("x", None),
            ("80/icmp", None),
            ("65536", None),
        ] {
            assert_eq!(ports_of(text).map(|p| p.join(" ")).as_deref(), expected, "{text}");
        }
    }
}
