//! `docs/api.md`: every resource and verb that is served, against the published API.
//!
//! `xtask api-docs` writes the page; a test compares it with what is served, and that with what is published.

use std::fmt::Write as _;

use super::Registry;

/// What a default kube-apiserver v1.36 serves.
pub const PUBLISHED: &str = include_str!("../../data/published-v1.36.txt");

const HEAD: &str = "# The API that is served

Every resource of a default kube-apiserver v1.36, with the verbs that Corten serves. The table is made from what the
server registers, by

```sh
cd xtask && cargo run --release -- api-docs
```

and a test (`cargo test -p api registry`) compares it with the published discovery documents of v1.36, which are listed
in `crates/api/data/published-v1.36.txt`: a resource, subresource or verb that is missing, or that nobody publishes, fails.

\"all\" stands for create, delete, deletecollection, get, list, patch, update and watch.

| group and version | resource | kind | scope | verbs | subresources |
|---|---|---|---|---|---|
";

const ALL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn sorted(verbs: &[String]) -> Vec<&str> {
    let mut verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    verbs.sort_unstable();
    verbs
}

/// The resources in the form of [`PUBLISHED`], sorted.
pub fn lines(registry: &Registry) -> Vec<String> {
    let mut lines: Vec<String> = registry
        .iter()
        .map(|resource| {
            let verbs = sorted(&resource.verbs);
            let verbs = if verbs == ALL { "*".to_owned() } else { verbs.join(",") };
            let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
            let version = resource.gvk.api_version();
            let mut line = format!("{version} {} {} {scope} {verbs}", resource.plural, resource.gvk.kind);
            let mut below: Vec<String> = resource
                .subresources
                .iter()
                .map(|sub| format!(" {}:{}", sub.name, sorted(&sub.verbs).join(",")))
                .collect();
            below.sort_unstable();
            line.extend(below);
            line
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// The page.
pub fn page(registry: &Registry) -> String {
    let mut page = HEAD.to_owned();
    for line in lines(registry) {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (version, plural, kind, scope, verbs) = (next(), next(), next(), next(), next());
        let verbs = if verbs == "*" { "all".to_owned() } else { verbs.replace(',', ", ") };
        let below: Vec<String> =
            words.map(|sub| sub.replacen(':', " (", 1).replace(',', ", ") + ")").collect();
        // Writing to a String cannot fail.
        let _ =
            writeln!(page, "| {version} | {plural} | {kind} | {scope} | {verbs} | {} |", below.join("; "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_served_and_nothing_else() {
        let mut published: Vec<&str> = PUBLISHED.lines().filter(|line| !line.starts_with('#')).collect();
        published.sort_unstable();
        let served = lines(&Registry::builtin());
        let missing: Vec<&&str> =
            published.iter().filter(|line| !served.iter().any(|s| s == **line)).collect();
        let surplus: Vec<&String> =
            served.iter().filter(|line| !published.contains(&line.as_str())).collect();
        assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\nsurplus: {surplus:#?}");
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(&Registry::builtin()),
            "docs/api.md is not what is served: cd xtask && cargo run --release -- api-docs"
        );
    }
}
