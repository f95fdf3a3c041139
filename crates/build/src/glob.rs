//! Patterns of paths, as `.dockerignore` and `COPY` have them.

/// Whether a name has anything in it that a pattern means.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// One component: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what is meant as it is.
pub fn component(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if n == name.len() && p == pattern.len() {
            return true;
        }
        match (n < name.len()).then(|| one(&pattern[p..], name[n])).flatten() {
            Some(length) => {
                p += length;
                n += 1;
            }
            None => match star {
                Some((after, taken)) if taken < name.len() => {
                    star = Some((after, taken + 1));
                    p = after;
                    n = taken + 1;
                }
                _ => return false,
            },
        }
    }
}

/// How long that is of the pattern which matches one character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => {
            let negated = matches!(pattern.get(1), Some('^' | '!'));
            let begin = 1 + usize::from(negated);
            let end = begin + 1 + pattern.get(begin + 1..)?.iter().position(|c| *c == ']')?;
            let mut set = &pattern[begin..end];
            let mut found = false;
            while let [low, rest @ ..] = set {
                match rest {
                    ['-', high, rest @ ..] => {
                        found |= (*low..=*high).contains(&c);
                        set = rest;
                    }
                    rest => {
                        found |= *low == c;
                        set = rest;
                    }
                }
            }
            (found != negated).then_some(end + 1)
        }
        literal => (*literal == c).then_some(1),
    }
}

/// Whole paths: `**` is any number of components.
pub fn path(pattern: &[&str], path: &[&str]) -> bool {
    // By what of the path the pattern so far may have taken: at most one entry for each component.
    let mut taken = vec![false; path.len() + 1];
    taken[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if *part == "**" {
            let first = taken.iter().position(|t| *t).unwrap_or(taken.len());
            next[first.min(path.len())..].fill(first <= path.len());
        } else {
            for (at, name) in path.iter().enumerate() {
                next[at + 1] = taken[at] && component(part, name);
            }
        }
        taken = next;
    }
    taken[path.len()]
}

/// The lines of a `.dockerignore`.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<(Vec<String>, bool)>,
}

impl Ignore {
    pub fn parse(text: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (line, back) = line.strip_prefix('!').map_or((line, false), |rest| (rest.trim(), true));
            let parts: Vec<String> =
                line.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect();
            (!parts.is_empty()).then_some((parts, back))
        };
        Self { rules: text.lines().filter_map(rule).collect() }
    }

    pub fn of(patterns: &[String]) -> Self {
        Self::parse(&patterns.join("\n"))
    }

    /// What is ignored is so with all below it, until a later line takes it back.
    pub fn ignores(&self, inside: &str) -> bool {
        let names: Vec<&str> = inside.split('/').filter(|p| !p.is_empty()).collect();
        let mut ignored = false;
        for (pattern, back) in &self.rules {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            if (1..=names.len()).any(|end| path(&pattern, &names[..end])) {
                ignored = !back;
            }
        }
        ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            ("*.go", "a.go", true),
            ("*.go", "a.rs", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[!a]x", "bx", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*a*b*", "xaxxbx", true),
            ("*a*b", "xaxxbx", false),
            ("", "", true),
            ("*", "", true),
            ("[", "[", false),
        ] {
            assert_eq!(component(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn ignored() {
        let ignore = Ignore::parse(
            "# c\n*.md\n!README.md\n/target\n**/node_modules\nsrc/**/*.tmp\n\nsecret*\n!secret/public\n",
        );
        for (path, expected) in [
            ("a.md", true),
            ("README.md", false),
            ("docs/a.md", false),
            ("target/debug/x", true),
            ("x/target", false),
            ("a/b/node_modules/c", true),
            ("node_modules", true),
            ("src/a.tmp", true),
            ("src/a/b/c.tmp", true),
            ("secret/a", true),
            ("secret/public/a", false),
        ] {
            assert_eq!(ignore.ignores(path), expected, "{path}");
        }
        assert!(!Ignore::parse("").ignores("a"));
        assert!(path(&["**"], &["a", "b"]) && path(&["**", "b"], &["b"]) && !path(&["a"], &["a", "b"]));
    }
}
