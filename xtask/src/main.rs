//! Developer commands that are no part of the product: `cargo run --release -- schemas` (in this directory).

mod markers;
mod otherwise;
mod proto;
mod published;
mod roots;
mod schemas;
mod zeroes;

fn main() -> anyhow::Result<()> {
    let command = std::env::args().nth(1).unwrap_or_default();
    match command.as_str() {
        "schemas" => schemas::write(),
        "api-docs" => {
            let page = api::registry::docs::page(&api::registry::Registry::builtin());
            Ok(std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md"), page)?)
        }
        "published" => published::write(&std::env::args().nth(2).unwrap_or_default()),
        _ => anyhow::bail!(
            "unknown command {command:?}: there are `schemas`, which writes crates/api/data, `published <aggregated_v2.json>`, which writes the list of resources there, and `api-docs`, which writes docs/api.md"
        ),
    }
}
