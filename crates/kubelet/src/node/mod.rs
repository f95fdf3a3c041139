//! The node as the API sees it: its object, its status, its lease.

mod advertised;
mod lease;
pub mod machine_info;
mod object;
mod runtime_network;
mod status;
mod sync;

pub use lease::keep as keep_lease;
pub use object::{SERVING_CERTIFICATE, serving_certificate};
pub use runtime_network::follow as follow_pod_cidr;
pub use status::Health;
pub use sync::keep as keep_status;
