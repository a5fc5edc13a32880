//! Who may read what, and use without the hub.

use wan_io::hub::{HubError, HubEvent, Token};
use wan_mock_hub::{Fault, On};

use crate::*;

#[test]
fn private_gated_and_unknown_are_told_apart() {
    let with = |token: Option<&str>| token.map(Token::from);
    let private = || Setup::with(model().private("secret"));
    let gated = || Setup::with(model().private("secret").gated());
    let rows = [
        (
            private(),
            None,
            "no such public repository; check the name, and if it is private, set HF_TOKEN",
        ),
        (private(), with(Some("other")), "that the token from the options of the program has not"),
        (gated(), None, "is gated; accept its conditions at http://127.0.0.1:"),
        (
            gated(),
            with(Some("other")),
            "check that the token from the options of the program has not expired and is of the account",
        ),
        (private(), with(Some("secret")), ""),
        (gated(), with(Some("secret")), ""),
    ];
    for (setup, token, expected) in rows {
        let options = HubOptions { token: token.clone(), ..setup.options() };
        match get(options, LARGE) {
            Ok(bytes) => assert_eq!((bytes, expected), (large(), ""), "{token:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!expected.is_empty() && text.contains(expected), "{token:?}: {text}");
                assert!(!text.contains("secret") && !text.contains("other"), "{text}");
            }
        }
    }
    let setup = Setup::new();
    let unknown = Hub::new(setup.options()).unwrap().open("owner/none", "main", &mut quiet);
    assert!(matches!(unknown, Err(HubError::AuthRequired { token: None, .. })));
    setup.hub.fault(SMALL, On::Resolve, Fault::Status(403, vec![]), 1);
    assert!(matches!(setup.get(SMALL), Err(HubError::Forbidden { .. })));
}

#[test]
fn token_goes_to_the_hub_and_to_no_other_origin() {
    let setup = Setup::with(model().private("secret"));
    let options = HubOptions { token: Some("secret".into()), ..setup.options() };
    get(options, LARGE).unwrap();
    let requests = setup.hub.requests();
    assert!(requests.iter().any(|request| request.origin == Origin::Cdn));
    for request in requests {
        let expected = (request.origin == Origin::Hub).then_some("Bearer secret");
        assert_eq!(request.header("authorization"), expected, "{}", request.path);
        assert!(!request.path.contains("secret"));
    }
}

#[test]
fn renamed_repository_is_followed() {
    let setup = Setup::new();
    let info = format!("/api/models/{MODEL}/revision/main");
    setup.hub.fault("", On::Revision, Fault::Redirect(info), 1);
    assert_eq!(setup.get(SMALL).unwrap(), small());

    // Small files too may be elsewhere at the hub.
    let setup = Setup::new();
    setup.hub.resolve_cache(true);
    assert_eq!(setup.get(SMALL).unwrap(), small());
    assert!(setup.hub.requests().iter().any(|r| r.path.starts_with("/api/resolve-cache/")));
}

#[test]
fn offline_makes_no_request() {
    let setup = Setup::new();
    let offline = HubOptions { offline: true, ..setup.options() };
    let error = get(offline.clone(), SMALL).unwrap_err().to_string();
    assert!(error.contains("any file of revision \"main\" is not in the cache"), "{error}");

    setup.get(SMALL).unwrap();
    setup.hub.clear_requests();
    assert_eq!(get(offline.clone(), SMALL).unwrap(), small());
    let error = get(offline.clone(), LARGE).unwrap_err();
    assert!(matches!(error, HubError::NotCached { .. }));
    assert!(error.to_string().contains("(HF_HUB_OFFLINE)"), "{error}");
    let commit = open(offline.clone()).unwrap().commit().to_owned();
    let by_commit = Hub::new(offline).unwrap().open(MODEL, &commit, &mut quiet).unwrap();
    by_commit.fetch(&[SMALL], &mut quiet).unwrap();
    assert_eq!(setup.hub.requests().len(), 0);
}

#[test]
fn cache_is_used_when_the_hub_is_away() {
    let setup = Setup::new();
    setup.get(SMALL).unwrap();
    let gone = MockHub::start().endpoint(); // stopped at once: nobody listens there any more
    let options = HubOptions { endpoint: gone, ..setup.options() };
    let mut told = Vec::new();
    let mut observer = |event: HubEvent| {
        told.push(format!("{event:?}"));
        ControlFlow::Continue(())
    };
    let snapshot = Hub::new(options.clone()).unwrap().open(MODEL, "main", &mut observer).unwrap();
    snapshot.fetch(&[SMALL], &mut observer).unwrap();
    assert!(told[0].starts_with("CacheOnly"), "{told:?}");
    let error = snapshot.fetch(&[LARGE], &mut quiet).unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
}

#[test]
fn half_a_download_does_not_move_the_branch() {
    let setup = Setup::new();
    setup.get(SMALL).unwrap();
    let before = setup.open().unwrap().commit().to_owned();
    let newer = model().file(SMALL, "{}");
    setup.hub.add(newer);
    let snapshot = setup.open().unwrap();
    snapshot.fetch(&[SMALL], &mut quiet).unwrap(); // and the program ends before `finish`
    assert_ne!(snapshot.commit(), before);
    let offline = HubOptions { offline: true, ..setup.options() };
    assert_eq!(open(offline.clone()).unwrap().commit(), before);
    assert_eq!(get(offline, SMALL).unwrap(), small());
}

#[test]
fn names_that_are_none_never_reach_the_hub() {
    let setup = Setup::new();
    let hub = Hub::new(setup.options()).unwrap();
    for repo in ["../x/y", "owner", "a/b/c", "owner/..", "a/b?c", ""] {
        assert!(matches!(hub.open(repo, "main", &mut quiet), Err(HubError::RepoId { .. })));
    }
    for revision in ["../main", "a?b", "", "a b"] {
        let opened = hub.open(MODEL, revision, &mut quiet);
        assert!(matches!(opened, Err(HubError::Revision { .. })));
    }
    assert_eq!(setup.hub.requests().len(), 0);
}

/// The hub answers 401 to a token that it does not know, whatever is asked for.
#[test]
fn bad_token_does_not_close_what_is_public() {
    let invalid = "Invalid credentials in Authorization header";
    let rows = [
        ("hf_old", invalid),
        ("hf_\u{e4}\n", "it has characters that no token has"),
        ("", "it has"),
    ];
    for (token, expected) in rows {
        let setup = Setup::new();
        setup.hub.know_tokens(&["hf_good"]);
        let options = HubOptions { token: Some(token.into()), ..setup.options() };
        let (result, heard) = get_and_hear(options, LARGE);
        assert_eq!(result.unwrap(), large(), "{token}");
        let refused = heard.iter().filter(|event| match event {
            HubEvent::TokenRefused { source, reason } => {
                source == "the options of the program" && reason.contains(expected)
            }
            _ => false,
        });
        assert_eq!(refused.count(), 1, "{token}: {heard:?}");
        let sent = setup.hub.requests();
        let sent = sent.iter().filter(|request| request.header("authorization").is_some()).count();
        assert_eq!(sent, usize::from(token == "hf_old"), "it is tried once");
    }
    // A good one is sent with its quotes left out, and nothing is said.
    let setup = Setup::with(model().private("hf_good"));
    setup.hub.know_tokens(&["hf_good"]);
    let options = HubOptions { token: Some("\"hf_good\"\n".into()), ..setup.options() };
    let (result, heard) = get_and_hear(options, LARGE);
    assert_eq!(result.unwrap(), large());
    assert!(!heard.iter().any(|event| matches!(event, HubEvent::TokenRefused { .. })));
}

#[test]
fn bad_token_is_named_by_its_source_and_never_shown() {
    let setup = Setup::with(model().private("hf_good"));
    setup.hub.know_tokens(&["hf_good"]);
    let file = setup.folder.path().join("my token");
    let file = file.to_str().unwrap();
    let vars = [
        ("HF_TOKEN", "hf_old", "HF_TOKEN"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_old", "HUGGING_FACE_HUB_TOKEN"),
        ("HF_TOKEN", "hf_\0ld", "HF_TOKEN"),
        ("HF_TOKEN_PATH", file, file),
    ];
    std::fs::write(file, "hf_old\n").unwrap();
    for (name, value, source) in vars {
        let found = HubOptions::from_vars(|asked| match asked {
            "HOME" => Some(setup.folder.path().to_str().unwrap().to_owned()),
            _ => (asked == name).then(|| value.to_owned()),
        });
        let options = HubOptions { endpoint: setup.hub.endpoint(), ..found.unwrap() };
        let error = get(options, SMALL).unwrap_err();
        assert!(matches!(error, HubError::AuthRequired { token: Some(_), .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(&format!("the token from {source} ")), "{error}");
        assert!(!error.contains("hf_"), "{error}");
    }
}

#[test]
fn model_in_the_cache_is_used_whatever_the_hub_says_of_the_user() {
    let setup = Setup::with(model().private("secret"));
    let with = |token: &str| HubOptions { token: Some(token.into()), ..setup.options() };
    get(with("secret"), LARGE).unwrap();
    for token in [Some("old".into()), None] {
        let options = HubOptions { token, ..setup.options() };
        let (result, heard) = get_and_hear(options, LARGE);
        assert_eq!(result.unwrap(), large());
        let HubEvent::CacheOnly { reason } = &heard[0] else { panic!("{heard:?}") };
        assert!(reason.contains("no such public repository"), "{reason}");
    }
    // What the cache does not have is still refused for the true reason.
    let error = get(with("old"), SMALL).unwrap_err().to_string();
    assert!(error.contains("the token from the options of the program"), "{error}");
}
