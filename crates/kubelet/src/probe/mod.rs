//! Probes: one task per probe of a running container. It knocks on time and reports each result; what results
//! mean is the state machine's business.

pub mod counts;
pub mod grpc;
pub mod http;
mod runner;
mod tcp;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub use runner::{Probing, start};

/// Why a probe did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsuccessful {
    /// The container has not passed.
    Failed(String),
    /// The container could not be asked: this says nothing about it.
    Errored(String),
}

/// What a probe that has succeeded says beside that, for people.
pub type Warning = Option<String>;

/// A port by number or by the name that the container gives it.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("couldn't find port {} in container {}", shown(port), container.name))
}

fn shown(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
