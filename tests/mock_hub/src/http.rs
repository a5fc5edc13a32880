//! As much of HTTP/1.1 as the hub needs: one request to a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::ops::Range;

use serde_json::{Value, json};

/// The longest head of a request that is read.
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// The head of a request. Names of headers are in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Head {
    /// Reads a head; none if the other side closed the connection.
    pub(crate) fn read(from: impl Read) -> Result<Option<Self>> {
        let mut lines = BufReader::new(from.take(MAX_HEAD_BYTES)).lines();
        let Some(first) = lines.next().transpose()? else { return Ok(None) };
        let mut words = first.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(Error::new(ErrorKind::InvalidData, "not a request line"));
        };
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line?;
            if line.is_empty() {
                return Ok(Some(Self {
                    method: method.to_owned(),
                    path: path.to_owned(),
                    headers,
                }));
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        Err(Error::new(ErrorKind::UnexpectedEof, "the head has no end"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The same request with another `Range`.
    pub(crate) fn with_range(&self, range: Option<String>) -> Self {
        let mut head = self.clone();
        head.headers.remove("range");
        head.headers.extend(range.map(|range| ("range".to_owned(), range)));
        head
    }

    /// The bearer token.
    pub(crate) fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }
}

/// How the sending of a body ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Whole,
    DropAfter(usize),
    Stall(usize),
}

/// An answer. `Content-Length` is that of the body unless a header says another one.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    removed: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: Ending,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        let (headers, removed, body) = (Vec::new(), Vec::new(), Vec::new());
        Self { status, headers, removed, body, ending: Ending::Whole }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        let answer = Self::new(status).with("Content-Type", "application/json; charset=utf-8");
        Self { body: value.to_string().into_bytes(), ..answer }
    }

    /// An error with a small body as the real servers send it.
    pub(crate) fn error(status: u16, xml: bool) -> Self {
        if !xml {
            return Self::json(status, &json!({ "error": reason(status) }));
        }
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let body = format!("{head}\n<Error><Code>{}</Code></Error>", reason(status));
        let answer = Self::new(status).with("Content-Type", "application/xml");
        Self { body: body.into_bytes(), ..answer }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a header; an empty value removes it.
    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        if value.is_empty() {
            self.removed.push(name.to_ascii_lowercase());
        } else {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    pub(crate) fn set_all(&mut self, headers: Vec<(String, String)>) {
        for (name, value) in headers {
            self.set(&name, &value);
        }
    }

    /// The whole content, or the range of it that the request asks for.
    pub(crate) fn content(head: &Head, content: &[u8], etag: &str) -> Self {
        let answer = Self::new(200).with("Accept-Ranges", "bytes").with("ETag", etag);
        let stale = head.header("if-range").is_some_and(|known| known != etag);
        let range = head.header("range").filter(|_| !stale);
        match range.map_or(Asked::All, |range| Asked::parse(range, content.len())) {
            Asked::All => Self { body: content.to_vec(), ..answer },
            Asked::Part(part) => {
                let (first, last) = (part.start, part.end - 1);
                let value = format!("bytes {first}-{last}/{}", content.len());
                let answer = answer.with("Content-Range", &value);
                Self { status: 206, body: content[part].to_vec(), ..answer }
            }
            Asked::Beyond => {
                let value = format!("bytes */{}", content.len());
                Self { status: 416, ..answer.with("Content-Range", &value) }
            }
        }
    }

    /// Writes status and headers.
    pub(crate) fn write_head(&self, to: &mut impl Write) -> Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let own = [("Content-Length", self.body.len().to_string()), ("Connection", "close".into())];
        for (name, value) in own {
            let replaced = self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            if !replaced && !self.removed.contains(&name.to_ascii_lowercase()) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        to.write_all(format!("{text}\r\n").as_bytes())
    }
}

/// What a `Range` header asks for.
enum Asked {
    All,
    Part(Range<usize>),
    Beyond,
}

impl Asked {
    /// Anything that is not one range of bytes asks for all, as the standard says.
    fn parse(range: &str, length: usize) -> Self {
        let ends = range.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
        let number = |text: &str| text.parse::<usize>().ok();
        let part = match ends {
            Some(("", last)) => number(last).map(|n| length - n.min(length)..length),
            Some((first, "")) => number(first).map(|first| first..length),
            Some((first, last)) => match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => {
                    Some(first..last.saturating_add(1).min(length))
                }
                _ => None,
            },
            None => None,
        };
        match part {
            Some(part) if part.start < part.end => Self::Part(part),
            Some(_) => Self::Beyond,
            None => Self::All,
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Decodes `%XX`.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let digits = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Encodes all but letters, digits, `-`, `_`, `.` and `~`.
pub(crate) fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}
