//! Connections: direct or through a proxy, and whose certificates they trust.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::HubError;
use super::network::{Network, Variable};

/// Makes the agents that are needed, and keeps them with their open connections.
pub(super) struct Agents {
    network: Network,
    /// By whether the address is https, and whether there is a proxy.
    agents: Mutex<BTreeMap<(bool, bool), Agent>>,
}

/// How an address is reached.
pub(super) struct Route {
    pub(super) agent: Agent,
    pub(super) proxy: Option<ProxyServer>,
}

/// A proxy, for requests and for messages.
pub(super) struct ProxyServer {
    proxy: Proxy,
    pub(super) variable: &'static str,
    /// Whether it is given whole requests, not asked for a tunnel.
    pub(super) forwards: bool,
}

impl Agents {
    pub(super) fn new(network: Network) -> Self {
        Self { network, agents: Mutex::default() }
    }

    /// The way to an address.
    ///
    /// # Errors
    /// If the proxy is no address, or a file of certificates cannot be used.
    pub(super) fn route(&self, url: &str) -> Result<Route, HubError> {
        let is_tls = url.starts_with("https://");
        let proxy = match self.network.proxy(url) {
            Some(variable) => Some(ProxyServer::new(variable, is_tls)?),
            None => None,
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (is_tls, proxy.is_some());
        let agent = match agents.get(&key) {
            Some(agent) => agent.clone(),
            None => {
                let agent = self.agent(is_tls, proxy.as_ref())?;
                agents.entry(key).or_insert(agent).clone()
            }
        };
        Ok(Route { agent, proxy })
    }

    fn agent(&self, is_tls: bool, proxy: Option<&ProxyServer>) -> Result<Agent, HubError> {
        let second = |seconds| Some(Duration::from_secs(seconds));
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // followed by the client, which looks at each origin
            .max_redirects_will_error(false)
            .timeout_connect(second(15))
            .timeout_recv_response(second(60))
            .timeout_per_read(second(60))
            .user_agent(concat!("wan-io/", env!("CARGO_PKG_VERSION"), "; rust"))
            .proxy(None);
        if is_tls || proxy.is_some_and(|server| server.proxy.protocol() == ProxyProtocol::Https) {
            let roots = authorities(&self.network.authorities)?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(match proxy {
            Some(server) if server.forwards => {
                let connector = ().chain(TcpConnector::default()).chain(ForwardConnector);
                let resolver = ProxyResolver(server.proxy.uri().clone());
                Agent::with_parts(config.build(), connector, resolver)
            }
            Some(server) => config.proxy(Some(server.proxy.clone())).build().into(),
            None => config.build().into(),
        })
    }
}

impl ProxyServer {
    fn new(variable: &Variable, is_tls: bool) -> Result<Self, HubError> {
        let name = variable.name;
        // Requests for plain http are given to a proxy whole; many open no tunnel but for https.
        match Proxy::new(&variable.value).ok().filter(has_host_and_port) {
            Some(proxy) => {
                let forwards = !is_tls && proxy.protocol() == ProxyProtocol::Http;
                Ok(Self { proxy, variable: name, forwards })
            }
            None => {
                // What is before an @ may be a password.
                let shown = variable.value.rsplit('@').next().unwrap_or_default();
                let reason = "is no address of a proxy, which is http://host:port".to_owned();
                Err(HubError::Proxy { proxy: format!("{shown:?}"), variable: name.into(), reason })
            }
        }
    }

    /// The value of `Proxy-Authorization`, for requests that the proxy is given whole.
    pub(super) fn authorization(&self) -> Option<String> {
        let user = self.proxy.username().filter(|_| self.forwards)?;
        let pair = format!("{user}:{}", self.proxy.password().unwrap_or_default());
        Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }

    /// The error that a status of the proxy itself means.
    pub(super) fn refusal(&self, host: &str, status: &str) -> HubError {
        let reason = match (status, self.proxy.username()) {
            ("407", Some(_)) => "does not take the user and password in its address (407)".into(),
            ("407", None) => {
                "asks for a user and a password (407): write them into its address, as in \
                http://user:password@host:port"
                    .into()
            }
            _ => format!("gives no connection to {host} ({status})"),
        };
        HubError::Proxy { proxy: self.address(), variable: self.variable.into(), reason }
    }

    fn address(&self) -> String {
        let scheme = self.proxy.protocol().to_string().to_lowercase();
        format!("{scheme}://{}:{}", self.proxy.host(), self.proxy.port())
    }
}

impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.address(), self.variable)
    }
}

/// Whether there is a host, and what follows it is a port.
fn has_host_and_port(proxy: &Proxy) -> bool {
    let Some(authority) = proxy.uri().authority() else { return false };
    let text = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = text.rsplit(']').next().unwrap_or_default().split_once(':');
    !authority.host().is_empty() && (port.is_none() || authority.port_u16().is_some())
}

/// The certificates that count: those of the system and of the files that variables name, or else those
/// that are compiled in.
fn authorities(variables: &[Variable]) -> Result<RootCerts, HubError> {
    let mut certificates = of_the_system();
    for variable in variables {
        certificates.extend(named(variable)?);
    }
    if certificates.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    let certificates = certificates.iter().map(|der| Certificate::from_der(der).to_owned());
    Ok(certificates.into())
}

#[cfg(all(unix, not(target_os = "macos")))]
fn of_the_system() -> Vec<CertificateDer<'static>> {
    // Beside the files that variables name, which `load_native_certs` would take in their place.
    let found = openssl_probe::probe();
    let load = rustls_native_certs::load_certs_from_paths;
    let mut certificates = load(found.cert_file.as_deref(), None).certs;
    for folder in &found.cert_dir {
        certificates.extend(load(None, Some(folder)).certs);
    }
    certificates
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn of_the_system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// The certificates in what a variable names: a file, a folder, or for `SSL_CERT_DIR` several.
fn named(variable: &Variable) -> Result<Vec<CertificateDer<'static>>, HubError> {
    let Variable { name, value } = variable;
    let wrong = |reason: String| HubError::Certificates {
        variable: (*name).to_owned(),
        path: value.into(),
        reason,
    };
    let mut found = Vec::new();
    if *name == "SSL_CERT_DIR" || Path::new(value).is_dir() {
        for folder in std::env::split_paths(value) {
            found.extend(rustls_native_certs::load_certs_from_paths(None, Some(&folder)).certs);
        }
    } else {
        let pem =
            std::fs::read(value).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            found.push(certificate.map_err(|error| wrong(format!("is broken: {error}")))?);
        }
    }
    // Only what is a certificate inside its PEM counts.
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    match found.is_empty() {
        true => Err(wrong("has no certificate in PEM form".into())),
        false => Ok(found),
    }
}

/// Finds the proxy, whichever host is asked for: that one the proxy finds.
#[derive(Debug)]
struct ProxyResolver(Uri);

impl Resolver for ProxyResolver {
    fn resolve(
        &self,
        _: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

/// Gives a proxy whole requests: their first line has the whole address.
#[derive(Debug)]
struct ForwardConnector;

impl<In: Transport> Connector<In> for ForwardConnector {
    type Out = ForwardTransport<In>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        let origin = format!("http://{authority}");
        Ok(chained.map(|inner| ForwardTransport { inner, origin }))
    }
}

#[derive(Debug)]
struct ForwardTransport<T> {
    inner: T,
    origin: String,
}

impl<T: Transport> Transport for ForwardTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    /// Sends the head of a request, which is all of it: `GET /path` as `GET http://host/path`.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let (output, origin) = (self.inner.buffers().output(), self.origin.as_bytes());
        let path = output[..amount].iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
        let whole = amount + origin.len();
        if whole > output.len() {
            return Err(std::io::Error::other("the request is too long for a proxy").into());
        }
        output.copy_within(path..amount, path + origin.len());
        output[path..path + origin.len()].copy_from_slice(origin);
        self.inner.transmit_output(whole, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}
