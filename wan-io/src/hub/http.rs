//! Requests to the hub, and to the origins that it redirects to.

use std::io::Read;
use std::time::Duration;

use ureq::http::header::{HeaderMap, LOCATION};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::{HubError, HubOptions};

/// The hub redirects once to its own origin if a repository was renamed, and once to the CDN.
const MAX_REDIRECTS: usize = 5;
/// The most that is read of an answer that is JSON.
const MAX_JSON: u64 = 64 << 20;
/// The most that is read of an error's text.
const MAX_MESSAGE: u64 = 4096;
/// Tries of a request for the list of files.
const MAX_TRIES: u32 = 3;
/// The longest that a hub may ask to wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Is told why a request failed, and says whether to make it again.
pub(super) type Retry<'a> = dyn FnMut(&str) -> Result<bool, HubError> + 'a;

/// Makes requests. The token goes to the endpoint's origin only.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// The subject of a request, for messages.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    pub(super) file: &'a str,
}

impl Client {
    pub(super) fn new(options: &HubOptions) -> Self {
        let second = |seconds| Some(Duration::from_secs(seconds));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // followed here, where each origin is looked at
            .max_redirects_will_error(false)
            .timeout_connect(second(15))
            .timeout_recv_response(second(60))
            .timeout_per_read(second(60))
            .user_agent(concat!("wan-io/", env!("CARGO_PKG_VERSION"), "; rust"))
            .build();
        let (endpoint, token) = (options.endpoint.clone(), options.token.clone());
        Self { agent: config.into(), endpoint, token }
    }

    /// The address of a path in the hub.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Whether an address is of the hub itself.
    pub(super) fn is_hub(&self, url: &str) -> bool {
        origin(url).is_some() && origin(url) == origin(&self.endpoint)
    }

    /// Requests `url` from byte `from` on and follows redirects. Each answer of the hub itself is shown
    /// to `inspect` before it is followed.
    ///
    /// # Errors
    /// If there is no answer, one with an error status other than 416, or one that cannot be trusted.
    pub(super) fn get(
        &self,
        url: &str,
        from: u64,
        subject: Subject,
        inspect: &mut dyn FnMut(&HeaderMap) -> Result<(), HubError>,
    ) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, from)?;
            if self.is_hub(&url) {
                inspect(response.headers())?;
            }
            let status = response.status();
            if status.is_redirection() {
                url = self.redirected(&url, response.headers())?;
            } else if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(response);
            } else {
                return Err(self.refusal(&url, response, subject));
            }
        }
        Err(HubError::Answer { url, reason: format!("more than {MAX_REDIRECTS} redirects") })
    }

    /// Requests JSON: its text, and the headers. `retry` is told of each error that may pass, and says
    /// whether to try again.
    pub(super) fn json(
        &self,
        url: &str,
        subject: Subject,
        retry: &mut Retry,
    ) -> Result<(Vec<u8>, HeaderMap), HubError> {
        let mut tries = 0;
        loop {
            let answer = self.get(url, 0, subject, &mut |_| Ok(()));
            match answer.and_then(|response| read_json(url, response)) {
                Err(error) if error.is_passing() && tries + 1 < MAX_TRIES => {
                    tries += 1;
                    if !retry(&error.to_string())? {
                        return Err(error);
                    }
                    std::thread::sleep(pause(&error, tries)?);
                }
                other => return other,
            }
        }
    }

    fn send(&self, url: &str, from: u64) -> Result<Response<Body>, HubError> {
        // Compressed, the length and the ranges would be of something else than the file.
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::Protocol(_)
            | ureq::Error::Http(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::LargeResponseHeader(..) => {
                HubError::Answer { url: display_url(url), reason: error.to_string() }
            }
            _ => HubError::Unreachable { url: display_url(url), reason: error.to_string() },
        })
    }

    fn redirected(&self, url: &str, headers: &HeaderMap) -> Result<String, HubError> {
        let wrong = |reason: String| HubError::Answer { url: display_url(url), reason };
        let Some(location) = headers.get(LOCATION) else {
            return Err(wrong("a redirect without a Location".into()));
        };
        let location = location.to_str().map_err(|_| wrong("a Location that is no text".into()))?;
        let target = match location.starts_with('/') && !location.starts_with("//") {
            true => format!("{}{location}", origin(url).unwrap_or_default()),
            false => location.to_owned(),
        };
        let secure = target.starts_with("https://");
        let plain = target.starts_with("http://") && !url.starts_with("https://");
        match (secure || plain) && origin(&target).is_some() {
            true => Ok(target),
            false => Err(wrong(format!("a redirect to {:?}", display_url(location)))),
        }
    }

    /// The error that a status means.
    fn refusal(&self, url: &str, response: Response<Body>, subject: Subject) -> HubError {
        let Subject { repo, revision, file } = subject;
        let (status, from_hub) = (response.status().as_u16(), self.is_hub(url));
        let text = |name: &str| header(response.headers(), name).unwrap_or_default().to_owned();
        let (code, message) = (text("x-error-code"), text("x-error-message"));
        let seconds = text("retry-after").parse().ok();
        let (repo, with_token) = (repo.to_owned(), self.token.is_some());
        match (status, code.as_str()) {
            (401 | 403, "GatedRepo") if from_hub => {
                let page = self.url(&repo);
                HubError::Gated { repo, page, with_token }
            }
            (401, _) if from_hub => HubError::AuthRequired { repo, with_token },
            (403, _) if from_hub => {
                let message = if message.is_empty() { "403".into() } else { printable(&message) };
                HubError::Forbidden { repo, message }
            }
            (404, "RevisionNotFound") => {
                HubError::RevisionNotFound { repo, revision: revision.to_owned() }
            }
            (404, "EntryNotFound") => {
                let (commit, file) = (revision.to_owned(), file.to_owned());
                HubError::FileNotFound { repo, commit, file }
            }
            (404, "RepoNotFound") => HubError::RepoNotFound { repo },
            (429, _) => HubError::RateLimited { url: display_url(url), seconds },
            _ => HubError::Status {
                url: display_url(url),
                status,
                message: body_text(response, message),
            },
        }
    }
}

/// How long to wait before try number `tries`. The first comes at once: most often a connection was
/// dropped that was kept too long.
///
/// # Errors
/// The error itself, if the hub asks to wait for longer than anyone would sit before it.
pub(super) fn pause(error: &HubError, tries: u32) -> Result<Duration, HubError> {
    match error {
        HubError::RateLimited { url, seconds: Some(seconds) } => {
            let wait = Duration::from_secs(*seconds);
            let (url, seconds) = (url.clone(), Some(*seconds));
            (wait <= MAX_WAIT).then_some(wait).ok_or(HubError::RateLimited { url, seconds })
        }
        _ if tries <= 1 => Ok(Duration::ZERO),
        _ => Ok(Duration::from_secs(1 << (tries - 2))),
    }
}

/// A header's text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `scheme://host:port` of an address.
pub(super) fn origin(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |length| host + length);
    // What is before an @ looks like a host, but is a user's name.
    let plain = end > host && !url[host..end].contains(['@', '\\']);
    plain.then(|| &url[..end])
}

/// An address without what may be secret in it: the signature in the query.
pub(super) fn display_url(url: &str) -> String {
    printable(url.split(['?', '#']).next().unwrap_or_default())
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn read_json(url: &str, response: Response<Body>) -> Result<(Vec<u8>, HeaderMap), HubError> {
    let (parts, body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut reader = body.into_reader().take(MAX_JSON + 1);
    reader.read_to_end(&mut bytes).map_err(|error| HubError::Unreachable {
        url: display_url(url),
        reason: error.to_string(),
    })?;
    if bytes.len() as u64 > MAX_JSON {
        let reason = format!("more than {MAX_JSON} bytes of JSON");
        return Err(HubError::Answer { url: display_url(url), reason });
    }
    Ok((bytes, parts.headers))
}

/// The message of an error: in a header, or as a text that is no page.
fn body_text(response: Response<Body>, message: String) -> String {
    let mut text = message;
    if text.is_empty() {
        let mut body = response.into_body().into_reader().take(MAX_MESSAGE);
        let mut bytes = Vec::new();
        let _ = body.read_to_end(&mut bytes); // only for the message
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    match text.trim() {
        "" => String::new(),
        text => format!(": {}", printable(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://a.b/c?d"), Some("https://a.b"));
        assert_eq!(origin("http://a.b:80?x"), Some("http://a.b:80"));
        for bad in ["", "a.b", "https://", "https:///c", "https://a@b/c", "https://a\\@b/"] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn waits_longer_each_time_and_never_for_hours() {
        let failed = HubError::Unreachable { url: String::new(), reason: String::new() };
        let waits: Vec<u64> = (1..5).map(|n| pause(&failed, n).unwrap().as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4]);
        let limited = |seconds| HubError::RateLimited { url: "u".into(), seconds };
        assert_eq!(pause(&limited(Some(7)), 1).unwrap().as_secs(), 7);
        assert!(pause(&limited(Some(3600)), 1).is_err());
    }
}
