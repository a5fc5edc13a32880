//! The two origins, and what goes over their connections.

use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::answers::Content;
use crate::faults::Faults;
use crate::http::{Answer, Ending, Head};
use crate::route::Route;
use crate::{Origin, Request};

/// How long a client may neither send nor take anything.
const IDLE: Duration = Duration::from_secs(30);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    tls: Option<Arc<ServerConfig>>,
    /// Told of each logged request, each release and the end.
    pub(crate) changed: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) content: Content,
    pub(crate) faults: Faults,
    pub(crate) log: Vec<Request>,
    /// How often stalled answers were released.
    pub(crate) releases: u64,
    pub(crate) closed: bool,
}

impl Shared {
    pub(crate) fn new(content: Content, tls: Option<Arc<ServerConfig>>) -> Self {
        let (faults, log) = (Faults::default(), Vec::new());
        let state = Mutex::new(State { content, faults, log, releases: 0, closed: false });
        Self { state, tls, changed: Condvar::new() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides and logs the answer to a request. With it comes the number of releases so far.
    fn decide(&self, origin: Origin, head: Head) -> (Answer, u64) {
        let mut state = self.state();
        let (answer, file) = state.answer(origin, &head);
        let Head { method, path, headers } = head;
        state.log.push(Request { origin, method, path, headers, status: answer.status, file });
        self.changed.notify_all();
        (answer, state.releases)
    }

    /// Waits until there were more releases than this.
    fn wait_for_release(&self, releases: u64) {
        let stalled = |state: &mut State| state.releases == releases && !state.closed;
        let waited = self.changed.wait_while(self.state(), stalled);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn serve(&self, origin: Origin, mut stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        match &self.tls {
            None => self.serve_on(origin, &mut stream)?,
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config));
                let connection = connection.map_err(std::io::Error::other)?;
                let mut tls = StreamOwned::new(connection, stream.try_clone()?);
                self.serve_on(origin, &mut tls)?;
                tls.conn.send_close_notify();
                tls.flush()?;
            }
        }
        stream.shutdown(Shutdown::Write)
    }

    fn serve_on(&self, origin: Origin, stream: &mut (impl Read + Write)) -> Result<()> {
        let Some(head) = Head::read(&mut *stream)? else { return Ok(()) };
        let has_body = head.method != "HEAD";
        let (answer, releases) = self.decide(origin, head);
        answer.write_head(stream)?;
        let body = if has_body { answer.body.as_slice() } else { &[] };
        match answer.ending {
            Ending::Whole => stream.write_all(body)?,
            Ending::DropAfter(bytes) => stream.write_all(&body[..bytes.min(body.len())])?,
            Ending::Stall(bytes) => {
                let (now, later) = body.split_at(bytes.min(body.len()));
                stream.write_all(now)?;
                self.wait_for_release(releases);
                stream.write_all(later)?;
            }
        }
        stream.flush()
    }
}

impl State {
    fn answer(&mut self, origin: Origin, head: &Head) -> (Answer, String) {
        let route = Route::parse(origin, &head.path);
        let file = self.content.file(&route);
        let mut answer = self.content.answer(head, &route);
        let Some(on) = route.on() else { return (answer, file) };
        let Some(fault) = self.faults.take(&file, on, head, &answer) else {
            return (answer, file);
        };
        if let Some(range) = fault.other_range() {
            answer = self.content.answer(&head.with_range(range), &route);
        }
        fault.apply(on, &mut answer);
        (answer, file)
    }
}

/// One origin: a listening port and the thread that accepts its connections.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// A free port of the loopback interface.
    pub(crate) fn bind() -> (TcpListener, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's address");
        (listener, format!("http://{address}"))
    }

    pub(crate) fn start(listener: TcpListener, origin: Origin, shared: &Arc<Shared>) -> Self {
        let address = listener.local_addr().expect("the port's address");
        let shared = Arc::clone(shared);
        let thread = std::thread::spawn(move || accept(&listener, origin, &shared));
        Self { address, thread: Some(thread) }
    }

    /// Closes the port. `closed` must be set.
    pub(crate) fn stop(&mut self) {
        // Only a connection wakes the thread.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, origin: Origin, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.state().closed {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // A client may hang up at any time: that is no error of the hub.
        std::thread::spawn(move || drop(shared.serve(origin, stream)));
    }
}
