//! Requests to the hub, and to the origins that it redirects to.

use std::io::Read;
use std::sync::OnceLock;

use rustls::CertificateError;
use ureq::Body;
use ureq::http::header::{HeaderMap, LOCATION};
use ureq::http::{Method, Response, StatusCode};

use super::agents::{Agents, ProxyServer};
use super::retry::{Setback, Tries, asked_wait, pause};
use super::{HubError, HubOptions, Token};

/// The hub redirects once to its own origin if a repository was renamed, and once to the CDN.
const MAX_REDIRECTS: usize = 5;
/// The most that is read of an answer that is JSON.
const MAX_JSON: u64 = 64 << 20;
/// The most that is read of an error's text.
const MAX_MESSAGE: u64 = 4096;
/// Tries of a request for the list of files.
const MAX_TRIES: u32 = 3;

/// Is told what failed, and says whether to go on.
pub(super) type Retry<'a> = dyn FnMut(Setback) -> Result<bool, HubError> + 'a;

/// Makes requests. The token goes to the endpoint's origin only.
pub(super) struct Client {
    agents: Agents,
    endpoint: String,
    token: Option<Token>,
    /// Why the token is not sent, once that is known.
    refused: OnceLock<String>,
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
        let (endpoint, token) = (options.endpoint.clone(), options.token.clone());
        let refused = match token.as_ref().map(Token::authorization) {
            Some(None) => OnceLock::from("it has characters that no token has".to_owned()),
            _ => OnceLock::new(),
        };
        Self { agents: Agents::new(options.network.clone()), endpoint, token, refused }
    }

    /// The address of a path in the hub.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Whether an address is of the hub itself.
    pub(super) fn is_hub(&self, url: &str) -> bool {
        origin(url).is_some() && origin(url) == origin(&self.endpoint)
    }

    /// The token that the hub does not take, and why.
    pub(super) fn refused_token(&self) -> Option<(&Token, &str)> {
        Some((self.token.as_ref()?, self.refused.get()?))
    }

    /// The address that an answer to `url` names as the next one, at the endpoint: a mirror passes on
    /// what the hub says, which names the hub.
    pub(super) fn at_endpoint(&self, url: &str, link: &str) -> String {
        let scheme = link.find("//").filter(|start| !link[..*start].contains(['/', '?']));
        let path = match scheme.map(|start| &link[start + 2..]) {
            Some(rest) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
            None => link,
        };
        let page = url.split('?').next().unwrap_or_default();
        if path.starts_with('?') {
            return format!("{page}{path}");
        }
        let Some(path) = path.strip_prefix('/') else {
            let folder = page.rsplit_once('/').map_or(page, |(folder, _)| folder);
            return format!("{folder}/{path}");
        };
        // The endpoint may have a path of its own, which the link has too or not.
        let own = self.endpoint.split("//").nth(1).and_then(|text| text.split_once('/'));
        let below = own.and_then(|(_, own)| path.strip_prefix(own)?.strip_prefix('/'));
        self.url(below.unwrap_or(path))
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
            let response = self.send(Method::GET, &url, from)?;
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

    /// What the hub says of a file without sending it: its answer, or the redirect that names the file
    /// or leads elsewhere.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) fn head(
        &self,
        url: &str,
        subject: Subject,
    ) -> Result<(StatusCode, HeaderMap), HubError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(Method::HEAD, &url, 0)?;
            let (status, headers) = (response.status(), response.headers());
            if !status.is_redirection() && !status.is_success() {
                return Err(self.refusal(&url, response, subject));
            }
            let next = match status.is_redirection() && !headers.contains_key("x-linked-etag") {
                true => Some(self.redirected(&url, headers)?).filter(|next| self.is_hub(next)),
                false => None,
            };
            match next {
                Some(next) => url = next,
                None => return Ok((status, headers.clone())),
            }
        }
        Err(HubError::Answer { url, reason: format!("more than {MAX_REDIRECTS} redirects") })
    }

    /// Requests JSON: its text, and the headers.
    pub(super) fn json(
        &self,
        url: &str,
        subject: Subject,
        retry: &mut Retry,
    ) -> Result<(Vec<u8>, HeaderMap), HubError> {
        let request = || {
            let answer = self.get(url, 0, subject, &mut |_| Ok(()));
            answer.and_then(|response| read_json(url, response))
        };
        with_retries(request, retry)
    }

    /// A request; once more without the token if the hub does not take it.
    fn send(&self, method: Method, url: &str, from: u64) -> Result<Response<Body>, HubError> {
        let token =
            self.token.as_ref().filter(|_| self.is_hub(url) && self.refused.get().is_none());
        let Some(authorization) = token.and_then(Token::authorization) else {
            return self.send_with(method, url, from, None);
        };
        let response = self.send_with(method.clone(), url, from, Some(&authorization))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let second = self.send_with(method, url, from, None)?;
        if second.status().is_success() || second.status().is_redirection() {
            let reason = header(response.headers(), "x-error-message").map(printable);
            let _ = self.refused.set(reason.unwrap_or_else(|| "the hub answers 401 to it".into()));
        }
        Ok(second)
    }

    fn send_with(
        &self,
        method: Method,
        url: &str,
        from: u64,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, HubError> {
        let route = self.agents.route(url)?;
        let request = match method {
            Method::HEAD => route.agent.head(url),
            _ => route.agent.get(url),
        };
        // Compressed, the length and the ranges would be of something else than the file.
        let mut request = request.header("Accept-Encoding", "identity");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(authorization) = route.proxy.as_ref().and_then(ProxyServer::authorization) {
            request = request.header("Proxy-Authorization", authorization);
        }
        let response = request.call().map_err(|error| failure(url, error, route.proxy.as_ref()))?;
        match &route.proxy {
            Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(proxy.refusal(url, "407"))
            }
            _ => Ok(response),
        }
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
        // A proxy that is given whole requests may be who refuses them.
        let proxy = self.agents.route(url).ok().and_then(|route| route.proxy);
        let proxy = proxy.filter(|proxy| proxy.forwards && code.is_empty());
        let through = proxy.map(|proxy| format!(", through {proxy}")).unwrap_or_default();
        let seconds = asked_wait(response.headers());
        let repo = repo.to_owned();
        let token = self.token.as_ref().map(|token| token.source().to_owned());
        match (status, code.as_str()) {
            (401 | 403, "GatedRepo") if from_hub => {
                let page = self.url(&repo);
                HubError::Gated { repo, page, token }
            }
            (401, _) if from_hub => HubError::AuthRequired { repo, token },
            (403, _) if from_hub => {
                let message = if message.is_empty() { "403".into() } else { printable(&message) };
                HubError::Forbidden { repo, message: message + &through }
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
                message: through + &body_text(response, message),
            },
        }
    }
}

/// Makes a request until it succeeds, fails for good, or `retry` does not go on.
pub(super) fn with_retries<T>(
    mut request: impl FnMut() -> Result<T, HubError>,
    retry: &mut Retry,
) -> Result<T, HubError> {
    let mut tries = Tries::new(MAX_TRIES);
    loop {
        let error = match request() {
            Err(error) if error.is_passing() => error,
            other => return other,
        };
        let Some(wait) = tries.wait(&error) else { return Err(error) };
        if !retry(Setback::Retrying(error.to_string(), wait))? {
            return Err(error);
        }
        pause(wait, |left| retry(Setback::Pausing(left)).map(drop))?;
    }
}

/// The error of a request that had no answer.
fn failure(url: &str, error: ureq::Error, proxy: Option<&ProxyServer>) -> HubError {
    if let Some(mut reason) = certificate_error(&error) {
        if let Some(proxy) = proxy {
            reason += &format!(" (asked through {proxy})");
        }
        return HubError::Certificate { url: display_url(url), reason };
    }
    let by_proxy = |reason: String| match proxy {
        Some(proxy) => format!("{proxy} gives no connection: {reason}"),
        None => reason,
    };
    let url = display_url(url);
    match (error, proxy) {
        (ureq::Error::ConnectProxyFailed(reason), Some(proxy)) => {
            // "proxy server responded 403/403"
            let status = reason.rsplit('/').next().unwrap_or_default();
            match status.parse::<u16>() {
                Ok(400..500) => proxy.refusal(&url, status),
                _ => HubError::Unreachable { url, reason: by_proxy(reason) },
            }
        }
        (
            error @ (ureq::Error::Protocol(_)
            | ureq::Error::Http(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::LargeResponseHeader(..)),
            _,
        ) => HubError::Answer { url, reason: by_proxy(error.to_string()) },
        (ureq::Error::Io(error), _) => {
            HubError::Unreachable { url, reason: by_proxy(error.to_string()) }
        }
        (error, _) => HubError::Unreachable { url, reason: by_proxy(error.to_string()) },
    }
}

/// Why a certificate is not trusted, and what can be done, if that is the error.
fn certificate_error(error: &ureq::Error) -> Option<String> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("{error}; is the clock of this machine right?")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{error}; is the address right, and does the network ask for a login?")
        }
        _ => format!(
            "{error}; if the network signs connections anew, or the server is your own, set \
            SSL_CERT_FILE to a PEM file with the certificate of the authority that signs"
        ),
    })
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
    fn next_page_is_asked_of_the_endpoint() {
        let rows = [
            ("http://m", "https://huggingface.co/api/x?cursor=a%3D", "http://m/api/x?cursor=a%3D"),
            ("http://m", "//huggingface.co/api/x?c", "http://m/api/x?c"),
            ("http://m", "/api/x?c=//y", "http://m/api/x?c=//y"),
            ("http://m", "/api/x?c=http://y", "http://m/api/x?c=http://y"),
            ("http://m", "?c", "http://m/api/models/o/n/tree/main?c"),
            ("http://m", "main?c", "http://m/api/models/o/n/tree/main?c"),
            ("http://m", "https://huggingface.co", "http://m/api/models/o/n/tree/"),
            ("http://m/hf/v1", "https://huggingface.co/api/x?c", "http://m/hf/v1/api/x?c"),
            ("http://m/hf/v1", "http://m/hf/v1/api/x?c", "http://m/hf/v1/api/x?c"),
            ("http://m/hf/v1", "/hf/v1/api/x?c", "http://m/hf/v1/api/x?c"),
            ("http://m/hf/v1", "/api/x?c", "http://m/hf/v1/api/x?c"),
        ];
        for (endpoint, link, expected) in rows {
            let vars = |name: &str| (name != "HF_ENDPOINT").then(|| "/u".to_owned());
            let mut options = HubOptions::from_vars(vars).unwrap();
            options.endpoint = endpoint.to_owned();
            let client = Client::new(&options);
            let page = format!("{endpoint}/api/models/o/n/tree/main?recursive=true");
            assert_eq!(client.at_endpoint(&page, link), expected, "{endpoint} {link}");
        }
    }
}
