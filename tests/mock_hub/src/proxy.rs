//! A proxy on the loopback interface.

use std::io::{Read, Result, Write, copy};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::http::{Answer, Head};

/// A request that a proxy was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRequest {
    /// `CONNECT` for a tunnel, or what is passed on.
    pub method: String,
    /// `host:port` for a tunnel, or the whole address.
    pub target: String,
    /// The header `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// A running HTTP proxy: it opens tunnels, and passes on whole requests. It stops when dropped.
#[derive(Debug)]
pub struct MockProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    log: Vec<ProxyRequest>,
    refusal: Option<u16>,
    closed: bool,
}

impl MockProxy {
    /// Starts a proxy on a free port.
    ///
    /// # Panics
    ///
    /// When the loopback interface has no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared, thread: Some(thread) }
    }

    /// `host:port` of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers all requests with this status from now on, and passes none on.
    pub fn refuse(&self, status: u16) {
        self.shared.state().refusal = Some(status);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<ProxyRequest> {
        self.shared.state().log.clone()
    }
}

impl Drop for MockProxy {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.state().closed {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || drop(serve(&shared, stream)));
    }
}

fn serve(shared: &Shared, mut client: TcpStream) -> Result<()> {
    let Some(head) = Head::read(ByteByByte(&client))? else { return Ok(()) };
    let refusal = {
        let mut state = shared.state();
        let authorization = head.header("proxy-authorization").map(str::to_owned);
        let (method, target) = (head.method.clone(), head.path.clone());
        state.log.push(ProxyRequest { method, target, authorization });
        state.refusal
    };
    if let Some(status) = refusal {
        return Answer::new(status).write_head(&mut client);
    }
    let host = match head.method.as_str() {
        "CONNECT" => &head.path,
        _ => {
            let rest = head.path.strip_prefix("http://").unwrap_or_default();
            &rest.split('/').next().unwrap_or_default().to_owned()
        }
    };
    let Ok(mut server) = TcpStream::connect(host.as_str()) else {
        return Answer::new(502).write_head(&mut client);
    };
    if head.method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        let path = &head.path["http://".len() + host.len()..];
        let mut text = format!("{} {path} HTTP/1.1\r\n", head.method);
        for (name, value) in &head.headers {
            text += &format!("{name}: {value}\r\n");
        }
        server.write_all(format!("{text}\r\n").as_bytes())?;
    }
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// Reads no further than it is asked, so that nothing of what follows a head is lost.
struct ByteByByte<'a>(&'a TcpStream);

impl Read for ByteByByte<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}
