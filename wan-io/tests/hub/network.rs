//! Certificates and proxies.

use wan_io::hub::HubError;
use wan_mock_hub::{Fault, MockProxy, On};

use crate::*;

/// The options of a test with these variables for the network.
fn with(setup: &Setup, vars: &[(&str, &str)]) -> HubOptions {
    let network = Network::from_vars(|name| {
        let found = vars.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    });
    HubOptions { network, ..setup.options() }
}

/// What is wrong the first time; it is not tried again.
fn trouble(options: HubOptions) -> String {
    let mut reason = None;
    let mut observer = |event: HubEvent| match event {
        HubEvent::Retrying { reason: found, .. } => {
            reason = Some(found);
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    };
    let error = Hub::new(options).unwrap().open(MODEL, "main", &mut observer).unwrap_err();
    reason.unwrap_or_else(|| error.to_string())
}

/// A hub that speaks TLS, and the file of its authority.
fn tls() -> (Setup, PathBuf) {
    let hub = MockHub::start_tls();
    hub.add(model());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("office.pem");
    std::fs::write(&file, hub.authority()).unwrap();
    (Setup { hub, folder }, file)
}

#[test]
fn authority_that_a_variable_names_is_trusted() {
    let (setup, file) = tls();
    let folder = setup.folder.path().join("certificates");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&file, folder.join("0a1b2c3d.0")).unwrap();
    let several = std::env::join_paths([Path::new("/nowhere"), &folder]).unwrap();
    // Text before it, line ends of Windows, and another authority in the same file.
    let bundle = setup.folder.path().join("bundle.pem");
    let other = MockHub::start_tls();
    let text = format!("# ours\n{}\nOffice\n{}", other.authority(), setup.hub.authority());
    std::fs::write(&bundle, text.replace('\n', "\r\n")).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let rows = [
        ("SSL_CERT_FILE", text(&file)),
        ("SSL_CERT_FILE", text(&bundle)),
        ("SSL_CERT_FILE", format!(" {} \n", text(&file))),
        ("SSL_CERT_DIR", text(&folder)),
        ("SSL_CERT_DIR", several.to_str().unwrap().to_owned()),
        ("REQUESTS_CA_BUNDLE", text(&file)),
        ("REQUESTS_CA_BUNDLE", text(&folder)),
        ("CURL_CA_BUNDLE", text(&file)),
    ];
    for (name, value) in rows {
        let cache = setup.folder.path().join(format!("cache of {name} {}", value.len()));
        let options = HubOptions { cache, ..with(&setup, &[(name, &value)]) };
        assert_eq!(get(options, LARGE).unwrap(), large(), "{name}={value}");
    }
    // One that does not help does not undo another.
    let other = setup.folder.path().join("other.pem");
    std::fs::write(&other, MockHub::start_tls().authority()).unwrap();
    let (file, other) = (text(&file), text(&other));
    let both = with(&setup, &[("SSL_CERT_FILE", &file), ("REQUESTS_CA_BUNDLE", &other)]);
    assert_eq!(get(both, LARGE).unwrap(), large());
}

#[test]
fn unknown_authority_is_refused_and_the_variable_named() {
    let (setup, _) = tls();
    let other = setup.folder.path().join("other.pem");
    std::fs::write(&other, MockHub::start_tls().authority()).unwrap();
    for vars in [&[][..], &[("SSL_CERT_FILE", other.to_str().unwrap())]] {
        let (result, heard) = get_and_hear(with(&setup, vars), LARGE);
        let error = result.unwrap_err();
        assert!(matches!(error, HubError::Certificate { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("certificate") && error.contains("SSL_CERT_FILE"), "{error}");
        assert!(error.starts_with(&setup.hub.endpoint()), "{error}");
        assert!(heard.is_empty(), "it is not tried again: {heard:?}");
    }
    assert!(setup.hub.requests().is_empty());
}

#[test]
fn certificate_of_another_host_is_called_that() {
    let (setup, file) = tls();
    let endpoint = setup.hub.endpoint().replace("localhost", "127.0.0.1");
    let options = with(&setup, &[("SSL_CERT_FILE", file.to_str().unwrap())]);
    let error = get(HubOptions { endpoint, ..options }, SMALL).unwrap_err();
    assert!(matches!(error, HubError::Certificate { .. }), "{error}");
    assert!(error.to_string().contains("is the address right"), "{error}");
}

#[test]
fn file_of_certificates_that_cannot_be_used_is_named_with_its_variable() {
    let (setup, file) = tls();
    let folder = setup.folder.path();
    let pem = std::fs::read_to_string(&file).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    std::fs::create_dir(folder.join("empty")).unwrap();
    let half = &pem[..pem.len() / 2];
    let junk = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    let rows = [
        ("SSL_CERT_FILE", folder.join("none.pem"), "cannot be read"),
        ("REQUESTS_CA_BUNDLE", folder.join("none.pem"), "cannot be read"),
        ("CURL_CA_BUNDLE", write("text.pem", "not found"), "has no certificate in PEM form"),
        ("SSL_CERT_FILE", write("junk.pem", junk), "has no certificate in PEM form"),
        ("SSL_CERT_FILE", write("half.pem", half), "is broken"),
        ("SSL_CERT_DIR", folder.join("none"), "has no certificate in PEM form"),
        ("SSL_CERT_DIR", folder.join("empty"), "has no certificate in PEM form"),
    ];
    for (name, path, expected) in rows {
        let error = get(with(&setup, &[(name, path.to_str().unwrap())]), SMALL).unwrap_err();
        assert!(matches!(error, HubError::Certificates { .. }), "{name}: {error}");
        let error = error.to_string();
        let start = format!("{name} names {}, which {expected}", path.display());
        assert!(error.starts_with(&start), "{error}");
    }
    assert!(setup.hub.requests().is_empty());
}

#[test]
fn proxy_serves_its_scheme() {
    let proxy = MockProxy::start();
    let address = format!("http://{}", proxy.address());
    let setup = Setup::with(model().private("secret"));
    let token = Some("secret".into());
    let options = HubOptions { token, ..with(&setup, &[("HTTP_PROXY", &address)]) };
    assert_eq!(get(options, LARGE).unwrap(), large());
    // Requests for http are given to the proxy whole, which many that open no tunnel to such ports need.
    let asked = proxy.requests();
    assert!(asked.len() >= 3 && asked.iter().all(|request| request.method == "GET"), "{asked:?}");
    let (hub, cdn) = (setup.hub.endpoint(), setup.hub.cdn());
    for origin in [&hub, &cdn] {
        assert!(asked.iter().any(|request| request.target.starts_with(&format!("{origin}/"))));
    }
    for request in setup.hub.requests() {
        let expected = (request.origin == Origin::Hub).then_some("Bearer secret");
        assert_eq!(request.header("authorization"), expected, "{}", request.path);
        assert_eq!(request.header("proxy-authorization"), None, "{}", request.path);
    }

    // A proxy for https is not asked.
    let other = MockProxy::start();
    let address = format!("http://{}", other.address());
    let setup = Setup::new();
    assert_eq!(get(with(&setup, &[("HTTPS_PROXY", &address)]), SMALL).unwrap(), small());
    assert_eq!(other.requests(), []);
}

#[test]
fn proxy_opens_tunnels_for_tls() {
    let (setup, file) = tls();
    let proxy = MockProxy::start();
    let address = format!("http://me:p%40ss@{}", proxy.address());
    let vars = [("HTTPS_PROXY", address.as_str()), ("SSL_CERT_FILE", file.to_str().unwrap())];
    assert_eq!(get(with(&setup, &vars), LARGE).unwrap(), large());
    let asked = proxy.requests();
    assert!(!asked.is_empty());
    for request in asked {
        assert_eq!(request.method, "CONNECT");
        assert!(request.target.starts_with("localhost:"), "{request:?}");
        assert_eq!(request.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
    }
}

#[test]
fn user_and_password_go_to_the_proxy() {
    let (setup, proxy) = (Setup::new(), MockProxy::start());
    let address = format!("http://me:p%40ss@{}", proxy.address());
    assert_eq!(get(with(&setup, &[("ALL_PROXY", &address)]), SMALL).unwrap(), small());
    let asked = proxy.requests();
    assert!(
        asked.iter().all(|request| request.authorization.as_deref() == Some("Basic bWU6cEBzcw=="))
    );
}

#[test]
fn hosts_in_no_proxy_are_asked_directly() {
    let (setup, proxy) = (Setup::new(), MockProxy::start());
    let address = format!("http://{}", proxy.address());
    for list in ["example.com, 127.0.0.1", "127.0.0.0/8", "*"] {
        let vars = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", list)];
        assert_eq!(get(with(&setup, &vars), SMALL).unwrap(), small(), "{list}");
    }
    assert_eq!(proxy.requests(), []);
}

#[test]
fn what_is_wrong_with_a_proxy_is_said_of_the_proxy() {
    let (http, (https, file)) = (Setup::new(), tls());
    let file = file.to_str().unwrap();
    let gone = MockProxy::start().address(); // stopped at once
    let refusing = |status| {
        let proxy = MockProxy::start();
        proxy.refuse(status);
        proxy
    };
    let (asking, forbidding) = (refusing(407), refusing(403));
    let name = |proxy: &MockProxy| format!("the proxy http://{}", proxy.address());
    let rows = [
        ("garbage::".to_owned(), "the proxy \"garbage::\"".to_owned(), "is no address of a proxy"),
        ("http://".into(), "the proxy \"http://\"".into(), "is no address of a proxy"),
        ("ftp://me:pass@host".into(), "the proxy \"host\"".into(), "is no address of a proxy"),
        ("http://me:pass@host:99999".into(), "the proxy \"host:99999\"".into(), "is no address"),
        (
            format!("http://me:pass@{gone}"),
            format!("the proxy http://{gone}"),
            "gives no connection",
        ),
        (format!("socks5://{gone}"), format!("the proxy socks5://{gone}"), "gives no connection"),
        (format!("http://{}", asking.address()), name(&asking), "asks for a user and a password"),
        (
            format!("me:pass@{}", asking.address()),
            name(&asking),
            "does not take the user and password",
        ),
    ];
    for (value, who, what) in &rows {
        for (setup, variable) in [(&http, "HTTP_PROXY"), (&https, "HTTPS_PROXY")] {
            let vars = [(variable, value.as_str()), ("SSL_CERT_FILE", file)];
            let error = trouble(with(setup, &vars));
            let expected = format!("{who} ({variable}) {what}");
            assert!(error.contains(&expected), "{expected}: {error}");
            assert!(!error.contains("pass@") && !error.contains("me:"), "{error}");
        }
    }
    let address = format!("http://{}", forbidding.address());
    let vars = [("HTTPS_PROXY", address.as_str()), ("SSL_CERT_FILE", file)];
    let error = get(with(&https, &vars), SMALL).unwrap_err().to_string();
    assert!(error.contains(&name(&forbidding)) && error.contains("(403)"), "{error}");
    let error = get(with(&http, &[("HTTP_PROXY", &address)]), SMALL).unwrap_err().to_string();
    assert!(error.contains(&name(&forbidding)) && error.contains("403"), "{error}");
    assert!(http.hub.requests().is_empty() && https.hub.requests().is_empty());

    // With a copy in the cache it is only told.
    http.get(SMALL).unwrap();
    let (result, heard) = get_and_hear(with(&http, &[("HTTP_PROXY", "garbage::")]), SMALL);
    assert_eq!(result.unwrap(), small());
    assert!(matches!(&heard[0], HubEvent::CacheOnly { reason } if reason.contains("garbage::")));
}

#[test]
fn errors_behind_a_proxy_name_it() {
    let (setup, proxy) = (Setup::new(), MockProxy::start());
    setup.hub.fault("", On::Revision, Fault::Status(403, vec![]), usize::MAX);
    let address = format!("http://{}", proxy.address());
    let error = get(with(&setup, &[("HTTP_PROXY", &address)]), SMALL).unwrap_err().to_string();
    assert!(error.contains(&format!("through the proxy {address} (HTTP_PROXY)")), "{error}");
}
