//! URLs as the `url(..)` function takes them: absolute URIs and absolute paths, split as Go's `net/url` does.

/// A URL and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub text: String,
    pub scheme: String,
    /// With the port, and with brackets around IPv6 addresses.
    pub host: String,
    /// As it was written.
    pub path: String,
    pub query: String,
}

impl Url {
    /// None for what is neither an absolute URI nor an absolute path.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte > 0x20 && byte != 0x7f;
        if text.is_empty() || !text.bytes().all(plain) {
            return None;
        }
        let mut url = Self {
            text: text.to_owned(),
            scheme: String::new(),
            host: String::new(),
            path: String::new(),
            query: String::new(),
        };
        let mut rest = text;
        if let Some((scheme, after)) = text.split_once(':')
            && is_scheme(scheme)
        {
            url.scheme = scheme.to_ascii_lowercase();
            rest = after;
        }
        if let Some((before, query)) = rest.split_once('?') {
            url.query = query.to_owned();
            rest = before;
        }
        if !rest.starts_with('/') {
            // `mailto:x` is an absolute URI whose rest is opaque; without a scheme it is a relative path.
            return (!url.scheme.is_empty()).then_some(url);
        }
        let authority =
            rest.strip_prefix("//").filter(|after| !url.scheme.is_empty() || !after.starts_with('/'));
        if let Some(after) = authority.filter(|_| !url.scheme.is_empty()) {
            let end = after.find('/').unwrap_or(after.len());
            let host = after[..end].rsplit_once('@').map_or(&after[..end], |(_, host)| host);
            if !is_host(host) {
                return None;
            }
            url.host = unescaped(host)?;
            rest = &after[end..];
        }
        unescaped(rest)?;
        url.path = rest.to_owned();
        Some(url)
    }

    /// Without the port and the brackets.
    pub fn hostname(&self) -> &str {
        let (host, _) = split_port(&self.host);
        host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
    }

    pub fn port(&self) -> &str {
        split_port(&self.host).1
    }

    /// Keys with their values, decoded, in the order in which they come. Pairs that cannot be decoded are left out.
    pub fn queries(&self) -> Vec<(String, Vec<String>)> {
        let mut queries: Vec<(String, Vec<String>)> = Vec::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| unescaped(&text.replace('+', " "));
            let (Some(key), Some(value)) = (decoded(key), decoded(value)) else { continue };
            match queries.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => queries.push((key, vec![value])),
            }
        }
        queries
    }

    /// The path with what has to be escaped escaped.
    pub fn escaped_path(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte);
        self.path
            .bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = split_port(host);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    match name.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|inner| !inner.contains(['[', ']'])),
        None => {
            let plain = |byte: u8| {
                byte.is_ascii_alphanumeric() || byte >= 0x80 || b"-_.~!$&'()*+,;=%\"<>".contains(&byte)
            };
            name.bytes().all(plain)
        }
    }
}

fn unescaped(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digits = text.get(at + 1..at + 3)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}
