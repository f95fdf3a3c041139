//! Changes the URLs in HTML as it streams by. Everything else passes byte for byte.

use std::mem;

/// A tag that is longer is passed on as it is.
const LONGEST_TAG: usize = 64 << 10;
/// What is between such a tag and its end is text, whatever it looks like.
const RAW: [&str; 10] =
    ["iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "textarea", "title", "xmp"];

/// Whether an attribute holds a URL.
fn is_link(tag: &str, attribute: &str) -> bool {
    let attributes: &[&str] = match tag {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["formaction", "src", "usemap"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    };
    attributes.contains(&attribute)
}

enum Within {
    Text,
    Comment,
    /// Until the end of the tag with this name.
    Raw(String),
}

pub struct Html<F> {
    change: F,
    within: Within,
    /// What cannot be told yet.
    rest: Vec<u8>,
}

impl<F: Fn(&str) -> Option<String>> Html<F> {
    pub fn new(change: F) -> Self {
        Self { change, within: Within::Text, rest: Vec::new() }
    }

    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.rest.extend_from_slice(piece);
        let input = mem::take(&mut self.rest);
        let mut input = input.as_slice();
        while let Some(used) = self.step(input, out) {
            input = &input[used..];
        }
        self.rest = input.to_vec();
    }

    /// What has not ended by now is as it is.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.rest);
    }

    /// Passes on what is clear and tells how much that was; nothing if more is needed first.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if input.is_empty() {
            return None;
        }
        match &self.within {
            Within::Text => self.text(input, out),
            Within::Comment => {
                let end = find(input, b"-->");
                let used = end.map_or(input.len().saturating_sub(2), |at| at + 3);
                if end.is_some() {
                    self.within = Within::Text;
                }
                pass(input, used, out)
            }
            Within::Raw(name) => {
                let end = format!("</{name}");
                let found =
                    input.windows(end.len()).position(|part| part.eq_ignore_ascii_case(end.as_bytes()));
                let used = found.unwrap_or(input.len().saturating_sub(end.len() - 1));
                if found.is_some() {
                    self.within = Within::Text;
                    out.extend_from_slice(&input[..used]);
                    return Some(used);
                }
                pass(input, used, out)
            }
        }
    }

    fn text(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let before = input.iter().position(|byte| *byte == b'<').unwrap_or(input.len());
        if before > 0 {
            return pass(input, before, out);
        }
        let comment = b"<!--";
        if input.starts_with(comment) {
            self.within = Within::Comment;
            return pass(input, comment.len(), out);
        }
        if comment.starts_with(input) {
            return None;
        }
        if !input[1].is_ascii_alphabetic() {
            return pass(input, 1, out);
        }
        let Some(end) = tag_end(input) else {
            return if input.len() > LONGEST_TAG { pass(input, 1, out) } else { None };
        };
        self.tag(&input[..end], out);
        Some(end)
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let is_space = |byte: u8| byte.is_ascii_whitespace();
        let name_end = tag.iter().position(|byte| is_space(*byte) || matches!(byte, b'/' | b'>'));
        let name_end = name_end.unwrap_or(tag.len());
        let name = String::from_utf8_lossy(&tag[1..name_end]).to_ascii_lowercase();
        let mut at = name_end;
        out.extend_from_slice(&tag[..at]);
        while at < tag.len() {
            let start = at;
            while at < tag.len() && (is_space(tag[at]) || matches!(tag[at], b'/' | b'>')) {
                at += 1;
            }
            let key_start = at;
            while at < tag.len() && !is_space(tag[at]) && !matches!(tag[at], b'/' | b'>' | b'=') {
                at += 1;
            }
            let key = String::from_utf8_lossy(&tag[key_start..at]).to_ascii_lowercase();
            let mut equals = at;
            while equals < tag.len() && is_space(tag[equals]) {
                equals += 1;
            }
            if tag.get(equals) != Some(&b'=') {
                // Something else than an attribute must not stop the way forward.
                at = at.max(start + 1);
                out.extend_from_slice(&tag[start..at]);
                continue;
            }
            at = equals + 1;
            while at < tag.len() && is_space(tag[at]) {
                at += 1;
            }
            let quote = tag.get(at).copied().filter(|byte| matches!(byte, b'"' | b'\''));
            let value_start = at + usize::from(quote.is_some());
            let ends = |byte: &u8| match quote {
                Some(quote) => *byte == quote,
                None => is_space(*byte) || *byte == b'>',
            };
            let length = tag[value_start..].iter().position(ends).unwrap_or(tag.len() - value_start);
            at = value_start + length;
            out.extend_from_slice(&tag[start..value_start]);
            let value = &tag[value_start..at];
            let changed =
                is_link(&name, &key).then(|| std::str::from_utf8(value).ok().and_then(&self.change));
            match changed.flatten() {
                Some(changed) => out.extend_from_slice(changed.as_bytes()),
                None => out.extend_from_slice(value),
            }
        }
        if RAW.contains(&&*name) {
            self.within = Within::Raw(name);
        }
    }
}

fn pass(input: &[u8], used: usize, out: &mut Vec<u8>) -> Option<usize> {
    out.extend_from_slice(&input[..used]);
    (used > 0).then_some(used)
}

fn find(input: &[u8], what: &[u8]) -> Option<usize> {
    input.windows(what.len()).position(|part| part == what)
}

/// Where the tag at the beginning ends, with its bracket.
fn tag_end(input: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in input.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            // Only where a value begins is it a quote.
            (None, b'"' | b'\'') if is_value_start(&input[..at]) => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

fn is_value_start(before: &[u8]) -> bool {
    before.iter().rev().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(input: &[u8], piece: usize) -> String {
        let mut html = Html::new(|link: &str| link.starts_with('/').then(|| format!("/p{link}")));
        let mut out = Vec::new();
        input.chunks(piece.max(1)).for_each(|piece| html.feed(piece, &mut out));
        html.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn links_change_and_nothing_else() {
        let check = |input: &str, expected: &str| {
            for piece in [1, 2, 7, 4096] {
                assert_eq!(rewritten(input.as_bytes(), piece), expected, "{input} by {piece}");
            }
        };
        check("<a href=\"/rewriteme\">test</a>", "<a href=\"/p/rewriteme\">test</a>");
        check("<A class=x HREF = '/x' >", "<A class=x HREF = '/p/x' >");
        check("<a href=/x>y</a>", "<a href=/p/x>y</a>");
        check("<img src=\"/x>y\" alt='/z'/>", "<img src=\"/p/x>y\" alt='/z'/>");
        check("<!-- <a href=\"/x\"> --><a href=\"/x\">", "<!-- <a href=\"/x\"> --><a href=\"/p/x\">");
        check(
            "<script src=\"/a.js\">if (a<b) '<a href=\"/x\">'</script><a href='/x'>",
            "<script src=\"/p/a.js\">if (a<b) '<a href=\"/x\">'</script><a href='/p/x'>",
        );
        check("a < b <a href=\"relative\"><p href=\"/x\">", "a < b <a href=\"relative\"><p href=\"/x\">");
        check("<a href=\"/x", "<a href=\"/x");
        check("<a =x / href=\"/x\" disabled>", "<a =x / href=\"/p/x\" disabled>");
    }

    proptest! {
        #[test]
        fn without_links_every_byte_passes(input in "[<>!/a-c='\" -]{0,60}", piece in 1usize..9) {
            let mut html = Html::new(|_: &str| None);
            let mut out = Vec::new();
            input.as_bytes().chunks(piece).for_each(|piece| html.feed(piece, &mut out));
            html.finish(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), input);
        }
    }
}
