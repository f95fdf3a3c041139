//! The verbs.

use std::path::PathBuf;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;

use super::arguments::Arguments;
use super::bundle;

type Outcome = Result<(), String>;

pub fn run(arguments: &Arguments) -> Outcome {
    match arguments.command.as_str() {
        "run" => create(arguments).and_then(|mut c| c.start().map_err(chain)),
        "create" => create(arguments).map(drop),
        "start" => load(arguments)?.start().map_err(chain),
        "state" => state(arguments),
        "kill" => kill(arguments),
        "delete" => delete(arguments),
        "exec" => exec(arguments),
        other => Err(format!("unknown command {other:?}")),
    }
}

fn create(arguments: &Arguments) -> Result<Container, String> {
    bundle::soften(&arguments.bundle)?;
    bundle::mount_root(&arguments.bundle)?;
    builder(arguments)?
        .as_init(&arguments.bundle)
        .with_systemd(arguments.systemd_cgroup)
        .with_detach(true)
        .build()
        .map_err(chain)
}

fn builder(arguments: &Arguments) -> Result<ContainerBuilder, String> {
    std::fs::create_dir_all(&arguments.root)
        .map_err(|e| format!("make {}: {e}", arguments.root.display()))?;
    ContainerBuilder::new(arguments.id.clone(), SyscallType::Linux)
        .with_root_path(&arguments.root)
        .and_then(|b| b.with_pid_file(arguments.pid_file.clone()))
        .and_then(|b| b.with_console_socket(arguments.console_socket.clone()).validate_id())
        .map_err(chain)
}

fn directory(arguments: &Arguments) -> Result<PathBuf, String> {
    let plain = !arguments.id.contains('/') && arguments.id != "." && arguments.id != "..";
    let directory = arguments.root.join(&arguments.id);
    if plain && directory.is_dir() {
        Ok(directory)
    } else {
        Err(format!("container {:?} does not exist", arguments.id))
    }
}

fn load(arguments: &Arguments) -> Result<Container, String> {
    Container::load(directory(arguments)?).map_err(chain)
}

fn state(arguments: &Arguments) -> Outcome {
    let container = load(arguments)?;
    let text = serde_json::to_string_pretty(&container.state).map_err(chain)?;
    println!("{text}");
    Ok(())
}

fn kill(arguments: &Arguments) -> Outcome {
    let word = arguments.rest.first().map_or("SIGTERM", String::as_str);
    let signal: Signal = word.trim_start_matches('-').try_into().map_err(chain)?;
    load(arguments)?.kill(signal, true).map_err(chain)
}

fn delete(arguments: &Arguments) -> Outcome {
    match directory(arguments) {
        Ok(_) => load(arguments)?.delete(arguments.force).map_err(chain),
        Err(_) if arguments.force => Ok(()),
        Err(e) => Err(e),
    }
}

fn exec(arguments: &Arguments) -> Outcome {
    let tenant =
        builder(arguments)?.as_tenant().with_detach(true).with_container_args(arguments.rest.clone());
    tenant.with_process(arguments.process.clone()).build().map(drop).map_err(chain)
}

/// An error with its causes, each told once.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
