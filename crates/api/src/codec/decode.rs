//! Decoding into values while remembering which fields were given twice.
//!
//! serde's usual maps let the last of two equal keys win in silence. kube-apiserver does so as well but tells the
//! user, so this has a visitor of its own that keeps track of where it is.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::CodecError;

/// Duplicates beyond this many are not listed.
const MAX_DUPLICATES: usize = 100;

/// As deep as serde_json goes.
const MAX_YAML_DEPTH: usize = 128;

/// The reader needs up to 16 KiB for each level (without optimization), more than the stacks of servers' threads hold.
const YAML_STACK: usize = 8 << 20;

/// An object as it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Paths of fields given more than once (`spec.replicas`). The last value won.
    pub duplicate_fields: Vec<String>,
    /// In YAML they are told by line.
    pub(super) duplicate_lines: Option<String>,
}

impl Decoded {
    /// `duplicate field "spec.replicas"`, for each: the text of a warning, or part of a strict decoding error.
    pub fn duplicate_field_messages(&self) -> impl Iterator<Item = String> {
        let paths = if self.duplicate_lines.is_some() { &[][..] } else { &self.duplicate_fields };
        let each = paths.iter().map(|path| format!("duplicate field {path:?}"));
        self.duplicate_lines.clone().into_iter().chain(each)
    }
}

pub(super) fn json(body: &[u8]) -> Result<Decoded, CodecError> {
    serde_json::from_slice(body).map_err(|error| CodecError::Json(go_json_error(&error, body)))
}

/// What starts as JSON mostly is: clients that apply send it as YAML, and JSON is read faster.
pub(super) fn yaml(body: &[u8]) -> Result<Decoded, CodecError> {
    if body.trim_ascii_start().starts_with(b"{")
        && let Ok(decoded) = serde_json::from_slice::<Decoded>(body)
        && decoded.duplicate_fields.is_empty()
    {
        return Ok(decoded);
    }
    let text = std::str::from_utf8(body).map_err(|_| CodecError::Yaml("invalid UTF-8".to_owned()))?;
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("yaml".to_owned()).stack_size(YAML_STACK);
        let reader = reader.spawn_scoped(scope, || read_yaml(text));
        let reader = reader.map_err(|error| CodecError::Yaml(format!("cannot be read now: {error}")))?;
        reader.join().unwrap_or_else(|_| Err(CodecError::Yaml("cannot be read".to_owned())))
    })
}

fn read_yaml(text: &str) -> Result<Decoded, CodecError> {
    // The schemas inside of custom resource definitions are nested deeper than the 64 levels that are usual.
    let mut budget = serde_saphyr::budget::Budget::default();
    budget.max_depth = MAX_YAML_DEPTH;
    let options = serde_saphyr::options! {
        budget: Some(budget),
        // Forwarded to our visitor, which notes them.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        emit_comments: false,
    };
    let failed = |error: serde_saphyr::Error| CodecError::Yaml(first_line(&error.to_string()));
    let mut decoded: Decoded = serde_saphyr::from_str_with_options(text, options.clone()).map_err(failed)?;
    if !decoded.duplicate_fields.is_empty() {
        let Lines(lines) = serde_saphyr::from_str_with_options(text, options).map_err(failed)?;
        decoded.duplicate_lines = Some(format!("yaml: unmarshal errors:{lines}"));
    }
    Ok(decoded)
}

/// The keys that a YAML document has twice, with their lines. Read in a second pass, which few documents need.
struct Lines(String);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lines = RefCell::new((String::new(), 0));
        LineSeed(&lines).deserialize(deserializer)?;
        Ok(Lines(lines.into_inner().0))
    }
}

/// What a visitor that looks for keys makes of values without any.
macro_rules! pass_over_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_none<E>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}
pub(super) use pass_over_scalars;

struct LineSeed<'a>(&'a RefCell<(String, usize)>);

impl LineSeed<'_> {
    fn note(&self, key: &str, line: impl fmt::Display) {
        let mut lines = self.0.borrow_mut();
        if lines.1 < MAX_DUPLICATES {
            lines.1 += 1;
            lines.0.push_str(&format!("\n  line {line}: key {key:?} already set in map"));
        }
    }
}

impl<'de> DeserializeSeed<'de> for LineSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LineSeed<'_> {
    type Value = ();

    pass_over_scalars!();

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(LineSeed(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            if seen.contains(&key.value) {
                self.note(&key.value, key.referenced.line());
            }
            seen.insert(key.value);
            entries.next_value_seed(LineSeed(self.0))?;
        }
        Ok(())
    }
}

/// serde's complaint in Go's words where there is a common one, otherwise as it is.
fn go_json_error(error: &serde_json::Error, body: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let at = offset(body, error.line(), error.column());
    match at.and_then(|at| body.get(at)) {
        Some(byte) if error.is_syntax() && byte.is_ascii_graphic() => {
            let context =
                if at == Some(0) { "looking for beginning of value".to_owned() } else { reason(error) };
            format!("invalid character '{}' {context}", char::from(*byte))
        }
        _ => error.to_string(),
    }
}

/// serde's words without the position, which means nothing to somebody who sent one long line.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match text {
        "expected value" => "looking for beginning of value".to_owned(),
        "key must be a string" => "looking for beginning of object key string".to_owned(),
        "expected `,` or `}`" => "after object key:value pair".to_owned(),
        "expected `,` or `]`" => "after array element".to_owned(),
        "expected `:`" => "after object key".to_owned(),
        "trailing characters" => "after top-level value".to_owned(),
        "expected ident" => "in literal".to_owned(),
        other => format!("({other})"),
    }
}

fn offset(body: &[u8], line: usize, column: usize) -> Option<usize> {
    let before = body
        .split(|byte| *byte == b'\n')
        .take(line.checked_sub(1)?)
        .map(|line| line.len() + 1)
        .sum::<usize>();
    before.checked_add(column)?.checked_sub(1)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let duplicates = RefCell::new(Vec::new());
        let value = Seed { path: &Path::Root, duplicates: &duplicates }.deserialize(deserializer)?;
        Ok(Decoded { value, duplicate_fields: duplicates.into_inner(), duplicate_lines: None })
    }
}

/// Where the decoder is: a list that lives on the stack, written out only for a duplicate.
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Seed<'a> {
    path: &'a Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("numbers must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let path = Path::Index(self.path, array.len());
            match items.next_element_seed(Seed { path: &path, duplicates: self.duplicates })? {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = entries.next_value_seed(Seed { path: &path, duplicates: self.duplicates })?;
            if map.contains_key(&key) {
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() < MAX_DUPLICATES {
                    duplicates.push(path.to_string());
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
