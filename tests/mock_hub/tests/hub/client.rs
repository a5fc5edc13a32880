//! A client that does nothing by itself: it follows no redirect and shows what really came.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

/// A response as it came over the connection.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) fn get(url: &str) -> Response {
    send("GET", url, &[])
}

pub(crate) fn get_with(url: &str, headers: &[(&str, &str)]) -> Response {
    send("GET", url, headers)
}

pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)]) -> Response {
    read(request(method, url, headers))
}

/// Sends a request whose answer is to be read later.
pub(crate) fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> TcpStream {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").unwrap();
    stream
}

/// Reads an answer until the connection ends.
pub(crate) fn read(mut stream: TcpStream) -> Response {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pairs = lines.map(|line| line.split_once(": ").unwrap());
    let headers = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Response { status, headers, body: bytes[end + 4..].to_vec() }
}
