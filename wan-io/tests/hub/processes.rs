//! Several processes on one cache, and processes that are killed.

use std::process::{Child, Command, Stdio};

use wan_io::hub::HubEvent;
use wan_mock_hub::{Fault, On, sha256};

use crate::*;

const CHILD: &str = "WAN_HUB_TEST_CHILD";

/// Downloads in a process of its own: this very program, which then runs only the test below.
fn download_elsewhere(setup: &Setup) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::the_other_process", "--nocapture"])
        .env(CHILD, "1")
        .env("HF_ENDPOINT", setup.hub.endpoint())
        .env("HF_HUB_CACHE", setup.cache())
        .env_remove("HF_HUB_OFFLINE")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_other_process() {
    if std::env::var_os(CHILD).is_some() {
        get(HubOptions::from_env().unwrap(), LARGE).unwrap();
    }
}

#[test]
fn killed_process_leaves_nothing_under_a_final_name_and_the_next_goes_on() {
    let setup = Setup::new();
    setup.hub.fault(LARGE, On::Cdn, Fault::Stall(123_456), 1);
    let mut child = download_elsewhere(&setup);
    let partial = setup.blob(&format!("{}.incomplete", sha256(&large())));
    while partial.metadata().map_or(0, |metadata| metadata.len()) < 123_456 {
        assert!(child.try_wait().unwrap().is_none(), "the other process ended");
        std::thread::yield_now();
    }
    child.kill().unwrap(); // SIGKILL: it can tidy up nothing
    child.wait().unwrap();
    assert_eq!(files_below(&setup.cache()), Vec::<String>::new());

    setup.hub.clear_requests();
    assert_eq!(setup.get(LARGE).unwrap(), large());
    let transfers = setup.transfers(LARGE);
    assert_eq!(transfers.len(), 1);
    assert_eq!(transfers[0].header("range"), Some("bytes=123456-"));
}

#[test]
fn second_process_waits_and_says_so() {
    let setup = Setup::new();
    setup.hub.fault(LARGE, On::Cdn, Fault::Stall(1000), 1);
    let mut child = download_elsewhere(&setup);
    setup.hub.wait_for(|request| request.origin == Origin::Cdn);
    let snapshot = setup.open().unwrap();
    let mut waited = false;
    let mut observer = |event: HubEvent| {
        if let HubEvent::Waiting { file } = event {
            assert_eq!(file, LARGE);
            waited = true;
            setup.hub.release();
        }
        ControlFlow::Continue(())
    };
    snapshot.fetch(&[LARGE], &mut observer).unwrap();
    assert!(waited);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read(snapshot.folder().join(LARGE)).unwrap(), large());
    assert_eq!(setup.transfers(LARGE).len(), 1, "it was downloaded once");
}

#[test]
fn many_at_once_download_once() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(setup.get(LARGE).unwrap(), large()));
        }
    });
    assert_eq!(setup.transfers(LARGE).len(), 1);
}
