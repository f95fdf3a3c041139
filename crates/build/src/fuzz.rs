//! Hostile input: `fuzz/` gives it to libFuzzer, tests give some of it.

use crate::dockerfile::{self, words};
use crate::glob::{self, Ignore};

/// Dockerfiles, words with variables, ignore files.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(file) = dockerfile::parse(&text) {
        assert!(!file.stages.is_empty(), "a Dockerfile has stages");
    }
    let lookup = |name: &str| name.len().is_multiple_of(2).then(|| name.repeat(2));
    let _ = words::expand(&text, '\\', &lookup);
    let _ = words::expand_document(&text, '`', &lookup);
    let (rules, paths) = text.split_once("\n\n").unwrap_or((&text, &text));
    let ignore = Ignore::parse(rules.get(..rules.len().min(512)).unwrap_or_default());
    for path in paths.lines().take(8) {
        ignore.ignores(path.get(..path.len().min(128)).unwrap_or_default());
        glob::component(
            path.get(..path.len().min(128)).unwrap_or_default(),
            rules.lines().next().unwrap_or_default(),
        );
    }
}

#[cfg(test)]
mod tests {
    const SEEDS: [&[u8]; 4] = [
        b"# escape=`\nARG V=1\nFROM --platform=$P a:${V:-2} AS x\nRUN <<EOF\nb\nEOF\nCOPY --from=x --chown=1:2 a* /b/\n",
        b"FROM a\nHEALTHCHECK --interval=1m30s CMD [\"x\"]\nENV a=\"b $c\" d=${e%%.*} f=${g//x/y}\nONBUILD ADD x y\n",
        b"${a:-${b:+'x'}} \"\\$\" ${c#*/} $d",
        b"*.md\n!a/**/b\n[a-z]?\n\na/x/b\nq",
    ];

    #[test]
    fn nothing_panics() {
        fuzzing::drive(&SEEDS, 3000, super::text);
    }
}
