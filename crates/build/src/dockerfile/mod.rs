//! Dockerfiles as data: what is written, before any variable is put in.
//!
//! [`lines`] makes instructions of lines, [`instruction`] takes each apart, [`words`] puts variables into them later,
//! when a stage is built and their values are known.

mod flags;
mod instruction;
mod lines;
pub mod words;

use crate::{Error, Result};
pub use instruction::{Command, Copy, Health, Instruction, Mount, MountKind, Run};
pub use lines::Heredoc;

/// More than any Dockerfile that a person wrote.
pub const LARGEST: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    pub escape: char,
    /// `ARG`s before the first stage: name, default.
    pub arguments: Vec<(usize, String, Option<String>)>,
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub line: usize,
    /// An image, an earlier stage, or `scratch`; with variables in it.
    pub base: String,
    pub name: Option<String>,
    pub platform: Option<String>,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub line: usize,
    /// As it was written, on one line: for people, and for the image's history.
    pub text: String,
    pub instruction: Instruction,
}

/// Takes a Dockerfile apart.
pub fn parse(text: &str) -> Result<Dockerfile> {
    if text.len() > LARGEST {
        return Err(Error::at(1, format!("the Dockerfile is larger than {LARGEST} bytes")));
    }
    let (escape, lines) = lines::logical(text)?;
    let mut file = Dockerfile { escape, arguments: Vec::new(), stages: Vec::new() };
    for line in lines {
        let (name, rest) = lines::instruction(&line.text);
        if name == "FROM" {
            file.stages.push(stage(line.number, rest)?);
            continue;
        }
        let instruction = instruction::parse(&name, rest, &line, escape)?;
        match (file.stages.last_mut(), instruction) {
            (Some(stage), instruction) => {
                stage.steps.push(Step { line: line.number, text: line.text.clone(), instruction });
            }
            (None, Instruction::Arg(arguments)) => {
                file.arguments.extend(arguments.into_iter().map(|(name, value)| (line.number, name, value)));
            }
            (None, _) => {
                return Err(Error::at(line.number, format!("{name} comes before the first FROM")));
            }
        }
    }
    if file.stages.is_empty() {
        return Err(Error::at(1, "there is no FROM: nothing to build".to_owned()));
    }
    Ok(file)
}

/// One instruction that an image left for those built upon it.
pub fn parse_trigger(text: &str, escape: char, line: usize) -> Result<Step> {
    let (name, rest) = lines::instruction(text);
    if matches!(name.as_str(), "FROM" | "ONBUILD" | "MAINTAINER") {
        return Err(Error::at(line, format!("{name} cannot be an ONBUILD trigger")));
    }
    let line = lines::Line { number: line, text: text.to_owned(), heredocs: Vec::new() };
    let instruction = instruction::parse(&name, rest, &line, escape)?;
    Ok(Step { line: line.number, text: text.to_owned(), instruction })
}

/// `[--platform=P] IMAGE [AS NAME]`
fn stage(line: usize, rest: &str) -> Result<Stage> {
    let (flags, rest) = flags::split(rest, line)?;
    let mut platform = None;
    for (name, value) in flags {
        match (name.as_str(), value) {
            ("platform", Some(value)) => platform = Some(value),
            (name, _) => return Err(Error::at(line, format!("FROM has no flag --{name}"))),
        }
    }
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, as_, name] if as_.eq_ignore_ascii_case("as") => (*base, Some(stage_name(name, line)?)),
        _ => return Err(Error::at(line, "FROM takes an image, or an image AS a name".to_owned())),
    };
    Ok(Stage { line, base: base.to_owned(), name, platform, steps: Vec::new() })
}

fn stage_name(name: &str, line: usize) -> Result<String> {
    let lower = name.to_ascii_lowercase();
    let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !valid || lower == "scratch" || lower == "context" {
        return Err(Error::at(line, format!("{name:?} is no name for a stage")));
    }
    Ok(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        match (parse(text), expected) {
            (Ok(file), Ok(expected)) => {
                let steps = file.stages.iter().flat_map(|s| &s.steps);
                let shown: Vec<String> = steps.map(|s| format!("{:?}", s.instruction)).collect();
                assert_eq!(shown.join("; "), expected, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text:?}: {error}"),
            (found, expected) => panic!("{text:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn instructions() {
        let run = |command: &str| format!("Run(Run {{ command: {command}, mounts: [] }})");
        check("FROM a\nRUN echo a \\\n  b\n", Ok(&run(r#"Shell("echo a   b")"#)));
        check("FROM a\nRUN echo a \\\n# comment\n\n  b", Ok(&run(r#"Shell("echo a   b")"#)));
        check("FROM a\nrun [\"a\", \"b c\"]", Ok(&run(r#"Exec(["a", "b c"])"#)));
        check("FROM a\nRUN [\"a\", b]", Ok(&run(r#"Shell("[\"a\", b]")"#)));
        check("# escape=`\nFROM a\nRUN a `\n b", Ok(&run(r#"Shell("a  b")"#)));
        check(
            "FROM a\nENV a=1 b=\"2 3\" c=4\\ 5",
            Ok(r#"Env([("a", "1"), ("b", "\"2 3\""), ("c", "4\\ 5")])"#),
        );
        check("FROM a\nENV a 1 2", Ok(r#"Env([("a", "1 2")])"#));
        check("FROM a\nARG x\nARG y=1 z", Ok(r#"Arg([("x", None)]); Arg([("y", Some("1")), ("z", None)])"#));
        check("FROM a\nUSER me:us\nWORKDIR /a b", Ok(r#"User("me:us"); Workdir("/a b")"#));
        check("FROM a\nCMD [\"x\"]\nENTRYPOINT y z", Ok(r#"Cmd(Exec(["x"])); Entrypoint(Shell("y z"))"#));
        check(
            "FROM a\nVOLUME [\"/a\", \"/b c\"]\nVOLUME /c /d",
            Ok(r#"Volume(["/a", "/b c"]); Volume(["/c", "/d"])"#),
        );
        check(
            "FROM a\nHEALTHCHECK NONE",
            Ok("Healthcheck(Health { test: [\"NONE\"], times: [], retries: None })"),
        );
        check("FROM a\nSHELL [\"/bin/ash\", \"-c\"]", Ok(r#"Shell(["/bin/ash", "-c"])"#));
        check("FROM a\nONBUILD RUN x", Ok(r#"OnBuild("RUN x")"#));
    }

    #[test]
    fn errors_name_their_line() {
        for (text, part) in [
            ("", "Dockerfile:1: there is no FROM"),
            ("RUN x", "Dockerfile:1: RUN comes before the first FROM"),
            ("FROM a\n\nNOPE x", "Dockerfile:3: unknown instruction \"NOPE\""),
            ("FROM", "Dockerfile:1: FROM takes"),
            ("FROM a b c", "Dockerfile:1: FROM takes"),
            ("FROM a AS 1x", "no name for a stage"),
            ("FROM --nope=1 a", "no flag --nope"),
            ("FROM a\nRUN --nope x", "Dockerfile:2: RUN has no flag --nope"),
            ("FROM a\nCOPY x", "Dockerfile:2: COPY needs"),
            ("FROM a\nCOPY --from= x y", "--from"),
            ("FROM a\nENV a=1 b", "Dockerfile:2"),
            ("FROM a\nENV", "Dockerfile:2: ENV needs"),
            ("FROM a\nSHELL sh -c", "Dockerfile:2: SHELL"),
            ("FROM a\nONBUILD FROM x", "Dockerfile:2: FROM cannot"),
            ("FROM a\nONBUILD ONBUILD RUN x", "Dockerfile:2: ONBUILD cannot"),
            ("FROM a\nHEALTHCHECK --interval=x CMD y", "Dockerfile:2: HEALTHCHECK"),
            ("FROM a\nRUN <<EOF\necho", "Dockerfile:2: the here-document EOF has no end"),
        ] {
            check(text, Err(part));
        }
    }

    #[test]
    fn here_documents() {
        let file =
            parse("FROM a\nRUN <<EOF\na\n  b\nEOF\nCOPY <<-'X' <<Y /d/\n\t$a\n\tX\n$b\nY\nUSER x").unwrap();
        let [run, copy, user] = file.stages[0].steps.as_slice() else { panic!("{file:?}") };
        let Instruction::Run(run) = &run.instruction else { panic!("{run:?}") };
        assert_eq!(run.command, Command::Script("a\n  b\n".into()));
        let Instruction::Copy(copy) = &copy.instruction else { panic!("{copy:?}") };
        let documents: Vec<_> =
            copy.documents.iter().map(|d| (d.name.as_str(), d.text.as_str(), d.expand)).collect();
        assert_eq!(documents, [("X", "$a\n", false), ("Y", "$b\n", true)]);
        assert_eq!((copy.sources.len(), copy.target.as_str(), user.line), (0, "/d/", 11));
        let file = parse("FROM a\nRUN cat <<A && cat <<<x\nb\nA\n").unwrap();
        let Instruction::Run(run) = &file.stages[0].steps[0].instruction else { panic!("{file:?}") };
        assert_eq!(run.command, Command::Shell("cat <<A && cat <<<x\nb\nA\n".into()));
    }

    #[test]
    fn copies() {
        let file = parse(
            "FROM a AS One\nCOPY --from=b --chown=1:2 --chmod=755 --link x y /z\nADD [\"a b\", \"/c d\"]",
        )
        .unwrap();
        assert_eq!(file.stages[0].name.as_deref(), Some("one"));
        let Instruction::Copy(copy) = &file.stages[0].steps[0].instruction else { panic!("{file:?}") };
        assert_eq!((copy.sources.join(","), copy.target.as_str()), ("x,y".into(), "/z"));
        assert_eq!(
            (copy.from.as_deref(), copy.chown.as_deref(), copy.chmod.as_deref()),
            (Some("b"), Some("1:2"), Some("755"))
        );
        let Instruction::Add(add) = &file.stages[0].steps[1].instruction else { panic!("{file:?}") };
        assert_eq!((add.sources.join(","), add.target.as_str()), ("a b".into(), "/c d"));
    }
}
