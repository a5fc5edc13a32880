//! No list of checksums makes its reader panic or leads out of its folder, and no digest is known
//! that is not in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wan_io::integrity::{self, IntegrityError};

fuzz_target!(|list: &[u8]| {
    wan_fuzz::write("SHA256SUMS", list);
    if let Ok(known) = integrity::known(wan_fuzz::folder(), &["a".into(), "b/c".into()]) {
        let list = String::from_utf8_lossy(list).to_ascii_lowercase();
        for digest in known.iter().filter_map(|file| file.digest) {
            assert!(list.contains(&digest.to_string()), "{digest}");
        }
    }
    // There is no other file, so this names every one that is listed.
    match integrity::verify(wan_fuzz::folder()) {
        Ok(report) => panic!("{report:?}"),
        Err(IntegrityError::Several(errors)) => errors.iter().for_each(check),
        Err(error) => check(&error),
    }
});

fn check(error: &IntegrityError) {
    drop(error.to_string());
    if let IntegrityError::Missing { path } = error {
        let inside = path.strip_prefix(wan_fuzz::folder()).expect("a path in the folder");
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        assert!(inside.components().all(plain), "{}", path.display());
    }
}
