//! Programs of others that read what we write.

use std::{env, path::PathBuf};

/// The program of this name, if it is installed. Without it a test passes with a note, unless the
/// variable `required` is set.
pub(crate) fn find(name: &str, required: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|folder| folder.join(name));
    let found = places.find(|place| place.is_file());
    if found.is_none() {
        assert!(env::var_os(required).is_none(), "{required} is set, but there is no {name}");
        eprintln!("skipped: there is no {name}");
    }
    found
}
