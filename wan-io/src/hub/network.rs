//! What stands between this machine and the hub: proxies, and authorities whose certificates count.

use std::fmt;
use std::net::IpAddr;

/// Variables that name files, or folders, with the certificates of authorities.
const AUTHORITIES: [&str; 4] =
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// Proxies and certificate authorities. The default is no proxy, and the authorities of the system.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Network {
    https: Option<Variable>,
    http: Option<Variable>,
    no_proxy: String,
    pub(super) authorities: Vec<Variable>,
}

/// A variable of the environment, and its value without the blanks around it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Network {
    /// What the environment says, by the rules of curl and Python. Names in lower case come first; a
    /// value of blanks is none.
    ///
    /// | variable | what it is for |
    /// |---|---|
    /// | `https_proxy`, `HTTPS_PROXY` | the proxy for `https://`, as `http://user:password@host:port`; also `https`, `socks4`, `socks4a`, `socks5`, `socks5h` |
    /// | `http_proxy`, `HTTP_PROXY` | the proxy for `http://`; the second not in a CGI script, where a client sets it |
    /// | `all_proxy`, `ALL_PROXY` | the proxy for what has none of its own |
    /// | `no_proxy`, `NO_PROXY` | hosts that are asked without a proxy: names with all below them, addresses, ranges as `10.0.0.0/8`, each also with a port; `*` for all |
    /// | `SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` | files (PEM) or folders of authorities that count beside the system's |
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &'static str| {
            let value = var(name)?.trim().to_owned();
            (!value.is_empty()).then_some(Variable { name, value })
        };
        // `https_proxy= program` runs it without the proxy of `HTTPS_PROXY`.
        let first = |lower: &'static str, upper: &'static str| match var(lower) {
            Some(_) => set(lower),
            None => set(upper),
        };
        let http = match var("REQUEST_METHOD") {
            Some(_) => set("http_proxy"),
            None => first("http_proxy", "HTTP_PROXY"),
        };
        let all = first("all_proxy", "ALL_PROXY");
        let no_proxy = first("no_proxy", "NO_PROXY");
        Self {
            https: first("https_proxy", "HTTPS_PROXY").or_else(|| all.clone()),
            http: http.or(all),
            no_proxy: no_proxy.map(|variable| variable.value).unwrap_or_default(),
            authorities: AUTHORITIES.into_iter().filter_map(set).collect(),
        }
    }

    /// The proxy for an address, if it is asked through one.
    pub(super) fn proxy(&self, url: &str) -> Option<&Variable> {
        let (scheme, rest) = url.split_once("://")?;
        let (proxy, port) = match scheme {
            "https" => (self.https.as_ref()?, 443),
            _ => (self.http.as_ref()?, 80),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, given) = host_and_port(authority);
        let port = given.unwrap_or(port);
        (!is_listed(&self.no_proxy, host, port)).then_some(proxy)
    }
}

impl fmt::Debug for Network {
    /// Leaves the values out: an address of a proxy may have a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |variable: &Option<Variable>| variable.as_ref().map(|variable| variable.name);
        let authorities: Vec<_> = self.authorities.iter().map(|variable| variable.name).collect();
        f.debug_struct("Network")
            .field("https", &name(&self.https))
            .field("http", &name(&self.http))
            .field("no_proxy", &self.no_proxy)
            .field("authorities", &authorities)
            .finish()
    }
}

/// Whether a list of hosts has this one. Its items stand between commas or blanks.
fn is_listed(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let items = list.split(|c: char| c == ',' || c.is_whitespace());
    items
        .filter(|item| !item.is_empty())
        .any(|item| is_host(&item.to_ascii_lowercase(), &host, port))
}

/// Whether an item of `NO_PROXY` is for a host: its name, one above it, its address, or a range.
fn is_host(item: &str, host: &str, port: u16) -> bool {
    if item == "*" {
        return true;
    }
    let address: Option<IpAddr> = host.parse().ok();
    if let Some((network, length)) = item.split_once('/') {
        let network = host_and_port(network).0.parse().ok();
        let (Some(address), Some(network)) = (address, network) else { return false };
        return length.parse().is_ok_and(|length| is_in(address, network, length));
    }
    let (item, item_port) = host_and_port(item);
    if item_port.is_some_and(|item_port| item_port != port) {
        return false;
    }
    if let Some(address) = address {
        return item.parse() == Ok(address);
    }
    let name = item.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
    let above = host.strip_suffix(name).filter(|_| !name.is_empty());
    above.is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// Whether the first `length` bits of two addresses are equal.
fn is_in(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let differing: u128 = address ^ network;
    length <= bits && (length == 0 || differing >> (bits - length) == 0)
}

/// `host`, `host:port`, `[address]:port` or a bare address in its parts.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    if let Some((address, port)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (address, port.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(vars: &[(&str, &str)]) -> Network {
        Network::from_vars(|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let of = |vars: &[(&str, &str)], url: &str| {
            network(vars).proxy(url).map(|variable| format!("{}={}", variable.name, variable.value))
        };
        let (http, https) = ("http://hub/x", "https://hub/x");
        let both = [("HTTP_PROXY", "a"), ("HTTPS_PROXY", " b\n"), ("ALL_PROXY", "c")];
        assert_eq!(of(&both, http).as_deref(), Some("HTTP_PROXY=a"));
        assert_eq!(of(&both, https).as_deref(), Some("HTTPS_PROXY=b"));
        assert_eq!(of(&[("HTTPS_PROXY", "b")], http), None);
        assert_eq!(of(&[("http_proxy", "a")], https), None);
        assert_eq!(of(&[("all_proxy", "c")], http).as_deref(), Some("all_proxy=c"));
        assert_eq!(of(&[("ALL_PROXY", "c")], https).as_deref(), Some("ALL_PROXY=c"));

        let lower = [("https_proxy", "a"), ("HTTPS_PROXY", "b")];
        assert_eq!(of(&lower, https).as_deref(), Some("https_proxy=a"));
        assert_eq!(of(&[("https_proxy", ""), ("HTTPS_PROXY", "b")], https), None);
        assert_eq!(of(&[("HTTPS_PROXY", "  ")], https), None);
        let blank = [("HTTPS_PROXY", " "), ("ALL_PROXY", "c")];
        assert_eq!(of(&blank, https).as_deref(), Some("ALL_PROXY=c"));
        // A client of a CGI script sets HTTP_PROXY by a header.
        assert_eq!(of(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "a")], http), None);
    }

    #[test]
    fn hosts_without_a_proxy_are_found_as_curl_and_python_find_them() {
        let rows: [(&str, &[&str], &[&str]); 13] = [
            (
                "hub.org",
                &["hub.org", "HUB.org", "a.hub.org", "hub.org.", "hub.org:81"],
                &["xhub.org", "hub.org.uk", "org"],
            ),
            (".hub.org", &["hub.org", "a.b.hub.org"], &["xhub.org"]),
            ("*.hub.org", &["hub.org", "a.hub.org"], &["xhub.org"]),
            ("hub.org.", &["hub.org"], &[]),
            (
                "example.com, 127.0.0.1 ,x",
                &["127.0.0.1", "127.0.0.1:8080", "x"],
                &["127.0.0.2", "y"],
            ),
            ("a b\tc", &["a", "b", "c"], &["d"]),
            ("hub.org:8080", &["hub.org:8080", "a.hub.org:8080"], &["hub.org", "hub.org:80"]),
            ("127.0.0.0/8", &["127.0.0.1", "127.255.0.1:9"], &["128.0.0.1", "[::1]", "hub.org"]),
            ("10.1.2.0/23", &["10.1.3.255"], &["10.1.4.0"]),
            ("::1,[fd00::2]:80", &["[::1]", "[::1]:8080", "[fd00::2]"], &["[fd00::2]:81", "[::2]"]),
            ("fd00::/8", &["[fd12:3456::1]"], &["[fe80::1]", "127.0.0.1"]),
            ("localhost", &["localhost:80", "hub.localhost"], &["127.0.0.1"]),
            ("0.0.1,127.0.0.1/33,/8,:80,.", &[], &["127.0.0.1", "hub.org"]),
        ];
        for (list, direct, through) in rows {
            let network = network(&[("HTTP_PROXY", "p"), ("NO_PROXY", list)]);
            for host in direct {
                assert!(network.proxy(&format!("http://{host}/x")).is_none(), "{list}: {host}");
            }
            for host in through {
                assert!(network.proxy(&format!("http://{host}")).is_some(), "{list}: {host}");
            }
        }
        for (list, expected) in [("*", true), ("a,*", true), ("0.0.0.0/0", true), ("  ", false)] {
            let network = network(&[("HTTPS_PROXY", "p"), ("no_proxy", list)]);
            assert_eq!(network.proxy("https://1.2.3.4/").is_none(), expected, "{list}");
        }
        let tls = network(&[("HTTPS_PROXY", "p"), ("NO_PROXY", "hub.org:443")]);
        assert!(tls.proxy("https://hub.org/x").is_none());
    }

    #[test]
    fn password_is_not_in_the_debug_text() {
        let network = network(&[("HTTPS_PROXY", "http://me:secret@proxy:80")]);
        assert!(!format!("{network:?}").contains("secret"));
    }
}
