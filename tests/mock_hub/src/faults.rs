//! Disturbances on demand.

use crate::http::{Answer, Ending, Head};

/// Which kind of request is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The commit of a revision (`/api/models/…`).
    Revision,
    /// The list of files (`/api/models/…/tree/…`).
    Tree,
    /// A file at the hub (`/…/resolve/…`).
    Resolve,
    /// A file at the CDN.
    Cdn,
}

/// What goes wrong.
///
/// A fault of the body waits for an answer that has one: neither the answer to HEAD nor a redirect
/// uses it up. A fault of the range waits for a request of a range.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Right headers, then the connection is closed after so many bytes of the body.
    DropAfter(u64),
    /// This status with these headers, and a small body: XML at the CDN, JSON at the hub.
    Status(u16, Vec<(String, String)>),
    /// The right length, but every byte is another one (xor 0x5a).
    WrongBytes,
    /// Content-Length and body are only so long, and agree.
    Short(u64),
    /// 200 with the whole file, although a range was asked for.
    IgnoreRange,
    /// 206 from this byte on, wherever the range that was asked for starts.
    WrongRange(u64),
    /// Replaces or adds headers. An empty value removes the header.
    Headers(Vec<(String, String)>),
    /// Sends so many bytes of the body, then waits for [`release`](crate::MockHub::release).
    Stall(u64),
    /// Another body, with the right Content-Length.
    Body(Vec<u8>),
    /// 302 to this address.
    Redirect(String),
}

/// A fault that waits for its requests.
#[derive(Debug)]
struct Rule {
    file: String,
    on: On,
    fault: Fault,
    times: usize,
}

/// The faults that wait.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Rule>);

impl Faults {
    pub(crate) fn add(&mut self, file: &str, on: On, fault: Fault, times: usize) {
        self.0.push(Rule { file: file.to_owned(), on, fault, times });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the first fault that waits for this request, whose sound answer is given.
    pub(crate) fn take(
        &mut self,
        file: &str,
        on: On,
        head: &Head,
        sound: &Answer,
    ) -> Option<Fault> {
        let fits = |rule: &&mut Rule| {
            rule.times > 0 && rule.file == file && rule.on == on && rule.fault.fits(head, sound)
        };
        let rule = self.0.iter_mut().find(fits)?;
        if rule.times != usize::MAX {
            rule.times -= 1;
        }
        Some(rule.fault.clone())
    }
}

impl Fault {
    fn fits(&self, head: &Head, sound: &Answer) -> bool {
        match self {
            Self::Status(..) | Self::Headers(_) | Self::Redirect(_) => true,
            Self::IgnoreRange | Self::WrongRange(_) => sound.status == 206,
            Self::DropAfter(_)
            | Self::WrongBytes
            | Self::Short(_)
            | Self::Stall(_)
            | Self::Body(_) => head.method == "GET" && matches!(sound.status, 200 | 206),
        }
    }

    /// The `Range` header that the request is to be read as having, if another one.
    pub(crate) fn other_range(&self) -> Option<Option<String>> {
        match self {
            Self::IgnoreRange => Some(None),
            Self::WrongRange(start) => Some(Some(format!("bytes={start}-"))),
            _ => None,
        }
    }

    /// Disturbs an answer.
    pub(crate) fn apply(self, on: On, answer: &mut Answer) {
        match self {
            Self::DropAfter(bytes) => answer.ending = Ending::DropAfter(size(bytes)),
            Self::Stall(bytes) => answer.ending = Ending::Stall(size(bytes)),
            Self::WrongBytes => answer.body.iter_mut().for_each(|byte| *byte ^= 0x5a),
            Self::Short(bytes) => answer.body.truncate(size(bytes)),
            Self::Body(body) => answer.body = body,
            Self::Status(status, headers) => {
                *answer = Answer::error(status, on == On::Cdn);
                answer.set_all(headers);
            }
            Self::Headers(headers) => answer.set_all(headers),
            Self::Redirect(to) => *answer = Answer::new(302).with("Location", &to),
            Self::IgnoreRange | Self::WrongRange(_) => {}
        }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
