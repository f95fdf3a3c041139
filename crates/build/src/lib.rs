//! Images built from Dockerfiles.
//!
//! A Dockerfile is taken apart ([`dockerfile`]), the stages that the wanted one needs are built one after the other
//! ([`stage`]): `COPY` writes into an overlay of the stage's layers ([`copy`], [`tree`]), `RUN` is a container of a runtime
//! behind the CRI ([`run`]), and what either has changed becomes a layer of the image store. A layer is remembered by all
//! that it depends on, so a build that is repeated does only what has changed.
//!
//! Dockerfile and context are hostile: no link and no path leads out of the context, and what goes wrong is told with its line.

mod copy;
pub mod dockerfile;
mod error;
pub mod fuzz;
pub mod git;
mod glob;
mod image;
mod mounts;
mod progress;
mod run;
mod source;
mod stage;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;

use dockerfile::{Dockerfile, Instruction, MountKind, words};
use images::{Auth, Making, Registries, Store};

pub use error::{Error, Result};
pub use progress::{Event, Printer};

use glob::Ignore;
use image::Image;
use run::Runner;
use source::Source;
use stage::Work;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub context: PathBuf,
    /// In the context unless given.
    pub dockerfile: Option<PathBuf>,
    /// The stage to build, by name or number; the last if not said.
    pub target: Option<String>,
    pub arguments: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub labels: Vec<(String, String)>,
    pub no_cache: bool,
    /// Ask registries for base images that are here.
    pub pull: bool,
    /// Files that `RUN --mount=type=secret` shows, by id.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Where the directories of `RUN --mount=type=cache` are.
    pub caches: PathBuf,
    /// The CRI socket of the runtime that runs commands; it has the same image store.
    pub socket: PathBuf,
    pub registries: Registries,
}

struct Build {
    options: Options,
    store: Store,
    making: Making,
    printer: Printer,
    runner: Option<Runner>,
    /// `ARG`s before the first stage, and what is known of the platform.
    globals: BTreeMap<String, String>,
    /// Stages that are built, by number; their names.
    built: BTreeMap<usize, Image>,
    names: BTreeMap<String, usize>,
    number: usize,
    total: usize,
}

/// Builds an image and puts it into the store.
pub async fn build(store: &Store, options: Options, printer: Printer) -> Result<images::Image> {
    let path = options.dockerfile.clone().unwrap_or_else(|| options.context.join("Dockerfile"));
    let shown = path.display().to_string();
    let text = fs::read_to_string(&path).map_err(Error::other(format!("read {shown}")))?;
    let file = dockerfile::parse(&text)?;
    let making = store.making()?;
    let mut build = Build {
        globals: platform(),
        options,
        store: store.clone(),
        making,
        printer,
        runner: None,
        built: BTreeMap::new(),
        names: BTreeMap::new(),
        number: 0,
        total: 0,
    };
    let built = build.run(&file).await;
    let finished = match &mut build.runner {
        Some(runner) => runner.finish().await.map_err(Error::Other),
        None => Ok(()),
    };
    let image = built?;
    finished?;
    let named = store.put(&build.making, &image.bytes(), &build.options.tags)?;
    Ok(named)
}

/// What Dockerfiles may ask of the platform.
fn platform() -> BTreeMap<String, String> {
    let architecture = images::architecture();
    let mut known = BTreeMap::new();
    for kind in ["BUILD", "TARGET"] {
        for (name, value) in [
            ("PLATFORM", format!("linux/{architecture}")),
            ("OS", "linux".to_owned()),
            ("ARCH", architecture.to_owned()),
            ("VARIANT", String::new()),
        ] {
            known.insert(format!("{kind}{name}"), value);
        }
    }
    known
}

impl Build {
    async fn run(&mut self, file: &Dockerfile) -> Result<Image> {
        for (line, name, default) in &file.arguments {
            let globals = self.globals.clone();
            let lookup = |wanted: &str| globals.get(wanted).cloned();
            let default = default.as_ref().map(|d| words::expand(d, file.escape, &lookup)).transpose();
            let value = self.argument(name).or(default.map_err(|e| Error::at(*line, e))?);
            if let Some(value) = value {
                self.globals.insert(name.clone(), value);
            }
        }
        for (number, stage) in file.stages.iter().enumerate() {
            if let Some(name) = &stage.name
                && self.names.insert(name.clone(), number).is_some()
            {
                return Err(Error::at(stage.line, format!("there is a stage {name:?} before")));
            }
        }
        let target = match &self.options.target {
            None => file.stages.len() - 1,
            Some(wanted) => self
                .stage(wanted)
                .filter(|n| *n < file.stages.len())
                .ok_or_else(|| Error::Other(format!("the Dockerfile has no stage {wanted:?}")))?,
        };
        let needed = self.needed(file, target)?;
        self.total = needed.iter().filter_map(|n| file.stages.get(*n)).map(|s| s.steps.len() + 1).sum();
        for (number, stage) in file.stages.iter().enumerate().filter(|(n, _)| needed.contains(n)) {
            self.number += 1;
            let text = match &stage.name {
                Some(name) => format!("FROM {} AS {name}", stage.base),
                None => format!("FROM {}", stage.base),
            };
            let (step, total) = (self.number, self.total);
            self.printer.tell(Event::Step { number: step, total, text });
            let base = self.base(file, number).await?;
            let image = Work::new(self, base, file.escape).run(stage).await?;
            self.built.insert(number, image);
        }
        let mut image = self.built.remove(&target).unwrap_or_else(Image::scratch);
        for (name, value) in self.options.labels.clone() {
            image.add("Labels", name, value.into());
        }
        Ok(image)
    }

    /// The number of a stage, by name or number.
    fn stage(&self, name: &str) -> Option<usize> {
        let by_name = self.names.get(&name.to_ascii_lowercase()).copied();
        by_name.or_else(|| name.parse().ok())
    }

    fn global(&self, text: &str, escape: char, line: usize) -> Result<String> {
        let lookup = |name: &str| self.globals.get(name).cloned();
        words::expand(text, escape, &lookup).map_err(|e| Error::at(line, e))
    }

    /// Those stages without which the wanted one cannot be built.
    fn needed(&self, file: &Dockerfile, target: usize) -> Result<HashSet<usize>> {
        let mut needed = HashSet::new();
        let mut left = vec![target];
        while let Some(number) = left.pop() {
            let (Some(stage), true) = (file.stages.get(number), needed.insert(number)) else { continue };
            let mut names = vec![self.global(&stage.base, file.escape, stage.line)?];
            for step in &stage.steps {
                match &step.instruction {
                    Instruction::Copy(copy) => names.extend(copy.from.clone()),
                    Instruction::Run(run) => names.extend(
                        run.mounts
                            .iter()
                            .filter(|m| m.kind == MountKind::Bind)
                            .filter_map(|m| m.from.clone()),
                    ),
                    _ => {}
                }
            }
            // Only what comes before can be meant: a later stage of that name is an image's.
            let earlier = |name: &String| self.stage(name).filter(|n| *n < number);
            left.extend(names.iter().filter_map(earlier));
        }
        Ok(needed)
    }

    /// What a stage begins with.
    async fn base(&mut self, file: &Dockerfile, number: usize) -> Result<Image> {
        let Some(stage) = file.stages.get(number) else { return Ok(Image::scratch()) };
        let line = stage.line;
        if let Some(platform) = &stage.platform {
            let platform = self.global(platform, file.escape, line)?;
            let own = format!("linux/{}", images::architecture());
            if platform != own && !platform.starts_with(&format!("{own}/")) {
                return Err(Error::at(line, format!("images for {platform} cannot be built on {own}")));
            }
        }
        let name = self.global(&stage.base, file.escape, line)?;
        if name.is_empty() {
            return Err(Error::at(
                line,
                format!("{} is empty: give it a value with --build-arg", stage.base),
            ));
        }
        if name == "scratch" {
            return Ok(Image::scratch());
        }
        if let Some(built) = self.stage(&name).filter(|n| *n < number).and_then(|n| self.built.get(&n)) {
            let mut image = built.clone();
            // What was to be done for others is not for later stages of the same file.
            image.config().remove("OnBuild");
            return Ok(image);
        }
        let image = self.image(&name, line).await?;
        Image::of(&image).map_err(Error::during(line, &name))
    }

    /// An image of the store or of a registry.
    async fn image(&self, name: &str, line: usize) -> Result<images::Image> {
        let fail = |e: images::Error| Error::at(line, e);
        if !self.options.pull
            && let Some(image) = self.store.get(name).map_err(fail)?
        {
            return Ok(image);
        }
        self.printer.tell(Event::Pull(name.to_owned()));
        let registries = &self.options.registries;
        self.store.pull(name, &Auth::Anonymous, registries, &images::no_progress()).await.map_err(fail)
    }

    /// A `--build-arg`.
    fn argument(&self, name: &str) -> Option<String> {
        self.options.arguments.get(name).cloned()
    }

    fn context(&self) -> std::result::Result<Source, String> {
        let directory = &self.options.context;
        let own = self.options.dockerfile.as_ref().map(|p| {
            let mut name = p.clone().into_os_string();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        let files = own.into_iter().chain([directory.join(".dockerignore")]);
        let text = files.into_iter().find_map(|f| fs::read_to_string(f).ok()).unwrap_or_default();
        Source::context(directory, Ignore::parse(&text))
            .map_err(|e| format!("open {}: {e}", directory.display()))
    }

    /// Layers of a stage that is built, or of an image that is here.
    fn layers_of(&self, name: &str) -> Option<Vec<String>> {
        match self.stage(name).and_then(|n| self.built.get(&n)) {
            Some(built) => Some(built.layers.clone()),
            None => self.store.get(name).ok().flatten().map(|image| image.layers),
        }
    }

    /// What `--from` names.
    async fn tree_of(&mut self, name: &str, line: usize) -> Result<Source> {
        let built = self.stage(name).and_then(|n| self.built.get(&n)).map(|built| built.layers.clone());
        let layers = match built {
            Some(layers) => layers,
            None => self.image(name, line).await?.layers,
        };
        if layers.is_empty() {
            return Err(Error::at(line, format!("{name} is empty")));
        }
        let tree = tree::view(&self.store, &layers).map_err(Error::during(line, format!("mount {name}")))?;
        Ok(Source::tree(tree))
    }

    async fn runner(&mut self) -> std::result::Result<&mut Runner, String> {
        let runner = match self.runner.take() {
            Some(runner) => runner,
            None => Runner::connect(&self.options.socket).await?,
        };
        Ok(self.runner.insert(runner))
    }

    /// An image that was there for one command only.
    fn forget(&self, id: &str) -> Result<()> {
        match self.store.get(id)? {
            Some(image) if image.repo_tags.is_empty() && image.repo_digests.is_empty() => {
                Ok(self.store.remove(id)?)
            }
            _ => Ok(()),
        }
    }
}
