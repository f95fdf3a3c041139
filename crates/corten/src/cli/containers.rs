//! Images, containers and builds on this machine.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// How to reach a registry.
#[derive(Args, Clone)]
pub struct RegistryArgs {
    /// User and password for the registry, as user:password
    #[arg(long, env = "CORTEN_REGISTRY_CREDS", hide_env_values = true, value_name = "USER:PASSWORD")]
    pub creds: Option<String>,
    /// An identity token for the registry, in place of user and password
    #[arg(long, env = "CORTEN_REGISTRY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub identity_token: Option<String>,
    /// A registry to speak to without TLS; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST:PORT")]
    pub insecure: Vec<String>,
}

#[derive(Subcommand)]
pub enum ImageCommand {
    /// Add the images of an OCI or docker archive; `-` reads it from standard input
    Import {
        archive: PathBuf,
        /// The image's name, where the archive has none
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Write images into an archive that corten, docker, podman and skopeo read
    Export {
        #[arg(required = true)]
        images: Vec<String>,
        /// `-` writes it to standard output
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        output: PathBuf,
    },
    /// Fetch an image from a registry
    Pull {
        image: String,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Send an image to the registry that its name begins with
    Push {
        image: String,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Give an image a further name
    Tag { image: String, name: String },
    /// List the images
    #[command(alias = "ls")]
    List {
        /// Only ids
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show an image's configuration and where it is, as JSON
    Inspect {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Keep an image, whatever room is needed
    Pin { image: String },
    /// Let a pinned image go again
    Unpin { image: String },
    /// Remove images by name or ID
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove images without a name that no container uses
    Prune {
        /// Also those with a name, and what builds keep for the next time
        #[arg(long, short)]
        all: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum CtrNetwork {
    /// That of pods where it is ready, else the machine's
    Auto,
    Pod,
    Host,
}

#[derive(Args, Clone)]
pub struct CtrArgs {
    /// The runtime's CRI socket [default: Corten's own]
    #[arg(long, global = true, env = "CONTAINER_RUNTIME_ENDPOINT", value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct CtrRunArgs {
    #[arg(long)]
    pub name: Option<String>,
    /// Leave it running in the background, and print its ID
    #[arg(long, short)]
    pub detach: bool,
    /// Remove it when it has ended
    #[arg(long)]
    pub rm: bool,
    /// Keep standard input open
    #[arg(long, short)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// NAME=VALUE, or NAME for its value here; may be repeated
    #[arg(long = "env", short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// HOST:CONTAINER[:ro]; may be repeated
    #[arg(long = "volume", short, value_name = "HOST:CONTAINER")]
    pub volumes: Vec<String>,
    #[arg(long, value_enum, default_value = "auto")]
    pub network: CtrNetwork,
    /// UID[:GID] or a name
    #[arg(long, short)]
    pub user: Option<String>,
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// All capabilities and devices of the machine
    #[arg(long)]
    pub privileged: bool,
    /// The most memory it may use, in bytes or as 64m, 1g
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<i64>,
    pub image: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Subcommand)]
pub enum CtrCommand {
    /// List containers that run
    #[command(visible_alias = "list", alias = "ls")]
    Ps {
        /// Also those that do not
        #[arg(long, short)]
        all: bool,
        /// Only ids
        #[arg(long, short)]
        quiet: bool,
    },
    /// Run a container by itself
    Run(CtrRunArgs),
    /// Run a further process in a container
    Exec {
        #[arg(long, short)]
        interactive: bool,
        #[arg(long, short)]
        tty: bool,
        container: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Show all that is known of a container, as JSON
    Inspect { container: String },
    /// Print a container's log
    Logs {
        /// Go on until it ends
        #[arg(long, short)]
        follow: bool,
        /// Only the last lines
        #[arg(long, short = 'n', value_name = "LINES")]
        tail: Option<usize>,
        container: String,
    },
    /// End containers: politely, then by force
    Stop {
        /// Seconds to wait before force
        #[arg(long, short = 't', default_value_t = 10, value_name = "SECONDS")]
        timeout: i64,
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Remove containers
    Rm {
        /// Also those that run
        #[arg(long, short)]
        force: bool,
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Remove what was run from here and has ended
    Prune,
    /// Show what running containers use
    Stats {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Clone)]
pub struct BuildArgs {
    /// The image's name; may be repeated
    #[arg(long = "tag", short, value_name = "NAME")]
    pub tags: Vec<String>,
    /// [default: Dockerfile in the context]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// The value of an ARG: NAME=VALUE, or NAME for its value here; may be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub arguments: Vec<String>,
    /// NAME=VALUE; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// A file that RUN --mount=type=secret shows: id=ID,src=FILE; may be repeated
    #[arg(long = "secret", value_name = "id=ID,src=FILE")]
    pub secrets: Vec<String>,
    /// Do every step anew
    #[arg(long)]
    pub no_cache: bool,
    /// Ask registries for base images that are here
    #[arg(long)]
    pub pull: bool,
    /// Print only the image's ID
    #[arg(long, short)]
    pub quiet: bool,
    /// A registry to speak to without TLS; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST:PORT")]
    pub insecure: Vec<String>,
    /// The directory that COPY takes from, or a Git repository: https://example.org/project.git#revision:directory
    pub context: PathBuf,
}

/// `64m`, `1g`, `1Gi`, or bytes.
fn parse_size(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 1,
        "k" | "ki" | "kb" | "kib" => 1 << 10,
        "m" | "mi" | "mb" | "mib" => 1 << 20,
        "g" | "gi" | "gb" | "gib" => 1 << 30,
        _ => return Err("expected a size such as 64m or 1g".to_owned()),
    };
    let number = digits.parse::<i64>().ok().and_then(|n| n.checked_mul(scale)).filter(|n| *n > 0);
    number.ok_or_else(|| "expected a size such as 64m or 1g".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64m", Some(64 << 20)),
            ("1Gi", Some(1 << 30)),
            ("5", Some(5)),
            ("0", None),
            ("m", None),
            ("1x", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
