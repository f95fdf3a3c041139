//! Messages as bytes: the types that calls to systemd and logind and their answers have, in little-endian order, which the
//! bus asks of nobody but every machine here has.

use std::os::fd::OwnedFd;

use super::Error;

/// Larger ones are not for us.
const MOST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Byte(u8),
    Int(i32),
    Number(u32),
    Long(u64),
    Flag(bool),
    /// The number of a file descriptor among those that come along.
    Fd(u32),
    /// Of one type, which an empty one has too.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

/// Deeper nesting than anybody needs is hostile.
const DEEPEST: usize = 16;

impl Value {
    /// As systemd takes its properties: a name and a value of any type.
    pub fn property(name: &str, value: Value) -> Self {
        Self::Struct(vec![Self::Text(name.to_owned()), Self::Variant(Box::new(value))])
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn signature(&self) -> String {
        match self {
            Self::Text(_) => "s".to_owned(),
            Self::Byte(_) => "y".to_owned(),
            Self::Int(_) => "i".to_owned(),
            Self::Number(_) => "u".to_owned(),
            Self::Long(_) => "t".to_owned(),
            Self::Flag(_) => "b".to_owned(),
            Self::Fd(_) => "h".to_owned(),
            Self::Array(of, _) => format!("a{of}"),
            Self::Struct(members) => {
                let members: String = members.iter().map(Self::signature).collect();
                format!("({members})")
            }
            Self::Variant(_) => "v".to_owned(),
        }
    }
}

#[derive(Debug, Default)]
pub struct Message {
    pub kind: Kind,
    pub serial: u32,
    pub reply_to: u32,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub error_name: String,
    pub destination: String,
    pub sender: String,
    pub body: Vec<Value>,
    pub fd_count: u32,
    pub fds: Vec<OwnedFd>,
}

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;
const UNIX_FDS: u8 = 9;

impl Message {
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Self {
        Self {
            kind: Kind::Call,
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            destination: destination.to_owned(),
            body,
            ..Default::default()
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.value(value));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let mut out = Writer(vec![b'l', self.kind as u8, 0, 1]);
        out.number(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
        out.number(self.serial);
        let at = out.0.len();
        out.number(0);
        let texts = [
            (PATH, 'o', &self.path),
            (INTERFACE, 's', &self.interface),
            (MEMBER, 's', &self.member),
            (ERROR_NAME, 's', &self.error_name),
            (DESTINATION, 's', &self.destination),
        ];
        for (code, kind, text) in texts {
            if !text.is_empty() {
                out.field(code, kind);
                out.text(text);
            }
        }
        if !signature.is_empty() {
            out.field(SIGNATURE, 'g');
            out.signature(&signature);
        }
        for (code, number) in [(REPLY_SERIAL, self.reply_to), (UNIX_FDS, self.fd_count)] {
            if number > 0 {
                out.field(code, 'u');
                out.number(number);
            }
        }
        let length = u32::try_from(out.0.len() - at - 4).unwrap_or(u32::MAX);
        if let Some(place) = out.0.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        out.align(8);
        out.0.extend(body.0);
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes, at: 1 };
        let kind = match reader.byte()? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(Error::Malformed("an unknown kind")),
        };
        reader.at = 8;
        let mut message = Self { kind, serial: reader.number()?, ..Default::default() };
        let end = reader.number()? as usize + 16;
        let mut signature = String::new();
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            let mut text = String::new();
            let mut number = 0;
            match kind.as_str() {
                "s" | "o" => text = reader.text()?,
                "g" => text = reader.signature()?,
                "u" => number = reader.number()?,
                _ => return Err(Error::Malformed("a header field of an unknown type")),
            }
            match code {
                PATH => message.path = text,
                INTERFACE => message.interface = text,
                MEMBER => message.member = text,
                ERROR_NAME => message.error_name = text,
                REPLY_SERIAL => message.reply_to = number,
                DESTINATION => message.destination = text,
                SENDER => message.sender = text,
                SIGNATURE => signature = text,
                UNIX_FDS => message.fd_count = number,
                _ => {}
            }
        }
        reader.at = end;
        reader.align(8);
        let mut types = signature.as_str();
        while let Some((kind, rest)) = first_type(types) {
            // What follows a type that we do not know is not for us.
            let Some(value) = reader.value(kind, 0)? else { break };
            message.body.push(value);
            types = rest;
        }
        Ok(message)
    }
}

/// The first complete type of a signature, and what follows it.
fn first_type(signature: &str) -> Option<(&str, &str)> {
    let mut open = 0_usize;
    for (at, kind) in signature.bytes().enumerate() {
        match kind {
            b'(' => open += 1,
            b')' => open = open.checked_sub(1)?,
            b'a' => continue,
            _ => {}
        }
        if open == 0 {
            return signature.split_at_checked(at + 1);
        }
    }
    None
}

fn alignment(kind: &str) -> usize {
    match kind.bytes().next() {
        Some(b'(' | b't') => 8,
        Some(b'y' | b'g' | b'v') => 1,
        _ => 4,
    }
}

/// How many bytes the message has that begins here; nothing while that cannot be told.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(head) = bytes.get(..16) else { return Ok(None) };
    if head.first() != Some(&b'l') {
        return Err(Error::Malformed("the byte order is not ours"));
    }
    let number = |at| Reader { bytes: head, at }.number().map(|number| number as usize);
    let (body, fields) = (number(4)?, number(12)?);
    if body > MOST || fields > MOST {
        return Err(Error::Malformed("it is too large"));
    }
    Ok(Some((16 + fields).next_multiple_of(8) + body))
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The beginning of a header field: its code, and the type of what follows.
    fn field(&mut self, code: u8, kind: char) {
        self.align(8);
        self.0.push(code);
        self.signature(&kind.to_string());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.text(text),
            Value::Byte(byte) => self.0.push(*byte),
            Value::Array(of, items) => {
                self.number(0);
                let at = self.0.len();
                // The length does not count what comes before the first item.
                self.align(alignment(of));
                let from = self.0.len();
                items.iter().for_each(|item| self.value(item));
                let length = u32::try_from(self.0.len() - from).unwrap_or(u32::MAX);
                if let Some(place) = self.0.get_mut(at - 4..at) {
                    place.copy_from_slice(&length.to_le_bytes());
                }
            }
            Value::Struct(members) => {
                self.align(8);
                members.iter().for_each(|member| self.value(member));
            }
            Value::Int(number) => {
                self.align(4);
                self.0.extend(number.to_le_bytes());
            }
            Value::Number(number) | Value::Fd(number) => self.number(*number),
            Value::Long(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Flag(flag) => self.number(u32::from(*flag)),
            Value::Variant(value) => {
                self.signature(&value.signature());
                self.value(value);
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Error> {
        let end = self.at.checked_add(count).ok_or(Error::Malformed("it is too large"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Malformed("it ends too soon"))?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn number(&mut self) -> Result<u32, Error> {
        self.align(4);
        let bytes: [u8; 4] = self.take(4)?.try_into().unwrap_or_default();
        Ok(u32::from_le_bytes(bytes))
    }

    fn string(&mut self, length: usize) -> Result<String, Error> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.number()? as usize;
        self.string(length)
    }

    fn signature(&mut self) -> Result<String, Error> {
        let length = usize::from(self.byte()?);
        self.string(length)
    }

    /// `None` of a type that is not known here.
    fn value(&mut self, kind: &str, depth: usize) -> Result<Option<Value>, Error> {
        if depth > DEEPEST {
            return Err(Error::Malformed("it is nested too deeply"));
        }
        if let Some(of) = kind.strip_prefix('a') {
            return self.array(of, depth);
        }
        if let Some(members) = kind.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            self.align(8);
            let (mut types, mut values) = (members, Vec::new());
            while let Some((kind, rest)) = first_type(types) {
                let Some(value) = self.value(kind, depth + 1)? else { return Ok(None) };
                values.push(value);
                types = rest;
            }
            return Ok(Some(Value::Struct(values)));
        }
        Ok(Some(match kind {
            "s" | "o" => Value::Text(self.text()?),
            "g" => Value::Text(self.signature()?),
            "y" => Value::Byte(self.byte()?),
            "i" => Value::Int(self.number()?.cast_signed()),
            "u" => Value::Number(self.number()?),
            "h" => Value::Fd(self.number()?),
            "b" => Value::Flag(self.number()? != 0),
            "t" => {
                self.align(8);
                Value::Long(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default()))
            }
            "v" => {
                let signature = self.signature()?;
                let Some((kind, "")) = first_type(&signature) else { return Ok(None) };
                match self.value(kind, depth + 1)? {
                    Some(value) => Value::Variant(Box::new(value)),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        }))
    }

    fn array(&mut self, of: &str, depth: usize) -> Result<Option<Value>, Error> {
        let length = self.number()? as usize;
        self.align(alignment(of));
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Error::Malformed("it ends too soon"))?;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            let Some(item) = self.value(of, depth + 1)? else { return Ok(None) };
            if self.at == before {
                return Err(Error::Malformed("an item of no length"));
            }
            items.push(item);
        }
        Ok(Some(Value::Array(of.to_owned(), items)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(body: Vec<Value>) -> Message {
        Message { reply_to: 7, fd_count: 1, ..Message::call("a.b", "/a", "a.b.C", "Do", body) }
    }

    #[test]
    fn what_is_written_is_read() {
        let body = vec![
            Value::Flag(true),
            Value::Text("x".into()),
            Value::Long(1 << 40),
            Value::Int(-1),
            Value::Fd(0),
            Value::Variant(Box::new(Value::Number(3))),
            Value::Array(
                "(sv)".into(),
                vec![
                    Value::property("PIDs", Value::Array("u".into(), vec![Value::Number(7)])),
                    Value::property("Delegate", Value::Flag(true)),
                    Value::property("AllowedCPUs", Value::Array("y".into(), vec![Value::Byte(3)])),
                ],
            ),
            Value::Array("(sa(sv))".into(), Vec::new()),
            Value::Text("after".into()),
        ];
        let bytes = message(body.clone()).encode();
        assert_eq!(length(&bytes).unwrap(), Some(bytes.len()));
        assert_eq!(length(bytes.get(..15).unwrap()).unwrap(), None);
        let read = Message::decode(&bytes).unwrap();
        assert_eq!((read.body, read.reply_to, read.fd_count), (body, 7, 1));
        assert_eq!(
            (read.member.as_str(), read.path.as_str(), read.destination.as_str()),
            ("Do", "/a", "a.b")
        );
    }

    proptest! {
        #[test]
        fn anything_may_come(mut bytes in proptest::collection::vec(any::<u8>(), 16..200), cut in 0_usize..200) {
            bytes[0] = b'l';
            let _ = length(&bytes);
            let _ = Message::decode(&bytes);
            let mut real = message(vec![Value::Text("x".into()), Value::Long(1)]).encode();
            let at = cut % real.len();
            real[at] = bytes[1];
            let _ = Message::decode(&real);
            let _ = Message::decode(&real[..at]);
        }
    }
}
