//! Developer commands that are no part of the product: `cargo run --release -- schemas` (in this directory).

mod markers;
mod proto;
mod roots;
mod schemas;
mod zeroes;

fn main() -> anyhow::Result<()> {
    let command = std::env::args().nth(1).unwrap_or_default();
    match command.as_str() {
        "schemas" => schemas::write(),
        _ => anyhow::bail!("unknown command {command:?}: there is `schemas`, which writes crates/api/data"),
    }
}
